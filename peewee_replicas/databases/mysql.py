"""The database classes for MySQL and MariaDB."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from peewee import Database

from ..concurrency import free
from ..connections.opening import Opening, open_connection
from ..connections.passwords import password_errors
from ..connections.peewee_types import ThreadState
from ..connections.peewee_version import MySQLDatabase, PooledMySQLDatabase
from ..connections.plain_database import NodeDatabase, PlainDatabase
from ..connections.user_database import UserDatabase, thread_state
from ..errors import ConfigurationError
from ..servers.protocols import ServerConnection
from ..servers.wire import connection as wire
from ..statements.redaction import shown
from .assembly import Assembly
from .replicated import Replicated
from .routed_members import RoutedMembers
from .signatures import declares_signature

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..routing.settings import Fallback, Level, OnTransactionEscape, ReadonlyInTransaction, Reads, Spread
    from .argument_types import (
        MySQLArguments,
        PolicyArgument,
        PooledArguments,
        PyMySQLArguments,
        ReplicasArgument,
    )


def _open(db: ReplicatedDatabase | _Opener) -> wire.Connection:
    """Open a connection that reads the server's session reports."""

    def new(parameters: Mapping[str, object]) -> wire.Connection:
        return wire.Connection(
            database=db.database,
            autocommit=True,
            guard=db.opening.guarded,
            defer_connect=True,
            **parameters,
        )

    return open_connection(db.opening, thread_state(db), lambda: db.connect_params, new)


class ReplicatedDatabase(Replicated, MySQLDatabase):
    """peewee's `MySQLDatabase`, with reads served by replicas.

    Parameters:
        database: the schema's name; None to call `init` later.
        replicas: dicts of connection parameters that override the primary's, or URLs, or ``"host:port"``.
            A dict may also have ``name`` and ``weight`` (a whole number from 0 to 100). List the primary
            itself to let it serve reads. Or a callable that returns such a list; one that needs an argument
            is given the database. A thread calls it from the database's first statement on, and again every
            ``refresh`` seconds; until it has answered, the primary serves the reads. An answer that is empty
            or cannot work, and an error, change nothing and are logged.
        refresh: seconds between two calls of a callable ``replicas``.
        policy: ``"round-robin"``, ``"random"``, ``"least-busy"``, or a callable that takes the usable
            replicas and returns one of them.
        reads: where a read outside any scope goes: ``"replica"``, ``"primary"``, ``"observe"`` (to the
            primary, while events report where it would have gone), or the share of such reads that goes to
            replicas, from 0 to 1. The environment variable ``PEEWEE_REPLICAS_READS`` overrides it.
        fallback: what happens to a read that no replica can serve: the ``"primary"`` serves it, or it raises
            an ``"error"``.
        readonly_in_transaction: what ``readonly()`` does inside a transaction: ``"error"``, or ``"join"`` to
            let its reads stay in the transaction.
        pure_functions: names of stored functions that only read.
        consistency: what a read must see: ``"eventual"``, ``"session"``, ``"process"`` or ``"strong"``.
        catch_up_timeout: seconds one read may wait for replicas to catch up, over all replicas together.
        sticky_seconds: seconds that reads stay on the primary after a write if the servers keep no GTIDs.
        max_lag: lag in seconds above which a replica is not used. None: no limit.
        max_fallback_share: share (0 to 1) of about the last hundred reads that may fall back to the primary;
            further reads get `NoReplicaAvailable`. The hundred include reads that replicas serve, that fall
            back and that are refused, but not reads that belong on the primary. Unless the share is 0, one
            read may always fall back if none did for a second. None: no limit.
        on_transaction_escape: what happens when a task or thread started inside ``atomic()`` queries outside
            that transaction: ``"ignore"``, ``"warn"`` or ``"error"``.
        probe_interval: seconds between health probes. None: no prober; health is learned from traffic.
        heartbeat_table: the ``pt-heartbeat`` table to read lag from, as ``"table"`` or ``"schema.table"``.
        follow_primary: whether writes follow the primary to another of the nodes: once that node alone takes
            writes, and the others replicate from it, in two looks of the prober in a row.
        max_connection_age: seconds after which an idle connection is replaced, so that a name's new address
            is found; each lives up to a fifth shorter. Never inside a transaction, nor if the connection
            carries state of its session. None: connections live until they are closed.
        kwargs: the arguments of peewee and PyMySQL.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    beneath = MySQLDatabase
    opening: Opening

    @declares_signature
    def __init__(
        self,
        database: str | None,
        *,
        replicas: ReplicasArgument = (),
        refresh: float = 30.0,
        policy: PolicyArgument = "round-robin",
        reads: Reads = "replica",
        fallback: Fallback = "primary",
        spread: Spread = "statement",
        readonly_in_transaction: ReadonlyInTransaction = "error",
        pure_functions: Iterable[str] = (),
        consistency: Level = "session",
        catch_up_timeout: float = 0.5,
        sticky_seconds: float = 2.0,
        max_lag: float | None = 10.0,
        max_fallback_share: float | None = None,
        on_transaction_escape: OnTransactionEscape = "ignore",
        probe_interval: float | None = 1.0,
        heartbeat_table: str | None = None,
        follow_primary: bool = False,
        max_connection_age: float | None = None,
        **kwargs: Unpack[PyMySQLArguments],
    ) -> None: ...

    if TYPE_CHECKING:

        def init(self, database: str | None, **kwargs: Unpack[MySQLArguments]) -> None: ...  # type: ignore[override]  # known arguments only

    def _connect(self) -> ServerConnection:
        return _open(self)


class _Opener(MySQLDatabase):
    """The class after peewee's pool in the method resolution order; it opens the pool's connections."""

    opening: Opening

    def _connect(self) -> ServerConnection:
        conn = _open(self)
        _hold(self, conn)
        return conn


class _Pool(PooledMySQLDatabase, _Opener):
    """The database as peewee's pool sees it while it checks a connection out.

    peewee's pool opens through ``super()._connect()``, so the class that opens must come after the pool in
    the method resolution order. In the pooled database, `ReplicatedDatabase` comes before it. This object
    shares the database's attributes and calls the database's methods that a subclass may override.
    """

    __slots__ = ("_database",)

    def __init__(self, database: PooledReplicatedDatabase) -> None:
        # The same dictionary, not a copy: the pool must change the database's own attributes.
        self.__dict__ = database.__dict__
        self._database = database

    def _is_closed(self, conn: wire.Connection) -> bool:
        _hold(self._database, conn)
        return self._database._is_closed(conn)

    def _is_stale(self, timestamp: float) -> bool:
        return bool(self._database._is_stale(timestamp))

    def _close(self, conn: ServerConnection, close_conn: bool = False) -> None:
        self._database._close(conn, close_conn)

    def _close_raw(self, conn: ServerConnection) -> None:
        self._database._close_raw(conn)


_POOL_ARGUMENTS = frozenset({"max_connections", "stale_timeout", "timeout"})


class _PoolState(ThreadState, Protocol):
    """peewee's state of a thread that uses a pool.

    Attributes:
        holder: identifies this thread on the connections that it takes from the pool.
    """

    holder: object


class _Place(Protocol):
    """A place in peewee's pool that is in use."""

    connection: wire.Connection


class PooledDatabase(UserDatabase, Protocol):
    """A pooled database of this library's class, or of a user's own subclass."""

    _wait_timeout: float | None
    _in_use: Mapping[object, _Place]

    def _close(self, conn: ServerConnection, /, close_conn: bool = False) -> object: ...
    def leave_pool_to_parent(self) -> None: ...


def _drop(db: PooledDatabase, conn: ServerConnection) -> None:
    # Even a connection already closed occupies its place in the pool until this call.
    db._close(conn, close_conn=True)


def _hold(db: ReplicatedDatabase | _Opener, conn: wire.Connection) -> None:
    """Mark a connection as taken by this thread, before the pool counts it as in use."""
    state = cast(_PoolState, thread_state(db))
    # Not the thread's number, because programs may replace peewee's state by one for each request.
    holder = getattr(state, "holder", None)
    if holder is None:
        holder = state.holder = object()
    conn.holder = holder


def _free_lost(db: PooledDatabase) -> None:
    """Free places in the pool that this thread occupies without having their connections.

    An interrupt leaves such a place if it arrives after the pool has lent a connection and before peewee has
    stored it, or after peewee has forgotten a connection and before the pool has taken it back.
    """
    state = thread_state(db)
    holder = getattr(state, "holder", None)
    for place in list(db._in_use.values()):
        conn = place.connection
        if holder is not None and conn.holder is holder and conn is not state.conn:
            _drop(db, conn)


class _PooledPrimary(PlainDatabase):
    """The primary's pool."""

    db: PooledDatabase
    beneath: type[PooledMySQLDatabase]

    def drop(self, conn: ServerConnection) -> None:
        _drop(self.db, conn)

    def broken_off(self) -> None:
        super().broken_off()
        _free_lost(self.db)


class _PooledNode(NodeDatabase):
    """A node's pool."""

    pool_arguments = _POOL_ARGUMENTS
    db: PooledDatabase
    beneath: type[PooledMySQLDatabase]

    def drop(self, conn: ServerConnection) -> None:
        _drop(self.db, conn)

    def broken_off(self) -> None:
        super().broken_off()
        _free_lost(self.db)

    def open(self, *, waits: bool = True) -> None:
        if waits:
            super().open()
        else:
            with password_errors():
                Database.connect(self.db)  # the pool's own method would wait for a free connection

    @property
    def waits_without_end(self) -> bool:
        return bool(self.db._wait_timeout == math.inf)

    def close_unused(self) -> None:
        self.close_idle()

    # The pool's methods, not routed

    def close_idle(self) -> None:
        self.beneath.close_idle(self.db)

    def close_stale(self, age: float) -> int:
        return int(self.beneath.close_stale(self.db, age))

    def close_all(self) -> None:
        self.beneath.close_all(self.db)

    def manual_close(self) -> object:
        return self.beneath.manual_close(self.db)


class _PooledAssembly(Assembly):
    node_database = _PooledNode

    def check_pool(self, given: Mapping[str, object], where: str = "") -> None:
        for name in sorted(_POOL_ARGUMENTS):
            if not _is_amount(given.get(name)):
                raise ConfigurationError(
                    f"{where}{name}={shown(given[name])}: a number is wanted, 0 or more, or None"
                )

    def known_parameters(self, parameters: Mapping[str, object]) -> frozenset[str] | None:
        known = super().known_parameters(parameters)
        return known and known | _POOL_ARGUMENTS


def _is_amount(value: object) -> bool:
    # peewee also takes a number as text; what float() cannot take raises, and is no amount.
    try:
        return value is None or (not isinstance(value, bool) and float(value) >= 0)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


class _PooledMembers(RoutedMembers):
    """The methods of `playhouse.pool`, applied to the pools of all nodes."""

    db: PooledDatabase
    plain: _PooledPrimary

    def manual_close(self) -> bool:
        if not self.plain.is_open:
            return False
        for database in self.parts.replicas.opened():
            database.discard()
        self.parts.primary.drop()
        self.db.close()
        return True

    def _pools(self) -> list[_PooledNode]:
        return [database for database in self.parts.replicas.made() if isinstance(database, _PooledNode)]

    def close_idle(self) -> None:
        self.plain.beneath.close_idle(self.db)
        for pool in self._pools():
            pool.close_idle()

    def close_stale(self, age: float) -> int:
        closed = int(self.plain.beneath.close_stale(self.db, age))
        return closed + sum(int(pool.close_stale(age)) for pool in self._pools())

    def close_all(self) -> None:
        self.plain.beneath.close_all(self.db)
        for pool in self._pools():
            pool.close_all()

    def after_fork(self) -> None:
        db = self.db
        db.leave_pool_to_parent()
        super().after_fork()


class PooledReplicatedDatabase(ReplicatedDatabase, PooledMySQLDatabase):
    """`ReplicatedDatabase` over `playhouse.pool`: one pool per node, each of ``max_connections``."""

    beneath = PooledMySQLDatabase
    assembly = _PooledAssembly
    members = _PooledMembers
    _members: _PooledMembers
    # peewee's own members, for which it declares no types.
    _pool_lock: object
    _pool_available: object

    @declares_signature
    def __init__(
        self,
        database: str | None,
        *,
        replicas: ReplicasArgument = (),
        refresh: float = 30.0,
        policy: PolicyArgument = "round-robin",
        reads: Reads = "replica",
        fallback: Fallback = "primary",
        spread: Spread = "statement",
        readonly_in_transaction: ReadonlyInTransaction = "error",
        pure_functions: Iterable[str] = (),
        consistency: Level = "session",
        catch_up_timeout: float = 0.5,
        sticky_seconds: float = 2.0,
        max_lag: float | None = 10.0,
        max_fallback_share: float | None = None,
        on_transaction_escape: OnTransactionEscape = "ignore",
        probe_interval: float | None = 1.0,
        heartbeat_table: str | None = None,
        follow_primary: bool = False,
        max_connection_age: float | None = None,
        max_connections: int | None = 20,
        stale_timeout: float | None = None,
        timeout: float | None = None,
        **kwargs: Unpack[PyMySQLArguments],
    ) -> None: ...

    if TYPE_CHECKING:

        def init(self, database: str | None, **kwargs: Unpack[PooledArguments]) -> None: ...  # type: ignore[override]  # known arguments only

    def _as_primary(self) -> PlainDatabase:
        return _PooledPrimary(self, self.beneath)

    # Called by peewee's pool

    def _connect(self) -> ServerConnection:
        conn: ServerConnection = _Pool(self)._connect()
        conn.at_rest = False
        return conn

    def _is_closed(self, conn: ServerConnection) -> bool:
        if self.opening.is_outdated(conn):
            return True
        if self.opening.is_old(conn):
            self._close_raw(conn)
            return True
        # A read that finds a dead connection goes elsewhere. A write cannot, so its connection is pinged,
        # with a time limit, because the pool is locked meanwhile.
        return bool(conn.dropped() if self.opening.guarded else not conn.is_alive())

    def _can_reuse(self, conn: wire.Connection) -> bool:
        # The next user of this connection must not get the session state of the last one.
        if not conn.server_status & wire.AUTOCOMMIT or conn.session_state or conn.changes:
            return False
        # peewee's method sends ROLLBACK; the server's answer also reports what a failed statement changed.
        with conn.within(conn.connect_timeout):
            clean = bool(super()._can_reuse(conn))
        reusable = clean and conn.replaceable and not conn.busy and not self.opening.is_old(conn)
        # A subclass's _initialize_connection() runs again at check-out.
        conn.initialized, conn.at_rest = False, True
        return reusable

    # Called by users

    def leave_pool_to_parent(self) -> None:
        """Empty the pool without closing its connections, in a forked child."""
        free(self._pool_lock, self._pool_available)
        self._connections: list[object] = []
        self._in_use: dict[object, object] = {}

    def manual_close(self) -> bool:
        """Close this thread's connections to all nodes without returning them to their pools."""
        return bool(self._members.manual_close())

    def close_idle(self) -> None:
        """Close the idle connections in every node's pool."""
        self._members.close_idle()

    def close_stale(self, age: float = 600) -> int:
        """Close connections to every node that have been in use for longer than `age` seconds."""
        return int(self._members.close_stale(age))

    def close_all(self) -> None:
        """Close all connections to every node, including those in use."""
        self._members.close_all()
