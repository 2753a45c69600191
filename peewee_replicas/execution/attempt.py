"""One statement's attempts on one node each: sending, catching up first, inside a snapshot."""

from __future__ import annotations

from typing import Any

from peewee import PeeweeException, __exception_wrapper__
from pymysql.cursors import SSCursor

from ..consistency.catch_up import CatchUp
from ..errors import ReadOnlyViolation
from ..nodes.replica import Replica
from ..routing.decision import Decision
from ..routing.router import PRIMARY, Replication
from ..scopes.frames import Frame, pinning
from ..statements.classifier import Statement


class Behind(Exception):
    """A replica does not show yet what a read must see."""


class Attempts:
    """One execution of one statement, as far as replicas can serve it.

    Attributes:
        role, node, reason: where it went last, and why; as in `RouteEvent`.
        attempts: how often it was handed to a node.
        observed: with ``reads="observe"``, where it would have gone.
        scoped: whether this context may be inside a scope.
        tried: the replicas that could not serve it, and why.
        lost: the error of the attempt that was sent and lost its connection.
        lost_at: its node, if that answers; `returned`: the read went back there, as no other could serve it.
        resent: it could not be sent to the primary once, and was tried there again.
        catch_up: what it must see, if anything.
        sends: False where only its node is looked for; `found`: the database of that node.
    """

    role: Any = PRIMARY
    node = PRIMARY
    attempts = 0
    observed: str | None = None
    scoped = True
    lost: Exception | None = None
    lost_at: Replica | None = None
    returned = False
    resent = False
    sends = True
    found: Any = None
    catch_up: CatchUp | None = None

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
        self.tried: dict[Replica, BaseException] = {}
        self.unsent: set[Replica] = set()

    def _on_writer(self) -> Any:
        raise NotImplementedError

    def _on_reader(self) -> Any:
        raise NotImplementedError

    def _attempt(self, replica: Replica, node: Any, *, final: bool = True) -> Any:
        self.role = PRIMARY if replica.is_primary else "replica"
        self.node = replica.name
        self.attempts += 1
        self.found = node
        cursor = self._send(replica, node) if self.sends else None
        if self.scoped and final:
            self._has_served()
        return cursor

    def _has_served(self) -> None:
        pin = pinning(self.core)
        if pin is not None:
            pin.served = True

    def _send(self, replica: Replica, node: Any) -> Any:
        conn = node._state.conn
        if conn.guarded:
            conn.suspect_statement = "" if self.statement.kind == "read" else self.sql
        started = replica.start()
        conn.executing = failed = True
        try:
            cursor = node._send(self.sql, self.params)
            failed = False
            return cursor
        finally:
            conn.executing = False
            replica.finish(started, failed=failed)

    def _attempt_at(self, replica: Replica, node: Any, catch_up: CatchUp) -> Any:
        """The read, on a replica that may have to catch up first."""
        conn = node._state.conn
        if catch_up.known(replica, conn.server_identity):
            return self._attempt(replica, node)
        query = catch_up.query(replica, conn)
        if not query:
            raise Behind("has not moved since it was last waited for")
        self.core.counters.add("waits")
        progress = replica.progress
        with progress.lock:
            progress.waiting += 1
        there = False
        cursor: Any = None
        failure: Exception | None = None
        try:
            if not self._may_go_together(node, conn, progress):
                if not catch_up.learn(replica, conn, self._ask(conn, query)):
                    raise self._behind()
                return self._attempt(replica, node)
            conn.send_ahead(query)
            try:
                cursor = self._attempt(replica, node, final=False)
            except PeeweeException as exc:
                if self.database._meaning(exc) != "statement":
                    raise
                failure = exc
            finally:
                conn.recall_ahead()
                if conn.answer_ahead is not None:
                    there = catch_up.learn(replica, conn, conn.answer_ahead)
        finally:
            with progress.lock:
                progress.waiting -= 1
        if not there:  # what old data made of the read says nothing, not even an error
            if cursor is not None:
                cursor.close()
            raise self._behind()
        if failure is not None:
            raise failure
        if self.scoped:
            self._has_served()
        return cursor

    def _behind(self) -> Behind:
        return Behind(f"has not caught up within {self.core.settings.catch_up_timeout} s")

    def _ask(self, conn: Any, query: str) -> Any:
        try:
            with __exception_wrapper__:
                return conn.ask(query)[0]
        except PeeweeException as exc:
            if self.database._meaning(exc) != "statement":
                raise
            return exc

    def _may_go_together(self, node: Any, conn: Any, progress: Any) -> bool:
        # What was read before its replica had caught up is thrown away, which needs a buffered result.
        return (
            self.sends
            and node._plain_cursor
            and not conn.busy
            and not issubclass(conn.cursorclass, SSCursor)
            and progress.stalled is None
        )

    def _violation(self, exc: Exception) -> ReadOnlyViolation:
        return ReadOnlyViolation(
            f"the server refused a statement inside readonly() as a write; nothing was executed: {exc}"
        )
