"""Route hooks that all databases of this process have, made before or after the hook was added."""

from __future__ import annotations

from typing import Protocol

from ..concurrency import Registry, new_lock
from ..events import RouteHook


class Hooked(Protocol):
    """The part of a database that is changed here.

    Attributes:
        route_hooks: its hooks, its own and the common ones.
    """

    route_hooks: list[RouteHook]


_hooks: list[RouteHook] = []
_databases: Registry[Hooked] = Registry()
_lock = new_lock()


def take_common_hooks(database: Hooked) -> None:
    """Give a new database the common hooks, and those that will be added while it lives."""
    with _lock:  # or a hook that is added meanwhile could be given twice
        _databases.add(database)
        database.route_hooks.extend(_hooks)


def add_common_hook(hook: RouteHook) -> None:
    """Add a hook to all databases, also to those made later."""
    with _lock:
        _hooks.append(hook)
        for database in _databases.all():
            if hook not in database.route_hooks:  # a program may have added it to this one itself
                database.route_hooks.append(hook)


def remove_common_hook(hook: RouteHook) -> None:
    """Remove a hook from all databases."""
    with _lock:
        if hook in _hooks:
            _hooks.remove(hook)
        for database in _databases.all():
            if hook in database.route_hooks:
                database.route_hooks.remove(hook)
