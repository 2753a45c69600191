"""peewee's asyncio database over our connections: one node of the asyncio form, without routing.

peewee's synchronous members run in a greenlet, as in `playhouse.pwasyncio`, and the connection does the
waiting. A node takes a connection from its pool for one statement; the primary's is the task's own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import aiomysql
from peewee import InterfaceError, __exception_wrapper__
from playhouse.pwasyncio import AsyncMySQLDatabase, await_

from ..concurrency import abandon
from ..connections.opening import Opening, open_connection
from ..connections.passwords import Password, run_here
from ..databases.argument_names import names_taken
from ..errors import ConfigurationError
from ..servers.protocols import ServerConnection
from ..servers.wire import connection as wire
from ..statements.redaction import shown
from .connection import Connection
from .pool import CLOSING, Pool
from .tasks import Task, TaskState, TaskStates

POOL_ARGUMENTS = frozenset({"pool_size", "pool_min_size", "acquire_timeout", "pool_recycle"})

# Without the parameters that peewee and this library set themselves. peewee calls aiomysql's `db` `database`.
_taken = names_taken(aiomysql.Connection.__init__)
AIOMYSQL_PARAMETERS = _taken and (
    _taken - {"self", "autocommit", "db", "loop"} | {"database"} | POOL_ARGUMENTS
)
"""The connection parameters that a user may give; None if they cannot be known."""


def check_pool_arguments(given: Mapping[str, object], where: str = "") -> None:
    """Check the arguments of a pool.

    Raises:
        ConfigurationError: an argument cannot work.
    """
    for name, least in (("pool_size", 1), ("pool_min_size", 0)):
        value = given.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(
                f"{where}{name}={shown(value)}: a whole number is wanted, {least} or more"
            )
    for name in ("acquire_timeout", "pool_recycle"):
        value = given.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigurationError(f"{where}{name}={shown(value)}: a number of seconds is wanted")


class PoolOwner(Protocol):
    """The owner of the pools."""

    @property
    def label(self) -> str:
        """The node's name and address, for messages."""

    @property
    def task_ended(self) -> Callable[[Task], None] | None:
        """Called with each task that has used the pools, once the task has ended; None: not called."""


class PooledMySQL(AsyncMySQLDatabase):
    """One node and its pools, one in each event loop."""

    opening: Opening
    _members: PoolOwner
    server_version: object
    connect_params: dict[str, Any]
    # peewee's own members, for which it declares no types.
    _pool_size: int
    _pool_min_size: int
    _acquire_timeout: float
    _set_server_version: Callable[[ServerConnection], object]
    _initialize_connection: Callable[[ServerConnection], object]
    _execute_cursor: Callable[[str, object], Any]

    def __init__(self, database: object, **kwargs: Any) -> None:
        self._tasks = TaskStates(self._members.task_ended)
        self._pools: dict[asyncio.AbstractEventLoop, Pool[Connection]] = {}
        self.closing_in: set[asyncio.AbstractEventLoop] = set()
        self._own_pool: Pool[Connection] | None = None
        check_pool_arguments(kwargs)
        self._pool_recycle = kwargs.pop("pool_recycle", -1)
        super().__init__(database, **kwargs)

    def init(self, database: Any, **kwargs: Any) -> None:
        """Like peewee's `init`; also accepts the pool's arguments, which apply to pools made later."""
        check_pool_arguments(kwargs)
        for name in POOL_ARGUMENTS & set(kwargs):
            setattr(self, f"_{name}", kwargs.pop(name))
        super().init(database, **kwargs)
        for pool in list(self._pools.values()):
            pool.closing = True  # its connections may lead elsewhere than new ones
        self.close_unused()

    # peewee keeps a state for each thread; here each task has one.

    @property
    def _state(self) -> TaskState:
        return self._tasks.here()

    @_state.setter
    def _state(self, state: object) -> None:
        """Ignore the state that peewee's own constructors make."""

    def forget_task(self, task: Task | None = None) -> TaskState | None:
        """Forget a task's state and return it; the running task's if `task` is None."""
        return self._tasks.forget(task)

    def leave_to_parent(self) -> None:
        """Forget the parent's pools and tasks, in a forked child."""
        abandon(self._pools, self._own_pool, self._tasks.clear())
        self._pools, self._own_pool = {}, None

    # Pools

    def pool_here(self) -> Pool[Connection]:
        """Return the pool of the running loop."""
        loop = asyncio.get_running_loop()
        pool = self._own_pool
        if pool is None or pool.loop is not loop or pool.closing:
            pool = self._pools.get(loop)
            if pool is None or pool.closing:
                for ended in [known for known in list(self._pools) if known.is_closed()]:
                    self._pools.pop(ended, None)
                pool = self._pools[loop] = Pool(
                    self._members.label, self._pool_size, self._acquire_timeout, self._pool_recycle
                )
            self._own_pool = pool
        return pool

    def name_pools(self) -> None:
        """Let the pools' messages name the node that they lead to now; from any thread."""
        for pool in list(self._pools.values()):
            pool.label = self._members.label

    def take_from(self, pool: Pool[Connection]) -> Connection | None:
        while (conn := pool.take()) is not None:
            if not self.opening.is_spent(conn):
                return conn
            pool.discard(conn)
        return None

    # Connecting

    def _connect(self) -> wire.Connection:
        # The prober's thread has no event loop, and may wait.
        ask = run_here if self.opening.watch is not None else _run_aside
        return open_connection(
            self.opening, self._state, lambda: self.connect_params, self._new_connection, ask
        )

    def _new_connection(self, arguments: Mapping[str, object]) -> wire.Connection:
        parameters: dict[str, Any] = {
            name: value for name, value in arguments.items() if name not in POOL_ARGUMENTS
        }
        if self.opening.watch is not None:
            return self._new_for_thread(parameters)
        parameters.setdefault("connect_timeout", self._acquire_timeout)
        return Connection(
            database=self.database, guard=self.opening.guarded, defer_connect=True, **parameters
        )

    def _new_for_thread(self, parameters: dict[str, Any]) -> wire.Connection:
        """Make a connection for a thread without an event loop: PyMySQL's, from aiomysql's arguments."""
        for name in ("echo", "loop", "auth_plugin", "minsize", "cursorclass"):
            parameters.pop(name, None)
        context = parameters.pop("ssl", None)
        tls = {"ssl_disabled": True} if context is None else {"ssl": context}
        return wire.Connection(
            database=self.database,
            autocommit=True,
            guard=self.opening.guarded,
            defer_connect=True,
            **{**parameters, **tls},
        )

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Take a connection from the pool for this task, or open one."""
        if self.deferred:
            raise InterfaceError("Error, database must be initialized before opening a connection.")
        if self.opening.watch is None and asyncio.get_running_loop() in self.closing_in:
            raise InterfaceError(CLOSING)
        state = self._state
        if reuse_if_open and not state.closed:
            return False
        state.reset()
        with __exception_wrapper__:
            if self.opening.watch is not None:
                state.set_connection(self._connect())
            else:
                self._connect_in(self.pool_here(), state)
        return True

    def _connect_in(self, pool: Pool[Connection], state: TaskState) -> None:
        conn = self._acquire(pool)
        if conn is not None:
            state.set_connection(conn)
            return
        try:
            conn = self._connect()
        except BaseException:
            pool.forfeit()
            raise
        pool.opened(conn)
        state.set_connection(conn)
        if self.server_version is None:
            self._set_server_version(conn)
        self._initialize_connection(conn)
        if pool.first:
            pool.first = False
            self._fill(pool)

    def _acquire(self, pool: Pool[Connection]) -> Connection | None:
        """Return a connection of the pool; None: a place is reserved for a new one."""
        conn = self.take_from(pool)
        if conn is None and pool.full:
            conn = await_(pool.wait(patient=True))
            if conn is not None and (conn.dropped() or self.opening.is_spent(conn)):
                pool.renew(conn)
                conn = None
        elif conn is None:
            pool.reserve()
        return conn

    def _fill(self, pool: Pool[Connection]) -> None:
        """Open as many connections as ``pool_min_size`` asks for, after the first has worked."""
        while pool.size < self._pool_min_size and not pool.full:
            pool.reserve()
            try:
                conn = self._connect()
            except BaseException as exc:
                pool.forfeit()
                if isinstance(exc, Exception):
                    return  # the task that needs one will get the error
                raise
            pool.opened(conn)
            with contextlib.ExitStack() as undo:
                undo.callback(pool.discard, conn)
                self._initialize_connection(conn)
                undo.pop_all()
            pool.give_back(conn)

    def close(self) -> bool:
        """Give this task's connection back; return True if there was one."""
        state = self._state
        conn, was_open = state.conn, not state.closed
        state.reset()
        if conn is not None:
            self._close(conn)
        return was_open

    def _close(self, conn: ServerConnection) -> None:
        pool = getattr(conn, "pool", None)
        if pool is None:
            if conn.open:
                conn.close()
        elif _reusable(conn) and not self.opening.is_spent(conn):  # type: ignore[arg-type]  # only ours have a pool
            pool.give_back(conn)
        else:
            pool.discard(conn)

    def drop(self, conn: ServerConnection) -> None:
        pool = getattr(conn, "pool", None)
        if pool is not None:
            pool.discard(conn)
        elif conn.open:
            conn.close()

    def dispose(self) -> None:
        """Forget this task's connection."""
        conn = self._state.conn
        self._state.reset()
        if conn is not None:
            self.drop(conn)

    # Statements without routing, for what a subclass does on a new connection

    def execute_sql(self, sql: str, params: object = None) -> Any:
        """Execute as peewee's synchronous databases do."""
        return self._execute_cursor(sql, params)

    def close_unused(self) -> None:
        with contextlib.suppress(RuntimeError):  # no loop runs here
            for pool in self.pools_here():
                pool.close_idle()

    def pools_here(self) -> list[Pool[Connection]]:
        pool = self._pools.get(asyncio.get_running_loop())
        return [] if pool is None else [pool]


def _run_aside(ask: Callable[[], Password]) -> Password:
    """Run the program's callable in a thread, because it may wait for a network and the loop must not."""
    password: Password = await_(asyncio.to_thread(ask))
    return password


def _reusable(conn: Connection) -> bool:
    """Return whether a connection is unchanged since it was opened, for its next user."""
    settled = conn.open and conn.replaceable and not conn.busy and conn.streamed is None
    return bool(settled and conn.server_status & wire.AUTOCOMMIT)
