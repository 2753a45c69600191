"""Ask the primary about positions, on connections where a query has no side effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from peewee import PeeweeException

from ..concurrency import Clock
from ..positions import Position
from ..servers.protocols import Row, ServerConnection, ServerDialect
from .primary_connection import PrimaryConnection
from .questions import first_row
from .replica_connections import ReplicaConnections

AWAY_SECONDS = 1.0
"""Seconds to wait for an answer from a primary already known to be down."""


class PrimaryPositions:
    """Asks the primary of one database about positions, on connections of the current thread or task.

    Parameters:
        primary: the connections to the primary for writing.
        replicas: the connections for reading, including those to the primary.

    Attributes:
        without_gtids: why the primary keeps no GTIDs, and what to set, in words; ``""`` if it keeps them.
    """

    def __init__(self, primary: PrimaryConnection, replicas: ReplicaConnections) -> None:
        self._primary = primary
        self._replicas = replicas
        self._cluster = replicas.cluster
        self._diagnosis = replicas.diagnosis
        self.without_gtids = ""

    def may_ask(self) -> bool:
        """Return whether to ask now. While the primary is known to be down, one caller at a time may."""
        breaker = self._cluster.reader.breaker
        return not breaker.open or breaker.by_hand or breaker.may_try(Clock.monotonic())

    def asked(self, answered: bool) -> None:
        """Record whether a question that `may_ask` allowed was answered."""
        reader = self._cluster.reader
        if reader.breaker.open and answered:
            reader.works()
        else:
            reader.breaker.let_go()

    def current(self) -> Position | None:
        """Return the primary's position now; None if it keeps no GTIDs.

        Raises:
            PeeweeException: there was no answer.
        """
        began = Clock.monotonic()
        try:
            row, dialect = self._ask("NOW")
        except PeeweeException as exc:
            if self._diagnosis.meaning(exc) not in ("lost", "killed", "not sent"):
                raise
            if Clock.monotonic() - began >= AWAY_SECONDS:
                cause = f"{type(exc).__name__}: {getattr(exc, 'orig', exc)}; it does not answer"
                self._cluster.reader.failed(cause)
                raise
            # A killed connection does not mean that the primary is down.
            row, dialect = self._ask("NOW")
        position: Position | None = dialect.now(row)
        self.without_gtids = dialect.WITHOUT_GTIDS if position is None else ""
        return position

    def missing(self, positions: Sequence[Position]) -> list[Position | None]:
        """Return the part of each position missing from the primary's history; None: nothing, or unknown.

        Raises:
            PeeweeException: there was no answer.
        """
        row, dialect = self._ask("HISTORY")
        return [dialect.missing(row, position) for position in positions]

    def is_unreachable(self, exc: BaseException) -> bool:
        """Return whether an error of these questions means that the primary cannot be reached."""
        return self._diagnosis.has_no_connection(exc)

    def _ask(self, question: Literal["NOW", "HISTORY"]) -> tuple[Row, ServerDialect]:
        """Return the answer's first row, and the dialect that reads it."""
        self._cluster.counters.add("asked")
        conn = self._connection()
        # A hung primary costs one caller the full time limit of connecting, and later callers less.
        seconds = AWAY_SECONDS if self._cluster.reader.breaker.open else conn.connect_timeout
        try:
            return first_row(conn, getattr(conn.dialect, question), seconds), conn.dialect
        except PeeweeException as exc:
            self._diagnosis.name_node(exc, self._cluster.reader.label)
            raise

    def _connection(self) -> ServerConnection:
        """Return a connection to the primary on which a query has no side effects."""
        conn = self._primary.idle()
        if conn is not None:
            return conn
        reader = self._cluster.reader
        try:
            return self._replicas.reach(reader).open_conn
        except PeeweeException as exc:
            self._diagnosis.name_node(exc, reader.label)
            raise
