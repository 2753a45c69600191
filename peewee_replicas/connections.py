"""A peewee database that has several nodes, and so may have several connections in one thread.

Nothing here decides a route: this is opening, finding and closing connections, with the meaning that
peewee's own members have.
"""

from __future__ import annotations

import logging
from typing import Any

from peewee import InterfaceError, OperationalError, PeeweeException, __exception_wrapper__

from .arguments import OWN_ARGUMENTS, NodeSpec, checked
from .errors import ConfigurationError, ReadOnlyViolation
from .forks import abandon, free, track_database
from .nodes import Nodes
from .replicas import Replica
from .replication import PRIMARY, Replication
from .routing import REPLICA, WRITER, Decision
from .scopes import Frame, innermost
from .statements import Statement

logger = logging.getLogger("peewee.replicas")

_NOT_INITIALIZED = "Error, database must be initialized before opening a connection."


class Connections(Nodes):
    """One connection per node and thread, over any of peewee's database classes.

    The object itself is the primary: its connection, its pool, its parameters. Each node that serves reads
    is another instance of the same class, without routing (`_node` says which), so that a subclass's own
    ``_connect()`` and ``_initialize_connection()`` open replicas too.
    """

    _own_arguments: tuple[str, ...] = OWN_ARGUMENTS
    _at_primary = False
    _plain_cursor = True

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

    def _below(self, node: Any) -> Any:
        return super(Connections, node)

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
            escapes = self._replication.escapes
            if escapes is not None:
                escapes.check(state.transactions, "a cursor")
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
