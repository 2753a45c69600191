"""Opening one connection: who is told of it, and when it is not even tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from peewee import OperationalError

from ..concurrency import track_connection
from ..errors import ConfigurationError
from ..nodes.cluster import Cluster
from ..nodes.node import Node
from ..servers.protocols import ServerConnection
from ..servers.wire import driver
from ..servers.wire.system_errors import tls_not_prepared
from .diagnosis import CONNECTING, mysql_meaning
from .failures import ejects
from .peewee_types import ThreadState

_UNREACHABLE = 2003  # CR_CONN_HOST_ERROR
_BUSY = 1040  # ER_CON_COUNT_ERROR


class TurnedAway(OperationalError):
    """A node is not tried, because others have just found that it cannot be had."""


C = TypeVar("C", bound=ServerConnection)


class Opening:
    """How the connections of one peewee database are opened: here those of the primary, for writing.

    Parameters:
        cluster: the nodes.

    Attributes:
        guarded: whether the server is asked to refuse writes on them.
        node: the node for reading that they lead to; None: they are the primary's own.
        watch: is given each connection before it is opened; for those of the prober.
    """

    guarded = False
    node: Node | None = None
    watch: Callable[[ServerConnection], None] | None = None

    @property
    def removed(self) -> bool:
        """Whether the node was taken out of the list of replicas."""
        return False

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def is_outdated(self, conn: ServerConnection) -> bool:
        """Whether a connection leads to a server that was found to be the primary no longer."""
        return bool(conn.generation != self._cluster.generation)

    def before(self, state: ThreadState) -> None:
        """Called when it is this thread's turn to connect; may raise `TurnedAway`."""

    def begins(self, conn: ServerConnection) -> None:
        """Called with each connection before it is opened."""

    def failed(self, exc: BaseException) -> None:
        """Called before it is another thread's turn."""
        setattr(exc, CONNECTING, True)  # a refused user, for one, means something else while connecting


class NodeOpening(Opening):
    """How the connections of a node that serves reads are opened.

    Parameters:
        cluster: the nodes.
        node: the node.
        watch: is given each connection before it is opened, in place of the node; for the prober's own.
    """

    guarded = True
    node: Node

    def __init__(
        self, cluster: Cluster, node: Node, watch: Callable[[ServerConnection], None] | None = None
    ) -> None:
        super().__init__(cluster)
        self.node = node
        self.watch = watch

    @property
    def removed(self) -> bool:
        """Whether `set_replicas` has taken the node out."""
        return self.node.removed

    def is_outdated(self, conn: ServerConnection) -> bool:
        """As the primary's, for the primary as a node for reading; others keep their connections."""
        return self.node.is_primary and super().is_outdated(conn)

    def before(self, state: ThreadState) -> None:
        """Threads wait for one another to connect. When a hung node has cost one of them its time-out, it
        is not to cost each of the others theirs, one after the other."""
        if self.node.unreached != state.unreached:
            raise TurnedAway(_UNREACHABLE, "another thread has just found that it cannot be reached")
        if self.node.is_resting():
            raise TurnedAway(_BUSY, f"is left alone for a moment: {self.node.backoff.cause}")

    def begins(self, conn: ServerConnection) -> None:
        """Let the node, or whoever watches, know the connection."""
        if self.watch is not None:
            self.watch(conn)
        else:
            self.node.opening(conn)

    def failed(self, exc: BaseException) -> None:
        """Note that the node could not be reached."""
        super().failed(exc)
        if ejects(mysql_meaning(exc), in_use=self.node.has_connections()):
            self.node.unreached += 1


def open_connection(opening: Opening, state: ThreadState, new_connection: Callable[[], C]) -> C:
    """Open a connection to MySQL or MariaDB, whatever driver it is of.

    Parameters:
        opening: whose it is.
        state: this thread's or task's, of the peewee database that connects.
        new_connection: makes a connection that is not opened yet.
    """
    lacks = driver.missing()
    if lacks:
        raise ConfigurationError(lacks)
    opening.before(state)
    try:
        conn = new_connection()
        opening.begins(conn)
        conn.connect()
        track_connection(conn)
        return conn
    except Exception as exc:
        if opening.guarded and isinstance(exc, OSError):
            # For the primary's own connection a program may expect the plain error; a read goes elsewhere.
            failure = tls_not_prepared(exc)
            opening.failed(failure)
            raise failure from exc
        opening.failed(exc)
        raise
