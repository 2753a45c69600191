"""The connections of the asyncio form. A connection to a replica is taken from a pool for one statement."""

from __future__ import annotations

import asyncio
import contextlib
import math
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from greenlet import getcurrent
from peewee import Database
from playhouse.pwasyncio import await_

from ..concurrency import Clock
from ..connections.opening import NodeOpening, TurnedAway
from ..connections.peewee_types import Cursor, Parameters, ThreadState
from ..connections.plain_database import NodeDatabase, PlainDatabase
from ..connections.primary_connection import PrimaryConnection, Sending
from ..connections.replica_connections import FIRST_LOOK_SECONDS, ReplicaConnections
from ..connections.user_database import UserDatabase
from ..nodes.node import Node
from ..nodes.prober import Prober
from ..servers.protocols import ServerConnection
from .connection import Connection
from .pool import Pool
from .pooled_mysql import POOL_ARGUMENTS
from .tasks import Task, TaskState

_CANNOT_REACH = 2003  # CR_CONN_HOST_ERROR
_LOOK_PAUSE_SECONDS = 0.005
_LOOK_AGAIN_SECONDS = 10.0


class TaskDatabase(UserDatabase, Protocol):
    """A database of the asyncio form, or of a user's own subclass."""

    _state: TaskState
    closing_in: set[AbstractEventLoop]
    _acquire_timeout: float

    @property
    def own_aexecute_sql(self) -> bool: ...
    @property
    def on_primary(self) -> TaskDatabase: ...
    def aexecute_sql(self, sql: str, params: Parameters, /) -> Awaitable[Cursor]: ...
    def aconnect(self) -> Awaitable[object]: ...
    def drop(self, conn: ServerConnection, /) -> None: ...
    def close_unused(self) -> None: ...
    def forget_task(self, task: Task | None = None, /) -> TaskState | None: ...
    def leave_to_parent(self) -> None: ...
    def pool_here(self) -> Pool[Connection]: ...
    def pools_here(self) -> list[Pool[Connection]]: ...
    def take_from(self, pool: Pool[Connection], /) -> Connection | None: ...


def task_connection(conn: ServerConnection | None) -> Connection:
    """Return the connection with this form's type."""
    assert isinstance(conn, Connection)  # `checks` refuses all others
    return conn


@contextlib.contextmanager
def not_streaming(state: TaskState) -> Iterator[None]:
    """Let a subclass's own method send statements before the one whose rows are streamed."""
    streaming, state.streaming = state.streaming, False
    try:
        yield
    finally:
        state.streaming = streaming


class TaskPrimary(PlainDatabase):
    """The primary's pools."""

    db: TaskDatabase

    @property
    def state(self) -> TaskState:
        """This task's state at the primary. Each look-up asks for the running task, so pass it on."""
        return self.db._state

    def drop(self, conn: ServerConnection) -> None:
        """Close a connection for good and free its place in the pool."""
        self.db.drop(conn)

    def autoconnect(self, *, anyway: bool = False) -> bool:
        """Connect as the synchronous form does; what a subclass asks meanwhile is not streamed."""
        with not_streaming(self.state):
            return super().autoconnect(anyway=anyway)

    def connect_own(self, method: str) -> None:
        """Connect as the synchronous form does; an ``aconnect()`` is awaited."""
        if method != "aconnect":
            super().connect_own(method)
            return
        with self.own_connect_call():
            await_(self.db.aconnect())


class TaskNode(NodeDatabase):
    """One node's pools."""

    db: TaskDatabase
    task_ended = None
    """Not called, because the primary's object releases everything that a task holds."""

    def __init__(self, primary: TaskDatabase, beneath: type[Database], opening: NodeOpening) -> None:
        super().__init__(primary, beneath, opening)
        for name in POOL_ARGUMENTS:
            value = self.node.overrides.get(name, getattr(primary, f"_{name}"))
            setattr(self.db, f"_{name}", value)
        self.db.closing_in = primary.closing_in

    @property
    def state(self) -> TaskState:
        """This task's state at the node."""
        return self.db._state

    @property
    def label(self) -> str:
        """The node's name and address, for messages."""
        return self.node.label

    @property
    def is_lent(self) -> bool:
        """Whether the user keeps this task's connection for raw statements."""
        return self.state.kept

    def execute_sql(
        self, sql: str, params: Parameters = None, _at_primary: bool = False, *, passed: bool = False
    ) -> Cursor:
        """Call peewee's method. A subclass's own ``aexecute_sql()`` is not called first, as `passed` says."""
        return super().execute_sql(sql, params)

    def drop(self, conn: ServerConnection) -> None:
        """Close a connection for good and free its place in the pool."""
        self.db.drop(conn)

    def close_unused(self) -> None:
        """Close the pools' idle connections."""
        self.db.close_unused()

    def forget_task(self, task: Task | None = None) -> TaskState | None:
        """Forget a task's state here and return it; the running task's if `task` is None."""
        return self.db.forget_task(task)


async def _looked(prober: Prober, until: float) -> None:
    while not prober.looked.is_set() and Clock.monotonic() < until:
        await asyncio.sleep(_LOOK_PAUSE_SECONDS)


class TaskReplicas(ReplicaConnections):
    """The connections of tasks to the nodes that serve reads."""

    primary: TaskPrimary
    _look_until = -math.inf

    def reach(self, node: Node, *, patient: bool = False, state: ThreadState | None = None) -> NodeDatabase:
        """Return the node's database with a connection that is this task's until it is given back.

        Parameters:
            node: the node.
            patient: whether to wait even if other tasks keep all connections for longer than one statement.
            state: this task's state at the primary, if the caller has it.
        """
        own: TaskState = state or self.primary.state  # type: ignore[assignment]  # tasks have no other
        database: TaskNode = node.database  # type: ignore[assignment]  # `make` made it
        held = database.state
        if not held.closed:
            super().reach(node, patient=patient)
        else:
            if own.leases:
                self.return_leases(own)  # a waiting task must hold nothing that others wait for
            if not self._lease(node, database.db, held, own, patient):
                try:
                    self.open(node, database)
                except BaseException:
                    database.db.pool_here().pass_on()
                    raise
            held.lender = database
            own.leases.append(held)
            own.closed = False
        if own.streaming:
            task_connection(held.conn).stream(True)
        return database

    def _lease(self, node: Node, db: TaskDatabase, held: TaskState, own: TaskState, patient: bool) -> bool:
        """Take a connection from the node's pool; return False if there is a place for a new one.

        Parameters:
            db: the node's database.
            held, own: this task's states at the node and at the primary.
            patient: as for `reach`.
        """
        pool = db.pool_here()
        conn = db.take_from(pool)
        if conn is None and pool.full:
            # A task that keeps the primary's connection waits only for connections sure to be given back.
            conn = await_(pool.wait(patient=patient or not own.keeps))
            spent = conn is not None and (conn.dropped() or db.opening.is_spent(conn))
            if spent:
                pool.renew(conn)
                conn = None
            if node.breaker.open:
                if conn is None:
                    pool.forfeit()
                else:
                    pool.give_back(conn)
                raise TurnedAway(_CANNOT_REACH, "has gone out of rotation meanwhile")
            if conn is None:
                pool.release()  # no other task runs until the place is reserved again
        if conn is None:
            return False
        held.set_connection(conn)
        return True

    def await_lag(self) -> None:
        """Wait for the prober's first look, without blocking the event loop.

        A scope is often entered outside a greenlet, where waiting is impossible. Then the first statement in
        it waits, see `TaskMembers`.
        """
        prober = self.cluster.prober
        if prober is None or not self.cluster.replicas.all:
            return
        prober.use(self)
        if getcurrent().parent is None or prober.looked.is_set():
            return
        now = Clock.monotonic()
        if now > self._look_until + _LOOK_AGAIN_SECONDS:
            self._look_until = now + FIRST_LOOK_SECONDS  # one time limit for all tasks together
        if now < self._look_until:
            await_(_looked(prober, self._look_until))

    def retry_ejected(self) -> None:
        """Retry as the synchronous form does; connections it opens are given back with the others."""
        tried = self.cluster.replicas.ejected
        super().retry_ejected()
        leases = self.primary.state.leases
        for database in [self.made_of(node) for node in tried]:
            if isinstance(database, TaskNode):
                held = database.state
                if not held.closed and held not in leases:
                    held.lender = database
                    leases.append(held)

    def return_leases(self, state: TaskState) -> None:
        """Give back the connections this task has taken, except those handed to the user."""
        kept = []
        for held in state.leases:
            if held.kept:
                kept.append(held)
                continue
            # The state itself stays for the task's next statement here: making one costs more.
            conn = held.let_go()
            if conn is not None:
                if state.streaming:
                    task_connection(conn).stream(False)  # nothing was streamed from there
                assert held.lender is not None  # `reach` has set it
                held.lender.close_connection(conn)
        state.leases[:] = kept

    def opened(self) -> list[NodeDatabase]:
        """Return the databases of the nodes to which this task has a connection."""
        leases = self.primary.state.leases
        return [held.lender for held in leases if isinstance(held.lender, TaskNode) and not held.closed]

    def holds_above(self, node: Node) -> bool:
        """Return whether this task keeps a connection beyond a statement; others may be waiting for it."""
        return self.primary.state.keeps


class TaskPrimaryConnection(PrimaryConnection):
    """The tasks' own connections to the primary."""

    plain: TaskPrimary
    replicas: TaskReplicas

    def get(self, *, begins: bool = False, state: ThreadState | None = None) -> Connection:
        """Return this task's connection to the primary, and open it if needed."""
        own: TaskState = state or self.plain.state  # type: ignore[assignment]  # tasks have no other
        if own.conn is None:
            if own.leases:
                self.replicas.return_leases(own)
        elif own.conn.streamed is not None:
            own.conn.streamed.wait()
        conn = task_connection(PrimaryConnection.get(self, begins=begins, state=own))
        if own.streaming:
            conn.stream(True)
        return conn

    def _connect(self) -> None:
        with not_streaming(self.plain.state):
            super()._connect()

    def _end(self, end: Callable[[], None], sending: Sending, *, commits: bool) -> None:
        # Inside the caller's clean-up for cancellation, because waiting for a stream may be cancelled too.
        self._settle_stream()
        super()._end(end, sending, commits=commits)

    def _settle_stream(self) -> None:
        conn = self.plain.state.conn
        if conn is not None and conn.streamed is not None:
            conn.streamed.wait()
