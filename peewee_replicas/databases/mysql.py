"""The database classes for MySQL and MariaDB."""

from __future__ import annotations

import inspect
from typing import Any

from peewee import MySQLDatabase
from playhouse.db_url import parse
from playhouse.pool import PooledDatabase, PooledMySQLDatabase

from ..concurrency import free, track_connection
from ..errors import ConfigurationError
from ..nodes.prober import Prober
from ..nodes.replica import Replica
from ..nodes.replica_set import ReplicaSet
from ..nodes.spec import NodeSpec, address, endpoint, node_specs, overlay, same_connection
from ..routing.router import PRIMARY, Replication
from ..routing.settings import Settings
from ..servers.wire import connection as wire
from ..servers.wire import driver
from .lifecycle import Connections
from .replicated import Replicated

# What PyMySQL's connect() takes; anything else in a replica's dict is a mistake.
_DRIVER = frozenset(inspect.signature(wire.Connection.__mro__[-2].__init__).parameters) - {
    "self",
    "autocommit",
    "defer_connect",
}


def _parse(url: str) -> dict[str, Any]:
    scheme = url.split(":", 1)[0].lower()
    if not scheme.startswith(("mysql", "mariadb")):
        raise ConfigurationError(
            f"replicas: {scheme!r} is no scheme of MySQL or MariaDB; use mysql://host:port"
        )
    parameters: dict[str, Any] = parse(url)
    return parameters


class Connecting:
    """How each connection is opened, whatever driver it is of."""

    _guarded = False

    def _before_connecting(self) -> None:
        """Called when it is this thread's turn to connect; may raise."""

    def _being_opened(self, conn: Any) -> None:
        """Called with each connection before it is opened."""

    def _could_not_connect(self, exc: Exception) -> None:
        """Called before it is another thread's turn."""

    def _new_connection(self) -> Any:
        """A connection that is not opened yet."""
        raise NotImplementedError

    def _connect(self) -> Any:
        lacks = driver.missing()
        if lacks:
            raise ConfigurationError(lacks)
        self._before_connecting()
        try:
            conn = self._new_connection()
            self._being_opened(conn)
            conn.connect()
            track_connection(conn)
            return conn
        except Exception as exc:
            self._could_not_connect(exc)
            raise


class _MySQL(Connecting, MySQLDatabase):
    """peewee's MySQLDatabase with connections that hear what the server reports."""

    def _new_connection(self) -> Any:
        return wire.Connection(
            database=self.database,
            autocommit=True,
            guard=self._guarded,
            defer_connect=True,
            **self.connect_params,
        )


class _PooledMySQL(PooledMySQLDatabase, _MySQL):
    """The same, pooled."""


class OverMySQL(Replicated):
    """The nodes of MySQL and MariaDB, whatever sends the statements."""

    _driver_parameters: frozenset[str]

    def _plainly_connects(self) -> bool:
        """Whether no subclass connects by itself."""
        raise NotImplementedError

    def _node_specs(self, given: dict[str, Any], parameters: dict[str, Any]) -> tuple[NodeSpec, ...]:
        # A subclass that connects by itself may take parameters that the driver does not know.
        known = self._driver_parameters | set(parameters) if self._plainly_connects() else None
        specs = []
        seen: dict[str, str] = {}
        for spec in node_specs(given.get("replicas", ()), known, _parse, ConfigurationError):
            merged = overlay(parameters, spec.overrides)
            name = spec.name or address(merged)
            where = endpoint(merged)
            if where in seen:
                raise ConfigurationError(
                    f"replicas: {seen[where]!r} and {name!r} are one endpoint, {where}; list each node once"
                )
            if name in seen.values():
                raise ConfigurationError(
                    f"replicas: two are called {name!r}; every node needs a name of its own"
                )
            seen[where] = name
            specs.append(spec._replace(name=name))
        return tuple(specs)

    def _assemble(self, settings: Settings, specs: tuple[NodeSpec, ...]) -> Replication:
        nodes = [self._new_node(spec) for spec in specs]
        reader = next((node for node in nodes if node.is_primary), None) or self._new_reader()
        return Replication(settings, ReplicaSet(nodes), reader, self._here)

    def _make_prober(self, core: Replication) -> Prober | None:
        interval = core.settings.probe_interval
        # Where reads are only observed, none goes to a replica.
        return None if interval is None or core.settings.reads == "observe" else Prober(core, interval)

    def _new_node(self, spec: NodeSpec) -> Replica:
        own = self.connect_params
        merged = overlay(own, spec.overrides)
        primary = endpoint(merged) == endpoint(own)
        return Replica(spec, address(merged), self._make_node, is_primary=primary, here=self._here)

    def _new_reader(self) -> Replica:
        where = address(self.connect_params)
        return Replica(NodeSpec(PRIMARY, 1, {}), where, self._make_node, is_primary=True, here=self._here)

    def _change_nodes(self, specs: tuple[NodeSpec, ...]) -> None:
        core, own = self._replication, self.connect_params
        before = {replica.name: replica for replica in core.replicas.all}
        nodes = []
        for spec in specs:
            node = before.get(spec.name)
            if node is None or not same_connection(
                overlay(own, node.overrides), overlay(own, spec.overrides)
            ):
                node = self._new_node(spec)
            nodes.append((node, spec.weight))
        reader = next((node for node, _ in nodes if node.is_primary), None)
        if reader is None:
            reader = self._new_reader() if core.reader in core.replicas.all else core.reader
        core.change_replicas(nodes, reader)

    def _drop(self, conn: Any) -> None:
        # The user may have closed it by itself, and to PyMySQL closing twice is an error.
        if getattr(conn, "open", True):
            super()._drop(conn)

    def _check_connection(self, label: str, conn: Any, parameters: dict[str, Any]) -> None:
        if not isinstance(conn, wire.Connection):
            raise ConfigurationError(
                f"{type(self).__name__}._connect() gave a {type(conn).__name__} for {label}; "
                "call super()._connect(), so that the server's reports are heard"
            )
        if conn.unix_socket and not parameters.get("unix_socket"):
            raise ConfigurationError(
                f"{label} is given by host, but the driver took the socket {conn.unix_socket} from "
                "read_default_file, which may lead to another server; give unix_socket or drop the file"
            )


class ReplicatedDatabase(OverMySQL, _MySQL):
    """peewee's `MySQLDatabase`, with reads served by replicas.

    Parameters:
        database: the schema's name; None to call `init` later.
        replicas: dicts of connection parameters laid over the primary's, or URLs, or ``"host:port"``;
            ``name`` and ``weight`` (a whole number from 0 to 100) are ours. Listing the primary itself lets
            it take part in reading.
        policy: ``"round-robin"``, ``"random"``, ``"least-busy"``, or a callable that is given the usable
            replicas and returns one of them.
        reads: where a read outside any scope goes: ``"replica"``; ``"primary"``; ``"observe"`` (to the
            primary, telling where it would have gone).
        fallback: what serves a read when no replica can: ``"primary"``, or ``"error"``.
        readonly_in_transaction: ``readonly()`` inside a transaction: ``"error"``, or ``"join"``.
        pure_functions: names of stored functions the user vouches for as reads.
        consistency: what a read must see: ``"eventual"``, ``"session"``, ``"process"`` or ``"strong"``.
        catch_up_timeout: seconds one read may spend waiting for replicas to catch up, over all together.
        sticky_seconds: how long reads stay on the primary after a write where servers keep no GTIDs.
        max_lag: seconds; a replica further behind is not used. None: no bound.
        max_fallback_share: at most this share (0 to 1) of recent reads, of about the last hundred, may fall
            back to the primary, the rest get `NoReplicaAvailable`. Reads that are served, that fall back and
            that are refused all count; those that belong on the primary do not. Unless it is 0, one read may
            fall back where none did for a second. None: no bound.
        on_transaction_escape: when a task or thread started inside ``atomic()`` queries outside that
            transaction: ``"ignore"``, ``"warn"`` or ``"error"``.
        probe_interval: seconds between health probes. None: no prober, health is learned from traffic.
        heartbeat_table: a table of ``pt-heartbeat`` to take lag from, as ``"table"`` or ``"schema.table"``.
        kwargs: as peewee's and PyMySQL's own.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    _driver_parameters = _DRIVER

    def _plainly_connects(self) -> bool:
        return type(self)._connect in (_MySQL._connect, _PooledMySQL._connect)


class PooledReplicatedDatabase(ReplicatedDatabase, _PooledMySQL):
    """The same over `playhouse.pool`: one pool per node, each of ``max_connections``."""

    def _connect_node(self, node: Any, *, waits: bool) -> None:
        if waits:
            super()._connect_node(node, waits=waits)
        else:
            super(PooledDatabase, node).connect()

    def _drop(self, conn: Any) -> None:
        self._close(conn, close_conn=True)

    def _is_closed(self, conn: Any) -> bool:
        # A read that meets a dead connection is sent elsewhere; a write could not be, so it is pinged for.
        if self._node is not None:
            outdated = self._node.is_primary and conn.generation != self._replication.generation
            return outdated or bool(conn.dropped())
        return conn.generation != self._replication.generation or bool(super()._is_closed(conn))

    def _can_reuse(self, conn: Any) -> bool:
        # What the next user of this connection must not meet: another's session.
        if not conn.server_status & wire.AUTOCOMMIT or conn.session_state or conn.changes:
            return False
        # peewee's own rolls back; LOCK TABLES outlives that.
        reusable = bool(super()._can_reuse(conn)) and not conn.transaction
        conn.initialized = False  # a subclass's _initialize_connection() runs again at check-out
        return reusable

    def _after_fork(self) -> None:
        free(self._pool_lock, self._pool_available)
        self._connections: list[Any] = []
        self._in_use: dict[Any, Any] = {}
        super()._after_fork()

    def _every_pool(self) -> list[Any]:
        core = self._replication
        return [replica.made for replica in core.nodes() if replica.made is not None]

    def _close_unused(self) -> None:
        super().close_idle()

    def manual_close(self) -> bool:
        """Close this thread's connections to all nodes without returning them to their pools."""
        if self.is_closed():
            return False
        for node in self._open_nodes():
            node._discard()
        conn = self._state.conn
        self._state.conn = None
        if conn is not None:
            self._drop(conn)
        self.close()
        return True

    def close_idle(self) -> None:
        """Close the connections of every node's pool that nobody uses."""
        super().close_idle()
        if self._node is None:
            for node in self._every_pool():
                node.close_idle()

    def close_stale(self, age: float = 600) -> int:
        """Close connections, of every node, that have been in use for longer than `age` seconds."""
        closed: int = super().close_stale(age)
        if self._node is None:
            closed += sum(node.close_stale(age) for node in self._every_pool())
        return closed

    def close_all(self) -> None:
        """Close all connections of every node, those in use too."""
        super().close_all()
        if self._node is None:
            for node in self._every_pool():
                super(Connections, node).close_all()
