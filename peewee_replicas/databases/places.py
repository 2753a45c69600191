"""`on_primary` and `on_replicas`: the same database and connections, in an object with a place of its own.

Such an object shares the attributes of the database that it was made of. What differs is its class.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Hashable
from itertools import takewhile
from types import AsyncGeneratorType, GeneratorType
from typing import Final, Generic, Protocol, TypeVar

from peewee import BaseQuery

from ..scopes.frames import PlaceFrame, Selector, Steps
from ..scopes.scope import Scope
from .scope_entry import ScopeEntry

T = TypeVar("T")


class _Members(Protocol):
    @property
    def scopes(self) -> ScopeEntry: ...


class _Placed(Protocol):
    at_primary: bool
    selector: Selector
    replaced: dict[str, tuple[object, ...]]
    _members: _Members


class PlaceClasses(Generic[T]):
    """The classes for the places of one database class, made when they are first needed.

    Parameters:
        base: the database class.
        reading: the names of the methods that choose a node.
        placeless: the names of methods that a place makes no difference to.
    """

    def __init__(self, base: type[T], reading: Collection[str], placeless: Collection[str]) -> None:
        self._base = base
        self._reading = reading
        self._placeless = placeless
        self._made: dict[Hashable, type[T]] = {}

    def place_of(self, database: T, key: Hashable, **attributes: object) -> T:
        """Return the object for one place of a database; the same one each time.

        Parameters:
            database: the database, or the object for another of its places.
            key: identifies the place.
            attributes: what differs in its class.
        """
        places: dict[Hashable, T] = database.__dict__.setdefault("_places", {})
        found = places.get(key)
        if found is None:
            made = object.__new__(self._made.get(key) or self._make(key, attributes))
            made.__dict__ = database.__dict__
            # Slots, so they are this object's own. Some releases of Python 3.13 and 3.14 take a database for
            # garbage that is used only through its dictionary (python/cpython#130327), so a place keeps it.
            made.shared_with = database  # type: ignore[attr-defined]
            made.replaced = {}  # type: ignore[attr-defined]
            found = places.setdefault(key, made)
        return found

    def _make(self, key: Hashable, attributes: dict[str, object]) -> type[T]:
        base = self._base
        methods = {
            name: _Method(base, name, name in self._reading)
            for name in dir(base)
            if inspect.isfunction(inspect.getattr_static(base, name))
            and name not in self._placeless
            and (name in self._reading or not name.startswith("_"))
        }
        own = {
            **methods, **attributes, "__slots__": ("replaced", "shared_with"), "placed_from": base,
            "__module__": base.__module__,
        }  # fmt: skip
        return self._made.setdefault(key, type(base.__name__, (base,), own))


_NOTHING: Final = object()


class _Method:
    """One method of the objects for a place.

    Programs and tools replace methods of one object, as in ``db.execute_sql = traced``. The objects for the
    database's places share its dictionary, so the replacement would be called as it is, and it has been made
    for the database. This is a data descriptor, which is found before what the dictionary has, and calls the
    replacement with the place in force. What is put into the object for a place stays there.

    Parameters:
        base: the class of the database.
        name: the method's name in `base`, where it is looked up at each call, as tools may replace it there.
        reads: whether it chooses a node, so that the place's selector must be in force.
    """

    def __init__(self, base: type, name: str, reads: bool) -> None:
        self._base = base
        self._name = name
        self._reads = reads

    def __get__(self, place: _Placed | None, _owner: type | None = None) -> object:
        name = self._name
        if place is None:
            return getattr(self._base, name)
        if name in place.replaced:
            return place.replaced[name][-1]
        shared = place.__dict__.get(name, _NOTHING)
        if shared is not _NOTHING:
            return _InForce(place, shared) if callable(shared) else shared
        found = getattr(self._base, name)
        bind = getattr(type(found), "__get__", None)  # a mock in the class has none
        method = found if bind is None else bind(found, place, type(place))
        return _InForce(place, method) if self._reads and place.selector else method

    def __set__(self, place: _Placed, method: object) -> None:
        name = self._name
        if self._is_its_own(place, method):
            place.replaced.pop(name, None)  # a mock or a test that ends puts back what it has found
        else:
            # What was there stays below: of two mocks, the inner one only deletes its own at its end, because
            # it has found nothing in the dictionary.
            below = takewhile(lambda one: one is not method, place.replaced.get(name, ()))
            place.replaced[name] = (*below, method)

    def __delete__(self, place: _Placed) -> None:
        name = self._name
        if name not in place.replaced:
            raise AttributeError(name)
        *below, _ = place.replaced[name]
        if below:
            place.replaced[name] = tuple(below)
        else:
            del place.replaced[name]

    def _is_its_own(self, place: _Placed, method: object) -> bool:
        """Return whether the place has this method while nothing is put into it."""
        name = self._name
        found = method.__wrapped__ if isinstance(method, _InForce) else method
        if name in place.__dict__:
            return found is place.__dict__[name]
        function = getattr(found, "__func__", None)
        return function is getattr(self._base, name) and getattr(found, "__self__", None) is place


class _InForce:
    """A function that is called with a place in force. For the rest, it is like the function itself."""

    __slots__ = ("__wrapped__", "_place")

    def __init__(self, place: _Placed, function: Callable[..., object]) -> None:
        self.__wrapped__ = function
        self._place = place

    def __getattr__(self, name: str) -> object:
        return getattr(self.__wrapped__, name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        given = args[0] if args else kwargs.get("query")
        query = given if isinstance(given, BaseQuery) else None
        frame = self._frame(query)
        awaited = False
        try:
            with Steps(frame).step():
                result = self.__wrapped__(*args, **kwargs)
            awaited = inspect.isawaitable(result)
        finally:
            if not awaited:
                frame.end()
        # The body of a coroutine or generator has not run yet.
        if isinstance(result, (GeneratorType, AsyncGeneratorType)):
            return Scope(self._place, lambda: self._frame(query))(lambda: result)()
        return _awaited(frame, result) if awaited else result  # type: ignore[arg-type]  # it is awaitable

    def _frame(self, query: object) -> PlaceFrame:
        place = self._place
        return place._members.scopes.call_through(place, place.at_primary, place.selector, query)


async def _awaited(frame: PlaceFrame, result: Awaitable[object]) -> object:
    try:
        with Steps(frame).step():
            return await result
    finally:
        frame.end()
