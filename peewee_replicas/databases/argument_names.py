"""Which arguments a database class takes, and the refusal of all others.

The names are read from the signatures of what the arguments are handed to, so that a new release of peewee or
of a driver needs no change here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable

from playhouse.pool import PooledDatabase

from ..errors import ConfigurationError
from ..nodes.spec import did_you_mean

_LIBRARIES = frozenset({"peewee", "playhouse", "peewee_replicas"})
_NOT_ARGUMENTS = frozenset({"self", "database"})
# Spelt right, and given to the wrong class.
_ELSEWHERE = {
    **dict.fromkeys(inspect.signature(PooledDatabase.__init__).parameters, "only a pooled database takes it"),
    **dict.fromkeys(
        ("pool_size", "pool_min_size", "acquire_timeout", "pool_recycle"),
        "only the asyncio database takes it",
    ),
    "readers": "only ReplicatedSqliteDatabase takes it",
}


def names_taken(function: Callable[..., object]) -> frozenset[str] | None:
    """The names of the arguments that a function takes; None where it may take any, or cannot be read."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return _names_in_text(function)
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters)


def _names_in_text(function: Callable[..., object]) -> frozenset[str] | None:
    # What is written in C says its signature in words, not always in a form that `inspect` understands.
    text = getattr(function, "__text_signature__", None) or getattr(function, "__doc__", None) or ""
    call = re.match(r"\s*\w*\((.*?)\)\s*(?:\Z|\n\n)", text, re.DOTALL)
    if call is None:
        return None
    names = [re.match(r"[\s\[]*(\w+)", part) for part in call[1].split(",")]
    return frozenset(name[1] for name in names if name is not None)


def names_of_method(cls: type, method: str) -> frozenset[str]:
    """The names that a method of this name takes in a class and in all that it inherits from."""
    found: set[str] = set()
    for base in cls.__mro__:
        function = vars(base).get(method)
        if inspect.isfunction(function):
            found.update(
                each.name
                for each in inspect.signature(function).parameters.values()
                if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
            )
    return frozenset(found) - _NOT_ARGUMENTS


def may_take_any(cls: type) -> bool:
    """Whether a user's subclass may take arguments whose names nobody else knows.

    What a subclass takes out of its keyword arguments before it calls ``super().__init__()`` or
    ``super().init()`` is never seen here. What it reads out of ``self.connect_params`` in a ``_connect()`` of
    its own is: a region, or a secret's name, for tokens. So where there is such a method, any name is let
    through, and a misspelt one fails when it connects.
    """
    return any("_connect" in vars(base) for base in cls.__mro__ if not _is_librarys(base))


def _is_librarys(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in _LIBRARIES


def refuse_unknown(
    cls: type,
    beneath: type,
    given: Iterable[str],
    own: Collection[str],
    driver: Collection[str],
    driver_name: str,
) -> None:
    """Refuse the arguments that nobody takes, each with the nearest name that somebody does.

    Parameters:
        cls: the database class.
        beneath: the class whose ``init()`` they are for.
        given: the names of what is left for ``init()``, without this library's own.
        own: the names of this library's arguments.
        driver: those of the driver's.
        driver_name: what the driver is called, for the message.

    Raises:
        ConfigurationError: there are such.
    """
    known = names_of_method(beneath, "init") | frozenset(driver)
    unknown = [name for name in given if name not in known]
    if not unknown:
        return
    at_first = names_of_method(cls, "__init__")
    allowed = known | at_first | frozenset(own)
    parts = []
    for name in unknown:
        if name in at_first:
            hint = ": the constructor takes it, and init() does not"
        elif name in _ELSEWHERE:
            hint = f": {_ELSEWHERE[name]}"
        else:
            hint = did_you_mean(name, allowed)
        parts.append(f"{name}{hint}")
    message = f"{cls.__name__} has no such argument, nor has {driver_name}: {', '.join(parts)}"
    users = [base for base in cls.__mro__ if base is not object and not _is_librarys(base)]
    if any("__init__" in vars(base) or "init" in vars(base) for base in users):
        message += (
            ". An argument of a subclass's own is taken out before super().__init__() is called, "
            "or read from connect_params in a _connect() of its own"
        )
    raise ConfigurationError(message)
