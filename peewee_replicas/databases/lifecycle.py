"""A peewee database that has several nodes, and so may have several connections in one thread.

Nothing here decides a route: this is opening, finding and closing connections, with the meaning that
peewee's own members have.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from peewee import InterfaceError, OperationalError, PeeweeException, __exception_wrapper__

from ..concurrency import abandon, free, track_database
from ..connections.primary_connection import Primary
from ..connections.primary_positions import PrimaryPositions
from ..errors import ConfigurationError, ReadOnlyViolation
from ..nodes.replica import Replica
from ..nodes.spec import NodeSpec
from ..routing.decision import REPLICA, WRITER, Decision
from ..routing.router import PRIMARY, Replication
from ..routing.settings import OWN_ARGUMENTS, checked
from ..scopes.frames import Frame, innermost
from ..servers.error_meanings import explained
from ..statements.classifier import Statement

logger = logging.getLogger("peewee.replicas")

_NOT_INITIALIZED = "Error, database must be initialized before opening a connection."


class Connections(Primary):
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
        before = vars(self).get("_replication")
        core = self._replication = self._assemble(settings, specs)
        core.news.database = str(database)
        core.consistency.primary = PrimaryPositions(self)
        core.prober = self._make_prober(core)
        if before is not None:
            core.route_hooks, core.news.hooks = before.route_hooks, before.news.hooks
            if before.prober is not None:
                before.prober.retire()
        track_database(self)

    # Nodes

    def _make_prober(self, core: Replication) -> Any:
        """What looks how the nodes are; None where nobody is to."""
        return None

    def _stop_probing(self, core: Replication) -> None:
        if core.prober is not None:
            core.prober.stop()

    def set_replicas(self, replicas: Any) -> None:
        """Change the replicas of a running program; all or nothing.

        A node that is listed with the name and the connection parameters it has stays as it is, with its
        connections, state and counters; its weight may change. One that is new to the rotation is warmed up.
        One that is no longer listed gets no new reads, and what it is reading it reads to the end; each
        thread closes its own connection to it when it next uses or closes the database, a pool its idle
        ones at once. A ``readonly()`` on such a node goes on at one that has reached the primary's position.

        Parameters:
            replicas: as the argument of the same name. Not empty: what finds nodes may find none by mistake.
                To have all reads on the primary on purpose, give every node ``weight=0``; they fall back
                then, as ``fallback`` and ``max_fallback_share`` allow.

        Raises:
            ConfigurationError: the list is empty or cannot work; nothing was changed.
        """
        if isinstance(replicas, Iterable) and not isinstance(replicas, (str, Mapping)):
            replicas = list(replicas)
        core = self._replication
        with core.membership_lock:
            given = {**self._own, "replicas": replicas}
            specs = self._node_specs(given, self.connect_params)
            if not specs:
                raise ConfigurationError(
                    "replicas: an empty list would send every read to the primary, which is refused here "
                    "because what finds nodes may find none by mistake; to do so on purpose, give every "
                    "node weight=0, or eject() each"
                )
            self._change_nodes(specs)
            self._own = given
        self._attend(reads=False)

    def _change_nodes(self, specs: tuple[NodeSpec, ...]) -> None:
        raise NotImplementedError

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
            OperationalError: already open, or no node answers; then it names each and its reason.
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
        tried: dict[Replica, BaseException] = {}
        if not self._open_for_reading(tried):
            try:
                self._writer()
            except PeeweeException as exc:
                if not self._has_no_connection(exc) or not self._reasons(tried):
                    raise
                raise self._nobody_answers(tried, exc, OperationalError) from exc
        return True

    def _open_for_reading(self, tried: dict[Replica, BaseException]) -> bool:
        core = self._replication
        if core.rehearsal is not None:
            return False
        statement = core.classifier.classify("SELECT 1")
        frame = innermost(core)
        if core.decide(statement, self._state, frame, self._at_primary).target != REPLICA:
            return False
        if core.replicas.unsettled:
            self._attend()
        replica = core.next_for_connect()
        while replica is not None:
            try:
                self._reach(replica)
                return True
            except PeeweeException as exc:
                if not self._is_not_opened(exc):
                    raise
                tried[replica] = exc
                replica = core.another(set(tried))
        return False

    def _writer(self) -> Any:
        """The primary's own connection of this thread, opened now if this is its first use."""
        state = self._state
        if state.conn is not None:
            if not self._writer_is_spent(state.conn):
                return state.conn
            self._drop_writer()
        rehearsal = self._replication.rehearsal
        if rehearsal is not None and rehearsal.conn is not None:
            state.conn, state.closed = rehearsal.conn, False
            return state.conn
        # peewee's connect() starts a new state; what is in progress in this thread has to survive that.
        kept = (state.closed, state.ctx, state.transactions, state.commit_callbacks)
        state.closed = True
        generation = self._replication.generation
        try:
            super().connect()
            conn: Any = state.conn
            conn.generation = generation
            self._check_connection(PRIMARY, conn, self.connect_params)
            self._after_connect(PRIMARY, conn)
            conn.listener = self._replication.heard
        except BaseException as exc:
            self._drop_writer()
            if self._has_no_connection(exc):
                exc.args = explained(exc.args, self._primary_label, self._remedy(exc))
            raise
        else:
            kept = (False, *kept[1:])
        finally:
            state.closed, state.ctx, state.transactions, state.commit_callbacks = kept
        return conn

    def _writer_to_ask(self) -> Any:
        conn = self._state.conn
        if conn is None or conn.busy or conn.transaction or conn.dropped():
            return None
        return None if conn.generation != self._replication.generation else conn

    def _primary_to_ask(self) -> Any:
        """A connection to the primary that a question of the library's own disturbs nothing on."""
        conn = self._writer_to_ask()
        if conn is not None:
            return conn
        reader = self._replication.reader
        try:
            return self._reach(reader)._state.conn
        except PeeweeException as exc:
            self._name_reader(exc)
            raise

    def close(self) -> bool:
        """Close all of this thread's connections; True if there were any."""
        if self._node is not None:
            return bool(super().close())
        if self.deferred:
            raise InterfaceError(_NOT_INITIALIZED)
        if self.in_transaction():
            raise OperationalError("Attempting to close database while transaction is open.")
        self._forget_lost_commit()
        state = self._state
        was_open = not state.closed
        failures: list[Exception] = []
        for node in self._open_nodes():
            try:
                if node._node.removed:
                    node._discard()  # a pool would keep it
                else:
                    super(Connections, node).close()
            except Exception as exc:
                failures.append(exc)
        conn = state.conn
        if conn is not None and conn.transaction:
            self._replication.consistency.abandoned()
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
        for replica in core.nodes():
            abandon(replica.made, replica.made and replica.made._state.conn)
            replica.after_fork()
        core.replicas.forget_leaving()
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
        """Forget all of this thread's connections without closing them; end the prober until the next use."""
        super().dispose()
        if self._node is None:
            self._stop_probing(self._replication)
            for replica in self._replication.nodes():
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
                return node.cursor(named_cursor)
            self._writer()
        return super().cursor(named_cursor)

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
        return all(conn.is_alive() for conn in connections)
