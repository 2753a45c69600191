"""`on_primary` and `on_replicas`: the same database and connections, in an object with a place of its own.

Such an object shares the attributes of the database that it was made of. What differs is its class.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from ..scopes.frames import Selector
from .scope_entry import ScopeEntry

T = TypeVar("T")
R = TypeVar("R")


class _Members(Protocol):
    @property
    def scopes(self) -> ScopeEntry: ...


class _Placed(Protocol):
    selector: Selector
    _members: _Members


class PlaceClasses(Generic[T]):
    """The classes for the places of one database class, made when they are first needed.

    Parameters:
        base: the database class.
    """

    def __init__(self, base: type[T]) -> None:
        self._base = base
        self._made: dict[Hashable, type[T]] = {}

    def place_of(self, database: T, key: Hashable, attributes: Callable[[], dict[str, object]]) -> T:
        """Return the object for one place of a database; the same one each time.

        Parameters:
            database: the database, or the object for another of its places.
            key: identifies the place.
            attributes: returns what differs in its class.
        """
        places: dict[Hashable, T] = database.__dict__.setdefault("_places", {})
        found = places.get(key)
        if found is None:
            made = object.__new__(self._class_for(key, attributes))
            made.__dict__ = database.__dict__
            found = places.setdefault(key, made)
        return found

    def _class_for(self, key: Hashable, attributes: Callable[[], dict[str, object]]) -> type[T]:
        made = self._made.get(key)
        if made is None:
            base = self._base
            own = {**attributes(), "placed_from": base, "__module__": base.__module__}
            made = self._made.setdefault(key, type(base.__name__, (base,), own))
        return made


def selecting_reads(base: type, methods: tuple[str, ...]) -> dict[str, object]:
    """Return a class's methods, with the class's selector in force while each runs."""
    return {name: _selecting(getattr(base, name)) for name in methods if hasattr(base, name)}


def _selecting(method: Callable[..., R]) -> Callable[..., R]:
    @functools.wraps(method)
    def call(self: _Placed, *args: object, **kwargs: object) -> R:
        with self._members.scopes.on_replicas(self.selector):
            return method(self, *args, **kwargs)

    return call
