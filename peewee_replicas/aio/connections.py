"""The connections of the asyncio form. A connection to a replica is taken from a pool for one statement."""

from __future__ import annotations

import asyncio
import math
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Protocol

from greenlet import getcurrent
from peewee import Database
from playhouse.pwasyncio import await_

from ..concurrency import Clock
from ..connections.opening import NodeOpening, TurnedAway
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

    def drop(self, conn: ServerConnection, /) -> None: ...
    def close_unused(self) -> None: ...
    def forget_task(self, task: Task | None = None, /) -> TaskState | None: ...
    def leave_to_parent(self) -> None: ...
    def pool_here(self) -> Pool[Connection]: ...
    def pools_here(self) -> list[Pool[Connection]]: ...
    def take_from(self, pool: Pool[Connection], /) -> Connection | None: ...
    def is_outdated(self, conn: ServerConnection, /) -> bool: ...


def task_connection(conn: ServerConnection | None) -> Connection:
    """Return the connection with this form's type."""
    assert isinstance(conn, Connection)  # `checks` refuses all others
    return conn


class TaskPrimary(PlainDatabase):
    """The primary's pools."""

    db: TaskDatabase

    @property
    def state(self) -> TaskState:
        """This task's state at the primary."""
        return self.db._state

    def drop(self, conn: ServerConnection) -> None:
        """Close a connection for good and free its place in the pool."""
        self.db.drop(conn)


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

    def reach(self, node: Node, *, patient: bool = False) -> NodeDatabase:
        """Return the node's database with a connection that is this task's until it is given back.

        Parameters:
            node: the node.
            patient: whether to wait even if other tasks keep all connections for longer than one statement.
        """
        state = self.primary.state
        database: TaskNode = node.database  # type: ignore[assignment]  # `make` made it
        if database.is_open:
            super().reach(node, patient=patient)
        else:
            if state.leases:
                self.return_leases(state)  # a waiting task must hold nothing that others wait for
            if not self._lease(node, database, patient or not state.keeps):
                try:
                    self.open(node, database)
                except BaseException:
                    database.db.pool_here().pass_on()
                    raise
            state.leases.append(database)
            state.closed = False
        if state.streaming:
            task_connection(database.conn).stream(True)
        return database

    def _lease(self, node: Node, database: TaskNode, patient: bool) -> bool:
        """Take a connection from the node's pool; return False if there is a place for a new one."""
        db = database.db
        pool = db.pool_here()
        conn = db.take_from(pool)
        if conn is None and pool.full:
            # A task that keeps the primary's connection waits only for connections sure to be given back.
            conn = await_(pool.wait(patient=patient))
            spent = conn is not None and (conn.dropped() or db.is_outdated(conn))
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
        database.state.set_connection(conn)
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
        state = self.primary.state
        for database in [self.made_of(node) for node in tried]:
            if isinstance(database, TaskNode) and database.is_open and database not in state.leases:
                state.leases.append(database)

    def return_leases(self, state: TaskState) -> None:
        """Give back the connections this task has taken, except those handed to the user."""
        kept = []
        for database in state.leases:
            if database.state.kept:
                kept.append(database)
                continue
            conn = database.conn
            database.forget_task()
            if conn is not None:
                if state.streaming:
                    task_connection(conn).stream(False)  # nothing was streamed from there
                database.close_connection(conn)
        state.leases[:] = kept

    def opened(self) -> list[NodeDatabase]:
        """Return the databases of the nodes to which this task has a connection."""
        leases = self.primary.state.leases
        return [lease for lease in leases if isinstance(lease, TaskNode) and lease.is_open]

    def holds_above(self, node: Node) -> bool:
        """Return whether this task keeps a connection beyond a statement; others may be waiting for it."""
        return self.primary.state.keeps


class TaskPrimaryConnection(PrimaryConnection):
    """The tasks' own connections to the primary."""

    plain: TaskPrimary
    replicas: TaskReplicas

    def get(self, *, begins: bool = False) -> Connection:
        """Return this task's connection to the primary, and open it if needed."""
        state = self.plain.state
        if state.conn is None:
            if state.leases:
                self.replicas.return_leases(state)
        elif state.conn.streamed is not None:
            state.conn.streamed.wait()
        conn = task_connection(super().get(begins=begins))
        if state.streaming:
            conn.stream(True)
        return conn

    def _end(self, end: Callable[[], None], sending: Sending, *, commits: bool) -> None:
        # Inside the caller's clean-up for cancellation, because waiting for a stream may be cancelled too.
        self._settle_stream()
        super()._end(end, sending, commits=commits)

    def _settle_stream(self) -> None:
        conn = self.plain.state.conn
        if conn is not None and conn.streamed is not None:
            conn.streamed.wait()
