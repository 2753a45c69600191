"""This thread's connections to the nodes that serve reads: find, open and drop them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peewee import OperationalError, PeeweeException, __exception_wrapper__
from playhouse.pool import MaxConnectionsExceeded

from ..concurrency import Clock
from ..log import log_event
from ..nodes.cluster import Cluster
from ..nodes.node import Node
from ..nodes.probe_key import ProbeKey
from ..servers.error_meanings import NO_CONNECTION, NOT_OPENED, explained, in_words
from ..servers.protocols import ServerConnection
from ..servers.refusals import refusal
from .checks import ConnectionChecks, LostByAsking
from .diagnosis import Diagnosis
from .opening import NodeOpening, TurnedAway
from .peewee_types import ThreadState
from .plain_database import NodeDatabase, PlainDatabase
from .primary_session import PrimarySession
from .probe_sharing import probe_key
from .questions import QUESTION_SECONDS, first_row

FIRST_LOOK_SECONDS = 0.5
"""Seconds that a scope with a lag limit waits for the prober's first round."""

_NOT_READY = 1047  # ER_UNKNOWN_COM_ERROR


class ReplicaConnections:
    """The connections of one database to the nodes that serve reads.

    Parameters:
        primary: the user's database without routing.
        node_database: the class of the nodes' databases.
        cluster: the nodes.
        session: tracks the state of the primary's sessions.
        diagnosis: interprets errors.
        checks: checks each new connection.
    """

    def __init__(
        self,
        primary: PlainDatabase,
        node_database: type[NodeDatabase],
        cluster: Cluster,
        session: PrimarySession,
        diagnosis: Diagnosis,
        checks: ConnectionChecks,
    ) -> None:
        self.primary = primary
        self.node_database = node_database
        self.cluster = cluster
        self.session = session
        self.diagnosis = diagnosis
        self.checks = checks
        self._logged_cluster = False

    def make(self, node: Node, watch: Callable[[ServerConnection], None] | None = None) -> NodeDatabase:
        """Create the peewee database of one node.

        Parameters:
            watch: called with each of its connections before it is opened; used by the prober.
        """
        opening = NodeOpening(self.cluster, node, watch)
        return self.node_database(self.primary.db, self.primary.beneath, opening)

    # Finding and opening

    def held(self, node: Node) -> ServerConnection | None:
        """Return this thread's connection to a node as it is, perhaps lost; None if there is none."""
        database = self.made_of(node)
        return None if database is None else database.conn

    def reach(self, node: Node, *, patient: bool = False, state: ThreadState | None = None) -> NodeDatabase:
        """Return the node's database, with an open connection of this thread.

        Parameters:
            patient: whether to wait for a connection from the node's pool, up to the pool's own time limit,
                even if this thread holds a connection that others may be waiting for.
            state: peewee's state of this thread at the primary, if the caller has it. Only tasks need it.
        """
        database: NodeDatabase = node.database  # type: ignore[assignment]  # `make` created it
        if database.is_open:
            conn = database.open_conn
            if self.session.has_unread_results(conn):
                try:
                    conn.drain()
                except Exception:
                    database.discard()
                    return self.reach(node, patient=patient)
            outdated = database.db.opening.is_outdated(conn)
            # A transaction or session change left by a raw cursor would make later reads wrong.
            if not outdated and not conn.dropped() and (conn.busy or not (conn.transaction or conn.changes)):
                return database
            database.discard()
        self.open(node, database, patient=patient)
        return database

    def open(self, node: Node, database: NodeDatabase, *, patient: bool = False) -> None:
        """Open a connection to a node, and record whether it succeeded.

        Parameters:
            database: the node's own database, or another for a separate connection.
            patient: as for `reach`.
        """
        self._open(node, database, patient, once_more=True)

    def _open(self, node: Node, database: NodeDatabase, patient: bool, *, once_more: bool) -> None:
        # Read before connecting, so that a change in the meantime outdates this connection.
        unreached, generation = node.unreached, self.cluster.generation
        try:
            database.follow(self.primary.db)
            database.state.unreached = unreached
            # Without a time limit, two threads that wait for each other's connections would deadlock.
            patient = patient and not database.waits_without_end
            database.open(waits=patient or not self.holds_above(node))
            conn = database.open_conn
            conn.generation = generation
            self.checks.check(node.label, conn, database.db.connect_params)
            if node.unready:
                self._check_ready(node, conn)
            self.checks.take_in(node.name, conn)
            if node.in_galera and not node.is_primary:
                self._wait_for_cluster(node, conn)
            conn.raw_statement_check = self.session.screen
            conn.listener = self.session.statement_ended if node.is_primary else None
        except MaxConnectionsExceeded:
            raise  # the client's own limit says nothing about the node
        except LostByAsking:
            database.discard()
            self.open(node, database)
            return
        except BaseException as exc:
            database.discard()
            if not isinstance(exc, Exception):
                database.broken_off()
            elif once_more and self.diagnosis.given_up(exc):
                self._open(node, database, patient, once_more=False)
                return
            try:
                self._not_opened(node, exc)
            finally:
                if not _turned_away(exc):  # then another thread's failure is the last
                    node.failed_at = None
            raise
        node.connected(conn)
        if node.removed:
            self.cluster.replicas.linger(node)
        self.primary.state.closed = False

    def _check_ready(self, node: Node, conn: ServerConnection) -> None:
        question = conn.dialect.READY
        if question:
            try:
                ready, rejects = first_row(conn, question, QUESTION_SECONDS)
            except PeeweeException as exc:
                # Any error counts as not ready, whatever its cause, such as the node's limit on statements.
                raise OperationalError(_NOT_READY, f"it does not report that it is ready: {exc}") from exc
            if (ready, rejects) != ("ON", "NONE"):
                raise OperationalError(
                    _NOT_READY, f"still not ready: wsrep_ready={ready}, wsrep_reject_queries={rejects}"
                )
        node.unready = False

    def _wait_for_cluster(self, node: Node, conn: ServerConnection) -> None:
        """Make each read on a connection to a member of a Galera cluster wait for the cluster."""
        try:
            (is_member,) = first_row(conn, conn.dialect.IN_CLUSTER, QUESTION_SECONDS)
            if not is_member:
                return
            with __exception_wrapper__:
                conn.run_setting(conn.dialect.CLUSTER_WAIT)
            conn.cluster_waits = True
        except PeeweeException as exc:
            raise OperationalError(_NOT_READY, f"its reads cannot wait for its cluster: {exc}") from exc
        if not self._logged_cluster:
            self._logged_cluster = True
            log_event(
                "node_in_galera",
                "replica %s is a member of a Galera cluster, and positions do not say how far that is: each "
                "read there waits for the cluster (wsrep_sync_wait), at most repl.causal_read_timeout and "
                "not catch_up_timeout",
                node.label,
                node=node.name,
            )

    def _not_opened(self, node: Node, exc: BaseException) -> None:
        """Record a failure to connect to a node; the caller raises the error."""
        if _turned_away(exc) or not isinstance(exc, Exception):
            node.breaker.let_go()
            return
        found = self.diagnosis.meaning(exc)
        cause = self.diagnosis.cause(exc)
        # A node that is already ejected stays out after any failed try.
        if node.breaker.open or self.diagnosis.ejects(node, exc):
            node.failed(cause, refuses=self.diagnosis.refuses(exc))
        elif found in NO_CONNECTION:
            node.back_off(cause)
        else:
            node.breaker.let_go()
            if len(exc.args) == 2 and found not in NOT_OPENED:
                exc.args = explained(exc.args, node.label)  # the server does not name itself

    def holds_above(self, node: Node) -> bool:
        """Return whether this thread holds a connection that comes after this node's in the locking order.

        Threads that hold a connection and wait for another pool's could deadlock, so they may wait only
        in this order: replicas, then the primary for reading, then the primary for writing.
        """
        if self.primary.conn is not None:
            return True
        return node is not self.cluster.reader and bool(self.opened())

    @property
    def parameters(self) -> object:
        """The parameters of connections; another object once the program has replaced them."""
        return self.primary.db.connect_params

    def probe_key(self, nodes: Sequence[Node], interval: float) -> ProbeKey:
        """Return what is equal for databases that may share a prober, see `probe_sharing`."""
        return probe_key(self.primary.db, self.cluster, nodes, interval)

    def open_probe(
        self,
        node: Node,
        seconds: float,
        watch: Callable[[ServerConnection], None],
        with_schema: bool = True,
    ) -> ServerConnection:
        """Open a connection for the prober, through the user's class but with the prober's time-out.

        Parameters:
            seconds: the prober's time limit for each step.
            watch: called with the connection before it is opened.
            with_schema: whether to choose the database's schema, as its other connections do.
        """
        database = self.make(node, watch)
        database.follow(self.primary.db)
        if not with_schema:
            database.db.database = None
        database.log_nothing()
        database.limit_waits(seconds)
        database.state.unreached = node.unreached
        database.open(waits=False)
        conn = database.open_conn
        self.checks.check(node.label, conn, database.db.connect_params)
        self._lift_limits(node, conn)
        if node.unready:
            self._check_ready(node, conn)
        conn.internal = conn.initialized = True
        return conn

    def choose_schema(self, conn: ServerConnection) -> None:
        """Choose the database's schema on a connection of the prober that was opened without one."""
        with __exception_wrapper__:
            conn.run_setting(f"USE `{self.primary.db.database}`")

    def _lift_limits(self, node: Node, conn: ServerConnection) -> None:
        with __exception_wrapper__:
            try:
                conn.run_setting(conn.dialect.NO_LIMITS)
            except Exception as exc:
                # A proxy may not know one of them; the probe shows whether it matters.
                if conn.dropped():
                    raise
                log_event(
                    "question_failed",
                    "the prober keeps the limits of init_command: %s",
                    in_words(exc),
                    node=node.name,
                    cause=in_words(exc),
                )

    def ask_wait(
        self, conn: ServerConnection, query: str, seconds: float | None
    ) -> tuple[object, ...] | Exception:
        """Run a wait for a position, and return its first row or the error that ended the wait.

        Parameters:
            seconds: time limit for the whole answer.

        Raises:
            PeeweeException: the connection is lost.
        """
        try:
            return first_row(conn, query, seconds)
        except PeeweeException as exc:
            # A statement time limit set by the user can end the wait; that says nothing about the node. Nor
            # does a node lack a table because it does not know a function of the wait.
            if self.diagnosis.meaning(exc) != "statement" and not refusal(exc):
                raise
            failure: Exception = exc
            return failure

    # All of them

    def opened(self) -> list[NodeDatabase]:
        """Return the databases of the nodes to which this thread has a connection."""
        return [database for database in self.made() if database.is_open]

    def close(self) -> list[Exception]:
        """Close all of this thread's connections to nodes; returns the errors."""
        failures: list[Exception] = []
        for database in self.opened():
            try:
                if database.node.removed:
                    database.discard()  # a pool would keep it
                else:
                    database.close()
            except Exception as exc:
                failures.append(exc)
        return failures

    def made(self) -> list[NodeDatabase]:
        """Return the node databases created so far."""
        made = [self.made_of(node) for node in self.cluster.nodes()]
        return [database for database in made if database is not None]

    def made_of(self, node: Node) -> NodeDatabase | None:
        """Return the database of one node, or None if it has not been created yet."""
        database = node.made
        assert database is None or isinstance(database, NodeDatabase)  # `make` created it
        return database

    # Upkeep of the set of nodes

    def await_lag(self) -> None:
        """Start the prober and wait for its first round, before a scope with a lag limit."""
        prober = self.cluster.prober
        if prober is not None and self.cluster.replicas.all:
            prober.use(self)
            prober.wait_for_first_look(FIRST_LOOK_SECONDS)

    def attend(self, *, reads: bool = True) -> None:
        """Do the upkeep of the replica set: discovery, ejected nodes, new ones, removed ones.

        Parameters:
            reads: whether the next statement is a read; others need not wait for retried nodes.
        """
        cluster, replicas = self.cluster, self.cluster.replicas
        if replicas.undiscovered and cluster.discovery is not None:
            cluster.discovery.use()
        if replicas.unwatched and (reads or cluster.follows) and cluster.prober is not None:
            cluster.prober.use(self)
        if replicas.ejected and reads and not (cluster.prober is not None and cluster.prober.at_work):
            self.retry_ejected()
        replicas.warm_up(Clock.monotonic())
        if replicas.leaving:
            self._part()

    def _part(self) -> None:
        """Close this thread's idle connections to removed nodes, and the idle ones in their pools."""
        replicas = self.cluster.replicas
        closed = False
        for node in replicas.leaving:
            database = self.made_of(node)
            # A result that is still being streamed is read to its end.
            if database is not None and database.is_open and not database.open_conn.busy:
                database.discard()
                closed = True
        for node in replicas.to_look_at(Clock.monotonic(), at_once=closed):
            database = self.made_of(node)
            if database is not None:
                database.close_unused()
            replicas.part(node)

    def retry_ejected(self) -> None:
        """Try the ejected nodes whose pause has ended, except those being tried already."""
        now = Clock.monotonic()
        for node in self.cluster.replicas.ejected:
            if node.breaker.may_try(now):
                database: NodeDatabase = node.database  # type: ignore[assignment]  # `make` created it
                database.discard()
                try:
                    self.open(node, database)
                except MaxConnectionsExceeded:
                    node.breaker.let_go()
                except PeeweeException:
                    continue  # `open` has logged and recorded it


def _turned_away(exc: BaseException) -> bool:
    # peewee turns a `TurnedAway` into its base class, and keeps the original as `orig`.
    return isinstance(getattr(exc, "orig", exc), TurnedAway)
