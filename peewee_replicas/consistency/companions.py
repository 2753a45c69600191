"""Finds the other database objects that a thread or task reads through, since its writes concern them too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol, TypeVar
from weakref import ref

from ..concurrency import Here, Local
from .process_history import ProcessHistory


class Companion(Protocol):
    """The consistency of one database object.

    Attributes:
        history: what this process has written to the same servers.
    """

    history: ProcessHistory


T = TypeVar("T", bound=Companion)
Companions = list[ref[T]]
"""Of one thread or task: those whose reads have begun to see what the process wrote. A program may make a
database object for each job, hence weak references."""

_by_kind: dict[Here, Local] = {}


def companions_here(here: Here) -> Companions[T]:
    """Return those of the running thread or task."""
    local = _by_kind.get(here) or _by_kind.setdefault(here, here.local())
    try:
        return local.companions  # type: ignore[no-any-return]  # a thread-local has no types
    except AttributeError:
        found: Companions[T] = []
        local.companions = found
        return found


def join(companions: Companions[T], one: T) -> None:
    """Add one, unless it is there."""
    for each in tuple(companions):
        found = each()
        if found is one:
            return
        if found is None:
            _take_out(companions, each)
    companions.append(ref(one))


def others_at(companions: Companions[T], one: T) -> Iterator[T]:
    """Take out and return the others whose database leads to the same servers."""
    for each in tuple(companions):
        other = each()
        if other is not None and other is not one and _lead_to_the_same(other.history, one.history):
            _take_out(companions, each)
            yield other


def _take_out(companions: Companions[T], each: ref[T]) -> None:
    with suppress(ValueError):  # a signal handler has done so meanwhile
        companions.remove(each)


def _lead_to_the_same(one: ProcessHistory, other: ProcessHistory) -> bool:
    return one is other or one in other.others or other in one.others
