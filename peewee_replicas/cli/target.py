"""Find the database that a command is about: a dotted path to an object, or a URL."""

from __future__ import annotations

import inspect
import os
import pkgutil
import sys

from peewee import Proxy
from playhouse import db_url

from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.errors import ConfigurationError


class BadTarget(Exception):
    """The target leads to no database of this library; the message says why."""


def find(target: str) -> Replicated:
    """Return the database that the target names.

    Parameters:
        target: ``package.module:name``, ``package.module.name``, or a URL such as
            ``mysql+replicas://user:password@primary/app?replica=host:port``.

    Raises:
        BadTarget: there is no such object, or it is no database of this library.
    """
    found = _by_url(target) if "://" in target else _by_path(target)
    target = "the URL" if "://" in target else target  # it may contain a password
    if isinstance(found, Proxy):
        found = found.obj
        if found is None:
            raise BadTarget(f"{target}: the proxy is not initialized by importing its module")
    if not isinstance(found, Replicated):
        raise BadTarget(f"{target}: a {type(found).__name__} is none of peewee_replicas' databases")
    if found.deferred:
        raise BadTarget(f"{target}: the database is deferred, and importing its module does not call init()")
    return found


# peewee before 4 knows only the second.
_UNQUOTE = {
    name: True
    for name in ("unquote_user", "unquote_password")
    if name in inspect.signature(db_url.connect).parameters
}


def _by_url(target: str) -> object:
    try:
        return db_url.connect(target, **_UNQUOTE)
    except (ConfigurationError, RuntimeError, TypeError, ValueError) as exc:
        # The message of another error could show the URL, and with it the password.
        why = str(exc) if isinstance(exc, ConfigurationError) else "no database can be made from this URL"
        raise BadTarget(f"the URL cannot be used: {why}") from None


def _by_path(target: str) -> object:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        return pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as exc:
        raise BadTarget(
            f"{target}: {exc}; give package.module:name or a URL such as mysql+replicas://…"
        ) from exc
    except Exception as exc:
        raise BadTarget(f"{target}: importing it raised {type(exc).__name__}: {exc}") from exc
