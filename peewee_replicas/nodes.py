"""Opening, finding and dropping the connections of the nodes that serve reads."""

from __future__ import annotations

import time
from typing import Any

import peewee
from peewee import OperationalError, PeeweeException, __exception_wrapper__
from playhouse.pool import MaxConnectionsExceeded

from .arguments import overlay
from .failures import NO_CONNECTION, NOT_OPENED, Meaning, meaning
from .replicas import Replica
from .replication import Replication

_UNREACHABLE = 2003  # CR_CONN_HOST_ERROR


class _TurnedAway(OperationalError):
    """A node that another thread could not reach while this one waited for its turn to connect."""


class Nodes(peewee.Database):
    """The nodes of a database: each is another instance of its class, without routing; `_node` says which."""

    _node: Replica | None = None
    _replication: Replication
    _guarded = False
    database: Any
    connect_params: dict[str, Any]

    def _below(self, node: Any) -> Any:
        """A node as peewee's own class beneath ours, with nothing of ours in the way."""
        raise NotImplementedError

    def _make_node(self, replica: Replica) -> Any:
        node: Any = object.__new__(type(self))
        node._node = replica
        node._guarded = True
        args, kwargs = self._plain
        self._below(node).__init__(self.database, *args, **kwargs)
        node._by_itself = frozenset(vars(node))
        return node

    def _adopt(self, owner: Nodes, replica: Replica) -> None:
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
        self._below(node).connect()

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
