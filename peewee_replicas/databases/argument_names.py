"""Find out which arguments a database class accepts, and refuse all others.

The names come from the signatures of peewee's and the driver's functions, so that a new release of either
needs no change here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable

from playhouse.pool import PooledDatabase

from ..connections.user_database import is_librarys
from ..errors import ConfigurationError
from ..nodes.spec import did_you_mean

_NOT_ARGUMENTS = frozenset({"self", "database"})
ELSEWHERE = {
    **dict.fromkeys(inspect.signature(PooledDatabase.__init__).parameters, "only a pooled database takes it"),
    **dict.fromkeys(
        ("pool_size", "pool_min_size", "acquire_timeout", "pool_recycle"),
        "only the asyncio database takes it",
    ),
    "readers": "only ReplicatedSqliteDatabase takes it",
}
"""Hints for arguments that exist, but on another class."""


def names_taken(function: Callable[..., object]) -> frozenset[str] | None:
    """Return the names of a function's arguments; None if it accepts any, or has no readable signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return _names_in_text(function)
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters)


def _names_in_text(function: Callable[..., object]) -> frozenset[str] | None:
    # C functions document their signature in text, not always in a form that `inspect` can parse.
    text = getattr(function, "__text_signature__", None) or getattr(function, "__doc__", None) or ""
    call = re.match(r"\s*\w*\((.*?)\)\s*(?:\Z|\n\n)", text, re.DOTALL)
    if call is None:
        return None
    names = [re.match(r"[\s\[]*(\w+)", part) for part in call[1].split(",")]
    return frozenset(name[1] for name in names if name is not None)


def names_of_method(cls: type, method: str) -> frozenset[str]:
    """Return the argument names of a method, in a class and in all of its base classes."""
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
    """Return whether a user's subclass may accept arguments of unknown names.

    Arguments that a subclass removes before it calls ``super().__init__()`` or ``super().init()`` never get
    here. But its own ``_connect()`` may read others from ``self.connect_params``, such as a region or a
    secret's name. So if the subclass has a ``_connect()``, every name is accepted, and a misspelt name fails
    on connecting.
    """
    return any("_connect" in vars(base) for base in cls.__mro__ if not is_librarys(base))


def refuse_unknown(
    cls: type,
    beneath: type,
    given: Iterable[str],
    own: Collection[str],
    driver: Collection[str],
    driver_name: str,
) -> None:
    """Refuse unknown arguments, and suggest the nearest known name for each.

    Parameters:
        cls: the database class.
        beneath: the peewee class whose ``init()`` gets the arguments.
        given: the names of the arguments for ``init()``, without this library's own.
        own: the names of this library's arguments.
        driver: the names of the driver's arguments.
        driver_name: the driver's name for the message.

    Raises:
        ConfigurationError: at least one argument is unknown.
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
            hint = ": the constructor takes it, but init() does not"
        elif name in ELSEWHERE:
            hint = f": {ELSEWHERE[name]}"
        else:
            hint = did_you_mean(name, allowed)
        parts.append(f"{name}{hint}")
    message = f"{cls.__name__} has no such argument, nor has {driver_name}: {', '.join(parts)}"
    users = [base for base in cls.__mro__ if base is not object and not is_librarys(base)]
    if any("__init__" in vars(base) or "init" in vars(base) for base in users):
        message += (
            ". A subclass must remove its own arguments before it calls super().__init__(), "
            "or read them from connect_params in its own _connect()"
        )
    raise ConfigurationError(message)
