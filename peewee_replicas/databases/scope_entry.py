"""Enter a scope: check its arguments, and create its frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from .. import bookmarks
from ..concurrency import Clock
from ..connections.parts import Parts
from ..connections.plain_database import PlainDatabase
from ..connections.snapshot import Snapshot
from ..consistency.sessions import Session
from ..errors import BookmarkError, ConfigurationError, ReadOnlyViolation
from ..nodes.node import Node
from ..nodes.replica_set import within
from ..nodes.selector import narrowed, without_tags
from ..positions import MySQLPosition, Position
from ..routing.settings import check_choice, check_seconds_or_none
from ..scopes.frames import Frame, PlaceFrame, Selector, pinning, selecting
from ..statements.redaction import shown

BOOKMARK_SECONDS = 24 * 3600.0
"""Seconds after which a bookmark is refused."""


def check_readonly(consistency: str | None, max_lag: float | None, snapshot: bool) -> None:
    """Check the arguments of a ``readonly()``.

    Raises:
        ConfigurationError: an argument cannot work.
    """
    if consistency is not None:
        check_choice("consistency", consistency, ConfigurationError)
    check_seconds_or_none("max_lag", max_lag, ConfigurationError)
    if not isinstance(snapshot, bool):
        raise ConfigurationError(f"snapshot={shown(snapshot)}: allowed are True and False")


def check_read_only(read_only: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    """Check the arguments of an ``atomic(read_only=…)`` whose `read_only` is not False.

    Raises:
        ConfigurationError: it is not True, or another argument is given, which a snapshot would ignore.
    """
    if read_only is not True:
        raise ConfigurationError(f"read_only={shown(read_only)}: allowed are True and False")
    if args or kwargs:
        raise ConfigurationError("read_only=True is a snapshot, and atomic() takes no other argument with it")


class ScopeEntry:
    """Creates the frames of one database's scopes.

    Parameters:
        plain: the user's database without routing.
        parts: its collaborators.
    """

    def __init__(self, plain: PlainDatabase, parts: Parts) -> None:
        self._plain = plain
        self._parts = parts

    def enter_readonly(
        self,
        consistency: str | None = None,
        snapshot: bool = False,
        max_lag: float | None = None,
        selector: Selector = (),
    ) -> Frame:
        """Begin a ``readonly()`` with these parameters."""
        parts = self._parts
        transaction = parts.primary.transaction(self._plain.state)
        if transaction and parts.router.settings.readonly_in_transaction == "error":
            raise ReadOnlyViolation(
                f"readonly() inside a transaction ({transaction}); "
                'readonly_in_transaction="join" lets its reads stay in the transaction'
            )
        # A transaction already has its own view of the data, on a connection to the primary.
        if transaction and snapshot:
            raise ReadOnlyViolation(f"a snapshot cannot join a transaction ({transaction})")
        if max_lag is not None:
            self._hold_to(max_lag)
        frame = Frame(parts.cluster, "readonly", level=consistency)
        frame.max_lag = max_lag
        self._narrow(frame, selector)
        if snapshot:
            frame.snapshot = Snapshot(parts.here)
        return frame

    def call_through(
        self, place: object, at_primary: bool, selector: Selector, query: object = None
    ) -> PlaceFrame:
        """Return the frame of one call through ``on_primary``, or through an ``on_replicas()``."""
        frame = PlaceFrame(self._parts.cluster, place, at_primary=at_primary, query=query)
        self._narrow(frame, selector)
        return frame

    def _narrow(self, frame: Frame, selector: Selector) -> None:
        cluster = self._parts.cluster
        if not cluster.tagged:
            selector = without_tags(selector)
        if selector:
            frame.selector = narrowed(selecting(cluster), selector)

    def _hold_to(self, max_lag: float) -> None:
        """Learn the replicas' lag before a scope with a limit begins, and leave a node that exceeds it."""
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
        """Begin a ``causal_session()``, from a bookmark if one is given."""
        return self.causal_frame([] if bookmark is None else [self.position_of(bookmark)])

    def causal_frame(self, positions: list[Position | None], *, apart: bool = False) -> Frame:
        """Return the frame of a ``causal_session()``.

        Parameters:
            positions: what its reads must see from the start.
            apart: whether it is a separate unit of work.
        """
        parts = self._parts
        session = parts.consistency.inner_session(positions, apart=apart)
        return Frame(parts.cluster, "causal", session=session)

    def position_of(self, bookmark: str, max_age: float = BOOKMARK_SECONDS) -> Position | None:
        """Return a bookmark's position; None means the primary's current position.

        Parameters:
            max_age: seconds after which a bookmark is refused.

        Raises:
            BookmarkError: the bookmark is malformed, belongs to another database or server dialect, or is
                older than `max_age`.
        """
        mark = bookmarks.decode(bookmark, Clock.wall(), max_age)
        name, dialect = self._plain.db.database, self._parts.router.dialect
        # Another server's position could look like one of this server and mean something else.
        if mark.history != name:
            raise BookmarkError(f"the bookmark belongs to database {mark.history!r}, not to {name!r}")
        if mark.position is None:
            return None
        kind = "mysql" if isinstance(mark.position, MySQLPosition) else "mariadb"
        # None: not connected yet. If the dialect turns out to differ, no node ever reaches the position.
        if dialect not in (None, kind):
            raise BookmarkError(f"the bookmark comes from a {kind} server, but this server is {dialect}")
        return mark.position

    def bookmark_of(self, session: Session) -> str | None:
        """Return the position that a session must see as a string, or None if it has none."""
        return self._parts.consistency.bookmark(session, str(self._plain.db.database), Clock.wall())
