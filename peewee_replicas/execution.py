"""Handing one statement to a node: retries, the rerun on the primary, the fallback, and the report."""

from __future__ import annotations

import logging
import time
from typing import Any

from peewee import PeeweeException

from .errors import NoReplicaAvailable, ReadOnlyViolation
from .events import RouteEvent
from .replicas import Replica
from .replication import PRIMARY, TELLING, Replication
from .routing import READER, REPLICA, WRITER, Decision
from .scopes import Frame, pinning
from .statements import Statement

logger = logging.getLogger("peewee.replicas")


class Execution:
    """One execution of one statement.

    Attributes:
        role, node, reason: where it went last, and why; as in `RouteEvent`.
        attempts: how often it was handed to a node.
    """

    __slots__ = (
        "attempts", "core", "database", "decision", "frame", "lost", "node", "observed", "params",
        "reason", "role", "sql", "statement", "tried", "unsent",
    )  # fmt: skip

    def __init__(
        self,
        database: Any,
        core: Replication,
        statement: Statement,
        decision: Decision,
        frame: Frame | None,
        sql: str,
        params: Any,
    ) -> None:
        self.database = database
        self.core = core
        self.statement = statement
        self.decision = decision
        self.frame = frame
        self.sql = sql
        self.params = params
        self.reason = decision.reason
        self.role: Any = PRIMARY
        self.node = PRIMARY
        self.attempts = 0
        self.observed: str | None = None
        self.lost = False
        self.tried: dict[Replica, BaseException] = {}
        self.unsent: set[Replica] = set()

    def run(self) -> Any:
        """Send the statement where the decision says; returns the driver's cursor."""
        target = self.decision.target
        if self.core.rehearsal is not None and target != WRITER:
            return self._rehearse()
        if target == REPLICA:
            return self._on_replicas(self.core.choose(self.frame))
        if self.decision.observed:
            replica = self.core.choose(self.frame)
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
        self.attempts += 1
        conn.executing = True
        # What the text tells about its effect, the server need not report.
        conn.announced = statement.kind in TELLING
        try:
            if self.decision.guard:
                return self._under_guard(conn)
            cursor = database._send(self.sql, self.params)
        finally:
            conn.executing = conn.announced = False
        if statement.effect:
            self.core.mark(conn, statement.effect)
        return cursor

    def _under_guard(self, conn: Any) -> Any:
        conn.tell(conn.flavour.GUARD)
        try:
            return self.database._send(self.sql, self.params)
        except PeeweeException as exc:
            if self.database._meaning(exc) == "refused":
                raise self._violation(exc) from exc
            raise
        finally:
            if not conn.dropped():
                conn.tell_when_free(conn.flavour.UNGUARD)

    def _on_reader(self) -> Any:
        """The primary, on a connection that the server guards against writes."""
        if self.core.rehearsal is not None:
            return self._on_writer()
        reader = self.core.reader
        if self.frame is not None:
            pin = pinning(self.core) or self.frame
            with pin.lock:
                if self.decision.target == REPLICA:
                    pin.node = reader
        try:
            return self._attempt(reader, self.database._reach(reader))
        except PeeweeException as exc:
            if self.database._meaning(exc) == "refused":
                raise self._violation(exc) from exc
            raise

    def _rehearse(self) -> Any:
        """Testing mode: the read is served by the primary's own connection, and counted where it would go."""
        core = self.core
        replica = core.choose(self.frame) if self.decision.target == REPLICA else core.reader
        if replica is None:
            return self._fall_back()
        conn = self.database._writer()
        guard = not conn.transaction  # an open transaction cannot be guarded
        if guard:
            conn.tell(conn.flavour.GUARD)
        try:
            return self._attempt(replica, self.database)
        except PeeweeException as exc:
            if self.database._meaning(exc) != "refused":
                raise
            refused = exc
        finally:
            if guard and not conn.dropped():
                conn.tell_when_free(conn.flavour.UNGUARD)
        return self._rerun(replica, refused, "refused")

    # The replicas

    def _on_replicas(self, replica: Replica | None) -> Any:
        while replica is not None:
            try:
                node = self.database._reach(replica)
            except PeeweeException as exc:
                if not self.database._has_no_connection(exc):
                    raise
                self.tried[replica] = exc
                replica = self.core.another(self.frame, set(self.tried))
                continue
            try:
                return self._attempt(replica, node)
            except PeeweeException as exc:
                found = self.database._meaning(exc)
                if found == "statement":
                    raise
                if found in ("refused", "missing"):
                    return self._rerun(replica, exc, found)
                replica = self._after_failure(replica, node, exc, found)
                self.core.counters.add("retries")
        return self._fall_back()

    def _attempt(self, replica: Replica, node: Any) -> Any:
        self.role = PRIMARY if replica.is_primary else "replica"
        self.node = replica.name
        self.attempts += 1
        conn = node._state.conn
        replica.start()
        conn.executing = True
        try:
            return node._send(self.sql, self.params)
        finally:
            conn.executing = False
            replica.finish()

    def _after_failure(self, replica: Replica, node: Any, exc: Exception, found: str) -> Replica | None:
        """Where a read goes whose connection failed it; raises where it may not be sent again."""
        node._discard()
        if found == "unreachable":
            replica.failed(str(exc))
        elif found == "lost" and self.lost:
            # A query that kills its server must not walk over every node.
            raise exc
        elif found == "not sent" and replica not in self.unsent:
            self.unsent.add(replica)
            return replica
        self.lost = self.lost or found == "lost"
        alive = found == "lost" and self._answers(replica)
        self.tried[replica] = exc
        other = self.core.another(self.frame, set(self.tried))
        return replica if other is None and alive else other

    def _answers(self, replica: Replica) -> bool:
        try:
            self.database._reach(replica)
        except PeeweeException:
            return False
        return True

    def _rerun(self, replica: Replica, exc: Exception, found: str) -> Any:
        """A replica executed nothing: it took the read for a write, or lacks what it names."""
        readonly = self.frame is not None and self.frame.place == "readonly"
        if found == "refused":
            if readonly:
                raise self._violation(exc) from exc
            self.core.classifier.demote(self.sql)
            logger.warning("%s refused as a write what was taken for a read: %s", replica.label, self.sql)
        self.core.counters.add("reruns")
        self.reason = f"{replica.name} could not run it ({exc.args[0]}), rerun on the primary"
        try:
            return self._on_reader() if readonly else self._on_writer()
        except PeeweeException as again:
            # Without a primary, what the replica said is the answer.
            if found == "missing" and self.database._has_no_connection(again):
                raise exc from again
            raise

    def _violation(self, exc: Exception) -> ReadOnlyViolation:
        return ReadOnlyViolation(
            f"the server refused a statement inside readonly() as a write; nothing was executed: {exc}"
        )

    def _fall_back(self) -> Any:
        core = self.core
        causes = list(self.tried.values())
        reasons = "; ".join(f"{replica.label}: {exc}" for replica, exc in self.tried.items())
        missing = core.replicas.reasons(set(self.tried))
        reasons = "; ".join(text for text in (reasons, missing) if text)
        cause = causes[-1] if causes else None
        if core.replicas.all and core.settings.fallback == "error":
            raise NoReplicaAvailable(
                f"no replica can serve the read ({reasons}); "
                'with fallback="primary" the primary would have served it'
            ) from cause
        if core.replicas.all:
            core.counters.add("fallbacks")
        self.reason = f"no replica can serve it: {reasons}"
        readonly = self.frame is not None and self.frame.place == "readonly"
        try:
            return self._on_reader() if readonly else self._on_writer()
        except PeeweeException as exc:
            if self.tried and self.database._has_no_connection(exc):
                raise NoReplicaAvailable(
                    f"no node can serve the read: {reasons}; the primary: {exc}"
                ) from exc
            raise

    # The report

    def report(self, started: float, error: BaseException | None) -> None:
        """Tell the user's hooks, peewee's and ours, what became of the execution."""
        database, core = self.database, self.core
        if database.query_hooks:
            database._notify_hooks(self.sql, self.params, started, error)
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
            duration=time.perf_counter() - started,
            error=None if error is None else f"{type(error).__name__}: {error}",
        )
        for hook in core.route_hooks:
            hook(event)
