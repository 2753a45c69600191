"""Entering a scope: what is checked, and the frame that is then in force."""

from __future__ import annotations

from typing import cast

from .. import bookmarks
from ..concurrency import Clock
from ..connections.parts import Parts
from ..connections.plain_database import PlainDatabase
from ..connections.snapshot import Snapshot
from ..consistency.sessions import Session
from ..errors import BookmarkError, ReadOnlyViolation
from ..nodes.node import Node
from ..nodes.replica_set import within
from ..positions import MySQLPosition, Position
from ..scopes.frames import Frame, pinning

BOOKMARK_SECONDS = 24 * 3600.0
"""Seconds after which a bookmark is refused."""


class ScopeEntry:
    """Makes the frames of one database's scopes.

    Parameters:
        plain: the user's database.
        parts: its collaborators.
    """

    def __init__(self, plain: PlainDatabase, parts: Parts) -> None:
        self._plain = plain
        self._parts = parts

    def enter_readonly(
        self, consistency: str | None = None, snapshot: bool = False, max_lag: float | None = None
    ) -> Frame:
        """Begin a ``readonly()``; the parameters are its own."""
        parts = self._parts
        transaction = parts.primary.transaction(self._plain.state)
        if transaction and parts.router.settings.readonly_in_transaction == "error":
            raise ReadOnlyViolation(
                f"readonly() inside a transaction ({transaction}); "
                'readonly_in_transaction="join" lets its reads stay in the transaction'
            )
        # A transaction has its own view of the data already, on a connection to the primary.
        if transaction and snapshot:
            raise ReadOnlyViolation(f"a snapshot cannot join a transaction ({transaction})")
        if max_lag is not None:
            self._hold_to(max_lag)
        frame = Frame(parts.cluster, "readonly", level=consistency)
        frame.max_lag = max_lag
        if snapshot:
            frame.snapshot = Snapshot(parts.here)
        return frame

    def _hold_to(self, max_lag: float) -> None:
        """Before a scope with a bound of its own: know how far replicas are behind, and leave one that is."""
        self._parts.replicas.await_lag()
        pin = pinning(self._parts.cluster)
        if pin is not None:
            with pin.lock:
                if pin.node is not None and not within((cast(Node, pin.node),), max_lag):
                    pin.node = None

    def enter_primary(self) -> Frame:
        """Begin a ``primary()``."""
        return Frame(self._parts.cluster, "primary")

    def enter_causal(self, bookmark: str | None = None) -> Frame:
        """Begin a ``causal_session()``, from a bookmark if there is one."""
        return self.causal_frame([] if bookmark is None else [self.position_of(bookmark)])

    def causal_frame(self, positions: list[Position | None], *, apart: bool = False) -> Frame:
        """A ``causal_session()`` that begins with `positions`; `apart`: it is a unit of work of its own."""
        parts = self._parts
        session = parts.consistency.inner_session(positions, apart=apart)
        return Frame(parts.cluster, "causal", session=session)

    def position_of(self, bookmark: str, max_age: float = BOOKMARK_SECONDS) -> Position | None:
        """The position that a bookmark holds; None: what the primary has when it is read.

        Raises:
            BookmarkError: it is malformed, of another database or kind of server, or older than `max_age`.
        """
        mark = bookmarks.decode(bookmark, Clock.wall(), max_age)
        name, dialect = self._plain.db.database, self._parts.router.dialect
        # A position of another server could look like one of this, and would mean something else.
        if mark.history != name:
            raise BookmarkError(f"the bookmark is of {mark.history!r}, not of {name!r}")
        if mark.position is None:
            return None
        kind = "mysql" if isinstance(mark.position, MySQLPosition) else "mariadb"
        # None: no server was met yet. Of the wrong kind, a position is simply never reached.
        if dialect not in (None, kind):
            raise BookmarkError(f"the bookmark is of a {kind} server, and this is {dialect}")
        return mark.position

    def bookmark_of(self, session: Session) -> str | None:
        """What a session must see, as a string; None where that is nothing."""
        return self._parts.consistency.bookmark(session, str(self._plain.db.database), Clock.wall())
