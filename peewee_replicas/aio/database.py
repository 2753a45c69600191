"""`AsyncReplicatedDatabase`: the routing of the synchronous form, in greenlets over asyncio connections."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import aiomysql
from greenlet import getcurrent
from peewee import PeeweeException
from playhouse.pwasyncio import AsyncModel, MissingGreenletBridge, await_

from ..concurrency import Clock, abandon
from ..connections.replica_connections import _TurnedAway
from ..nodes.replica import Replica
from ..nodes.spec import NodeSpec
from .iterate import Streaming
from .on_primary import Placing
from .pooled_mysql import POOL_ARGUMENTS, PooledMySQL, check_pool_arguments
from .tasks import TASKS, TaskState

if TYPE_CHECKING:
    from typing_extensions import Self

# What aiomysql's connect() takes; anything else in a replica's dict is a mistake.
_PARAMETERS = frozenset(inspect.signature(aiomysql.Connection.__init__).parameters)
_DRIVER = _PARAMETERS - {"self", "autocommit", "db", "loop"} | {"database"}
_CANNOT_REACH = 2003  # CR_CONN_HOST_ERROR


class AsyncReplicatedDatabase(Streaming, Placing, PooledMySQL):
    """`playhouse.pwasyncio.AsyncMySQLDatabase`, with reads served by replicas.

    A read takes a connection to its node out of that node's pool, and gives it back as soon as its rows are
    there. The connection to the primary is the task's own, from its first write or transaction until the task
    ends or closes the database, as in peewee.

    Parameters:
        database: the schema's name; None to call `init` later.
        pool_size: connections to each node, in each event loop; a replica's dict may have its own.
        pool_min_size: how many are opened when the first is needed.
        acquire_timeout: seconds that a task waits for one, and that connecting may take where
            ``connect_timeout`` is not given.
        kwargs: the routing arguments of `ReplicatedDatabase`, and peewee's and aiomysql's own.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    _here = TASKS
    _driver_parameters = _DRIVER | POOL_ARGUMENTS
    _model_class = AsyncModel

    def _plainly_connects(self) -> bool:
        return type(self)._connect is PooledMySQL._connect

    def _new_node(self, spec: NodeSpec) -> Replica:
        check_pool_arguments(spec.overrides, f"replica {spec.name}: ")
        return super()._new_node(spec)

    def _make_node(self, replica: Replica) -> Any:
        node = super()._make_node(replica)
        for name in POOL_ARGUMENTS:
            setattr(node, f"_{name}", replica.overrides.get(name, getattr(self, f"_{name}")))
        node._closing_in = self._closing_in
        return node

    @property
    def _pool_label(self) -> str:
        return self._primary_label if self._node is None else self._node.label

    def _drop(self, conn: Any) -> None:
        PooledMySQL._drop(self, conn)  # one that is closed already leaves its place in the pool too

    def _close_unused(self) -> None:
        PooledMySQL._close_unused(self)  # the routing classes come first, and have no pools

    def _outdated(self, conn: Any) -> bool:
        if self._node is not None and self._node.removed:
            return True
        if self._node is not None and not self._node.is_primary:
            return False
        return bool(conn.generation != self._replication.generation)

    # Connections: each is taken for one statement, but for the primary's own

    def _reach(self, replica: Replica) -> Any:
        state = self._state
        node = replica.database
        if node._state.closed:
            if state.leases:
                self._return_leases(state)  # who waits holds nothing that others wait for
            if not self._lease(replica, node, state):
                try:
                    self._open_node(replica, node)
                except BaseException:
                    node._pool_here().pass_on()
                    raise
            state.leases.append(node)
            state.closed = False
        else:
            node = super()._reach(replica)
        if state.streaming:
            node._state.conn.stream(True)
        return node

    def _lease(self, replica: Replica, node: Any, state: TaskState) -> bool:
        """Take a connection out of the node's pool; False: there is a place for a new one."""
        pool = node._pool_here()
        conn = node._take(pool)
        if conn is None and pool.full:
            # Who has the primary's connection waits only for connections that come back by themselves.
            conn = await_(pool.wait(patient=not state.keeps))
            spent = conn is not None and (conn.dropped() or node._outdated(conn))
            if spent:
                pool.renew(conn)
                conn = None
            if replica.breaker.open:
                if conn is None:
                    pool.forfeit()
                else:
                    pool.give_back(conn)
                raise _TurnedAway(_CANNOT_REACH, "has gone out of rotation meanwhile")
            if conn is None:
                pool.release()  # nothing runs until it is reserved again
        if conn is None:
            return False
        node._state.set_connection(conn)
        return True

    def _retry_ejected(self) -> None:
        tried = self._replication.replicas.ejected
        super()._retry_ejected()
        state = self._state
        for node in [replica.made for replica in tried]:
            if node is not None and not node._state.closed and node not in state.leases:
                state.leases.append(node)  # to be given back with the others

    def _return_leases(self, state: TaskState) -> None:
        kept = []
        for node in state.leases:
            if node._state.kept:
                kept.append(node)
                continue
            conn = node._state.conn
            node._tasks.forget()
            if conn is not None:
                if state.streaming:
                    conn.stream(False)  # nothing was streamed from there: another node, or a question
                node._close(conn)
        state.leases[:] = kept

    def _open_nodes(self) -> list[Any]:
        return [node for node in self._state.leases if not node._state.closed]

    def _holds_above(self, replica: Replica) -> bool:
        return self._state.keeps

    def _scope_node(self) -> Any:
        node = super()._scope_node()
        state = self._state
        if node is not None and node in state.leases and not node._state.kept:
            # The user is given it, and may go on using it.
            node._state.kept = True
            conn = node._state.conn
            conn.pool.hold(conn, True)
            state.holds += 1
        return node

    def _writer(self) -> Any:
        state = self._state
        if state.conn is None:
            if state.leases:
                self._return_leases(state)
        elif state.conn.streamed is not None:
            state.conn.streamed.wait()
        conn = super()._writer()
        if state.streaming:
            conn.stream(True)
        return conn

    def _after_use(self, state: TaskState, had_writer: bool, sql: str = "") -> None:
        """Give back what this use of the database has taken and does not need any more."""
        if state.leases:
            self._return_leases(state)
        conn = state.conn
        if not had_writer and conn is not None:
            self._let_go_of_reader(state, conn, sql)

    def _let_go_of_reader(self, state: TaskState, conn: Any, sql: str) -> None:
        if state.transactions or conn.streamed is not None:
            return
        core = self._replication
        if (
            core.rehearsal is None
            and core.classifier.classify(sql).kind == "read"
            and not conn.report_incomplete
        ):
            # It has only served a read in a replica's place: nothing of it is needed again.
            state.conn = None
            self._close(conn)

    # peewee's members

    def connect(self, reuse_if_open: bool = True) -> bool:
        """As the synchronous form's; a task that has connected already needs nothing."""
        state = self._state
        had_writer = state.conn is not None
        if self._node is None:
            self._need_greenlet("connect()")
        try:
            return super().connect(reuse_if_open)
        finally:
            if self._node is None:
                self._after_use(state, had_writer, "SELECT 1")

    def close(self) -> bool:
        """Give all of this task's connections back to their pools; True if there were any."""
        was_open = super().close()
        if self._node is None:
            state = self._state
            state.leases.clear()
            state.holds = 0
        return was_open

    def _need_greenlet(self, what: str) -> None:
        if getcurrent().parent is None:
            raise MissingGreenletBridge(
                f"Attempted {what} outside greenlet runner. In async code use the async members, such as "
                "`await db.list(query)` or `await Model.aget(...)`, or `await db.run(function)`."
            )

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """As the synchronous form's; for code that runs inside ``await db.run(…)``."""
        if self._node is not None:
            return super().execute_sql(sql, params)
        self._need_greenlet(f"query: {sql[:200]}")
        state = self._state
        had_writer = state.conn is not None
        try:
            return super().execute_sql(sql, params)
        finally:
            self._after_use(state, had_writer, sql)

    def commit(self) -> None:
        """As peewee's."""
        with self._ending(commits=True):
            self._settle_stream()
            super().commit()

    def rollback(self) -> None:
        """As peewee's."""
        with self._ending(commits=False):
            self._settle_stream()
            super().rollback()

    @contextlib.contextmanager
    def _ending(self, *, commits: bool) -> Iterator[None]:
        """Where the end of a transaction is cancelled, peewee neither rolls back nor forgets callbacks."""
        try:
            yield
        except Exception:
            raise
        except BaseException:
            conn = self._state.conn
            if conn is not None and not self._state.transactions:
                conn.abort()
                self._clear_commit_callbacks()
                try:
                    self._try_end(conn, super().commit, commits=commits)  # sends nothing any more
                except PeeweeException as exc:
                    self._replication.lost_commits.error = (type(exc), exc.args)
            raise

    def _settle_stream(self) -> None:
        conn = self._state.conn
        if conn is not None and conn.streamed is not None:
            conn.streamed.wait()

    def bookmark(self) -> str | None:
        """As the synchronous form's, inside of ``await db.run(…)``; elsewhere ``await db.abookmark()``."""
        self._need_greenlet("bookmark()")
        state = self._state
        had_writer = state.conn is not None
        try:
            return super().bookmark()
        finally:
            self._after_use(state, had_writer)

    # pwasyncio's members

    async def abookmark(self) -> str | None:
        """What this context has written, as a string for `causal_session`; None where that is nothing."""
        found: str | None = await self.run(self.bookmark)
        return found

    async def aconnect(self) -> TaskConnection:
        """Connect to where the next plain read would go; returns what runs raw statements on the primary."""
        await self.run(self.connect)
        return TaskConnection(self)

    async def aclose(self) -> None:
        """Give all of this task's connections back to their pools."""
        self.close()

    async def aexecute_sql(self, sql: str, params: Any = None) -> Any:
        """`execute_sql`, awaited."""
        return await self.run(self.execute_sql, sql, params)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        state = self._tasks.forget(task)
        core = self._replication
        for replica in core.nodes():
            node = replica.made
            held = node._tasks.forget(task) if node is not None else None
            if held is not None and held.conn is not None:
                node._close(held.conn)
        if state is None or state.conn is None:
            return
        conn = state.conn
        if core.rehearsal is not None and conn is core.rehearsal.conn:
            return
        if conn.transaction:
            core.consistency.abandoned()
        self._close(conn)

    async def close_pool(self) -> None:
        """Close all connections of every node in this event loop; those in use when they come back.

        What has not come back within ``acquire_timeout`` seconds is ended. The database can be used again.
        """
        loop = asyncio.get_running_loop()
        self._closing_in.add(loop)
        try:
            task = asyncio.current_task()
            if task is not None:
                self._task_ended(task)
            made = [replica.made for replica in self._replication.nodes()]
            pools = self._pools_here()
            for node in made:
                pools += node._pools_here() if node is not None else []
            for pool in pools:
                pool.close()
            if self._replication.prober is not None:
                await asyncio.to_thread(self._replication.prober.stop)
            until = Clock.monotonic() + self._acquire_timeout
            for pool in pools:
                await pool.closed(until)
        finally:
            self._closing_in.discard(loop)

    def _after_fork(self) -> None:
        abandon(self._pools, self._own_pool)
        super()._after_fork()
        abandon(self._tasks.clear())
        self._pools, self._own_pool = type(self._pools)(), None

    async def __aenter__(self) -> Self:
        await self.run(self.connect)
        return self


class TaskConnection:
    """The connection of a task, for raw statements: the primary's, or inside ``readonly()`` the scope's."""

    def __init__(self, database: AsyncReplicatedDatabase) -> None:
        self._database = database

    def cursor(self) -> Any:
        """A cursor, inside of ``await db.run(…)``."""
        return self._database.cursor()

    async def execute(self, sql: str, params: Any = None) -> Any:
        """Run a statement on it; returns its cursor."""

        def execute() -> Any:
            cursor = self.cursor()
            cursor.execute(sql, params or ())
            return cursor

        return await self._database.run(execute)
