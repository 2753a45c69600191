"""Build one database's nodes and collaborators from its arguments, for MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pymysql
from playhouse.db_url import parse

from ..concurrency import THREADS, Here
from ..connections.checks import ConnectionChecks
from ..connections.diagnosis import Diagnosis, mysql_meaning
from ..connections.parts import Parts
from ..connections.plain_database import NodeDatabase, PlainDatabase
from ..connections.primary_connection import PrimaryConnection
from ..connections.primary_positions import PrimaryPositions
from ..connections.primary_session import PrimarySession
from ..connections.replica_connections import ReplicaConnections
from ..consistency.levels import Consistency
from ..errors import ConfigurationError
from ..nodes.callables import is_coroutine_function, takes_database, why_not_callable
from ..nodes.cluster import PRIMARY, Cluster
from ..nodes.node import Node
from ..nodes.prober import Prober
from ..nodes.replica_set import ReplicaSet
from ..nodes.roles import Moved, all_nodes, readers
from ..nodes.spec import (
    NodeSpec,
    address,
    check_database,
    check_password,
    check_place,
    endpoint,
    node_specs,
    overlay,
    same_connection,
)
from ..routing.router import Router
from ..routing.settings import Settings
from ..scopes.frames import Units
from .argument_names import ELSEWHERE, may_take_any, names_taken, refuse_unknown

# Without the parameters that peewee and this library set themselves.
_taken = names_taken(pymysql.connections.Connection.__init__)
PYMYSQL_PARAMETERS = _taken and _taken - {"self", "autocommit", "defer_connect"}
"""The names of PyMySQL's connection parameters; None if they cannot be read."""


class Assembly:
    """Builds the nodes and the collaborators of one database on MySQL or MariaDB.

    Parameters:
        plain: the user's database without routing.
    """

    here: Here = THREADS
    node_database: type[NodeDatabase] = NodeDatabase
    driver_parameters: frozenset[str] | None = PYMYSQL_PARAMETERS
    driver_name = "PyMySQL"

    def __init__(self, plain: PlainDatabase) -> None:
        self.plain = plain

    # Arguments

    def check_pool(self, given: Mapping[str, object], where: str = "") -> None:
        """Refuse values of the pool's arguments that cannot work; for pooled databases to override.

        Parameters:
            given: arguments by name, the pool's among them.
            where: the beginning of the message.

        Raises:
            ConfigurationError: a value cannot work.
        """

    def known_parameters(self, parameters: Mapping[str, object]) -> frozenset[str] | None:
        """Return the names of all connection parameters; None if the user's code may use others."""
        return None if may_take_any(type(self.plain.db)) else self.driver_parameters

    def check_arguments(self, given: Mapping[str, object], parameters: Mapping[str, object]) -> None:
        """Refuse unknown arguments, and an address of the primary that cannot work.

        Parameters:
            given: the arguments of ``init()``, without this library's own.
            parameters: the primary's connection parameters.

        Raises:
            ConfigurationError: an argument is unknown or cannot work.
        """
        self.check_pool(given)
        known = self.known_parameters(parameters)
        if known is None:
            return
        db, beneath = self.plain.db, self.plain.beneath
        refuse_unknown(type(db), beneath, given, db.routing_arguments, known, self.driver_name)
        check_place(parameters, "", ConfigurationError)
        check_password(parameters, "", ConfigurationError)

    def check_database(self, database: object, parameters: Mapping[str, object]) -> None:
        """Refuse what cannot be the name of the primary's database.

        Parameters:
            database: what was given as ``database``.
            parameters: the primary's connection parameters.

        Raises:
            ConfigurationError: it is no name.
        """
        if self.known_parameters(parameters) is not None:
            check_database(database, "", ConfigurationError)

    def check_discovery(self, ask: Callable[..., object]) -> None:
        """Refuse a callable ``replicas`` that a thread cannot call.

        Raises:
            ConfigurationError: it needs other arguments, or calling it gives a coroutine.
        """
        misfit = why_not_callable(ask, *([self.plain.db] if takes_database(ask) else []))
        if misfit:
            raise ConfigurationError(
                "replicas: the callable is called without an argument, or with the database if it needs one; "
                f"that does not work here ({misfit})"
            )
        if is_coroutine_function(ask):
            raise ConfigurationError(
                "replicas: a coroutine function cannot be used, because a thread without an event loop "
                "calls it; give a plain function"
            )

    # Nodes

    @property
    def _moved(self) -> Moved | None:
        parts: Parts | None = vars(self.plain.db).get("_parts")
        return None if parts is None else parts.cluster.moved

    def configured(self) -> Mapping[str, object]:
        """Return the connection parameters of the configured primary, which nodes inherit."""
        present: Mapping[str, object] = vars(self.plain.db).get("connect_params", {})
        moved = self._moved
        return present if moved is None else moved.configured(present)

    def node_specs(
        self, given: Mapping[str, object], parameters: Mapping[str, object], database: object = None
    ) -> tuple[NodeSpec, ...]:
        """Check the ``replicas`` argument and return its nodes.

        Parameters:
            given: this library's arguments.
            parameters: the configured primary's connection parameters.
            database: the configured primary's database; None: the one in use.

        Raises:
            ConfigurationError: a replica cannot work, or two have the same endpoint or name.
        """
        if database is None:
            moved = self._moved
            database = getattr(self.plain.db, "database", None) if moved is None else moved.database
        known = self.known_parameters(parameters)
        own = self.plain.db.routing_arguments
        specs = []
        seen: dict[str, str] = {}
        replicas = given.get("replicas", ())
        for spec in node_specs(replicas, known, parse, ConfigurationError, own, ELSEWHERE):
            merged = overlay(parameters, spec.overrides)
            name = spec.name or address(merged)
            # Compare with the primary's parameters filled in: a replica may leave out its port.
            where = endpoint(merged)
            if where in seen:
                raise ConfigurationError(
                    f"replicas: {seen[where]!r} and {name!r} are one endpoint, {where}; list each node once"
                )
            if name in seen.values():
                raise ConfigurationError(
                    f"replicas: two are called {name!r}; every node needs a name of its own"
                )
            if where == endpoint(parameters):
                _check_same_database(name, merged.get("database"), database)
            seen[where] = name
            self.check_pool(spec.overrides, f"replica {name}: ")
            specs.append(spec._replace(name=name))
        return tuple(specs)

    def make_node(self, spec: NodeSpec) -> Node:
        """Create a node that serves reads."""
        where = address(overlay(self.configured(), spec.overrides))
        return Node(spec, where, self.database_of, is_primary=self.is_primary(spec), here=self.here)

    def is_primary(self, spec: NodeSpec) -> bool:
        """Return whether a node is the one that takes the writes now."""
        return self._endpoint(spec) == self.primary_endpoint()

    def _endpoint(self, spec: NodeSpec) -> str:
        return endpoint(overlay(self.configured(), spec.overrides))

    def _are_same(self, one: NodeSpec, other: NodeSpec) -> bool:
        return self._endpoint(one) == self._endpoint(other)

    @property
    def _configured_primary(self) -> NodeSpec:
        return NodeSpec(address(self.configured()), 1, {})

    def all_nodes(self, listed: tuple[NodeSpec, ...]) -> tuple[NodeSpec, ...]:
        """Return every node that can be the primary: the configured primary and those listed."""
        return all_nodes(self._configured_primary, listed, self._are_same)

    def primary_overrides(self, spec: NodeSpec) -> Mapping[str, object]:
        """Return a node's own connection parameters, without the sizes of its pool."""
        pool = self.node_database.pool_arguments
        return {name: spec.overrides[name] for name in spec.overrides if name not in pool}

    def primary_has_moved(self) -> None:
        """Adapt what names the primary; for subclasses to override."""

    def make_reader(self) -> Node:
        """Create the primary's node for reading, for when it is not listed among the replicas."""
        where = address(self.plain.db.connect_params)
        moved = self._moved
        spec = NodeSpec(PRIMARY, 1, {} if moved is None else moved.spec.overrides)
        return Node(spec, where, self.database_of, is_primary=True, here=self.here)

    def database_of(self, node: Node) -> NodeDatabase:
        """Create the peewee database of a node; `Node` calls this when it first needs it."""
        parts: Parts = vars(self.plain.db)["_parts"]
        return parts.replicas.make(node)

    def primary_endpoint(self) -> str:
        """Return the primary's endpoint, which is equal for all database objects with the same primary."""
        return endpoint(self.plain.db.connect_params)

    def change_nodes(self, specs: tuple[NodeSpec, ...], cluster: Cluster) -> None:
        """Replace the present nodes by these; keep the nodes whose name and connection are the same."""
        own, moved = self.configured(), cluster.moved
        before = {node.name: node for node in cluster.replicas.all}
        nodes = []
        primary = None if moved is None else moved.spec
        for spec in readers(self._configured_primary, specs, primary, self._are_same):
            node = before.get(spec.name)
            if (
                node is None
                or node.is_primary != self.is_primary(spec)
                or not same_connection(overlay(own, node.overrides), overlay(own, spec.overrides))
            ):
                replaced, node = node, self.make_node(spec)
                if replaced is not None and replaced.breaker.by_hand:
                    node.breaker.eject(replaced.breaker.cause)
                was_primary = not node.is_primary and node.address == cluster.reader.address
                if was_primary and cluster.prober is not None:
                    node.await_probe("was the primary, and has not been seen to replicate from the new one")
            nodes.append((node, spec))
        reader = next((node for node, _ in nodes if node.is_primary), None)
        if reader is None:
            present = address(self.plain.db.connect_params)
            kept = cluster.reader not in cluster.replicas.all and cluster.reader.address == present
            reader = cluster.reader if kept else self.make_reader()
        for old in cluster.nodes():
            for new in (reader, *(node for node, _ in nodes)):
                if new is not old and new.address == old.address:
                    new.take_connections_of(old)  # so that they can be cut if the server hangs
        cluster.change_replicas(nodes, reader)

    # Collaborators

    def assemble(self, settings: Settings, specs: tuple[NodeSpec, ...]) -> Parts:
        """Create the collaborators of the database."""
        cluster = self.make_cluster(settings, specs)
        if settings.spread == "unit":
            cluster.units = Units(cluster, self.here)
        consistency = Consistency(
            cluster,
            settings.consistency,
            settings.catch_up_timeout,
            settings.sticky_seconds,
            cluster.counters,
            self.here,
        )
        router = Router(settings, cluster, consistency, self.here)
        session = PrimarySession(router, consistency, cluster.counters)
        diagnosis = self.make_diagnosis(router)
        checks = self.make_checks(cluster, router)
        primary = self.make_primary(cluster, session, consistency, diagnosis, checks)
        replicas = self.make_replicas(cluster, session, diagnosis, checks, primary)
        consistency.attach(PrimaryPositions(primary, replicas), self.primary_endpoint())
        cluster.on_primary_answer = consistency.primary_answered
        cluster.prober = self.make_prober(settings, cluster)
        return Parts(router, cluster, consistency, session, primary, replicas, diagnosis, self.here)

    def make_cluster(self, settings: Settings, specs: tuple[NodeSpec, ...]) -> Cluster:
        """Create the cluster of all nodes."""
        nodes = [self.make_node(spec) for spec in specs]
        reader = next((node for node in nodes if node.is_primary), None) or self.make_reader()
        # A user's own policy may use latencies; the built-in ones declare whether they do.
        timed = bool(getattr(settings.policy, "uses_latency", True))
        replicas = ReplicaSet(nodes, ages=settings.max_connection_age is not None)
        return Cluster(replicas, reader, settings, timed=timed)

    def make_diagnosis(self, router: Router) -> Diagnosis:
        """Create the interpreter of errors."""
        return Diagnosis(lambda exc: mysql_meaning(exc, router.dialect))

    def make_checks(self, cluster: Cluster, router: Router) -> ConnectionChecks:
        """Create the checks of new connections."""
        return ConnectionChecks(self.plain.db, cluster, router)

    def make_primary(
        self,
        cluster: Cluster,
        session: PrimarySession,
        consistency: Consistency,
        diagnosis: Diagnosis,
        checks: ConnectionChecks,
    ) -> PrimaryConnection:
        """Create the primary's connections for writing."""
        return PrimaryConnection(self.plain, cluster, session, consistency, diagnosis, checks, self.here)

    def make_replicas(
        self,
        cluster: Cluster,
        session: PrimarySession,
        diagnosis: Diagnosis,
        checks: ConnectionChecks,
        primary: PrimaryConnection,
    ) -> ReplicaConnections:
        """Create the connections to the nodes that serve reads."""
        return ReplicaConnections(self.plain, self.node_database, cluster, session, diagnosis, checks)

    def make_prober(self, settings: Settings, cluster: Cluster) -> Prober | None:
        """Create the prober; None if the nodes are not probed."""
        interval = settings.probe_interval
        # With reads="observe" no read goes to a replica.
        if interval is None or (settings.reads == "observe" and not settings.follow_primary):
            return None
        return Prober(cluster, interval)


def _check_same_database(name: str, own: object, primarys: object) -> None:
    if own is not None and primarys is not None and own != primarys:
        # It would count as the primary, so its reads would not be checked for what they must see.
        raise ConfigurationError(
            f"replicas: {name!r} has the primary's address and another database, {own!r}: only a replica "
            "with an address of its own can be used, because what a read must see is learned by address "
            "(Vitess's @replica has none)"
        )
