"""How the callables that a program gives as arguments can be called. No I/O, no clock."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence

Parameters = Sequence[inspect.Parameter]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_PLACES = (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL)
_KEYWORDS = inspect.Parameter.VAR_KEYWORD

if sys.version_info >= (3, 14):
    from annotationlib import Format

    # By default it evaluates the annotations, which may name what is imported for type checkers only.
    _read = functools.partial(inspect.signature, annotation_format=Format.STRING)
else:
    _read = inspect.signature


def why_not_callable(given: Callable[..., object], *args: object, **kwargs: object) -> str:
    """Return why a callable cannot be called with these arguments, or ``""``."""
    # What a decorator wraps may be given more than this, so only the decorator's own function counts.
    signature = _signature(given, follow_wrapped=False)
    if signature is None:
        return ""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        return str(exc)
    return ""


def takes_refused(ask: Callable[..., object]) -> bool:
    """Return whether a callable for a password takes the argument ``refused``."""
    own, wrapped = _signatures(ask)
    if _names_refused(own):
        return True
    return _has(own, _KEYWORDS) and (_has(wrapped, _KEYWORDS) or _names_refused(wrapped))


def takes_database(ask: Callable[..., object]) -> bool:
    """Return whether a callable must be given an argument, which is then the database."""
    own, wrapped = _signatures(ask)
    return _needs_one(own) or (_has(own, *_PLACES) and _needs_one(wrapped))


def is_coroutine_function(ask: Callable[..., object]) -> bool:
    """Return whether calling it gives a coroutine, which a thread without an event loop cannot await."""
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(getattr(ask, "__call__", None))  # noqa: B004  # the method itself


def _names_refused(parameters: Parameters) -> bool:
    return any(each.name == "refused" for each in parameters)


def _has(parameters: Parameters, *kinds: object) -> bool:
    return any(each.kind in kinds for each in parameters)


def _needs_one(parameters: Parameters) -> bool:
    return _has([each for each in parameters if each.default is each.empty], *_POSITIONAL)


def _signatures(given: Callable[..., object]) -> tuple[Parameters, Parameters]:
    """Return the parameters of a callable, and those of what it wraps: the same ones if it wraps nothing.

    A decorator's function that takes any arguments usually passes them on.
    """
    wrapped = _signature(given, follow_wrapped=True)
    own = _signature(given, follow_wrapped=False) or wrapped
    return _parameters(own), _parameters(wrapped)


def _parameters(signature: inspect.Signature | None) -> Parameters:
    return () if signature is None else tuple(signature.parameters.values())


def _signature(given: Callable[..., object], *, follow_wrapped: bool) -> inspect.Signature | None:
    try:
        return _read(given, follow_wrapped=follow_wrapped)
    except (TypeError, ValueError):
        return None  # some callables written in C do not tell theirs
