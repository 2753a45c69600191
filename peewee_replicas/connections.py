"""A peewee database that has several nodes, and so may have several connections in one thread.

Nothing here decides a route: this is opening, finding and closing connections, with the meaning that
peewee's own members have.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import peewee
from peewee import InterfaceError, OperationalError, PeeweeException, __exception_wrapper__
from playhouse.pool import MaxConnectionsExceeded

from .arguments import OWN_ARGUMENTS, NodeSpec, checked, overlay
from .errors import ConfigurationError, ReadOnlyViolation
from .failures import NO_CONNECTION, NOT_OPENED, Meaning, meaning
from .forks import abandon, free, track_database
from .replicas import Replica
from .replication import PRIMARY, Replication
from .routing import REPLICA, WRITER, Decision
from .scopes import Frame, innermost
from .statements import Statement

logger = logging.getLogger("peewee.replicas")

_UNREACHABLE = 2003  # CR_CONN_HOST_ERROR
_NOT_INITIALIZED = "Error, database must be initialized before opening a connection."


class _TurnedAway(OperationalError):
    """A node that another thread could not reach while this one waited for its turn to connect."""


class Connections(peewee.Database):
    """One connection per node and thread, over any of peewee's database classes.

    The object itself is the primary: its connection, its pool, its parameters. Each node that serves reads
    is another instance of the same class, without routing (`_node` says which), so that a subclass's own
    ``_connect()`` and ``_initialize_connection()`` open replicas too.
    """

    _own_arguments: tuple[str, ...] = OWN_ARGUMENTS
    _node: Replica | None = None
    _replication: Replication
    _at_primary = False
    _guarded = False
    _plain_cursor = True
    database: Any
    connect_params: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._plain_cursor = cls.cursor is Connections.cursor

    def __init__(self, database: str | None, *args: Any, **kwargs: Any) -> None:
        self._own: dict[str, Any] = {}
        plain = {name: value for name, value in kwargs.items() if name not in self._own_arguments}
        self._plain: tuple[tuple[Any, ...], dict[str, Any]] = (args, plain)
        super().__init__(database, *args, **kwargs)

    def init(self, database: str | None, **kwargs: Any) -> None:
        """As peewee's; takes the routing arguments too. Raises `ConfigurationError` and changes nothing
        when one of them cannot work."""
        if self._node is not None:
            super().init(database, **kwargs)
            return
        own = {name: kwargs.pop(name) for name in self._own_arguments if name in kwargs}
        given = {**self._own, **own}
        settings = checked(given, ConfigurationError)
        parameters = {**getattr(self, "connect_params", {}), **kwargs}
        specs = self._node_specs(given, parameters)
        super().init(database, **kwargs)
        self._own = given
        self._plain[1].update(kwargs)
        hooks = self._replication.route_hooks if "_replication" in vars(self) else []
        self._replication = self._assemble(settings, specs)
        self._replication.route_hooks = hooks
        track_database(self)

    # Nodes

    def _node_specs(self, given: dict[str, Any], parameters: dict[str, Any]) -> tuple[NodeSpec, ...]:
        raise NotImplementedError

    def _assemble(self, settings: Any, specs: tuple[NodeSpec, ...]) -> Replication:
        raise NotImplementedError

    def _make_node(self, replica: Replica) -> Any:
        node: Any = object.__new__(type(self))
        node._node = replica
        node._guarded = True
        args, kwargs = self._plain
        super(Connections, node).__init__(self.database, *args, **kwargs)
        node._by_itself = frozenset(vars(node))
        return node

    def _adopt(self, owner: Connections, replica: Replica) -> None:
        """Take over what a subclass keeps on its instance, and the parameters as they are now."""
        for name, value in vars(owner).items():
            if name not in self._by_itself:
                setattr(self, name, value)
        parameters = overlay(owner.connect_params, replica.overrides)
        self.database = parameters.pop("database", owner.database)
        self.connect_params = parameters

    def _reach(self, replica: Replica) -> Any:
        """The node's database with a connection of this thread that is not known to be dead."""
        node = replica.database
        state = node._state
        if not state.closed:
            conn = state.conn
            if self._replication.unheard(conn):
                try:
                    conn.drain()
                except Exception:
                    node._discard()
                    return self._reach(replica)
            # A transaction or a changed session that a raw cursor left here would make later reads wrong.
            if not conn.dropped() and (conn.busy or not (conn.transaction or conn.changes)):
                return node
            node._discard()
        self._open_node(replica, node)
        return node

    def _open_node(self, replica: Replica, node: Any) -> None:
        unreached = replica.unreached
        try:
            node._adopt(self, replica)
            node._state.unreached = unreached
            self._connect_node(node, waits=not self._holds_above(replica))
            conn = node._state.conn
            self._check_connection(replica.label, conn, node.connect_params)
            self._after_connect(replica.name, conn)
            conn.screen = self._replication.screen
            conn.listener = self._replication.heard if replica.is_primary else None
        except MaxConnectionsExceeded:
            raise  # the client's own limit says nothing about the node
        except BaseException as exc:
            node._discard()
            if isinstance(exc, _TurnedAway) or not isinstance(exc, Exception):
                replica.breaker.let_go()
            elif replica.breaker.open or self._has_no_connection(exc):
                # A node that is out already stays out, whatever a try on it has met.
                replica.failed(f"{type(exc).__name__}: {exc}")
            else:
                replica.breaker.let_go()
                if len(exc.args) == 2 and not self._is_not_opened(exc):
                    # A server that refuses a user does not name itself.
                    exc.args = (exc.args[0], f"{replica.label}: {exc.args[1]}")
            raise
        replica.connected()
        if self._state.closed:
            self._state.closed = False

    def _connect_node(self, node: Any, *, waits: bool) -> None:
        """Connect; `waits` says whether to wait for a connection of the client's own pool."""
        super(Connections, node).connect()

    def _holds_above(self, replica: Replica) -> bool:
        # Threads that hold one pool's connection and wait for another's must all do so in one order, or
        # they wait for each other: replicas, the primary for reading, the primary.
        if self._state.conn is not None:
            return True
        return replica is not self._replication.reader and bool(self._open_nodes())

    def _before_connecting(self) -> None:
        # Threads wait for one another to connect. When a hung node has cost one of them its timeout, it
        # is not to cost each of the others theirs, one after the other.
        replica = self._node
        if replica is not None and replica.unreached != self._state.unreached:
            raise _TurnedAway(_UNREACHABLE, "another thread has just found that it cannot be reached")

    def _could_not_connect(self, exc: Exception) -> None:
        if self._node is not None and self._has_no_connection(exc):
            self._node.unreached += 1

    def _check_connection(self, label: str, conn: Any, parameters: dict[str, Any]) -> None:
        raise NotImplementedError

    def _after_connect(self, name: str, conn: Any) -> None:
        core = self._replication
        if self.server_version is None:
            self._set_server_version(conn)
        if core.dialect is None:
            core.know_dialect(conn.flavour.DIALECT)
        if conn.flavour.COMPARE and core.replicas.all and core.needs_comparing(name):
            with __exception_wrapper__:
                core.compare(name, dict(conn.ask(conn.flavour.COMPARE)))
        # What connecting set is how the user wants every connection to be, not state of this one.
        conn.changes.clear()
        conn.settled = True

    def _meaning(self, exc: BaseException) -> Meaning:
        """What a failure of a statement, or of connecting, says about the node."""
        return meaning(type(exc).__name__, exc.args)

    def _has_no_connection(self, exc: BaseException) -> bool:
        return self._meaning(exc) in NO_CONNECTION

    def _is_not_opened(self, exc: BaseException) -> bool:
        return self._meaning(exc) in NOT_OPENED

    def _discard(self) -> None:
        """Drop this thread's connection to this node for good, whatever state it is in."""
        conn = self._state.conn
        self._state.reset()
        if conn is not None:
            self._drop(conn)

    def _drop(self, conn: Any) -> None:
        self._close(conn)

    def _open_nodes(self) -> list[Any]:
        """The databases of the nodes to which this thread has a connection."""
        core = self._replication
        nodes = {id(replica): replica.made for replica in (*core.replicas.all, core.reader)}
        return [node for node in nodes.values() if node is not None and not node._state.closed]

    def _retry_ejected(self) -> None:
        """Try the ejected nodes whose pause has ended and that nobody else is trying."""
        now = time.monotonic()
        for replica in self._replication.replicas.ejected:
            if replica.breaker.may_try(now):
                node = replica.database
                node._discard()
                try:
                    self._open_node(replica, node)
                except MaxConnectionsExceeded:
                    replica.breaker.let_go()
                except PeeweeException:
                    continue  # logged and remembered with the node

    # peewee's members, as a database that may have several connections in one thread

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Open the node that the next plain read would use; the primary only if no replica answers.

        Raises:
            OperationalError: already open, or no node answers.
            InterfaceError: the database is deferred and was not initialised.
        """
        if self._node is not None:
            return bool(super().connect(reuse_if_open))
        if self.deferred:
            raise InterfaceError(_NOT_INITIALIZED)
        state = self._state
        if not state.closed:
            if reuse_if_open:
                return False
            raise OperationalError("Connection already opened.")
        state.reset()
        if not self._open_for_reading():
            self._writer()
        return True

    def _open_for_reading(self) -> bool:
        core = self._replication
        if core.rehearsal is not None:
            return False
        statement = core.classifier.classify("SELECT 1")
        frame = innermost(core)
        if core.decide(statement, self._state, frame, self._at_primary).target != REPLICA:
            return False
        if core.replicas.ejected:
            self._retry_ejected()
        replica = core.next_for_connect()
        tried: set[Replica] = set()
        while replica is not None:
            try:
                self._reach(replica)
                return True
            except PeeweeException as exc:
                if not self._is_not_opened(exc):
                    raise
                tried.add(replica)
                replica = core.another(tried)
        return False

    def _writer(self) -> Any:
        """The primary's own connection of this thread, opened now if this is its first use."""
        state = self._state
        if state.conn is not None:
            return state.conn
        rehearsal = self._replication.rehearsal
        if rehearsal is not None and rehearsal.conn is not None:
            state.conn, state.closed = rehearsal.conn, False
            return state.conn
        # peewee's connect() starts a new state; what is in progress in this thread has to survive that.
        kept = (state.closed, state.ctx, state.transactions, state.commit_callbacks)
        state.closed = True
        try:
            super().connect()
            conn: Any = state.conn
            self._check_connection(PRIMARY, conn, self.connect_params)
            self._after_connect(PRIMARY, conn)
            conn.listener = self._replication.heard
        except BaseException:
            conn = state.conn
            state.conn = None
            if conn is not None:
                self._drop(conn)
            raise
        else:
            kept = (False, *kept[1:])
        finally:
            state.closed, state.ctx, state.transactions, state.commit_callbacks = kept
        return conn

    def _renew_writer(self) -> None:
        """Let a read that falls back open the primary anew, where its idle connection is known to be dead."""
        state, core = self._state, self._replication
        conn = state.conn
        if conn is None or core.rehearsal is not None or conn.busy or not conn.dropped():
            return
        if not core.transaction(state) and not conn.session_state:
            state.conn = None
            self._drop(conn)

    def _primary_to_ask(self) -> Any:
        """A connection to the primary that a question of the library's own disturbs nothing on."""
        conn = self._state.conn
        if conn is not None and not conn.busy and not conn.transaction and not conn.dropped():
            return conn
        return self._reach(self._replication.reader)._state.conn

    def close(self) -> bool:
        """Close all of this thread's connections; True if there were any."""
        if self._node is not None:
            return bool(super().close())
        if self.deferred:
            raise InterfaceError(_NOT_INITIALIZED)
        if self.in_transaction():
            raise OperationalError("Attempting to close database while transaction is open.")
        state = self._state
        was_open = not state.closed
        failures: list[Exception] = []
        for node in self._open_nodes():
            try:
                super(Connections, node).close()
            except Exception as exc:
                failures.append(exc)
        conn = state.conn
        if conn is not None and conn.transaction:
            self._replication.consistency.abandoned(self._replication)
        state.reset()
        rehearsal = self._replication.rehearsal
        if conn is not None and (rehearsal is None or conn is not rehearsal.conn):
            with __exception_wrapper__:
                self._close(conn)
        if failures:
            raise failures[0]
        return was_open

    def _after_fork(self) -> None:
        """In a forked child: leave the parent its connections, and open others when they are needed."""
        free(self._lock)
        core = self._replication
        for replica in {*core.replicas.all, core.reader}:
            abandon(replica.made, replica.made and replica.made._state.conn)
            replica.after_fork()
        state = self._state
        abandon(state.conn)
        if core.transaction(state):
            logger.warning(
                "this process was forked inside a transaction, which is the parent's: here statements fail "
                "until the transaction is left and the database is closed"
            )
        else:
            state.conn = None

    def dispose(self) -> None:
        """Forget all of this thread's connections without closing them."""
        super().dispose()
        if self._node is None:
            core = self._replication
            for replica in {*core.replicas.all, core.reader}:
                if replica.made is not None:
                    super(Connections, replica.made).dispose()

    def connection(self) -> Any:
        """The primary's connection of this thread; inside ``readonly()`` that of the scope's node."""
        if self._node is not None:
            return super().connection()
        if self.is_closed():
            self.connect()
        node = self._scope_node()
        return self._writer() if node is None else node._state.conn

    def cursor(self, named_cursor: Any = None) -> Any:
        """A cursor of the connection that `connection` gives."""
        state = self._state
        if self._node is None and not (state.conn is not None and state.conn.executing):
            self._check_open()
            node = self._scope_node()
            if node is not None:
                return node.cursor()
            self._writer()
        return super().cursor()

    def _scope_node(self) -> Any:
        """The node of the innermost ``readonly()``, for what goes around `execute_sql`; else None.

        It shows what a read in the scope must see now; what is sent to it later is not held to that.
        """
        core = self._replication
        frame = innermost(core)
        if frame is None or frame.place != "readonly" or core.rehearsal is not None:
            return None
        statement = core.classifier.classify("SELECT 1")
        decision = core.decide(statement, self._state, frame, self._at_primary)
        if decision.target == WRITER:
            raise ReadOnlyViolation(
                f"a raw cursor inside readonly() cannot be guarded here ({decision.reason}); "
                "use execute_sql(), or leave readonly() with primary()"
            )
        return self._place(statement, decision, frame)

    def _place(self, statement: Statement, decision: Decision, frame: Frame) -> Any:
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._state.closed:
            if self.deferred:
                raise InterfaceError(_NOT_INITIALIZED)
            if not self.autoconnect:
                raise InterfaceError("Error, database connection not opened.")

    def is_connection_usable(self) -> bool:
        """Whether this thread has connections, and each of them answers."""
        if self._node is not None or self._state.closed:
            return bool(super().is_connection_usable())
        connections = [node._state.conn for node in self._open_nodes()]
        if self._state.conn is not None:
            connections.append(self._state.conn)
        return all(conn.answers() for conn in connections)
