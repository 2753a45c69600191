"""peewee's methods, overridden by a user's subclass or replaced in peewee's own class by other packages."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar, cast

import peewee

from ..connections.unknown_outcomes import UnknownOutcomes
from ..errors import ConfigurationError
from ..log import log_event

R = TypeVar("R")


def own_function(cls: type, name: str) -> Callable[..., object] | None:
    """Return a class's function, unless it was replaced by one from another file; then None."""
    owner = next(base for base in cls.__mro__ if name in vars(base))
    function: Callable[..., object] = getattr(cls, name)
    code, file = getattr(function, "__code__", None), getattr(sys.modules[owner.__module__], "__file__", None)
    return function if code is not None and code.co_filename == file else None


_PACKAGE = __name__.partition(".")[0]
# Methods of ours that call the next class's own.
_COOPERATING = frozenset({"__init__", "__init_subclass__", "execute", "atomic", "Model"})
_GUARDED = "_is_guarded"


def is_overridden(cls: type, name: str) -> bool:
    """Return whether a user's class, and not one of ours, has the method that `cls` uses under this name."""
    owner = next(base for base in cls.__mro__ if name in vars(base))
    return not is_ours(owner)


class _Replaceable(Protocol):
    replaced: Mapping[str, object]


def has_own(database: _Replaceable, name: str, ours: object) -> bool:
    """Return whether a database has a method of the program's under this name, and not ours.

    It may be a subclass's, one that replaces ours in a class, or one in the object itself. A test or a
    tracing tool puts it there at any time, so nothing may remember the answer.

    Parameters:
        database: the database.
        name: the method's name.
        ours: the function that our class has under this name.
    """
    if name in vars(database) or getattr(type(database), name) is not ours:
        return True
    return name in database.replaced


class _Rest:
    """The rest of the order of a class, where no class has just these behind it."""

    def __init__(self, classes: tuple[type, ...]) -> None:
        self._classes = classes

    def __getattr__(self, name: str) -> object:
        return getattr(next(cls for cls in self._classes if name in vars(cls)), name)


def behind(cls: type, ours: type) -> type[peewee.Database]:
    """Return what has the methods that `super()` finds in `ours`, in an object of `cls`.

    It is asked at each call, as a tool may replace methods of the class, or of one behind it.
    """
    order = cls.__mro__
    rest = order[order.index(ours) + 1 :]
    found = rest[0] if rest[0].__mro__ == rest else _Rest(rest)
    return cast("type[peewee.Database]", found)


def guard_retries(cls: type) -> None:
    """Keep a subclass's own methods that send statements from repeating a write that may have happened."""
    _surround(cls, ("execute_sql", "execute", "commit", "aexecute_sql", "aexecute"), _one_call)


def watch_connecting(cls: type) -> None:
    """Have what a subclass's own methods set while they connect told from what the program sets later."""
    _surround(cls, ("connect", "aconnect"), _one_connecting)


Around = Callable[[object, Callable[..., object]], AbstractContextManager[None]]


def _surround(cls: type, names: tuple[str, ...], around: Around) -> None:
    """Put a context manager around each call of the methods that a user's class has in the place of ours.

    Parameters:
        around: returns it, for the database and the function that is called.
    """
    for name in names:
        has_it = any(is_ours(base) and name in vars(base) for base in cls.__mro__)
        if not has_it or not is_overridden(cls, name):
            continue
        method = getattr(cls, name)
        # A decorator that retries may have copied the mark from the method it calls.
        if getattr(method, _GUARDED, None) is not method:
            made = (_surrounded_async if name.startswith("a") else _surrounded)(method, around)
            setattr(made, _GUARDED, made)
            setattr(cls, name, made)


def _surrounded(method: Callable[..., R], around: Around) -> Callable[..., R]:
    @functools.wraps(method)
    def call(self: object, *args: object, **kwargs: object) -> R:
        with around(self, call):
            return method(self, *args, **kwargs)

    return call


def _surrounded_async(method: Callable[..., Awaitable[R]], around: Around) -> Callable[..., Awaitable[R]]:
    @functools.wraps(method)
    async def call(self: object, *args: object, **kwargs: object) -> R:
        with around(self, call):
            return await method(self, *args, **kwargs)

    return call


class _Connecting(Protocol):
    @property
    def own_connect(self) -> str: ...
    @property
    def placed_from(self) -> type | None: ...


def _one_connecting(database: object, function: Callable[..., object]) -> AbstractContextManager[None]:
    """Tell what is set during a call of a method that connects, if it is called again after a loss."""
    connecting = cast(_Connecting, database)
    name = connecting.own_connect
    # Not while a method of one class calls that of the next: only all of them together set everything.
    if name and getattr(connecting.placed_from or type(database), name) is function:
        found: AbstractContextManager[None] = vars(database)["_members"].own_connect_call()
        return found
    return contextlib.nullcontext()


@contextlib.contextmanager
def _one_call(database: object, _function: object) -> Iterator[None]:
    """Have the writes of unknown outcome remembered during a call of such a method."""
    outcomes: UnknownOutcomes | None = vars(database)["_members"].unknown_outcomes
    if outcomes is None:
        yield
        return
    call = outcomes.enter()
    try:
        yield
    except peewee.PeeweeException as exc:
        unknown = outcomes.original(exc)
        if unknown is not None:
            raise unknown from unknown.__cause__
        raise
    finally:
        outcomes.leave(call)


def check_order(cls: type, beneath: type[peewee.Database]) -> None:
    """Refuse a class whose overrides would never be called, because one of ours stands before it.

    Our methods call those of peewee's class directly, not those of the next class.

    Parameters:
        cls: the user's class.
        beneath: the peewee class below ours.

    Raises:
        ConfigurationError: peewee's own class in the place of ours would have called them.
    """
    order = cls.__mro__
    ours = [base for base in order if is_ours(base)]
    names = {name for base in ours for name in vars(base)} - _COOPERATING
    names = {name for name in names if hasattr(beneath, name) and not name.startswith("__")}
    first, database = order.index(ours[0]), order.index(peewee.Database)
    for place, base in enumerate(order):
        if place < first or base in beneath.__mro__ or is_ours(base):
            continue
        hidden = sorted(names.intersection(vars(base)))
        if not hidden:
            continue
        words = (
            f"{cls.__name__}: {base.__name__}.{hidden[0]}() would never be called; "
            f"put {base.__name__} before {ours[0].__name__} in the list of base classes"
        )
        if place < database:
            raise ConfigurationError(words)
        # Behind peewee's own class, it would not be called either.
        log_event("override_unused", "%s", words, cause=words)


def is_ours(cls: type) -> bool:
    """Return whether a class is one of this package's."""
    return cls.__module__.partition(".")[0] == _PACKAGE
