"""This thread's connections to the nodes that serve reads: finding, opening, dropping them."""

from __future__ import annotations

from collections.abc import Callable

from peewee import OperationalError, PeeweeException
from playhouse.pool import MaxConnectionsExceeded

from ..concurrency import Clock
from ..nodes.cluster import Cluster
from ..nodes.node import Node
from ..servers.error_meanings import NO_CONNECTION, NOT_OPENED, explained
from ..servers.protocols import ServerConnection
from .checks import ConnectionChecks, LostByAsking
from .diagnosis import Diagnosis
from .opening import NodeOpening, TurnedAway
from .plain_database import NodeDatabase, PlainDatabase
from .primary_session import PrimarySession
from .questions import QUESTION_SECONDS, first_row

FIRST_LOOK_SECONDS = 0.5
"""Seconds that a scope with a bound on lag waits for the prober's first look."""

_NOT_READY = 1047  # ER_UNKNOWN_COM_ERROR


class ReplicaConnections:
    """The connections of one database to the nodes that serve reads.

    Parameters:
        primary: the user's database, as the primary's.
        node_database: the class of the nodes' databases.
        cluster: the nodes.
        session: what the primary's connections carry.
        diagnosis: reads errors.
        checks: what is checked and taken in of each new connection.
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

    def make(self, node: Node, watch: Callable[[ServerConnection], None] | None = None) -> NodeDatabase:
        """The peewee database of one node.

        Parameters:
            watch: is given each of its connections before it is opened; for those of the prober.
        """
        opening = NodeOpening(self.cluster, node, watch)
        return self.node_database(self.primary.db, self.primary.beneath, opening)

    # Finding and opening

    def reach(self, node: Node, *, patient: bool = False) -> NodeDatabase:
        """The node's database with a connection of this thread that is not known to be dead.

        Parameters:
            patient: whether to wait for a connection of the node's pool, up to the pool's own time limit,
                also where this thread holds one for which others may wait.
        """
        database: NodeDatabase = node.database  # type: ignore[assignment]  # what `make` gave
        if database.is_open:
            conn = database.open_conn
            if self.session.has_unread_results(conn):
                try:
                    conn.drain()
                except Exception:
                    database.discard()
                    return self.reach(node, patient=patient)
            outdated = database.db.opening.is_outdated(conn)
            # A transaction or a changed session that a raw cursor left here would make later reads wrong.
            if not outdated and not conn.dropped() and (conn.busy or not (conn.transaction or conn.changes)):
                return database
            database.discard()
        self.open(node, database, patient=patient)
        return database

    def open(self, node: Node, database: NodeDatabase, *, patient: bool = False) -> None:
        """Open a connection to a node, and take in what that says about the node.

        Parameters:
            database: the node's own, or another one for a connection apart.
            patient: as of `reach`.
        """
        # Read before connecting, so that what changes meanwhile counts against this connection.
        unreached, generation = node.unreached, self.cluster.generation
        try:
            database.follow(self.primary.db)
            database.state.unreached = unreached
            # Without a time limit, threads that hold what the other waits for would do so for ever.
            patient = patient and not database.waits_without_end
            database.open(waits=patient or not self.holds_above(node))
            conn = database.open_conn
            conn.generation = generation
            self.checks.check(node.label, conn, database.db.connect_params)
            if node.unready:
                self._check_ready(node, conn)
            self.checks.take_in(node.name, conn)
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
            self._not_opened(node, exc)
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
                # Whatever keeps it from answering, its own limit on statements for one, it has not said yes.
                raise OperationalError(_NOT_READY, f"it does not say that it is ready: {exc}") from exc
            if (ready, rejects) != ("ON", "NONE"):
                raise OperationalError(
                    _NOT_READY, f"still not ready: wsrep_ready={ready}, wsrep_reject_queries={rejects}"
                )
        node.unready = False

    def _not_opened(self, node: Node, exc: BaseException) -> None:
        """Take in that a node could not be connected to; the caller raises the error."""
        # peewee turns an error that it does not know into its base class, which keeps the first as `orig`.
        turned_away = isinstance(getattr(exc, "orig", exc), TurnedAway)
        if turned_away or not isinstance(exc, Exception):
            node.breaker.let_go()
            return
        found = self.diagnosis.meaning(exc)
        cause = self.diagnosis.cause(exc)
        # A node that is out already stays out, whatever a try on it has met.
        if node.breaker.open or self.diagnosis.ejects(node, exc):
            node.failed(cause)
        elif found in NO_CONNECTION:
            node.back_off(cause)
        else:
            node.breaker.let_go()
            if len(exc.args) == 2 and found not in NOT_OPENED:
                exc.args = explained(exc.args, node.label)  # the server does not name itself

    def holds_above(self, node: Node) -> bool:
        """Whether this thread holds a connection for which others that hold one of this node may wait.

        Threads that hold one pool's connection and wait for another's must all do so in one order, or they
        wait for each other: replicas, then the primary for reading, then the primary.
        """
        if self.primary.conn is not None:
            return True
        return node is not self.cluster.reader and bool(self.opened())

    def open_probe(
        self, node: Node, seconds: float, watch: Callable[[ServerConnection], None]
    ) -> ServerConnection:
        """A connection for the prober alone, as the user's class opens them, but with time-outs of its own.

        Parameters:
            seconds: the longest that the prober waits.
            watch: is given the connection before it is opened.
        """
        database = self.make(node, watch)
        database.follow(self.primary.db)
        database.log_nothing()
        database.limit_waits(seconds)
        database.state.unreached = node.unreached
        database.open(waits=False)
        conn = database.open_conn
        self.checks.check(node.label, conn, database.db.connect_params)
        if node.unready:
            self._check_ready(node, conn)
        conn.internal = conn.initialized = True
        return conn

    def ask_wait(
        self, conn: ServerConnection, query: str, seconds: float | None
    ) -> tuple[object, ...] | Exception:
        """The first row of the answer to a wait of the library's own, or the error in which the wait ended.

        Parameters:
            seconds: how long the answer may take in all.

        Raises:
            PeeweeException: the connection is lost.
        """
        try:
            return first_row(conn, query, seconds)
        except PeeweeException as exc:
            # A limit on statements that the user has set ends our wait, and says nothing about the node.
            if self.diagnosis.meaning(exc) != "statement":
                raise
            failure: Exception = exc
            return failure

    # All of them

    def opened(self) -> list[NodeDatabase]:
        """The databases of the nodes to which this thread has a connection."""
        return [database for database in self.made() if database.is_open]

    def close(self) -> list[Exception]:
        """Close all of this thread's connections to nodes; returns what went wrong."""
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
        """The databases of all nodes that anything has needed yet."""
        made = [self.made_of(node) for node in self.cluster.nodes()]
        return [database for database in made if database is not None]

    def made_of(self, node: Node) -> NodeDatabase | None:
        """The database of one node, if anything has needed it yet."""
        database = node.made
        assert database is None or isinstance(database, NodeDatabase)  # `make` has made it
        return database

    # What the set of nodes waits for

    def await_lag(self) -> None:
        """Before a scope with a bound on lag: start the prober, and wait for its first look at the nodes."""
        prober = self.cluster.prober
        if prober is not None:
            prober.use(self)
            prober.wait_for_first_look(FIRST_LOOK_SECONDS)

    def attend(self, *, reads: bool = True) -> None:
        """Do what the set of replicas waits for: try nodes again, warm them up, part with those that left.

        Parameters:
            reads: whether it is for a read; nothing else has to wait for nodes that are tried.
        """
        cluster, replicas = self.cluster, self.cluster.replicas
        if replicas.unwatched and reads and cluster.prober is not None:
            cluster.prober.use(self)
        if replicas.ejected and reads and not (cluster.prober is not None and cluster.prober.at_work):
            self.retry_ejected()
        replicas.warm_up(Clock.monotonic())
        if replicas.leaving:
            self._part()

    def _part(self) -> None:
        """Close this thread's idle connections to nodes that have left, and those in their pools."""
        replicas = self.cluster.replicas
        closed = False
        for node in replicas.leaving:
            database = self.made_of(node)
            # What is still being streamed from it is read to its end.
            if database is not None and database.is_open and not database.open_conn.busy:
                database.discard()
                closed = True
        for node in replicas.to_look_at(Clock.monotonic(), at_once=closed):
            database = self.made_of(node)
            if database is not None:
                database.close_unused()
            replicas.part(node)

    def retry_ejected(self) -> None:
        """Try the ejected nodes whose pause has ended and that nobody else is trying."""
        now = Clock.monotonic()
        for node in self.cluster.replicas.ejected:
            if node.breaker.may_try(now):
                database: NodeDatabase = node.database  # type: ignore[assignment]  # what `make` gave
                database.discard()
                try:
                    self.open(node, database)
                except MaxConnectionsExceeded:
                    node.breaker.let_go()
                except PeeweeException:
                    continue  # logged and remembered with the node
