"""TLS contexts, shared by all connections with the same settings: making one costs more than connecting."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping

from ...concurrency import new_lock

_contexts: dict[tuple[tuple[object, ...], ...], ssl.SSLContext] = {}
_lock = new_lock()


def shared_context(settings: object, make: Callable[[object], ssl.SSLContext]) -> ssl.SSLContext:
    """Return the context for the user's ``ssl`` argument; a new one if certificate files have changed.

    Parameters:
        settings: a context, or PyMySQL's dict of settings.
        make: makes a context from such a dict.
    """
    if isinstance(settings, ssl.SSLContext):
        return settings
    if not isinstance(settings, Mapping):
        return make(settings)
    key = tuple(sorted((name, str(value), _changed_at(value)) for name, value in settings.items()))
    with _lock:
        if key not in _contexts:
            _contexts[key] = make(settings)
        return _contexts[key]


if hasattr(os, "register_at_fork"):
    # A thread of the parent may have been inside OpenSSL, where a context has locks of its own.
    os.register_at_fork(after_in_child=_contexts.clear)


def _changed_at(value: object) -> float:
    if isinstance(value, (str, os.PathLike)) and os.path.exists(value):
        return os.stat(value).st_mtime
    return 0.0
