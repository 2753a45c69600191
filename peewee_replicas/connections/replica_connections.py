"""Opening, finding and dropping the connections of the nodes that serve reads."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import peewee
from peewee import OperationalError, PeeweeException, __exception_wrapper__
from playhouse.pool import MaxConnectionsExceeded

from ..concurrency import THREADS, Clock, Here
from ..nodes.replica import Replica
from ..nodes.spec import overlay
from ..routing.router import Replication
from ..servers.error_meanings import NO_CONNECTION, NOT_OPENED, Meaning, explained, meaning, remedy

_UNREACHABLE = 2003  # CR_CONN_HOST_ERROR
_BUSY = 1040  # ER_CON_COUNT_ERROR
_NOT_READY = 1047  # ER_UNKNOWN_COM_ERROR


def _unlogged(*_: object) -> None:
    """In the place of `_log_query`: what sets up the prober's connections is nobody's query."""


class _TurnedAway(OperationalError):
    """A node that is not tried, because others have just found that it cannot be had."""


class Nodes(peewee.Database):
    """The nodes of a database: each is another instance of its class, without routing; `_node` says which."""

    _here: Here = THREADS
    _node: Replica | None = None
    _replication: Replication
    _guarded = False
    _watch: Callable[[Any], None] | None = None
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
            outdated = replica.is_primary and conn.generation != self._replication.generation
            # A transaction or a changed session that a raw cursor left here would make later reads wrong.
            if not outdated and not conn.dropped() and (conn.busy or not (conn.transaction or conn.changes)):
                return node
            node._discard()
        self._open_node(replica, node)
        return node

    def _open_node(self, replica: Replica, node: Any) -> None:
        unreached, generation = replica.unreached, self._replication.generation
        try:
            node._adopt(self, replica)
            node._state.unreached = unreached
            self._connect_node(node, waits=not self._holds_above(replica))
            conn = node._state.conn
            conn.generation = generation
            self._check_connection(replica.label, conn, node.connect_params)
            if replica.unready:
                self._check_ready(replica, conn)
            self._after_connect(replica.name, conn)
            conn.raw_statement_check = self._replication.screen
            conn.listener = self._replication.heard if replica.is_primary else None
        except MaxConnectionsExceeded:
            raise  # the client's own limit says nothing about the node
        except BaseException as exc:
            node._discard()
            self._not_opened(replica, exc)
            raise
        replica.connected(conn)
        if replica.removed:
            self._replication.replicas.linger(replica)
        if self._state.closed:
            self._state.closed = False

    def _check_ready(self, replica: Replica, conn: Any) -> None:
        question = conn.dialect.READY
        with __exception_wrapper__:
            ready, rejects = conn.ask(question)[0] if question else ("ON", "NONE")
        if (ready, rejects) != ("ON", "NONE"):
            raise OperationalError(
                _NOT_READY, f"still not ready: wsrep_ready={ready}, wsrep_reject_queries={rejects}"
            )
        replica.unready = False

    def _not_opened(self, replica: Replica, exc: BaseException) -> None:
        """Take in that a node could not be connected to; the error is raised by the caller."""
        # peewee turns an error that it does not know into its base class, which keeps the first as `orig`.
        turned_away = isinstance(getattr(exc, "orig", exc), _TurnedAway)
        if turned_away or not isinstance(exc, Exception):
            replica.breaker.let_go()
            return
        found = self._meaning(exc)
        cause = self._cause(exc)
        if found == "busy" and not replica.breaker.open:
            replica.back_off(cause)
        elif replica.breaker.open or found in NO_CONNECTION:
            # A node that is out already stays out, whatever a try on it has met.
            replica.failed(cause)
        else:
            replica.breaker.let_go()
            if len(exc.args) == 2 and found not in NOT_OPENED:
                exc.args = explained(exc.args, replica.label)  # the server does not name itself

    def _connect_node(self, node: Any, *, waits: bool) -> None:
        """Connect; `waits` says whether to wait for a connection of the client's own pool."""
        self._below(node).connect()

    def _holds_above(self, replica: Replica) -> bool:
        # Threads that hold one pool's connection and wait for another's must all do so in one order, or
        # they wait for each other: replicas, the primary for reading, the primary.
        if self._state.conn is not None:
            return True
        return replica is not self._replication.reader and bool(self._open_nodes())

    def _open_probe(self, replica: Replica, seconds: float, watch: Callable[[Any], None]) -> Any:
        """A connection for the prober alone, as the user's class opens them, but with timeouts of its own.

        Parameters:
            seconds: the longest that the prober waits.
            watch: is given the connection before it is opened.
        """
        node = self._make_node(replica)
        node._adopt(self, replica)
        node._watch, node._log_query = watch, _unlogged
        for name in ("connect_timeout", "read_timeout", "write_timeout"):
            node.connect_params[name] = min(node.connect_params.get(name) or seconds, seconds)
        node._state.unreached = replica.unreached
        self._connect_node(node, waits=False)
        conn = node._state.conn
        self._check_connection(replica.label, conn, node.connect_params)
        if replica.unready:
            self._check_ready(replica, conn)
        conn.internal = conn.initialized = True
        return conn

    def _being_opened(self, conn: Any) -> None:
        """Called with each connection before it is opened."""
        if self._watch is not None:
            self._watch(conn)
        elif self._node is not None:
            self._node.opening(conn)

    def _before_connecting(self) -> None:
        # Threads wait for one another to connect. When a hung node has cost one of them its timeout, it
        # is not to cost each of the others theirs, one after the other.
        replica = self._node
        if replica is None:
            return
        if replica.unreached != self._state.unreached:
            raise _TurnedAway(_UNREACHABLE, "another thread has just found that it cannot be reached")
        if replica.is_resting():
            raise _TurnedAway(_BUSY, f"is left alone for a moment: {replica.backoff.cause}")

    def _could_not_connect(self, exc: Any) -> None:
        exc.connecting = True
        replica = self._node
        if replica is not None and self._has_no_connection(exc) and self._meaning(exc) != "busy":
            replica.unreached += 1

    def _check_connection(self, label: str, conn: Any, parameters: dict[str, Any]) -> None:
        raise NotImplementedError

    def _after_connect(self, name: str, conn: Any) -> None:
        core = self._replication
        if self.server_version is None:
            self._set_server_version(conn)
        if core.dialect is None:
            core.know_dialect(conn.dialect.NAME)
        if conn.dialect.COMPARE and core.replicas.all and core.comparison.needed(name):
            with __exception_wrapper__:
                core.comparison.add(name, dict(conn.ask(conn.dialect.COMPARE)))
        # What connecting set is how the user wants every connection to be, not state of this one.
        conn.changes.clear()
        conn.initialized = True

    def _meaning(self, exc: BaseException) -> Meaning:
        """What a failure of a statement, or of connecting, says about the node."""
        cause: Any = getattr(exc, "orig", exc)  # the driver's, as `_could_not_connect` saw it
        return meaning(
            type(exc).__name__,
            exc.args,
            connecting=getattr(cause, "connecting", False),
            tls=isinstance(getattr(cause, "original_exception", None), ssl.SSLError),
        )

    def _cause(self, exc: BaseException) -> str:
        """An error in words, with what to do about it."""
        words = self._remedy(exc)
        return f"{type(exc).__name__}: {exc}" + (f"; {words}" if words else "")

    def _remedy(self, exc: BaseException) -> str:
        return remedy(exc.args[0] if exc.args else None, self._meaning(exc))

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
        made = [replica.made for replica in self._replication.nodes()]
        return [node for node in made if node is not None and not node._state.closed]

    def _attend(self, *, reads: bool = True) -> None:
        """Do what the set of replicas waits for: try nodes again, warm them up, part with those that left.

        Parameters:
            reads: whether it is for a read; nothing else has to wait for nodes that are tried.
        """
        core = self._replication
        replicas = core.replicas
        if replicas.unwatched and reads and core.rehearsal is None:
            core.prober.use(self)
        if replicas.ejected and reads and not (core.prober is not None and core.prober.at_work):
            self._retry_ejected()
        replicas.warm_up(Clock.monotonic())
        if replicas.leaving:
            self._part()

    def _part(self) -> None:
        """Close this thread's idle connections to nodes that have left, and those in their pools."""
        replicas = self._replication.replicas
        closed = False
        for replica in replicas.leaving:
            node = replica.made
            # What is still being streamed from it is read to its end.
            if node is not None and not node._state.closed and not node._state.conn.busy:
                node._discard()
                closed = True
        for replica in replicas.to_look_at(Clock.monotonic(), at_once=closed):
            if replica.made is not None:
                replica.made._close_unused()
            replicas.part(replica)

    def _close_unused(self) -> None:
        """Close the connections to this node that nobody uses, where there is a pool."""

    def _retry_ejected(self) -> None:
        """Try the ejected nodes whose pause has ended and that nobody else is trying."""
        now = Clock.monotonic()
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
