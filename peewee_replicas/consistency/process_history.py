"""What this process has written to the servers behind one address, whichever database object it used."""

from __future__ import annotations

import weakref

from ..concurrency import new_lock
from ..positions import Position
from .sessions import Session

# Seconds in which the loss of what one origin wrote is reported once, however many sessions find it out.
_SAID_FOR = 3600.0
# Seconds for which it is relied upon that the primary knew a single GTID domain. The prober asks more often.
_FRESH = 5.0

_lock = new_lock()
_by_endpoint: weakref.WeakValueDictionary[str, ProcessHistory] = weakref.WeakValueDictionary()


class ProcessHistory:
    """The session of the whole process at one primary, shared by all database objects that lead there.

    Attributes:
        endpoint: where the primary is, as `process_history` was asked for it.
        session: what any thread or task has written there through any database object.
        server: the identity of the primary, once it is known.
        others: those of other endpoints that lead to the same server.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.session = Session(begun=True)
        self.server: str | None = None
        self.others: tuple[ProcessHistory, ...] = ()
        self._one_domain = False
        self._told_at = float("-inf")
        self._said: dict[str, float] = {}
        self._lost_from: dict[str, int] = {}

    def sessions(self) -> tuple[Session, ...]:
        """The sessions of this process at the same servers, under whatever endpoints."""
        if not self.others:
            return (self.session,)
        return (self.session, *(other.session for other in self.others))

    def primary_told(self, position: Position | None, now: float, server: str | None = None) -> None:
        """Take in what the primary has just said of itself.

        Parameters:
            position: how far it has come, in all GTID domains; None where it keeps no GTIDs.
            now: the time, on a monotonic clock.
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
        """Whether the primary has told lately that everything is written in a single GTID domain."""
        return self._one_domain and now - self._told_at < _FRESH

    def lost(self, position: Position, now: float) -> bool:
        """Take in that the primary does not have a position; whether that is to be reported.

        It is not if the loss of everything by the same origins was reported within the last hour.
        """
        with _lock:
            news = False
            for origin, (first, _) in position.spans().items():
                news = news or now >= self._said.get(origin, float("-inf"))
                self._said[origin] = now + _SAID_FOR
                self._lost_from[origin] = min(first, self._lost_from.get(origin, first))
        return news

    def may_be_lost(self, position: Position) -> bool:
        """Whether a position reaches into what is known to be lost, so that waiting for it may be in vain."""
        if not self._lost_from:
            return False
        spans = position.spans()
        return any(
            origin in spans and spans[origin][1] >= first for origin, first in list(self._lost_from.items())
        )

    def not_lost(self) -> None:
        """What seemed to reach into lost writes exists: their origin writes again, so nothing is known."""
        self._lost_from.clear()


def process_history(endpoint: str) -> ProcessHistory:
    """The one `ProcessHistory` of an endpoint; it lives as long as a database object uses it."""
    with _lock:
        found = _by_endpoint.get(endpoint)
        if found is None:
            found = _by_endpoint[endpoint] = ProcessHistory(endpoint)
        return found
