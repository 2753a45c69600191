"""Handing one statement to the node that was decided on, and the report of what became of it."""

from __future__ import annotations

import time
from typing import Any

from peewee import PeeweeException
from playhouse.pool import MaxConnectionsExceeded

from ..concurrency import Clock
from ..connections.failures import TREATMENTS
from ..events import RouteEvent
from ..routing.decision import READER, REPLICA, WRITER
from ..routing.router import PRIMARY, TELLING
from ..servers.error_meanings import NO_CONNECTION
from .on_replicas import Reading


class Execution(Reading):
    """One execution of one statement."""

    def run(self) -> Any:
        """Send the statement where the decision says; returns the driver's cursor."""
        target = self.decision.target
        if self.core.rehearsal is not None and target != WRITER:
            return self._rehearse()
        if target == REPLICA:
            return self._read()
        if self.decision.observed:
            replica = self.core.choose()
            self.observed = replica.name if replica is not None else None
            self.core.counters.add("observed")
        if target == READER:
            return self._on_reader()
        return self._on_writer()

    # The primary

    def _on_writer(self) -> Any:
        database, statement = self.database, self.statement
        self.role, self.node = PRIMARY, PRIMARY
        self.core.counters.add(PRIMARY)
        conn = database._writer()
        transaction = bool(self.core.transaction(database._state))
        self.attempts += 1
        conn.executing = True
        # What the text tells about its effect, the server need not report.
        conn.effect_known = statement.kind in TELLING
        try:
            if self.decision.guard:
                return self._under_guard(conn)
            cursor = database._send(self.sql, self.params)
        except PeeweeException as exc:
            if conn.replaceable and not transaction and self._may_resend(exc):
                return self._on_writer()
            database._explain_failure(conn, exc, statement.kind, self.sql, transaction=transaction)
            raise
        finally:
            conn.executing = conn.effect_known = False
        if statement.kind == "session":
            conn.session_changed = True
        if statement.effect:
            self.core.mark(conn, statement.effect)
        if self.core.demoted and statement.kind == "write":
            self.core.demoted = False
        return cursor

    def _may_resend(self, exc: PeeweeException) -> bool:
        """Whether a read goes to the primary again, because it could not be sent on the old connection."""
        found = self.database._meaning(exc)
        if self.statement.kind != "read" or TREATMENTS[found].read != "again" or self.resent:
            return False
        self.resent = True
        self.core.counters.add("retries")
        return True

    def _under_guard(self, conn: Any) -> Any:
        conn.run_setting(conn.dialect.GUARD)
        try:
            return self.database._send(self.sql, self.params)
        except PeeweeException as exc:
            if self.database._meaning(exc) == "refused":
                raise self._violation(exc) from exc
            raise
        finally:
            if not conn.dropped():
                conn.run_setting_when_idle(conn.dialect.UNGUARD)

    def _on_reader(self) -> Any:
        """The primary, on a connection that the server guards against writes."""
        if self.core.rehearsal is not None:
            return self._on_writer()
        reader = self.core.reader
        self._stay_with(reader)
        try:
            node = self.database._reach(reader)
        except MaxConnectionsExceeded:
            conn = self.database._state.conn
            if conn is None or conn.transaction or not self.sends:
                raise
            self.decision = self.decision._replace(guard=True)
            return self._on_writer()
        except PeeweeException as exc:
            self.database._name_reader(exc)
            raise
        try:
            return self._attempt(reader, node)
        except PeeweeException as exc:
            found = self.database._meaning(exc)
            if found == "refused":
                raise self._violation(exc) from exc
            if found in NO_CONNECTION:
                node._discard()
                if self._may_resend(exc):
                    return self._on_reader()
                self.database._name_reader(exc)
            raise

    def _rehearse(self) -> Any:
        """Testing mode: the read is served by the primary's own connection, and counted where it would go."""
        core = self.core
        replica = core.choose() if self.decision.target == REPLICA else core.reader
        if replica is None:
            return self._fall_back()
        conn = self.database._writer()
        guard = not conn.transaction  # an open transaction cannot be guarded
        if guard:
            conn.run_setting(conn.dialect.GUARD)
        try:
            return self._attempt(replica, self.database)
        except PeeweeException as exc:
            if self.database._meaning(exc) != "refused":
                raise
            refused = exc
        finally:
            if guard and not conn.dropped():
                conn.run_setting_when_idle(conn.dialect.UNGUARD)
        return self._rerun(replica, refused, "refused")

    # The report

    def report(self, started: float, error: BaseException | None) -> None:
        """Tell the user's hooks, peewee's and ours, what became of the execution."""
        database, core = self.database, self.core
        duration = Clock.monotonic() - started
        if database.query_hooks:
            # peewee takes the difference to its own clock, which a test may have stopped.
            database._notify_hooks(self.sql, self.params, time.perf_counter() - duration, error)
        if not core.route_hooks:
            return
        event = RouteEvent(
            database=str(database.database),
            sql=self.sql,
            role=self.role,
            node=self.node,
            kind=self.statement.kind,
            reason=self.reason,
            attempts=self.attempts,
            observed=self.observed,
            duration=duration,
            error=None if error is None else f"{type(error).__name__}: {error}",
        )
        for hook in core.route_hooks:
            hook(event)
