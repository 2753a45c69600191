"""The questions about positions that the primary is asked, on connections where they disturb nothing."""

from __future__ import annotations

from typing import Any

from peewee import PeeweeException, __exception_wrapper__

from ..concurrency import Clock
from ..positions import Position

AWAY_SECONDS = 1.0
"""Seconds to wait for an answer of a primary that is already known to be down."""


class PrimaryPositions:
    """The primary of one database, as it is asked about positions; `consistency` says what for.

    Parameters:
        database: the database; a question goes out on a connection of the thread or task that asks.
    """

    def __init__(self, database: Any) -> None:
        self._database = database

    def may_ask(self) -> bool:
        """Whether to ask now. While the primary is known to be down, one caller at a time may."""
        breaker = self._database._replication.reader.breaker
        return not breaker.open or breaker.by_hand or breaker.may_try(Clock.monotonic())

    def asked(self, answered: bool) -> None:
        """Report what became of a question that `may_ask` has allowed."""
        reader = self._database._replication.reader
        if reader.breaker.open and answered:
            reader.works()
        else:
            reader.breaker.let_go()

    def current(self) -> Position | None:
        """The primary's position now; None where it keeps no GTIDs.

        Raises:
            PeeweeException: there was no answer.
        """
        database = self._database
        began = Clock.monotonic()
        try:
            row, dialect = self._ask("NOW")
        except PeeweeException as exc:
            if database._meaning(exc) not in ("lost", "killed", "not sent"):
                raise
            if Clock.monotonic() - began >= AWAY_SECONDS:
                cause = f"{type(exc).__name__}: {getattr(exc, 'orig', exc)}; it does not answer"
                database._replication.reader.failed(cause)
                raise
            # A connection that was killed does not mean that the primary is gone.
            row, dialect = self._ask("NOW")
        position: Position | None = dialect.now(row)
        return position

    def has(self, position: Position) -> bool:
        """Whether the primary's history contains a position, as far as it can tell.

        Raises:
            PeeweeException: there was no answer.
        """
        row, dialect = self._ask("HISTORY")
        return bool(dialect.in_history(row, position))

    def is_unreachable(self, exc: BaseException) -> bool:
        """Whether an error of these questions means that the primary cannot be reached."""
        return bool(self._database._has_no_connection(exc))

    def _ask(self, question: str) -> tuple[Any, Any]:
        """The answer's first row, and the dialect that reads it."""
        database = self._database
        core = database._replication
        core.counters.add("asked")
        conn = database._primary_to_ask()
        # A primary that hangs must cost no more than one that cannot be connected to, and only once.
        seconds = AWAY_SECONDS if core.reader.breaker.open else conn.connect_timeout
        try:
            with __exception_wrapper__:
                return conn.ask(getattr(conn.dialect, question), seconds)[0], conn.dialect
        except PeeweeException as exc:
            database._name_reader(exc)
            raise
