"""One server in all roles, for test suites of programs that read from replicas in production."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from peewee_replicas.connections.parts import Parts
from peewee_replicas.connections.peewee_types import Cursor, Parameters, ThreadState
from peewee_replicas.connections.plain_database import PlainDatabase
from peewee_replicas.connections.primary_connection import PrimaryConnection, Sending
from peewee_replicas.connections.replica_connections import ReplicaConnections
from peewee_replicas.consistency.levels import NOTHING, Consistency, Needs
from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.nodes.node import Node
from peewee_replicas.scopes.frames import Frame
from peewee_replicas.servers.protocols import ServerConnection
from peewee_replicas.testing.faults import meet_fault
from peewee_replicas.testing.proxies import behind_proxy

# Inside a test's own transaction, the program's transactions are savepoints with this name.
_SAVEPOINT = "peewee_replicas_one_server"


D = TypeVar("D")


def one_server(database: D, *, transaction: bool = False) -> OneServer[D]:
    """Let the primary play all roles, while routes and refusals stay as in production.

    Statements are routed, counted, refused and reported (``route_hooks``, ``stats()``, ``explain_route()``)
    as if the replicas existed, and then run on the primary's connection; no connection to a replica's address
    is made. So a test sees its own rows at once, and a write inside ``readonly()`` still fails.

    Use it in a ``with`` block; with an asyncio database in ``async with``.

    Parameters:
        database: the database under test.
        transaction: whether to run the block in one transaction that is rolled back at its end. The program
            does not notice it: its own transactions become savepoints, and ``close()`` keeps the transaction
            open. Two things differ from production: the server does not refuse writes that the text does not
            show, and some statements commit by themselves (DDL, a raw ``BEGIN``).

    Raises on entry:
        RuntimeError: a transaction is already open, or the database is already in ``one_server()``.
    """
    return OneServer(behind_proxy(database), transaction)  # type: ignore[arg-type]


class OneServer(Generic[D]):
    """The block of a test in which one server plays all roles. Made by `one_server`."""

    def __init__(self, database: Replicated, transaction: bool) -> None:
        self._database = database
        self._in_transaction = transaction
        self._undo: _Undo | None = None

    def __enter__(self) -> D:
        if self._undo is not None or isinstance(self._database._parts.replicas, _EverythingOnPrimary):
            raise RuntimeError("one_server() is already in force for this database")
        if self._database.in_transaction():
            raise RuntimeError("one_server() cannot start inside a transaction; enter it first")
        undo = _Undo(self._database)
        undo.pretend()
        try:
            if self._in_transaction:
                undo.begin()
        except BaseException:
            undo.restore()
            raise
        self._undo = undo
        return cast(D, self._database)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        undo, self._undo = self._undo, None
        if undo is None:
            raise RuntimeError("this one_server() was not entered")
        try:
            if self._in_transaction:
                undo.roll_back()
        finally:
            undo.restore()

    async def __aenter__(self) -> D:
        database: D = await self._database.run(self.__enter__)
        return database

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.run(self.__exit__, kind, exc, trace)


class _Undo:
    """Replaces the database's collaborators for the block, and restores them."""

    def __init__(self, database: Replicated) -> None:
        self._database = database
        self._parts: Parts = database._parts
        self._kept = (self._parts.primary, self._parts.replicas, self._parts.router.consistency)
        self._prober = self._parts.cluster.prober
        self._immovable = self._parts.cluster.immovable
        self._lags: list[tuple[Node, float | None]] = []
        self._was_closed = True

    def pretend(self) -> None:
        """Let the primary play all roles."""
        parts = self._parts
        parts.cluster.stop_threads()
        parts.cluster.prober = None
        parts.cluster.immovable = "in one_server() one server plays all roles"
        for node in parts.cluster.replicas.all:
            self._lags.append((node, node.lag))
            node.lag = 0.0  # one server never lags itself
        parts.replicas = _EverythingOnPrimary(parts)  # type: ignore[assignment]  # its substitute
        parts.router.consistency = _AlwaysThere(parts.router.consistency)  # type: ignore[assignment]  # likewise

    def restore(self) -> None:
        """Put everything back as it was."""
        parts = self._parts
        parts.primary, parts.replicas, parts.router.consistency = self._kept
        parts.cluster.prober, parts.cluster.immovable = self._prober, self._immovable
        for node, lag in self._lags:
            node.lag = lag

    def begin(self) -> None:
        """Open the test's own transaction."""
        parts = self._parts
        self._was_closed = self._database.is_closed()
        conn = parts.primary.get()
        conn.run_setting("BEGIN")
        parts.primary = _InTestTransaction(parts.primary, conn)  # type: ignore[assignment]  # its substitute

    def roll_back(self) -> None:
        """Roll back the test's own transaction."""
        primary = self._parts.primary
        # The program may have closed the database, or left its own transaction open.
        conn = primary.get()
        while self._database.in_transaction():
            self._database.pop_transaction()
        self._parts.primary = self._kept[0]
        conn.run_setting("ROLLBACK")
        if self._was_closed:
            self._database.close()


class _AlwaysThere:
    """Replaces the database's consistency: reads need not wait for anything."""

    def __init__(self, consistency: Consistency) -> None:
        self._consistency = consistency

    def need_outside_scopes(self) -> None:
        return None

    def needs(self, _frame: Frame | None) -> Needs:
        return NOTHING

    def stays(self, _frame: Frame | None) -> str:
        return ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consistency, name)


class _EverythingOnPrimary:
    """Replaces the connections to nodes: every node is reached over the primary's own connection."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._replicas: ReplicaConnections = parts.replicas

    def reach(
        self, node: Node, *, patient: bool = False, state: ThreadState | None = None
    ) -> _GuardedPrimary:
        self._parts.primary.get()
        return _GuardedPrimary(self._parts, node)

    def attend(self, *, reads: bool = True) -> None:
        """Do nothing, because no replica's address is ever connected to."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replicas, name)


class _GuardedPrimary(PlainDatabase):
    """The primary's own connection, used as a node's."""

    def __init__(self, parts: Parts, node: Node) -> None:
        plain = parts.primary.plain
        super().__init__(plain.db, plain.beneath)
        self._primary = parts.primary
        self._node = node

    def send(self, conn: ServerConnection, sql: str, params: Parameters, comment: str = "") -> Cursor:
        meet_fault(self._node)
        conn = self._primary.get()  # a fault may have closed the one before
        guard = not conn.transaction  # an open transaction cannot be guarded
        if guard:
            conn.run_setting(conn.dialect.GUARD)
        try:
            return super().send(conn, sql, params, comment)
        finally:
            if guard and not conn.dropped():
                conn.run_setting_when_idle(conn.dialect.UNGUARD)

    def raw_cursor(self, named_cursor: object) -> Cursor:
        return self.cursor(named_cursor)

    def discard(self) -> None:
        """Do nothing: the connection is the primary's, which discards it itself."""


class _InTestTransaction:
    """Replaces the primary's connections by the one on which the test has opened a transaction."""

    def __init__(self, primary: PrimaryConnection, conn: ServerConnection) -> None:
        self._primary = primary
        self._conn = conn

    def get(self, *, state: ThreadState | None = None) -> ServerConnection:
        state = state or self._primary.plain.state
        state.conn, state.closed = self._conn, False
        return self._conn

    def idle(self) -> None:
        """Return None, so that the library asks nothing in the test's transaction."""
        return

    def transaction(self, state: ThreadState) -> str:
        # The test's own transaction does not exist in production.
        return "a transaction is open" if state.transactions else ""

    def situation(self, state: ThreadState) -> tuple[str, str]:
        carried = self._primary.session.state(self._conn) if state.conn is self._conn else ""
        return self.transaction(state), carried

    def begin(self, sending: Sending, *_args: object, **_kwargs: object) -> None:
        conn = self.get()
        sending()
        conn.run_setting(f"SAVEPOINT {_SAVEPOINT}")

    def commit(self, sending: Sending = lambda: None) -> None:
        if self._primary.plain.conn is not None:
            sending()
            self._conn.run_setting(f"RELEASE SAVEPOINT {_SAVEPOINT}")

    def rollback(self, sending: Sending = lambda: None) -> None:
        if self._primary.plain.conn is not None:
            sending()
            self._conn.run_setting(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")

    def close(self) -> None:
        self._primary.plain.state.reset()

    def give_back(self, conn: ServerConnection) -> None:
        if conn is not self._conn:
            self._primary.give_back(conn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._primary, name)
