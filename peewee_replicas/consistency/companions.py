"""Finds the other database objects that a thread or task reads through, which its writes concern too."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol
from weakref import ref

from ..concurrency import Here, Local


class Companion(Protocol):
    """The consistency of one database object."""

    def hear(self) -> None:
        """Let the reads of this context begin anew, because it has written through another object."""


Refs = list[ref[Companion]]
"""Weak references, because a program may make a database object for each job."""


class Companions:
    """The database objects over the same servers.

    Attributes:
        count: how many there have been; a single one need not look for others.
        scoped: those with a ``causal_session()``, or initialised again. No list of one thread or task says
            where their reads have begun.
    """

    def __init__(self) -> None:
        self.count = 0
        self.scoped: Refs = []
        self._by_kind: dict[Here, Local] = {}

    def here(self, kind: Here) -> Refs:
        """Return those whose reads have begun in the running thread or task to see what the process wrote."""
        local = self._by_kind.get(kind) or self._by_kind.setdefault(kind, kind.local())
        try:
            return local.refs  # type: ignore[no-any-return]  # a thread-local has no types
        except AttributeError:
            refs: Refs = []
            local.refs = refs
            return refs

    def tell(self, kind: Here, by: Companion) -> None:
        """Tell the others that the running thread or task has written through one of them."""
        here = self.here(kind)
        for each in tuple(here):
            other = each()
            if other is not by:
                if other is not None:
                    other.hear()
                _take_out(here, each)  # until its reads have begun again
        for each in tuple(self.scoped):
            other = each()
            if other is None:
                _take_out(self.scoped, each)
            elif other is not by:
                other.hear()


def join(refs: Refs, one: Companion) -> bool:
    """Add one, unless it is there; return whether it was."""
    for each in tuple(refs):
        found = each()
        if found is one:
            return True
        if found is None:
            _take_out(refs, each)
    refs.append(ref(one))
    return False


def _take_out(refs: Refs, each: ref[Companion]) -> None:
    with suppress(ValueError):  # a signal handler or another thread has done so meanwhile
        refs.remove(each)
