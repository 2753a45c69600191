"""The connections of the asyncio form: taken out of a pool for one statement, but for the primary's own."""

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
from ..connections.primary_connection import PrimaryConnection
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
    """A connection as what it is in this form."""
    assert isinstance(conn, Connection)  # `checks` has let no other in
    return conn


class TaskPrimary(PlainDatabase):
    """The primary's pools."""

    db: TaskDatabase

    @property
    def state(self) -> TaskState:
        """What is kept for this task."""
        return self.db._state

    def drop(self, conn: ServerConnection) -> None:
        """Close a connection for good; one that is closed already leaves its place in the pool too."""
        self.db.drop(conn)


class TaskNode(NodeDatabase):
    """One node's pools."""

    db: TaskDatabase
    task_ended = None
    """Nobody is told of the end of a task: the primary's object looks after all that a task holds."""

    def __init__(self, primary: TaskDatabase, beneath: type[Database], opening: NodeOpening) -> None:
        super().__init__(primary, beneath, opening)
        for name in POOL_ARGUMENTS:
            value = self.node.overrides.get(name, getattr(primary, f"_{name}"))
            setattr(self.db, f"_{name}", value)
        self.db.closing_in = primary.closing_in

    @property
    def state(self) -> TaskState:
        """What is kept for this task."""
        return self.db._state

    @property
    def label(self) -> str:
        """The node's name and address, for messages."""
        return self.node.label

    def drop(self, conn: ServerConnection) -> None:
        """Close a connection for good; one that is closed already leaves its place in the pool too."""
        self.db.drop(conn)

    def close_unused(self) -> None:
        """Close the pools' connections that nobody uses."""
        self.db.close_unused()

    def forget_task(self, task: Task | None = None) -> TaskState | None:
        """Forget what a task, or the present one, has here; returns it."""
        return self.db.forget_task(task)


async def _looked(prober: Prober, until: float) -> None:
    while not prober.looked.is_set() and Clock.monotonic() < until:
        await asyncio.sleep(_LOOK_PAUSE_SECONDS)


class TaskReplicas(ReplicaConnections):
    """The connections of tasks to the nodes that serve reads."""

    primary: TaskPrimary
    _look_until = -math.inf

    def reach(self, node: Node, *, patient: bool = False) -> NodeDatabase:
        """The node's database with a connection that is this task's until it is given back.

        Parameters:
            patient: whether to wait also where all connections are kept beyond a statement.
        """
        state = self.primary.state
        database: TaskNode = node.database  # type: ignore[assignment]  # what `make` gave
        if database.is_open:
            super().reach(node, patient=patient)
        else:
            if state.leases:
                self.return_leases(state)  # who waits holds nothing that others wait for
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
        """Take a connection out of the node's pool; False: there is a place for a new one."""
        db = database.db
        pool = db.pool_here()
        conn = db.take_from(pool)
        if conn is None and pool.full:
            # Who has the primary's connection waits only for connections that come back by themselves.
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
                pool.release()  # nothing runs until it is reserved again
        if conn is None:
            return False
        database.state.set_connection(conn)
        return True

    def await_lag(self) -> None:
        """As the synchronous form's, without keeping the event loop waiting.

        A scope is often entered outside of a greenlet, where nothing can be waited for. Then the first
        statement in it waits, see `TaskMembers`.
        """
        prober = self.cluster.prober
        if prober is None:
            return
        prober.use(self)
        if getcurrent().parent is None or prober.looked.is_set():
            return
        now = Clock.monotonic()
        if now > self._look_until + _LOOK_AGAIN_SECONDS:
            self._look_until = now + FIRST_LOOK_SECONDS  # all tasks together wait no longer than one would
        if now < self._look_until:
            await_(_looked(prober, self._look_until))

    def retry_ejected(self) -> None:
        """As the synchronous form's; what was opened is given back with the others."""
        tried = self.cluster.replicas.ejected
        super().retry_ejected()
        state = self.primary.state
        for database in [self.made_of(node) for node in tried]:
            if isinstance(database, TaskNode) and database.is_open and database not in state.leases:
                state.leases.append(database)

    def return_leases(self, state: TaskState) -> None:
        """Give back what this task has taken, but for what was handed to the user."""
        kept = []
        for database in state.leases:
            if database.state.kept:
                kept.append(database)
                continue
            conn = database.conn
            database.forget_task()
            if conn is not None:
                if state.streaming:
                    task_connection(conn).stream(False)  # nothing came from there that way
                database.close_connection(conn)
        state.leases[:] = kept

    def opened(self) -> list[NodeDatabase]:
        """The databases of the nodes of which this task has a connection."""
        leases = self.primary.state.leases
        return [lease for lease in leases if isinstance(lease, TaskNode) and lease.is_open]

    def holds_above(self, node: Node) -> bool:
        """Whether this task keeps a connection beyond a statement, for which others may be waiting."""
        return self.primary.state.keeps


class TaskPrimaryConnection(PrimaryConnection):
    """The tasks' own connections to the primary."""

    plain: TaskPrimary
    replicas: TaskReplicas

    def get(self, *, begins: bool = False) -> Connection:
        """As for threads."""
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

    def _end(self, end: Callable[[], None], *, commits: bool) -> None:
        # Within what cleans up after a cancellation: waiting for a stream may be cancelled, too.
        self._settle_stream()
        super()._end(end, commits=commits)

    def _settle_stream(self) -> None:
        conn = self.plain.state.conn
        if conn is not None and conn.streamed is not None:
            conn.streamed.wait()
