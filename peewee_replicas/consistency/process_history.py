"""Keeps what this process wrote to each primary, through any of its database objects."""

from __future__ import annotations

import weakref
from collections import OrderedDict

from ..concurrency import new_lock
from ..positions import Position
from .companions import Companions
from .sessions import Session

# The loss of one server's writes is logged once in this many seconds, however many sessions discover it.
_SAID_FOR = 3600.0
# Seconds for which to trust that the primary has a single GTID domain. The prober asks more often.
_FRESH = 5.0
# A program that makes a database object for each job must still see what its earlier jobs wrote. So this many
# endpoints, those asked for last, keep their history while no database object uses them.
_KEPT = 256

_lock = new_lock()
_by_endpoint: weakref.WeakValueDictionary[str, ProcessHistory] = weakref.WeakValueDictionary()
_kept: OrderedDict[str, ProcessHistory] = OrderedDict()


class ProcessHistory:
    """The session of the whole process at one primary, shared by all database objects for that primary.

    Attributes:
        endpoint: the primary's endpoint, as passed to `process_history`.
        session: what any thread or task has written there through any database object.
        server: the primary's identity, once known.
        others: the histories of other endpoints that lead to the same server, and until that is known, the
            history of the primary before.
        companions: these database objects.
        warned_of: kinds of session state that were warned of, on connections of any database object.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.session = Session(begun=True)
        self.server: str | None = None
        self.others: tuple[ProcessHistory, ...] = ()
        self.companions = Companions()
        self.warned_of: set[str] = set()
        self._one_domain = False
        self._told_at = float("-inf")
        self._said: dict[str, float] = {}
        self._lost_from: dict[str, int] = {}

    def sessions(self) -> tuple[Session, ...]:
        """Return the sessions of this process at the same server, under all its endpoints."""
        if not self.others:
            return (self.session,)
        return (self.session, *(other.session for other in self.others))

    def continue_from(self, before: ProcessHistory) -> None:
        """Include what was written at another endpoint, because the primary has moved here from there."""
        with _lock:
            if before is not self and before not in self.others:
                # Another thread may be recording a write there just now.
                self.others = (*self.others, before)
        self.session.take_over(before.session)

    def primary_told(self, position: Position | None, now: float, server: str | None = None) -> None:
        """Record what the primary has just reported about itself.

        Parameters:
            position: its position, in all GTID domains; None if it keeps no GTIDs.
            now: a monotonic clock's reading, in seconds.
            server: its identity, if it was asked for.
        """
        self._told_at = now
        self._one_domain = position is not None and position.size == 1
        if not server or server == self.server:
            return
        with _lock:
            self.server = server
            known = [history for history in _by_endpoint.values() if history.server]
            for one in known:
                one.others = tuple(
                    other for other in known if other is not one and other.server == one.server
                )

    def has_one_domain(self, now: float) -> bool:
        """Return whether the primary recently reported that all writes use a single GTID domain."""
        return self._one_domain and now - self._told_at < _FRESH

    def lost(self, position: Position, now: float) -> bool:
        """Record that the primary lacks a position; return whether to log the loss.

        Losses of the same servers' writes are logged at most once an hour.
        """
        with _lock:
            news = False
            for origin, (first, _) in position.spans().items():
                news = news or now >= self._said.get(origin, float("-inf"))
                self._said[origin] = now + _SAID_FOR
                self._lost_from[origin] = min(first, self._lost_from.get(origin, first))
        return news

    def may_be_lost(self, position: Position) -> bool:
        """Return whether a position includes known losses, so that waiting for it may never succeed."""
        if not self._lost_from:
            return False
        spans = position.spans()
        return any(
            origin in spans and spans[origin][1] >= first for origin, first in list(self._lost_from.items())
        )

    def not_lost(self) -> None:
        """Forget the known losses: the same servers have written since, and the primary has these writes."""
        self._lost_from.clear()


def process_history(endpoint: str) -> ProcessHistory:
    """Return the one `ProcessHistory` of an endpoint."""
    with _lock:
        found = _by_endpoint.get(endpoint)
        if found is None:
            found = _by_endpoint[endpoint] = ProcessHistory(endpoint)
        _kept[endpoint] = found
        _kept.move_to_end(endpoint)
        if len(_kept) > _KEPT:
            _kept.popitem(last=False)
        return found
