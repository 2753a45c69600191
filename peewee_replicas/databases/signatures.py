"""Methods that declare a signature of their own, or have that of the method they inherit."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TypeVar, cast

F = TypeVar("F", bound=Callable[..., None])


def declares_signature(method: F) -> F:
    """Decorate a method without a body: its signature is for readers, editors and type checkers.

    A call passes on the arguments that it was given, and no others, to the inherited method. So that method
    can still tell an argument left out from one that has its default value. Those given by position, apart
    from the first, are passed on by name.
    """
    return cast(F, _Declared(method))


class _Declared:
    # `super()` needs the class, which does not exist yet while its body runs.
    def __init__(self, declared: Callable[..., None]) -> None:
        self._declared = declared

    def __set_name__(self, owner: type, name: str) -> None:
        parameters = inspect.signature(self._declared).parameters.values()
        names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD][2:]

        @functools.wraps(self._declared)
        def method(self: object, *args: object, **kwargs: object) -> None:
            by_name = dict(zip(names, args[1:], strict=False))
            rest = args[1 + len(by_name) :]
            getattr(super(owner, self), name)(*args[:1], *rest, **by_name, **kwargs)

        setattr(owner, name, method)


def by_name(method: Callable[..., object], /, *args: object, **kwargs: object) -> dict[str, object]:
    """Return the arguments of a call of `method` that are given by position, by name, after the first two.

    Raises:
        TypeError: it would not take them.
    """
    bound = inspect.signature(method).bind_partial(*args).arguments
    found = dict(list(bound.items())[2:])
    twice = sorted(found.keys() & kwargs.keys())
    if twice:
        raise TypeError(f"{method.__name__}() got multiple values for argument {twice[0]!r}")
    return found
