"""peewee's methods, overridden by a user's subclass or replaced in peewee's own class by other packages."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import peewee

from ..connections.unknown_outcomes import UnknownOutcomes
from ..errors import ConfigurationError
from ..log import log_event

R = TypeVar("R")


def own_function(cls: type, name: str) -> object:
    """Return a class's function, unless it was replaced by one from another file; then None."""
    function = getattr(cls, name)
    code, file = getattr(function, "__code__", None), getattr(sys.modules[cls.__module__], "__file__", None)
    return function if code is not None and code.co_filename == file else None


PEEWEES_EXECUTE_SQL = own_function(peewee.Database, "execute_sql")
"""peewee's method. Migrations and tracing replace it, for our classes too; None if somebody has already."""
_PACKAGE = __name__.partition(".")[0]
# Methods of ours that call the next class's own.
_COOPERATING = frozenset({"__init__", "__init_subclass__", "execute", "atomic", "Model"})
_GUARDED = "_is_guarded"


def is_overridden(cls: type, name: str) -> bool:
    """Return whether a user's class, and not one of ours, has the method that `cls` uses under this name."""
    owner = next(base for base in cls.__mro__ if name in vars(base))
    return not _is_ours(owner)


def next_with(cls: type, ours: type, name: str) -> type[peewee.Database]:
    """Return the class behind `ours`, in the order of `cls`, whose method `super()` would find."""
    order = cls.__mro__
    return next(base for base in order[order.index(ours) + 1 :] if name in vars(base))


def guard_retries(cls: type) -> None:
    """Keep a subclass's own methods that send statements from repeating a write that may have happened."""
    for name in ("execute_sql", "execute", "commit", "aexecute_sql", "aexecute"):
        has_it = any(_is_ours(base) and name in vars(base) for base in cls.__mro__)
        if not has_it or not is_overridden(cls, name):
            continue
        method = getattr(cls, name)
        # A decorator that retries may have copied the mark from the method it calls.
        if getattr(method, _GUARDED, None) is not method:
            made = (_guarded_async if name.startswith("a") else _guarded)(method)
            setattr(made, _GUARDED, made)
            setattr(cls, name, made)


def _guarded(method: Callable[..., R]) -> Callable[..., R]:
    @functools.wraps(method)
    def call(self: object, *args: object, **kwargs: object) -> R:
        with _one_call(self):
            return method(self, *args, **kwargs)

    return call


def _guarded_async(method: Callable[..., Awaitable[R]]) -> Callable[..., Awaitable[R]]:
    @functools.wraps(method)
    async def call(self: object, *args: object, **kwargs: object) -> R:
        with _one_call(self):
            return await method(self, *args, **kwargs)

    return call


@contextlib.contextmanager
def _one_call(database: object) -> Iterator[None]:
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
    ours = [base for base in order if _is_ours(base)]
    names = {name for base in ours for name in vars(base)} - _COOPERATING
    names = {name for name in names if hasattr(beneath, name) and not name.startswith("__")}
    first, database = order.index(ours[0]), order.index(peewee.Database)
    for place, base in enumerate(order):
        if place < first or base in beneath.__mro__ or _is_ours(base):
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


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == _PACKAGE
