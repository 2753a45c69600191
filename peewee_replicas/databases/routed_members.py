"""What peewee's members do on a database whose statements are routed.

A database object hands peewee's members on to this. The object of a single node hands them on to
`PlainDatabase` instead, where they do what peewee has them do.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping

from peewee import InterfaceError, OperationalError, PeeweeException

from ..concurrency import Clock, abandon, free, track_database
from ..connections.diagnosis import nobody_answers
from ..connections.opening import Opening
from ..connections.parts import Parts
from ..connections.peewee_types import Cursor, Parameters, ThreadState
from ..connections.plain_database import PlainDatabase
from ..connections.primary_connection import NOT_INITIALIZED, check_open
from ..connections.user_database import UserDatabase
from ..errors import ConfigurationError, ReadOnlyViolation
from ..events import Route, RouteHook, tell_of_route
from ..execution.execution import Execution
from ..execution.run import find_node, run
from ..nodes.cluster import Cluster
from ..nodes.node import Node
from ..routing.plan import REPLICA, WRITER, Plan
from ..routing.settings import checked
from ..scopes.frames import Frame, innermost
from ..scopes.transaction_escapes import Escapes
from ..servers.protocols import ServerConnection
from ..statements.classifier import Statement
from ..statements.redaction import redacted
from .assembly import Assembly
from .scope_entry import ScopeEntry

logger = logging.getLogger("peewee.replicas")


class RoutedMembers:
    """The members of one database, over all of its nodes.

    Parameters:
        db: the user's database.
        plain: the same, as the primary's.
        assembly: makes its collaborators.

    Attributes:
        parts: its collaborators; made by `init`.
        scopes: makes the frames of its scopes.
        escapes: tells of statements that escape their transaction; None where they are ignored.
        route_hooks: callables that are given one `RouteEvent` per execution.
    """

    parts: Parts
    scopes: ScopeEntry

    def __init__(self, db: UserDatabase, plain: PlainDatabase, assembly: Assembly) -> None:
        self.db = db
        self.plain = plain
        self.assembly = assembly
        self.escapes: Escapes | None = None
        self.route_hooks: list[RouteHook] = []
        self._given: dict[str, object] = {}

    # Arguments and nodes

    def init(self, database: object, **kwargs: object) -> None:
        """As peewee's; takes the routing arguments too. Changes nothing when one of them cannot work."""
        own = {name: kwargs.pop(name) for name in self.db.routing_arguments if name in kwargs}
        if "replicas" in own:
            own["replicas"] = _kept(own["replicas"])
        parameters = {**getattr(self.db, "connect_params", {}), **kwargs}
        self.assembly.check_arguments(kwargs, parameters)
        given = {**self._given, **own}
        settings = checked(given, ConfigurationError)
        specs = self.assembly.node_specs(given, parameters)
        self.plain.init(database, **kwargs)
        self._given = given
        self.db.plain_arguments[1].update(kwargs)
        before = vars(self).get("parts")
        parts = self.parts = self.db._parts = self.assembly.assemble(settings, specs)
        self.db.opening = Opening(parts.cluster)
        self.scopes = ScopeEntry(self.plain, parts)
        action = settings.on_transaction_escape
        self.escapes = None if action == "ignore" else Escapes(parts.cluster, action)
        parts.cluster.news.database = str(database)
        if before is not None:
            # Threads go on with what they wrote before, whatever the arguments are now.
            parts.consistency.continue_from(before.consistency)
            parts.cluster.news.hooks = before.cluster.news.hooks
            if before.cluster.prober is not None:
                # Two probers would look at the same servers, and the old one holds nodes that nobody uses.
                before.cluster.prober.retire()
        track_database(self)

    def set_replicas(self, replicas: object) -> None:
        """Change the replicas; all or nothing."""
        replicas = _kept(replicas)
        cluster = self.parts.cluster
        with cluster.membership_lock:
            given = {**self._given, "replicas": replicas}
            specs = self.assembly.node_specs(given, self.db.connect_params)
            if not specs:
                raise ConfigurationError(
                    "replicas: an empty list would send every read to the primary, which is refused here "
                    "because what finds nodes may find none by mistake; to do so on purpose, give every "
                    "node weight=0, or eject() each"
                )
            self.assembly.change_nodes(specs, cluster)
            self._given = given
        self.parts.replicas.attend(reads=False)

    # Executing

    def execute_sql(self, sql: str, params: Parameters, at_primary: bool) -> Cursor:
        """Run one statement where its plan says; this is where every route is decided."""
        parts, db = self.parts, self.db
        statement = parts.router.classifier.classify(sql)
        frame = innermost(parts.cluster)
        state = self.plain.state
        if self.escapes is not None:
            self.escapes.check(state.transactions, sql)
        plan = self._plan(statement, frame, state, at_primary)
        conn = state.conn
        # What the last statement has left may keep this one on the primary, so that is found out first.
        if conn is not None and conn.report_incomplete and (plan.place != WRITER or plan.guard):
            parts.session.settle(conn)
            plan = self._plan(statement, frame, state, at_primary)
        if plan.refusal:
            parts.counters.add("refused")
            raise ReadOnlyViolation(f"{plan.refusal} ({redacted(sql)})")
        if state.closed:
            check_open(self.plain)
        if parts.cluster.replicas.unsettled:
            parts.replicas.attend(reads=plan.place == REPLICA)
        db._log_query(sql, params)
        execution = Execution(parts, statement, plan, frame, sql, params)
        if not db.query_hooks and not self.route_hooks:
            return run(execution)
        return self._run_with_hooks(execution)

    def _run_with_hooks(self, execution: Execution) -> Cursor:
        started = Clock.monotonic()
        try:
            cursor = run(execution)
        except Exception as exc:
            self._report(execution, started, exc)
            raise
        self._report(execution, started, None)
        return cursor

    def _report(self, execution: Execution, started: float, error: BaseException | None) -> None:
        db = self.db
        duration = Clock.monotonic() - started
        if self.route_hooks:
            tell_of_route(self.route_hooks, execution.event(str(db.database), duration, error))
        if db.query_hooks:
            # Last, because what one of these raises is the caller's, as in peewee. And peewee takes the
            # difference to its own clock, which a test may have stopped.
            db._notify_hooks(execution.sql, execution.params, time.perf_counter() - duration, error)

    def _plan(self, statement: Statement, frame: Frame | None, state: ThreadState, at_primary: bool) -> Plan:
        transaction, carried = self.parts.primary.situation(state)
        return self.parts.router.plan(statement, frame, transaction, carried, at_primary)

    def explain(self, sql: str, at_primary: bool) -> Route:
        """The route that a statement would take now; nothing is sent and nothing advances."""
        parts = self.parts
        statement = parts.router.classifier.classify(sql)
        frame = innermost(parts.cluster)
        state = self.plain.state
        conn = state.conn
        if conn is not None and conn.report_incomplete and not conn.busy:
            # What a lost connection has left is nothing; the statement itself will say that it is lost.
            with contextlib.suppress(PeeweeException):
                parts.session.settle(conn)
        plan = self._plan(statement, frame, state, at_primary)
        if plan.refusal:
            raise ReadOnlyViolation(f"{plan.refusal} ({redacted(sql)})")
        return parts.router.route(parts.router.foresee(plan, frame), statement.kind)

    def bookmark(self) -> str | None:
        """What this context has written, as a string; None where that is nothing."""
        return self.scopes.bookmark_of(self.parts.consistency.session())

    # Connections

    def connect(self, reuse_if_open: bool, at_primary: bool) -> bool:
        """Open the node that the next plain read would use; the primary only if no replica answers."""
        if self.db.deferred:
            raise InterfaceError(NOT_INITIALIZED)
        state = self.plain.state
        if not state.closed:
            if reuse_if_open:
                return False
            raise OperationalError("Connection already opened.")
        state.reset()
        tried: dict[Node, BaseException] = {}
        if not self._open_for_reading(tried, at_primary):
            try:
                self.parts.primary.get()
            except PeeweeException as exc:
                self._name_all(tried, exc)
                raise
        return True

    def _name_all(self, tried: dict[Node, BaseException], exc: PeeweeException) -> None:
        """Raise an error that names every node, where none can be had."""
        parts = self.parts
        reasons = parts.diagnosis.reasons(tried, parts.router.reasons(set(tried)))
        if reasons and parts.diagnosis.has_no_connection(exc):
            raise nobody_answers(reasons, exc, OperationalError) from exc

    def _open_for_reading(self, tried: dict[Node, BaseException], at_primary: bool) -> bool:
        parts = self.parts
        statement = parts.router.classifier.classify("SELECT 1")
        frame = innermost(parts.cluster)
        if self._plan(statement, frame, self.plain.state, at_primary).place != REPLICA:
            return False
        if parts.cluster.replicas.unsettled:
            parts.replicas.attend()
        node = parts.router.choice.next_for_connect()
        while node is not None:
            try:
                parts.replicas.reach(node)
                return True
            except PeeweeException as exc:
                if not parts.diagnosis.is_not_opened(exc):
                    raise
                tried[node] = exc
                node = parts.router.choice.another(set(tried))
        return False

    def close(self) -> bool:
        """Close all of this thread's connections; True if there were any."""
        if self.db.deferred:
            raise InterfaceError(NOT_INITIALIZED)
        if self.db.in_transaction():
            raise OperationalError("Attempting to close database while transaction is open.")
        was_open = self.plain.is_open
        # Everything is closed before an error is raised, or a thread would keep what it wanted to give up.
        failures = self.parts.replicas.close()
        self.parts.primary.close()
        self.parts.consistency.unit_ended()
        if self.parts.cluster.units is not None:
            self.parts.cluster.units.end()
        if failures:
            raise failures[0]
        return was_open

    def dispose(self) -> None:
        """Forget all of this thread's connections without closing them; end the prober until the next use."""
        self.plain.dispose()
        _stop_probing(self.parts.cluster)
        for database in self.parts.replicas.made():
            database.dispose()

    def connection(self, at_primary: bool) -> ServerConnection | None:
        """The primary's connection of this thread; inside ``readonly()`` that of the scope's node."""
        if not self.plain.is_open:
            self.db.connect()
        database = self.scope_node(at_primary)
        return self.parts.primary.get() if database is None else database.conn

    def cursor(self, named_cursor: object, at_primary: bool) -> Cursor:
        """A cursor of the connection that `connection` gives."""
        state = self.plain.state
        conn = state.conn
        if conn is not None and conn.executing:
            return conn.cursor()  # peewee's own method asks for it, which this package has called
        check_open(self.plain)
        if self.escapes is not None:
            self.escapes.check(state.transactions, "a cursor")
        database = self.scope_node(at_primary)
        if database is not None:
            return database.raw_cursor(named_cursor)
        self.parts.primary.get()
        return self.plain.cursor(named_cursor)

    def scope_node(self, at_primary: bool) -> PlainDatabase | None:
        """The node of the innermost ``readonly()``, for what goes around `execute_sql`; else None.

        It shows what a read in the scope must see now; what is sent to it later is not held to that.
        """
        parts = self.parts
        frame = innermost(parts.cluster)
        if frame is None or frame.place != "readonly":
            return None
        statement = parts.router.classifier.classify("SELECT 1")
        plan = self._plan(statement, frame, self.plain.state, at_primary)
        if plan.place == WRITER:
            raise ReadOnlyViolation(
                f"a raw cursor inside readonly() cannot be guarded here ({plan.reason}); "
                "use execute_sql(), or leave readonly() with primary()"
            )
        return find_node(Execution(parts, statement, plan, frame, "", None))

    def is_connection_usable(self) -> bool:
        """Whether this thread has connections, and each of them answers."""
        if not self.plain.is_open:
            return self.plain.is_connection_usable()
        connections = [database.open_conn for database in self.parts.replicas.opened()]
        if self.plain.conn is not None:
            connections.append(self.plain.conn)
        return all(conn.is_alive() for conn in connections)

    def after_fork(self) -> None:
        """In a forked child: leave the parent its connections, and open others when they are needed."""
        free(self.db._lock)
        parts = self.parts
        for node in parts.cluster.nodes():
            database = parts.replicas.made_of(node)
            abandon(database, database and database.conn)
            node.after_fork()
        parts.cluster.replicas.forget_leaving()
        state = self.plain.state
        abandon(state.conn)
        if parts.primary.transaction(state):
            logger.warning(
                "this process was forked inside a transaction, which is the parent's: here statements fail "
                "until the transaction is left and the database is closed"
            )
        else:
            state.conn = None

    # Transactions

    def begin(self, *args: object, **kwargs: object) -> None:
        """As peewee's, on the primary. Raises `ReadOnlyViolation` inside ``readonly()``."""
        self._refuse_transaction()
        if self.escapes is not None:
            self.escapes.check(self.plain.state.transactions, "BEGIN")
        check_open(self.plain)
        self.parts.primary.begin(*args, **kwargs)

    def commit(self) -> None:
        """As peewee's; where the primary was never needed there is nothing to commit."""
        self.parts.primary.commit()

    def rollback(self) -> None:
        """As peewee's; where the primary was never needed, or is lost, there is nothing to roll back."""
        self.parts.primary.rollback()

    def push_transaction(self, transaction: object) -> None:
        """As peewee's. Raises `ReadOnlyViolation` inside ``readonly()``."""
        self._refuse_transaction()
        self.plain.push_transaction(transaction)
        if self.escapes is not None:
            self.escapes.enter(transaction)

    def pop_transaction(self) -> object:
        """As peewee's."""
        self.parts.primary.forget_lost_commit()
        transaction = self.plain.pop_transaction()
        if self.escapes is not None:
            self.escapes.leave(transaction)
        return transaction

    def _refuse_transaction(self) -> None:
        frame = innermost(self.parts.cluster)
        if frame is not None and frame.place == "readonly":
            self.parts.counters.add("refused")
            raise ReadOnlyViolation("a transaction cannot start inside readonly(); primary() is the way out")


def members_of(database: object) -> RoutedMembers:
    """The members of a database, for this package's companions; not for programs."""
    members: RoutedMembers = vars(database)["_members"]
    return members


def _kept(replicas: object) -> object:
    """The argument ``replicas`` in a form that can be gone through again."""
    if isinstance(replicas, Iterable) and not isinstance(replicas, (str, Mapping)):
        return list(replicas)
    return replicas


def _stop_probing(cluster: Cluster) -> None:
    if cluster.prober is not None:
        cluster.prober.stop()
