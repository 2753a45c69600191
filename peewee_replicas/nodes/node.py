"""A node, as the library sees it: its connections, state and counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..concurrency import THREADS, Clock, Here, Registry, chance, new_lock
from ..consistency.progress import Progress
from ..log import EventName, log_event
from ..servers.protocols import ServerConnection
from .breaker import Backoff, Breaker
from .fitness import Fitness
from .health import NodeHealth
from .latency import Latency
from .member_delays import MemberDelays
from .read_faults import ReadFaults
from .replica import Replica
from .spec import NodeSpec, host_and_port
from .tags import tags_in_words

# Log at most this many missing objects per replica, each once; more would be noise and grow without bound.
_LACKING_NOTED = 100
_BEHIND = (
    "a read waited in vain for it to catch up with its Galera cluster (1205); compare wsrep_local_recv_queue "
    "there with the other members'"
)


class Node:
    """A node that serves reads. Users see it as a `Replica`, its `handle`.

    Attributes:
        handle: the `Replica` that users receive.
        name: its name in events, errors and statistics.
        address, weight, tags, current_weight, in_flight, is_primary, role, lag, position: as in `Replica`.
        max_lag: the lag in seconds above which it is not used; None: no bound; ``"database"``: the
            database's own bound.
        unreached: how often connecting to it has failed.
        failed_at: when a thread last failed to connect, until that thread has told the node; None otherwise.
        removed: whether `set_replicas` has removed it.
        unready: whether it accepted a connection and then refused to serve; it is asked before its next use.
        timed: whether to record `latency`, because the policy may use it.
        hindrance: why it gets no reads although it answers, in words; or ``""``.
        away: whether nothing answered when it last left the rotation.
    """

    def __init__(
        self,
        spec: NodeSpec,
        address: str,
        make: Callable[[Node], object],
        *,
        is_primary: bool = False,
        here: Here = THREADS,
    ) -> None:
        self.handle = Replica(self)
        self.name = spec.name or address
        self.address = address
        self.weight = spec.weight
        self.tags = spec.tags
        self.max_lag = spec.max_lag
        self.current_weight = float(spec.weight)
        self.overrides = spec.overrides
        self.is_primary = is_primary
        self.away = False
        self._in_flight: set[object] = set()
        self.breaker = Breaker(chance, here.current)
        self.backoff = Backoff(chance)
        self.unready = False
        self.progress = Progress()
        self.on_change: Callable[[], None] = lambda: None
        self.on_event: Callable[[Node, str, str], None] = lambda *_: None
        self.role: str | None = "primary" if is_primary else None
        self.in_galera = False
        self.lag: float | None = 0.0 if is_primary else None
        self.position: str | None = None
        self.hindrance = ""
        self._fitness = "up"
        self._remark = ""
        self.removed = False
        self.timed = False
        self.reads = 0
        self.booked_reads = 0
        self.connections = 0
        self.unreached = 0
        self.failed_at: float | None = None
        self.ejections = 0
        self.restorations = 0
        self._read_faults = ReadFaults()
        self._member_delays = MemberDelays()
        self._lacking: set[str] = set()
        self._lock = new_lock()
        self._make = make
        self._database: object = None
        self._latency = Latency()
        self._opened: Registry[ServerConnection] = Registry()
        self._opening: set[ServerConnection] = set()

    def __repr__(self) -> str:
        return f"<Node {self.label} {self.state}>"

    @property
    def host(self) -> str | None:
        """The host's name or address; None if it is reached through a socket."""
        host, port = host_and_port(self.address)
        return None if port is None else host

    @property
    def port(self) -> int | None:
        """The port; None if it is reached through a socket."""
        return host_and_port(self.address)[1]

    @property
    def label(self) -> str:
        """Its name and address, for messages."""
        # With and without the guard it is one server, so messages give it one name.
        name = "the primary" if self.is_primary and self.name == "primary" else self.name
        return self.name if self.name == self.address else f"{name} ({self.address})"

    @property
    def title(self) -> str:
        """The label, to begin a log message with."""
        return self.label if self.is_primary and self.name == "primary" else f"replica {self.label}"

    @property
    def state(self) -> str:
        """Whether reads go there, in one word: see `Replica.state`."""
        if self.removed:
            return "removed"
        return "ejected" if self.breaker.open else self._fitness

    @property
    def serves(self) -> bool:
        """Whether it may serve reads; its weight does not count here."""
        return not (self.breaker.open or self.hindrance)

    @property
    def cause(self) -> str:
        """Why it is not in rotation, in words; or ``""``."""
        return self.breaker.cause or self.hindrance

    def max_lag_within(self, databases: float | None) -> float | None:
        """Return the lag in seconds above which it is not used, or None.

        Parameters:
            databases: the database's own bound.
        """
        return databases if self.max_lag == "database" else self.max_lag

    def adopt(self, spec: NodeSpec) -> None:
        """Take over what may change while its connections stay."""
        self.weight, self.tags, self.max_lag = spec.weight, spec.tags, spec.max_lag

    def health(self, now: float, *, probed: bool) -> NodeHealth:
        """Return what is known of it.

        Parameters:
            now: a monotonic clock's reading, in seconds.
            probed: whether the prober is at work. If not, the next read tries an ejected node again.
        """
        usable = bool(self.weight) and (self.serves or (not probed and self.breaker.due(now)))
        cause = self.cause or ("" if self.weight else "weight 0")
        return NodeHealth(self.name, self.address, self.state, self.role, self.lag, cause, usable)

    def eject(self, reason: str) -> None:
        """Take the node out of rotation until `restore` is called.

        Parameters:
            reason: why, in words; it appears in the log and in errors.
        """
        self.breaker.eject(reason)
        log_event("node_ejected", "%s ejected by hand: %s", self.title, reason, node=self.name, cause=reason)
        self.on_change()
        self.on_event(self, self.state, reason)

    def restore(self) -> None:
        """Put the node back into rotation now."""
        self.breaker.restore()
        log_event("node_restored", "%s restored by hand", self.title, node=self.name)
        self.on_change()
        self.on_event(self, self.state, self.cause)

    def after_fork(self) -> None:
        """Forget the parent's connections and threads, in a forked child."""
        self._database = None
        self._opened = Registry()
        self._opening.clear()
        self._in_flight.clear()
        self.progress.waiters.clear()
        self.breaker.forget_try()

    @property
    def database(self) -> object:
        """The peewee database of this node alone, made on first use, when a subclass is complete.

        The node only stores it; the room `connections` makes and uses it.
        """
        if self._database is None:
            # Two threads may both make one; the first to return wins, and the other is dropped.
            made = self._make(self)  # runs a user's constructors, so not under the lock
            with self._lock:
                if self._database is None:
                    self._database = made
        return self._database

    @property
    def made(self) -> object:
        """The node's database, or None if it has not been made yet."""
        return self._database

    @property
    def latency(self) -> float | None:
        """Seconds that recent reads took here, measured by this process; None if unknown.

        It fades while the node is not read from, so that a node that was slow is tried again.
        """
        return self._latency.at(Clock.monotonic())

    @property
    def in_flight(self) -> int:
        """Return the number of reads that were sent and are not finished."""
        return len(self._in_flight)

    @property
    def waiting(self) -> int:
        """The number of reads that wait for an answer or for it to catch up, and of connections being opened.

        A read that was sent together with a wait counts twice.
        """
        return len(self._in_flight) + len(self._opening) + len(self.progress.waiters)

    @property
    def answers(self) -> int:
        """A number that grows with each finished read and each opened connection."""
        # In this order, as `start` counts a read last: it must not seem to grow when one starts in between.
        started = self.reads + self.connections
        return started - len(self._in_flight)

    def start(self, read: object, counted: bool = True) -> float:
        """Record one read as sent; return the value to pass to `finish`.

        Parameters:
            read: an object that identifies this read, and no other read in flight.
            counted: whether to count it; if not, `count_read` does later, if its result was used.
        """
        # A set instead of a counter, because removing a read twice is harmless: an interrupt may come between
        # any two steps, and the clean-up after it removes the read again.
        self._in_flight.add(read)
        with self._lock:
            self.reads += counted
        return Clock.monotonic() if self.timed else 0.0

    def count_read(self) -> None:
        """Count one read that was started without being counted."""
        with self._lock:
            self.reads += 1

    def finish(self, read: object, started: float = 0.0, *, failed: bool = False) -> None:
        """Record one read as finished, unless it is already.

        Parameters:
            read: the same as for `start`.
            started: the value that `start` returned.
            failed: whether the read failed.
        """
        self._in_flight.discard(read)
        if started:
            now = Clock.monotonic()
            with self._lock:
                add = self._latency.add_failure if failed else self._latency.add
                add(now - started, now)

    def connected(self, conn: ServerConnection) -> None:
        """Count one opened connection, and bring the node back into rotation if it was out."""
        with self._lock:
            self.connections += 1
            self._opened.add(conn)
        self.backoff.end()
        self.works()

    def has_connections(self) -> bool:
        """Return whether any thread, pool or snapshot has a connection to it."""
        with self._lock:
            return any(conn.open for conn in self._opened.all())

    def back_off(self, cause: str) -> None:
        """Pause new connections, because none can be opened now; the node stays in rotation."""
        if self.backoff.begin(Clock.monotonic(), cause):
            log_event(
                "node_backs_off",
                "%s gets no new connections for a moment; open ones stay in use: %s",
                self.title,
                cause,
                node=self.name,
                cause=cause,
            )

    def is_resting(self) -> bool:
        """Return whether new connections are paused now."""
        return self.backoff.holds(Clock.monotonic())

    def failed(self, cause: str, *, refuses: bool = False) -> None:
        """Take the node out of rotation for a while, because it could not be reached.

        Parameters:
            refuses: whether it answers, and refuses connections for reading.
        """
        self.away = not refuses
        self._leave(cause, None)

    def back(self) -> None:
        """Bring the node back into rotation if it left because nothing answered, as something answers now."""
        if self.away:
            self.works()

    def cannot_read(self, cause: str) -> None:
        """Record that a read failed here because of the node's disk or memory, and another node served it.

        The first time is only logged. If it happens again, the node leaves the rotation.
        """
        if self.breaker.open:
            return
        absence = self._read_faults.note(Clock.monotonic())
        if absence is None:
            log_event(
                "node_cannot_read",
                "%s could not serve a read that another node could serve; if this happens again, it gets no "
                "reads: %s",
                self.title,
                cause,
                node=self.name,
                cause=cause,
            )
        else:
            self.away = False
            self._leave(f"{cause}; other nodes can serve what it cannot", absence)

    def fell_behind(self) -> None:
        """Take a member of a Galera cluster out of rotation, because a read waited in vain for it."""
        if not self.breaker.open:  # many reads may have waited at once
            self.away = False
            self._leave(_BEHIND, self._member_delays.note(Clock.monotonic()))

    def lacks(self, what: str) -> None:
        """Log, once, that a read failed here and not on the primary, because something has not arrived here.

        Parameters:
            what: what has not arrived, in words.
        """
        with self._lock:
            known = what in self._lacking or len(self._lacking) >= _LACKING_NOTED
            if not known:
                self._lacking.add(what)
        if not known:
            log_event(
                "node_lacks_object",
                "%s is behind the primary or differs from it: %s. Reads that meet this run twice: "
                "there and on the primary",
                self.title,
                what,
                node=self.name,
                cause=what,
            )

    def _leave(self, cause: str, absence: float | None) -> None:
        if self.breaker.fail(Clock.monotonic(), cause, absence):
            self.ejections += 1
            log_event("node_ejected", "%s ejected: %s", self.title, cause, node=self.name, cause=cause)
            self.on_change()
            self.on_event(self, self.state, cause)

    def counters(self) -> dict[str, Any]:
        """Return this node's part of ``db.stats()``."""
        names = ("reads", "in_flight", "connections", "ejections", "restorations", "state", "role", "lag")
        found = {f"{self.name}.{name}": getattr(self, name) for name in names}
        found[f"{self.name}.tags"] = tags_in_words(self.tags)
        return found

    def works(self) -> None:
        """Bring the node back into rotation after a successful try."""
        if self.breaker.succeed():
            self.restorations += 1
            log_event("node_restored", "%s restored", self.title, node=self.name)
            self.on_change()
            self.on_event(self, self.state, self.cause)

    # What the prober finds

    def probed(self, fitness: Fitness, position: str | None) -> None:
        """Record the findings of a probe.

        Parameters:
            fitness: the verdict.
            position: the node's position, in the server's notation; None if unknown.
        """
        self.lag, self.role, self.position = fitness.lag, fitness.role, position
        self.hindrance = fitness.cause if fitness.state != "up" else ""
        if self._fitness != fitness.state:
            self.on_change()  # before `state` shows it
            self._fitness = fitness.state
            if fitness.state == "up":
                log_event("node_fit", "%s is fit for reads again", self.title, node=self.name)
            else:
                event: EventName = "node_lagging" if fitness.state == "lagging" else "node_unfit"
                log_event(
                    event,
                    "%s is %s, and gets no reads: %s",
                    self.title,
                    fitness.state,
                    fitness.cause,
                    node=self.name,
                    cause=fitness.cause,
                )
            if not self.breaker.open:
                self.on_event(self, self.state, fitness.cause)
        if fitness.remark != self._remark:
            self._remark = fitness.remark
            if fitness.remark:
                log_event(
                    "node_remark", "%s %s", self.title, fitness.remark, node=self.name, cause=fitness.remark
                )

    def await_probe(self, why: str) -> None:
        """Give the node no reads until a probe has found it fit."""
        self.hindrance, self._fitness = why, "unfit"

    def unwatched(self) -> None:
        """Forget the lag, because nobody probes the node any more."""
        # The primary never lags itself, whether probed or not.
        if not self.is_primary:
            self.lag = None

    def opening(self, conn: ServerConnection) -> None:
        """Record a connection that is being opened; call `opening_ended` next."""
        with self._lock:
            self._opened.add(conn)
        self._opening.add(conn)

    def opening_ended(self, conn: ServerConnection) -> None:
        """Record that a connection is open, or could not be opened."""
        self._opening.discard(conn)

    def heard_within(self, seconds: float) -> bool:
        """Return whether anything has arrived from it in this time, even if nobody has read it yet.

        Connections that are being opened do not count: a host accepts them for a server that hangs.
        """
        with self._lock:
            opened = self._opened.all()
        return any(conn not in self._opening and conn.heard_within(seconds) for conn in opened)

    def take_connections_of(self, other: Node) -> None:
        """Count the connections of another node as this one's: it is the same server in another role."""
        with self._lock:
            for conn in other._opened.all():
                self._opened.add(conn)

    def leave_silent(self, since: float) -> int:
        """Cut the connections to a server that has left this address; see `hang_up_unheard`."""
        with self._lock:
            opened = self._opened.all()
        return hang_up_unheard(opened, since)

    def hang_up(self) -> int:
        """Cut all connections of this process to the node, even those in use; return their number."""
        with self._lock:
            opened = self._opened.all()
        return sum(conn.hang_up() for conn in opened)


def hang_up_unheard(connections: Iterable[ServerConnection], since: float) -> int:
    """Cut older connections on which nothing has arrived since a time; return how many were cut.

    Where the kernel does not tell when something has arrived, all that are older are cut.

    Parameters:
        since: the reading of a monotonic clock, in seconds.
    """
    seconds = Clock.monotonic() - since
    silent = [conn for conn in connections if conn.opened_at < since and not conn.heard_within(seconds)]
    return sum(conn.hang_up() for conn in silent)
