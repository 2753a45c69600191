"""peewee's methods for a database whose statements are routed.

The program's database object delegates to `RoutedMembers`. A single node's object delegates to
`PlainDatabase` instead, which calls peewee's own methods.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from functools import partial

from peewee import InterfaceError, OperationalError, PeeweeException

from ..concurrency import Clock, abandon, free, track_database
from ..connections.aging import close_old
from ..connections.diagnosis import nobody_serves
from ..connections.opening import Opening
from ..connections.parts import Parts
from ..connections.peewee_types import Cursor, Parameters, ThreadState
from ..connections.plain_database import NOT_INITIALIZED, PlainDatabase
from ..connections.unknown_outcomes import UnknownOutcomes
from ..connections.user_database import UserDatabase
from ..errors import ConfigurationError, ReadOnlyViolation
from ..events import CommentHook, Route, ask_for_comment
from ..execution.execution import Execution
from ..execution.run import find_node, run
from ..log import log_event
from ..nodes.cluster import PRIMARY
from ..nodes.health import Health, judge_health
from ..nodes.node import Node
from ..routing.plan import EITHER, REPLICA, WRITER, Plan
from ..routing.settings import Reads, Writes, check_reads, check_writes, checked
from ..scopes.frames import Frame, at_primary_here, here, innermost
from ..scopes.transaction_escapes import Escapes
from ..servers.protocols import ServerConnection
from ..statements.classifier import Statement
from ..statements.redaction import redacted
from .assembly import Assembly
from .environment import from_environment
from .execution_reports import ExecutionReports
from .node_list import NodeList
from .scope_entry import ScopeEntry
from .transactions import Transactions


class RoutedMembers:
    """The methods of one database, over all of its nodes.

    Parameters:
        db: the user's database.
        plain: the user's database without routing.
        assembly: creates its collaborators.

    Attributes:
        nodes: the nodes that it has, and what it was given.
        parts: its collaborators; created by `init`.
        transactions: begins and ends its transactions.
        scopes: creates the frames of its scopes.
        escapes: reports statements that escape their transaction; None if they are ignored.
        reports: tells whoever wants to know what was executed.
        comment_hooks: callables that return tags for a comment on each statement.
    """

    parts: Parts
    transactions: Transactions
    scopes: ScopeEntry

    def __init__(self, db: UserDatabase, plain: PlainDatabase, assembly: Assembly) -> None:
        self.db = db
        self.plain = plain
        self.assembly = assembly
        self.nodes = NodeList(plain, assembly)
        self.escapes: Escapes | None = None
        self.reports = ExecutionReports(db)
        self.comment_hooks: list[CommentHook] = []

    @property
    def unknown_outcomes(self) -> UnknownOutcomes | None:
        """The writes that a subclass's own methods must not repeat; None until `init`."""
        parts: Parts | None = vars(self).get("parts")
        return None if parts is None else parts.primary.unknown_outcomes

    def own_connect_call(self) -> AbstractContextManager[None]:
        """Return a context manager to be around each call of the program's own ``connect()``."""
        return self.plain.own_connect_call()

    # Arguments and nodes

    def init(self, database: object, **kwargs: object) -> None:
        """Like peewee's method; takes the routing arguments too. Changes nothing if one cannot work."""
        own = {name: kwargs.pop(name) for name in self.db.routing_arguments if name in kwargs}
        configured = self.assembly.configured()
        parameters = {**configured, **kwargs}
        self.assembly.check_database(database, parameters)
        self.assembly.check_arguments(kwargs, parameters)
        given, ask = self.nodes.given_with(own)
        settings = from_environment(checked(given, ConfigurationError))
        if ask is not None and given["replicas"] is ask:
            self.assembly.check_discovery(ask)
            given["replicas"] = ()  # until it has answered
        specs = self.assembly.node_specs(given, parameters, database)
        before = vars(self).get("parts")
        if before is not None:
            with before.cluster.membership_lock:  # the prober may be moving the primary
                before.cluster.replaced = True
                if before.cluster.moved is not None:
                    self.db.connect_params, before.cluster.moved = dict(configured), None
        try:
            self.plain.init(database, **kwargs)
            self.nodes.given, self.nodes.ask = given, ask
            self.db.plain_arguments[1].update(kwargs)
            parts = self.parts = self.db._parts = self.assembly.assemble(settings, specs)
        except BaseException:
            if before is not None:
                before.cluster.replaced = False
            raise
        self.plain.own_connect_call = parts.primary.own_connect_call
        opening = self.db.opening = Opening(parts.cluster)
        self.scopes = ScopeEntry(self.plain, parts)
        action = settings.on_transaction_escape
        self.escapes = None if action == "ignore" else Escapes(parts.cluster, action)
        parts.cluster.news.database = str(database)
        if before is not None:
            # Threads must still see their earlier writes, whatever the new arguments are.
            parts.consistency.continue_from(before.consistency)
            # A subclass may call init() with another host, and then repeat a write.
            parts.primary.continue_from(before.primary)
            parts.cluster.news.continue_from(before.cluster.news)
            parts.router.writes = before.router.writes
            if before.cluster.prober is not None:
                # Otherwise two probers would probe the same servers, the old one for nodes no longer used.
                before.cluster.prober.retire()
            if before.cluster.discovery is not None:
                before.cluster.discovery.retire()
        self.transactions = Transactions(self.plain, parts, self.escapes, self.reports)
        parts.cluster.on_new_primary = partial(self.nodes.move_primary, parts)
        parts.cluster.on_silence_left, parts.cluster.is_awaited = opening.leave_silent, opening.is_awaited
        self.nodes.discover(parts.cluster, settings.refresh, before)
        track_database(self)

    def set_replicas(self, replicas: object) -> None:
        """Change the replicas; all or nothing."""
        self.nodes.set_replicas(replicas)
        self.parts.replicas.attend(reads=False)

    def set_primary(self, name: object) -> None:
        """Let writes go to another node from now on."""
        if self.parts.primary.transaction(self.plain.state):
            raise OperationalError("set_primary() inside a transaction: end it first")
        if self.nodes.move_primary(self.parts, name, "set_primary() was called"):
            self.parts.replicas.attend(reads=False)

    # Switches

    @property
    def reads(self) -> Reads:
        """Where plain reads go now."""
        return self.parts.router.reads

    @reads.setter
    def reads(self, value: Reads) -> None:
        parts = self.parts
        reads = check_reads(value, ConfigurationError)
        cluster = parts.cluster
        with cluster.membership_lock:
            self.nodes.given = {**self.nodes.given, "reads": reads}
            if cluster.prober is None:  # none is needed while all reads are only observed
                settings = parts.router.settings._replace(reads=reads)
                cluster.prober = self.assembly.make_prober(settings, cluster)
            before, parts.router.reads = parts.router.reads, reads
        self._log_switch("reads", before, reads)

    @property
    def writes(self) -> Writes:
        """Whether writes are sent now."""
        return self.parts.router.writes

    @writes.setter
    def writes(self, value: Writes) -> None:
        writes = check_writes(value, ConfigurationError)
        self.transactions.refused = writes == "refuse"
        router = self.parts.router
        before, router.writes = router.writes, writes
        self._log_switch("writes", before, writes)

    def _log_switch(self, name: str, before: object, now: object) -> None:
        if before != now:
            cause = f"{name}={now!r}"
            log_event("switched", "%s: %s, no longer %r", self.db.database, cause, before, cause=cause)

    # Executing

    def execute_sql(
        self, sql: str, params: Parameters, at_primary: bool, state: ThreadState | None = None
    ) -> Cursor:
        """Decide the route of one statement and run it; every statement passes through here.

        Parameters:
            sql, params: the statement's text and parameters.
            at_primary: whether it came through ``on_primary``.
            state: peewee's state of this thread or task, if the caller has it.
        """
        parts, reports = self.parts, self.reports
        statement = parts.router.classifier.classify(sql)
        frame: Frame | None = None
        if here():  # most statements run outside of scopes
            frame = innermost(parts.cluster)
            at_primary = at_primary or at_primary_here(parts.cluster)
        if state is None:
            state = self.plain.state
        if self.escapes is not None:
            self.escapes.check(state.transactions, sql)
        transaction, carried = parts.primary.situation(state)  # as `_plan` does, without a call
        plan = parts.router.plan(statement, frame, transaction, carried, at_primary)
        conn = state.conn
        # Session changes by the last statement may keep this one on the primary, so look for them first.
        if conn is not None and (plan.places[0] != WRITER or plan.guard) and conn.report_incomplete:
            parts.session.settle(conn)
            plan = self._plan(statement, frame, state, at_primary)
        if plan.refusal:
            parts.counters.add("refused")
            raise ReadOnlyViolation(f"{plan.refusal} ({redacted(sql)})")
        if conn is None and state.closed:
            parts.consistency.unit_begins()
            if self.plain.autoconnect():
                plan = self._plan(statement, frame, state, at_primary)  # the subclass may have set something
        if parts.cluster.replicas.unsettled:
            parts.replicas.attend(reads=plan.place in (REPLICA, EITHER))
            if parts.cluster.replicas.ages:
                close_old(parts, state, statement.kind, on_primary=plan.place == WRITER)
        log = reports.query_log
        log._log_query(sql, params)
        execution = Execution(parts, statement, plan, frame, sql, params, state)
        if self.comment_hooks:
            execution.comment = ask_for_comment(self.comment_hooks, sql)
        if not log.query_hooks and not reports.route_hooks and not reports.counting.in_use:
            return run(execution)
        return reports.run(execution)

    def execute_cursor(self, sql: str, params: Parameters, at_primary: bool) -> Cursor:
        """Run a statement that peewee's own `execute_sql` passes on."""
        return self.execute_sql(sql, params, at_primary)

    def _plan(self, statement: Statement, frame: Frame | None, state: ThreadState, at_primary: bool) -> Plan:
        transaction, carried = self.parts.primary.situation(state)
        at_primary = at_primary or at_primary_here(self.parts.cluster)
        return self.parts.router.plan(statement, frame, transaction, carried, at_primary)

    def explain(self, sql: str, at_primary: bool) -> Route:
        """Return the route that a statement would take now; send nothing, and take no turn of the policy."""
        parts = self.parts
        statement = parts.router.classifier.classify(sql)
        frame = innermost(parts.cluster)
        state = self.plain.state
        conn = state.conn
        if conn is not None and conn.report_incomplete and not conn.busy:
            # A lost connection has no state any more; the statement itself will report the loss.
            with contextlib.suppress(PeeweeException):
                parts.session.settle(conn)
        plan = self._plan(statement, frame, state, at_primary)
        if plan.refusal:
            raise ReadOnlyViolation(f"{plan.refusal} ({redacted(sql)})")
        return parts.router.route(parts.router.foresee(plan, frame), statement.kind)

    def health(self) -> Health:
        """Return from what is known whether reads and writes can be served, and by whom; no I/O."""
        cluster, settings = self.parts.cluster, self.parts.router.settings
        now = Clock.monotonic()
        probed = cluster.prober is not None and cluster.prober.at_work
        if probed:
            cluster.replicas.watch(False)  # whoever asks again and again wants the prober to go on
        known = cluster.primary_state.current(now, probed=probed)
        share = settings.max_fallback_share
        return judge_health(
            [node.health(now, probed=probed) for node in cluster.replicas.all],
            PRIMARY,
            known,
            reads=self.parts.router.reads,
            writes=self.writes,
            falls_back=not cluster.replicas.all or (settings.fallback == "primary" and share != 0),
            probed=probed,
        )

    def bookmark(self) -> str | None:
        """Return this context's position as a string, or None if it has none."""
        was_closed = not self.plain.is_open
        try:
            return self.scopes.bookmark_of(self.parts.consistency.session())
        finally:
            if was_closed:
                # The question for it may have opened a connection, of which the program knows nothing.
                self._close_connections()
                self.parts.consistency.unit_begins()

    # Connections

    def connect(self, reuse_if_open: bool, at_primary: bool) -> bool:
        """Connect to the node that the next plain read would use; the primary only if no replica answers."""
        if self.db.deferred:
            raise InterfaceError(NOT_INITIALIZED)
        state = self.plain.state
        if not state.closed:
            if reuse_if_open:
                return False
            raise OperationalError("Connection already opened.")
        if self.parts.primary.is_connecting:
            self.parts.primary.connect()
            return True
        contexts = state.ctx  # of the program's, if its connection was lost and not opened again
        state.reset()
        state.ctx = contexts
        self.parts.consistency.unit_begins()
        tried: dict[Node, BaseException] = {}
        if not self._open_for_reading(tried, at_primary):
            try:
                self.parts.primary.get_within_connect()
            except PeeweeException as exc:
                self._name_all(tried, exc)
                raise
        return True

    def _name_all(self, tried: dict[Node, BaseException], exc: PeeweeException) -> None:
        """Raise an error that names every node, if none can be reached."""
        parts = self.parts
        reasons = parts.diagnosis.reasons(tried, parts.router.reasons(set(tried)))
        if reasons and parts.diagnosis.has_no_connection(exc):
            raise nobody_serves(reasons, exc, OperationalError) from exc

    def _open_for_reading(self, tried: dict[Node, BaseException], at_primary: bool) -> bool:
        parts = self.parts
        statement = parts.router.classifier.classify("SELECT 1")
        frame = innermost(parts.cluster)
        plan = self._plan(statement, frame, self.plain.state, at_primary)
        if plan.likely().place != REPLICA:
            return False
        if parts.cluster.replicas.unsettled:
            parts.replicas.attend()
        node = parts.router.choice.next_for_connect()
        while node is not None:
            try:
                parts.replicas.reach(node)
                # After a ``connect()`` that failed, its connection may have been open, and the database not.
                self.plain.state.closed = False
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
        # Close everything before raising an error, so that the thread keeps no connection.
        failures = self._close_connections()
        self.parts.consistency.unit_ended()
        if self.parts.cluster.units is not None:
            self.parts.cluster.units.end()
        if failures:
            raise failures[0]
        return was_open

    def _close_connections(self) -> list[Exception]:
        failures = self.parts.replicas.close()
        self.parts.primary.close()
        return failures

    def dispose(self) -> None:
        """Forget all of this thread's connections without closing them; end the prober until the next use."""
        self.plain.dispose()
        self.parts.cluster.stop_threads()
        for database in self.parts.replicas.made():
            database.dispose()

    def connection(self, at_primary: bool) -> ServerConnection | None:
        """Return this thread's connection to the primary; inside ``readonly()``, to the scope's node."""
        if not self.plain.is_open:
            self.db.connect()
        if self.parts.primary.unknown_outcomes.any:
            self.parts.primary.unknown_outcomes.check_cursor()
        database = self.scope_node(at_primary)
        return self.parts.primary.get() if database is None else database.conn

    def cursor(self, named_cursor: object, at_primary: bool) -> Cursor:
        """Return a cursor of the connection that `connection` returns."""
        parts = self.parts
        state = self.plain.state
        conn = state.conn
        if conn is not None and conn.executing:
            return conn.cursor()  # called by peewee's own method while this package runs a statement
        self.plain.autoconnect()
        if parts.primary.unknown_outcomes.any:
            parts.primary.unknown_outcomes.check_cursor()
        if self.escapes is not None:
            self.escapes.check(state.transactions, "a cursor")
        database = self.scope_node(at_primary)
        if database is not None:
            return database.raw_cursor(named_cursor)
        parts.primary.get()
        return self.plain.cursor(named_cursor)

    def scope_node(self, at_primary: bool) -> PlainDatabase | None:
        """Return the node of the innermost ``readonly()``, for raw cursors and connections; else None.

        The node shows what a read in the scope must see now; later reads on the cursor are not checked.
        """
        parts = self.parts
        frame = innermost(parts.cluster)
        if frame is None or frame.place != "readonly":
            return None
        statement = parts.router.classifier.classify("SELECT 1")
        state = self.plain.state
        plan = self._plan(statement, frame, state, at_primary)
        if plan.place == WRITER:
            raise ReadOnlyViolation(
                f"a raw cursor inside readonly() cannot be guarded here ({plan.reason}); "
                "use execute_sql(), or leave readonly() with primary()"
            )
        return find_node(Execution(parts, statement, plan, frame, "", None, state))

    def is_connection_usable(self) -> bool:
        """Return whether this thread has connections and all of them answer."""
        if not self.plain.is_open:
            return self.plain.is_connection_usable()
        connections = [database.open_conn for database in self.parts.replicas.opened()]
        if self.plain.conn is not None:
            connections.append(self.plain.conn)
        return all(conn.is_alive() for conn in connections)

    def after_fork(self) -> None:
        """Abandon the parent's connections without closing them, in a forked child."""
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
            log_event(
                "forked_in_transaction",
                "this process was forked inside a transaction, which belongs to the parent: here statements "
                "fail until the program leaves the transaction and closes the database",
                node=PRIMARY,
            )
        else:
            # What the program's own ``connect()`` has set there must be there for the child's reads as well.
            state.closed = state.closed or (state.conn is not None and state.conn.set_by_connect)
            state.conn = None

    def broken_off(self) -> None:
        """Clean up after an interrupt while connections were opened or closed."""
        self.parts.broken_off()


def members_of(database: object) -> RoutedMembers:
    """Return the `RoutedMembers` of a database, for this package's companions; not for programs."""
    members: RoutedMembers = vars(database)["_members"]
    return members
