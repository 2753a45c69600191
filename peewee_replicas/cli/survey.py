"""Ask every node of a database what there is to know about it, over connections of the command's own.

The questions are asked twice: whether a node has transactions that the primary lacks shows only if the
primary is asked after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from peewee import PeeweeException, __exception_wrapper__

from peewee_replicas.concurrency import Clock
from peewee_replicas.connections.parts import Parts
from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.databases.routed_members import members_of
from peewee_replicas.errors import PasswordUnavailable
from peewee_replicas.nodes.fitness import Fitness
from peewee_replicas.nodes.interview import Facts, Questionnaire, facts, interview
from peewee_replicas.nodes.lag import Samples
from peewee_replicas.nodes.node import Node
from peewee_replicas.nodes.probe_history import ProbeHistory, Surroundings, surroundings
from peewee_replicas.servers.error_meanings import in_words
from peewee_replicas.servers.protocols import Record, ServerConnection

from .answers import NodeAnswers, Survey

T = TypeVar("T")

_SETTLE_SECONDS = 0.2
"""How long a replica may take to reach the primary's position before it counts as behind."""

GLOBAL_VARIABLES = (
    "version", "version_comment", "log_bin", "log_slave_updates", "log_replica_updates", "gtid_mode",
    "enforce_gtid_consistency", "read_only", "super_read_only", "max_connections", "server_id",
    "lower_case_table_names",
)  # fmt: skip
SESSION_VARIABLES = (
    "sql_mode", "time_zone", "system_time_zone", "transaction_isolation", "tx_isolation",
    "collation_database", "collation_connection", "collation_server",
)  # fmt: skip


def survey(database: Replicated, seconds: float) -> Survey:
    """Ask all nodes of a database on MySQL or MariaDB.

    Parameters:
        seconds: the limit for connecting to a node, and for each of its answers.
    """
    parts = members_of(database).parts
    cluster = parts.cluster
    nodes = list(dict.fromkeys((cluster.reader, *cluster.replicas.all)))
    asked = _Round(parts, nodes, seconds)
    try:
        asked.look()
        asked.look()
        found = {node: asked.answers(node) for node in nodes}
    finally:
        asked.close()
    discovery = cluster.discovery
    pool = getattr(database, "_max_connections", None) or getattr(database, "_pool_size", None)
    return Survey(
        found[cluster.reader],
        tuple(found[node] for node in cluster.replicas.all),
        pool if isinstance(pool, int) else None,
        type(database).__name__,
        "" if discovery is None else discovery.failure,
    )


class _Round:
    """The connections to all nodes, and what came over them."""

    def __init__(self, parts: Parts, nodes: Sequence[Node], seconds: float) -> None:
        self._parts = parts
        self._nodes = nodes
        self._seconds = seconds
        self._opened: list[ServerConnection] = []
        self._connections: dict[Node, ServerConnection] = {}
        self._errors: dict[Node, BaseException] = {}
        self._facts: dict[Node, Facts] = {}
        self._channels: dict[Node, Sequence[Record] | None] = {}
        self._fitness: dict[Node, Fitness] = {}
        self._histories = {node: ProbeHistory() for node in nodes}
        self._samples = Samples()
        for node in nodes:
            try:
                self._connections[node] = parts.replicas.open_probe(node, seconds, self._opened.append)
            except Exception as exc:
                self._errors[node] = exc

    def look(self) -> None:
        """Probe all nodes once, the primary first, as the prober does."""
        for node in self._nodes:
            if node in self._connections and node not in self._errors:
                try:
                    self._probe(node)
                except Exception as exc:
                    self._errors[node] = exc
            if node is self._parts.cluster.reader and node in self._errors:
                self._samples.miss()

    def _probe(self, node: Node) -> None:
        conn, cluster = self._connections[node], self._parts.cluster
        goal = None if node is cluster.reader else self._samples.newest
        asked_at = Clock.monotonic()
        questions = interview(conn.dialect, Questionnaire(None), goal, _SETTLE_SECONDS)
        question = next(questions)
        while True:
            conn.start_query(question)
            try:
                question = questions.send(conn.finish_query())
            except StopIteration as last:
                answers = last.value
                break
        told = self._facts[node] = facts(answers, conn.dialect)
        self._channels[node] = answers.channels
        answered_at = Clock.monotonic()
        if node is cluster.reader:
            self._samples.add(asked_at, answered_at, told)
        self._fitness[node] = self._histories[node].assess(
            told, answered_at, self._surroundings(node), serves=node in cluster.replicas.all,
            listed=node.is_primary, max_lag=node.max_lag_within(cluster.settings.max_lag),
        )  # fmt: skip

    def _surroundings(self, node: Node) -> Surroundings:
        cluster = self._parts.cluster
        others = [other for other in cluster.replicas.all if other is not cluster.reader]
        complete = all(other in self._facts or other in self._errors for other in others)
        return surroundings(
            node, cluster.reader, cluster.replicas.all, self._facts.get, self._samples, complete=complete
        )

    def answers(self, node: Node) -> NodeAnswers:
        """Return all that is known of a node."""
        db = self._parts.primary.plain.db
        merged = {**db.connect_params, **node.overrides}
        found = NodeAnswers(
            node.name,
            node.address,
            str(merged.get("host") or ""),
            str(merged.get("user") or ""),
            str(merged.get("database") or db.database or ""),
            node is self._parts.cluster.reader,
            node.tags,
        )
        exc = self._errors.get(node)
        if exc is None:
            try:
                return self._with_settings(found, node)
            except Exception as failure:
                exc = failure
        number = exc.args[0] if exc.args and isinstance(exc.args[0], int) else 0
        return found._replace(
            error=in_words(exc),
            number=number,
            lacks_password=isinstance(getattr(exc, "orig", exc), PasswordUnavailable),
        )

    def _with_settings(self, found: NodeAnswers, node: Node) -> NodeAnswers:
        conn = self._connections[node]

        def ask(sql: str, use: Callable[[Sequence[Sequence[object]]], T], otherwise: T) -> T:
            try:
                with __exception_wrapper__:
                    return use(conn.ask(sql, self._seconds))
            except PeeweeException:
                if conn.dropped():
                    raise
                return otherwise  # this user may not ask it

        def table(rows: Sequence[Sequence[object]]) -> dict[str, str]:
            return {str(row[0]).lower(): str(row[1]) for row in rows}

        nothing: dict[str, str] = {}
        return found._replace(
            version=conn.server_version.removeprefix("5.5.5-"),  # MariaDB says so to old clients
            facts=self._facts.get(node),
            fitness=self._fitness.get(node),
            channels=self._channels.get(node),
            variables=ask(f"SHOW GLOBAL VARIABLES {_named(GLOBAL_VARIABLES)}", table, nothing),
            session=ask(f"SHOW SESSION VARIABLES {_named(SESSION_VARIABLES)}", table, nothing),
            status={
                **ask(f"SHOW GLOBAL STATUS {_named(('Threads_connected',))}", table, nothing),
                **ask(f"SHOW SESSION STATUS {_named(('Ssl_cipher',))}", table, nothing),
            },
            account=ask("SELECT CURRENT_USER()", lambda rows: str(rows[0][0]), ""),
            grants=ask("SHOW GRANTS", lambda rows: tuple(str(row[0]) for row in rows), ()),
            tracks=not getattr(conn, "untracked", ""),
        )

    def close(self) -> None:
        """Close all connections."""
        for conn in self._opened:
            if conn.open:
                with suppress(Exception):
                    conn.close()


def _named(names: Sequence[str]) -> str:
    return f"WHERE Variable_name IN ({', '.join(map(repr, names))})"
