"""The methods of the asyncio form: as in the synchronous one, but connections go back to pools at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from greenlet import getcurrent
from playhouse.pwasyncio import MissingGreenletBridge, await_

from ..concurrency import Clock
from ..connections.checks import ConnectionChecks
from ..connections.diagnosis import Diagnosis
from ..connections.parts import Parts
from ..connections.peewee_types import Cursor, Parameters, ThreadState
from ..connections.plain_database import PlainDatabase
from ..connections.primary_connection import PrimaryConnection
from ..connections.primary_session import PrimarySession
from ..connections.replica_connections import ReplicaConnections
from ..consistency.levels import Consistency
from ..databases.assembly import Assembly
from ..databases.routed_members import RoutedMembers
from ..nodes.cluster import Cluster
from ..nodes.spec import NodeSpec
from ..scopes.frames import here, place_here, tightest_lag
from ..statements.redaction import redacted
from .connection import Connection
from .connections import (
    TaskDatabase,
    TaskNode,
    TaskPrimary,
    TaskPrimaryConnection,
    TaskReplicas,
    task_connection,
)
from .iterate import Streamed
from .pooled_mysql import AIOMYSQL_PARAMETERS, POOL_ARGUMENTS, PooledMySQL, check_pool_arguments
from .tasks import TASKS, Task, TaskState


class TaskAssembly(Assembly):
    """Makes the nodes and the collaborators of one asyncio database."""

    here = TASKS
    node_database = TaskNode
    driver_parameters = AIOMYSQL_PARAMETERS
    driver_name = "aiomysql"

    def check_pool(self, given: Mapping[str, object], where: str = "") -> None:
        """Refuse values of the pools' arguments that cannot work; a replica may have its own."""
        check_pool_arguments(given, where)

    def primary_overrides(self, spec: NodeSpec) -> Mapping[str, object]:
        """Return a node's own connection parameters, without the sizes of its pool."""
        return {name: spec.overrides[name] for name in spec.overrides if name not in POOL_ARGUMENTS}

    def primary_has_moved(self) -> None:
        """Let the pools' messages name the new primary."""
        db = self.plain.db
        assert isinstance(db, PooledMySQL)
        db.name_pools()

    def make_primary(
        self,
        cluster: Cluster,
        session: PrimarySession,
        consistency: Consistency,
        diagnosis: Diagnosis,
        checks: ConnectionChecks,
    ) -> PrimaryConnection:
        """Make the tasks' own connections to the primary."""
        return TaskPrimaryConnection(self.plain, cluster, session, consistency, diagnosis, checks, self.here)

    def make_replicas(
        self,
        cluster: Cluster,
        session: PrimarySession,
        diagnosis: Diagnosis,
        checks: ConnectionChecks,
        primary: PrimaryConnection,
    ) -> ReplicaConnections:
        """Make the tasks' connections to nodes."""
        replicas = TaskReplicas(self.plain, self.node_database, cluster, session, diagnosis, checks)
        assert isinstance(primary, TaskPrimaryConnection)
        primary.replicas = replicas
        return replicas


class TaskMembers(RoutedMembers):
    """The methods of one asyncio database. They run in greenlets, where waiting looks synchronous."""

    db: TaskDatabase
    plain: TaskPrimary

    @property
    def label(self) -> str:
        """The primary with its address, for messages."""
        return self.parts.cluster.primary_label

    @property
    def _leases(self) -> TaskReplicas:
        replicas = self.parts.replicas
        assert isinstance(replicas, TaskReplicas)
        return replicas

    def _need_greenlet(self, what: str, sql: str = "") -> None:
        if getcurrent().parent is None:
            raise MissingGreenletBridge(
                f"Attempted {what}{redacted(sql)} outside greenlet runner. In async code use the async "
                "members, such as `await db.list(query)` or `await Model.aget(...)`, or "
                "`await db.run(function)`."
            )

    def _await_lag(self) -> None:
        """Wait for the prober's first look if a scope bounds the lag; entering the scope could not wait."""
        cluster = self.parts.cluster
        unknown = bool(here()) and cluster.prober is not None and not cluster.prober.looked.is_set()
        if unknown and tightest_lag(cluster) is not None:
            self.parts.replicas.await_lag()

    def after_use(self, state: TaskState, had_writer: bool, sql: str = "") -> None:
        """Give back connections that this use of the database took and no longer needs.

        Parameters:
            state: this task's state.
            had_writer: whether the task had the primary's connection before.
            sql: the statement that was run on that connection, if any.
        """
        if state.leases:
            self._leases.return_leases(state)
        conn = state.conn
        if not had_writer and conn is not None:
            self.let_go_of_reader(state, conn, sql)

    def let_go_of_reader(self, state: TaskState, conn: Connection, sql: str) -> None:
        """Give the primary's connection back if it has only served a read in place of a replica."""
        if state.transactions or conn.streamed is not None:
            return
        read_only = self.parts.router.classifier.classify(sql).kind == "read"
        # A subclass that has connected for this statement may have set something.
        if read_only and not conn.report_incomplete and conn.replaceable:
            state.conn = None
            self.parts.primary.give_back(conn)

    def connect(self, reuse_if_open: bool, at_primary: bool) -> bool:
        """Connect like the synchronous form: same parameters, result and errors."""
        self._need_greenlet("connect()")
        self._await_lag()
        state = self.plain.state
        had_writer = state.conn is not None
        if self.parts.primary.is_connecting:
            return super().connect(reuse_if_open, at_primary)  # for a statement, which uses it next
        try:
            return super().connect(reuse_if_open, at_primary)
        finally:
            self.after_use(state, had_writer, "SELECT 1")

    def _close_connections(self) -> list[Exception]:
        """Give all of this task's connections back to their pools."""
        failures = super()._close_connections()
        state = self.plain.state
        state.leases.clear()
        state.holds = 0
        return failures

    def execute_sql(
        self,
        sql: str,
        params: Parameters,
        at_primary: bool,
        state: ThreadState | None = None,
        *,
        passed: bool = False,
    ) -> Cursor:
        """Execute as the synchronous form does; give connections back to their pools at once.

        Parameters:
            sql, params, at_primary, state: as in the synchronous form.
            passed: whether a subclass's own ``aexecute_sql()`` has had the statement. peewee's
                ``execute_sql()`` calls that method, so a retry in it is meant for every statement.
        """
        if getcurrent().parent is None:
            self._need_greenlet("query: ", sql)
        scoped = here()
        if not passed:
            db = self._place(at_primary) if at_primary or scoped else self.db
            if db.own_aexecute_sql:
                cursor: Cursor = await_(db.aexecute_sql(sql, params or ()))  # as peewee calls it
                return cursor
        if scoped:
            self._await_lag()
        own: TaskState = self.plain.state
        had_writer = own.conn is not None
        try:
            # `super()` would make an object for each statement.
            return RoutedMembers.execute_sql(self, sql, params, at_primary, own)
        finally:
            if own.leases or not had_writer:
                self.after_use(own, had_writer, sql)

    def _place(self, at_primary: bool) -> TaskDatabase:
        """Return the object through which a statement came; it may have an ``aexecute_sql()`` of its own."""
        if at_primary:
            return self.db.on_primary
        frame = place_here(self.parts.cluster)
        place: TaskDatabase = self.db if frame is None else frame.through  # type: ignore[assignment]
        return place

    def bookmark(self) -> str | None:
        """Return the bookmark as the synchronous form does."""
        self._need_greenlet("bookmark()")
        state = self.plain.state
        had_writer = state.conn is not None
        try:
            return super().bookmark()
        finally:
            self.after_use(state, had_writer)

    def scope_node(self, at_primary: bool) -> PlainDatabase | None:
        """Return the scope's node as the synchronous form does; the user keeps its connection."""
        self._await_lag()
        database = super().scope_node(at_primary)
        if isinstance(database, TaskNode):
            state, held = self.plain.state, database.state
            if held in state.leases and not held.kept:
                held.kept = True
                conn = task_connection(held.conn)
                conn.pool.hold(conn, True)
                state.holds += 1
        return database

    # Streams

    def stream(self, sql: str, params: Parameters, at_primary: bool) -> Streamed:
        """Run a statement whose rows are fetched on demand, on a connection kept until their end."""
        state = self.plain.state
        had_writer = state.conn is not None
        self._await_lag()
        state.streaming = True
        try:
            cursor = super().execute_sql(sql, params, at_primary, state)
            lease = next((one for one in state.leases if one.conn is cursor.connection), None)
            if lease is not None:
                state.leases.remove(lease)
                lease.let_go()
            return Streamed(cursor, state, leased=lease is not None, had_writer=had_writer)
        finally:
            state.streaming = False
            for held in state.leases:
                if held.conn is not None:  # else it was lost
                    task_connection(held.conn).stream(False)
            if state.conn is not None:
                state.conn.stream(False)
            self.after_use(state, had_writer)

    def end_stream(self, streamed: Streamed, sql: str) -> None:
        """Close a stream, whether it was read to its end or not."""
        streamed.close()
        state, conn = streamed.state, streamed.conn
        # As in `after_use`, for a stream that the primary served in place of a replica.
        if conn is state.conn and not streamed.had_writer and conn.replaceable:
            self.let_go_of_reader(state, conn, sql)

    # The end of tasks and pools

    def task_ended(self, task: Task) -> None:
        """Give back what an ended task still holds."""
        parts: Parts = self.parts
        state = self.plain.db.forget_task(task)
        for database in parts.replicas.made():
            assert isinstance(database, TaskNode)
            held = database.forget_task(task)
            if held is not None and held.conn is not None:
                database.close_connection(held.conn)
        if state is None or state.conn is None:
            return
        if state.conn.transaction:
            parts.consistency.abandoned()
        parts.primary.give_back(state.conn)

    async def close_pools(self) -> None:
        """Close all connections of every node in this event loop, those in use once they come back."""
        loop = asyncio.get_running_loop()
        db, parts = self.db, self.parts
        db.closing_in.add(loop)
        try:
            task = asyncio.current_task()
            if task is not None:
                # First return this task's own connections: it cannot do so while it waits for the pools.
                self.task_ended(task)
            pools = db.pools_here()
            for database in parts.replicas.made():
                assert isinstance(database, TaskNode)
                pools += database.db.pools_here()
            for pool in pools:
                pool.close()
            # In a thread, because it waits for other threads and must not block the event loop.
            await asyncio.to_thread(parts.cluster.stop_threads)
            until = Clock.monotonic() + db._acquire_timeout
            for pool in pools:
                await pool.closed(until)
        finally:
            db.closing_in.discard(loop)

    def after_fork(self) -> None:
        """In a forked child, leave the parent's connections alone; open others when needed."""
        super().after_fork()
        self.plain.db.leave_to_parent()
