"""Open one connection, unless it is pointless to try, and notify those who watch it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import TypeVar

from peewee import OperationalError

from ..concurrency import Clock, Registry, chance, track_connection
from ..errors import ConfigurationError
from ..nodes.breaker import FIRST_PAUSE
from ..nodes.cluster import Cluster
from ..nodes.node import Node, hang_up_unheard
from ..nodes.probe_run import timed_out
from ..nodes.replica import Replica
from ..servers.protocols import ServerConnection
from ..servers.wire import driver
from ..servers.wire.system_errors import system_failure, tls_not_prepared
from .diagnosis import CONNECTING, GIVEN_UP, mysql_meaning
from .failures import TREATMENTS, ejects
from .passwords import RunSource, run_here, with_password
from .peewee_types import ThreadState

_UNREACHABLE = 2003  # CR_CONN_HOST_ERROR
_BUSY = 1040  # ER_CON_COUNT_ERROR
# A server waits for the answers of a client that connects, by default for 10 s (its `connect_timeout`). One
# that ends an attempt after so long has not failed: this client was stopped, or its interpreter or event loop
# blocked.
_GIVEN_UP_SECONDS = 5.0
# For how long a thread that failed may be on its way to ejecting the node. That takes less than a millisecond
# unless the machine is busy. A thread that is interrupted on the way does not eject it at all; then nobody
# connects for no longer than if it had.
_ON_THE_WAY_SECONDS = FIRST_PAUSE
_ENDED = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE})


class TurnedAway(OperationalError):
    """A node is not tried, because another thread has just failed to connect to it."""


C = TypeVar("C", bound=ServerConnection)


class Opening:
    """Opens the connections of one peewee database: in this class, the primary's for writing.

    Parameters:
        cluster: the nodes.

    Attributes:
        guarded: whether the server is asked to refuse writes on these connections.
        node: the node for reading to which they lead; None for the primary's connections for writing.
        watch: called with each connection before it is opened; used by the prober.
    """

    guarded = False
    node: Node | None = None
    watch: Callable[[ServerConnection], None] | None = None

    @property
    def handle(self) -> Replica:
        """The node as users see it."""
        return self.cluster.reader.handle

    @property
    def removed(self) -> bool:
        """Whether the node was removed from the list of replicas."""
        return False

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._opened: Registry[ServerConnection] = Registry()

    def is_outdated(self, conn: ServerConnection) -> bool:
        """Return whether a connection leads to a server that is no longer the primary."""
        return bool(conn.generation != self.cluster.generation)

    def is_old(self, conn: ServerConnection) -> bool:
        """Return whether an idle connection is to be replaced because of its age."""
        return conn.expires is not None and Clock.monotonic() >= conn.expires

    def is_spent(self, conn: ServerConnection) -> bool:
        """Return whether an idle connection is to be replaced, for whichever of these reasons."""
        return self.removed or self.is_outdated(conn) or self.is_old(conn)

    def opened(self, conn: ServerConnection) -> None:
        """Set how old a new connection is and may get; not all the same, or all would be replaced at once."""
        conn.opened_at = Clock.monotonic()
        age = self.cluster.settings.max_connection_age
        if age is not None:
            conn.expires = conn.opened_at + age * (1 - chance() / 5)

    def before(self, state: ThreadState) -> None:
        """Check whether to connect when this thread's turn comes; may raise `TurnedAway`."""

    def begins(self, conn: ServerConnection) -> None:
        """Notify the watchers of a connection before it is opened."""
        self._opened.add(conn)

    def ended(self, conn: ServerConnection) -> None:
        """Notify the watchers that a connection is open, or could not be opened."""

    def leave_behind(self, *, all_of_them: bool) -> int:
        """Cut connections that lead to a server that was the primary once; return how many there are.

        Parameters:
            all_of_them: whether to cut also those that run a statement now, and those that their threads
                will replace at their next statement.
        """
        old = [conn for conn in self._opened.all() if self.cluster.is_left_behind(conn.generation)]
        for conn in old:
            # An idle connection with a transaction is cut too: its locks must not outlast the primary's role.
            if all_of_them or not (conn.executing or conn.busy or conn.replaceable):
                conn.hang_up()
        return len(old)

    def leave_silent(self, since: float) -> int:
        """Cut the connections to a server that has left this address; see `hang_up_unheard`."""
        return hang_up_unheard(self._opened.all(), since)

    def is_awaited(self) -> bool:
        """Return whether a statement waits for its answer on one of these connections."""
        return any(conn.executing for conn in self._opened.all())

    def failed(self, exc: BaseException) -> None:
        """Mark the error of a failed attempt, before the next thread's turn."""
        setattr(exc, CONNECTING, True)  # some errors, such as a refused user, mean more while connecting


class NodeOpening(Opening):
    """Opens the connections of a node that serves reads.

    Parameters:
        cluster: the nodes.
        node: the node.
        watch: called with each connection before it is opened, instead of the node; used by the prober.
    """

    guarded = True
    node: Node

    def __init__(
        self, cluster: Cluster, node: Node, watch: Callable[[ServerConnection], None] | None = None
    ) -> None:
        super().__init__(cluster)
        self.node = node
        self.watch = watch
        self._gave_up = False

    @property
    def handle(self) -> Replica:
        """The node as users see it."""
        return self.node.handle

    @property
    def removed(self) -> bool:
        """Whether `set_replicas` removed the node."""
        return self.node.removed

    def is_outdated(self, conn: ServerConnection) -> bool:
        """Return whether a connection is outdated; only the primary's connections for reading can be."""
        return self.node.is_primary and super().is_outdated(conn)

    def is_spent(self, conn: ServerConnection) -> bool:
        """Return whether an idle connection is to be replaced."""
        # Under asyncio asked twice for each read, and for most the first line is the answer.
        if conn.expires is None and not self.node.is_primary:
            return self.node.removed
        return super().is_spent(conn)

    def before(self, state: ThreadState) -> None:
        """Raise `TurnedAway` if the node was found unreachable while this thread waited, or is busy.

        Threads connect one at a time. Without this, a hung node would cost each of them a full time-out. One
        that was turned away may be back, for its next statement, before the one that failed has ejected the
        node.
        """
        if self.node.unreached != state.unreached or self._about_to_be_ejected():
            raise TurnedAway(_UNREACHABLE, "another thread has just found that it cannot be reached")
        if self.node.is_resting():
            raise TurnedAway(_BUSY, f"gets no new connections for a moment: {self.node.backoff.cause}")

    def begins(self, conn: ServerConnection) -> None:
        """Notify the node, or the watcher, of a connection about to be opened."""
        if self.watch is not None:
            self.watch(conn)
        else:
            self.node.opening(conn)

    def ended(self, conn: ServerConnection) -> None:
        """Notify the node that a connection is open, or could not be opened."""
        self.node.opening_ended(conn)

    def opened(self, conn: ServerConnection) -> None:
        """Set how old a new connection is and may get, as above."""
        super().opened(conn)
        self._gave_up = False

    def failed(self, exc: BaseException) -> None:
        """Mark the error, and count it if it means that the node is unreachable."""
        super().failed(exc)
        if getattr(exc, GIVEN_UP, False) and not self._gave_up:
            # Once, it may be due to a stop of this client. A proxy without servers gives up every attempt.
            self._gave_up = True
            return
        if ejects(mysql_meaning(exc), in_use=self.node.has_connections()):
            self.node.unreached += 1
            # The prober judges for itself, and an attempt that the server gave up is made once more.
            if self.watch is None and not getattr(exc, GIVEN_UP, False):
                self.node.failed_at = Clock.monotonic()

    def _about_to_be_ejected(self) -> bool:
        failed_at = self.node.failed_at
        if failed_at is None or self.watch is not None:
            return False
        return 0 <= Clock.monotonic() - failed_at < _ON_THE_WAY_SECONDS


def open_connection(
    opening: Opening,
    state: ThreadState,
    parameters: Callable[[], Mapping[str, object]],
    new_connection: Callable[[Mapping[str, object]], C],
    ask: RunSource = run_here,
) -> C:
    """Open a connection to MySQL or MariaDB, with either driver.

    Parameters:
        opening: the rules and watchers for this connection.
        state: peewee's state of this thread or task for the database that connects.
        parameters: returns the driver's arguments.
        new_connection: creates a connection from the arguments, without opening it.
        ask: runs a callable that the program gave as password.
    """

    def connect(arguments: Mapping[str, object]) -> C:
        conn = new_connection(arguments)
        conn.generation = generation
        began = Clock.monotonic()
        try:
            opening.begins(conn)
            conn.connect()
        except Exception as exc:
            if Clock.monotonic() - began >= _GIVEN_UP_SECONDS and _ended_by_server(exc):
                setattr(exc, GIVEN_UP, True)
            raise
        finally:
            opening.ended(conn)
        opening.opened(conn)
        if opening.watch is None:  # the prober sends nothing of the program's
            conn.report_to_tools()
        track_connection(conn)
        return conn

    lacks = driver.missing()
    if lacks:
        raise ConfigurationError(lacks)
    opening.before(state)
    # Read before the parameters, so that a move in the meantime outdates this connection.
    generation = opening.cluster.generation
    try:
        return with_password(parameters(), opening.handle, connect, ask)
    except Exception as exc:
        if opening.guarded and isinstance(exc, OSError):
            # A read can go elsewhere. For the primary's own connection, programs may expect the plain error.
            failure = tls_not_prepared(exc)
            opening.failed(failure)
            raise failure from exc
        opening.failed(exc)
        raise


def _ended_by_server(exc: Exception) -> bool:
    """Return whether an attempt to connect failed because the other side ended it, without a reason."""
    cause = system_failure(exc)
    if timed_out(exc):
        return False
    if cause is None:
        return TREATMENTS[mysql_meaning(exc)].node == "drop"
    # A look-up of a name, or a route, may also take long to fail.
    return cause.about == "tls" or cause.errno in _ENDED
