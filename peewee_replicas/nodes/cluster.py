"""The nodes of one database: its replicas, and the primary as a node for reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from ..concurrency import Clock, new_lock
from ..events import CAUSES, Counters, NodeNews
from ..positions import Position
from ..scopes.frames import Units
from ..servers.protocols import ServerConnection
from .discovery import Discovery
from .failover import NOTHING_SEEN
from .node import Node
from .primary_state import UNKNOWN, PrimaryState
from .probe_records import ProbeSettings, WriteState
from .prober import Prober
from .replica_set import ReplicaSet
from .roles import Moved
from .setting_differences import Comparison
from .spec import NodeSpec

PRIMARY: Literal["primary"] = "primary"
"""The primary's name in events, statistics and messages."""

COUNTED = (
    "fallbacks", "fallbacks_refused", "retries", "reruns", "refused", "observed", "asked",
    "unasked", "waits", "behind", "discarded", "snapshots_lost", "hung_up", "positions_lost",
    "primary_changes",
)  # fmt: skip
"""The counters of every database that count one thing each, in the order of ``db.stats()``."""


class Cluster:
    """All nodes of one database; scopes identify the database by this object.

    Parameters:
        replicas: the nodes that serve reads.
        reader: the primary as a node for reads, over connections on which the server refuses writes.
        settings: the settings that the prober follows.
        timed: whether to record latencies, because the policy uses them.
        tagged: whether nodes may have tags; if not, what asks for tags accepts any node.

    Attributes:
        news: calls the ``node_hooks``.
        counters: the numbers of ``db.stats()`` that belong to no single node and have no causes.
        writer_causes: statements sent to the primary's own connections, by cause.
        reader_causes: reads sent to the primary on guarded connections, by cause.
        prober: probes the nodes; None: their health is learned from traffic alone.
        discovery: asks who the replicas are; None: the program has named them.
        settings_met: each node's settings, to log differences that change results.
        generation: how often the primary was found to have lost its role, or was moved; older connections to
            it are not used again.
        moved_at: the generation that began when the primary moved last; older connections lead elsewhere.
        moved: the node that takes the writes; None while the configured primary has never lost them.
        finding: what the prober's last look has shown of who is the primary.
        on_new_primary: called with the name of a node that has become the primary, and the reason in words.
        on_silence_left: called when the primary's address leads to another server than a silent one, with the
            time since which that one has answered nothing; returns how many connections to it were cut.
        is_awaited: returns whether a statement waits for its answer on a connection for writing.
        replaced: whether ``init()`` has given the database other nodes, so that these are not changed.
        immovable: why the primary cannot be moved, in words; or ``""``.
        writes: whether the primary takes writes. ``"unseen"``: not known; ``"taken"``: it was writable when
            last seen; ``"lost"``: it was writable and is read-only now; ``"refused"``: it was never seen
            writable, and is read-only.
        primary_state: the last finding about the primary, for `health`.
        on_primary_answer: called with the primary's identity and position each time the prober learns them.
        membership_lock: held while the list of replicas is replaced.
        units: keeps each unit of work on one node; None: the policy picks a node for each read.
    """

    def __init__(
        self, replicas: ReplicaSet, reader: Node, settings: ProbeSettings, *, timed: bool, tagged: bool = True
    ) -> None:
        self.tagged = tagged
        self.settings = settings
        self.replicas = replicas
        self.reader = reader
        self.news = NodeNews()
        self.counters = Counters(*COUNTED)
        self.writer_causes = Counters(*CAUSES)
        self.reader_causes = Counters(*CAUSES)
        self.prober: Prober | None = None
        self.discovery: Discovery | None = None
        self.settings_met = Comparison()
        self.generation = self.moved_at = 0
        self.moved: Moved | None = None
        self.finding = NOTHING_SEEN
        self.on_new_primary: Callable[[str, str], object] = lambda *_: None
        self.on_silence_left: Callable[[float], int] = lambda _: 0
        self.is_awaited: Callable[[], bool] = lambda: False
        self.replaced = False
        self.immovable = ""
        self.writes: WriteState = "unseen"
        self.primary_state: PrimaryState = UNKNOWN
        self.on_primary_answer: Callable[[str, Position | None], None] = lambda *_: None
        self.membership_lock = new_lock()
        self.units: Units | None = None
        self._timed = timed
        self._lock = new_lock()
        self._adopt(replicas.all)

    def _adopt(self, replicas: Iterable[Node]) -> None:
        for replica in replicas:
            replica.timed = self._timed
            replica.on_event = self.news.tell

    @property
    def follows(self) -> bool:
        """Whether writes go to a node that has become the primary."""
        return self.settings.follow_primary

    def roles_in_words(self) -> str:
        """Return who takes writes now, as far as the prober has seen, and why nobody is followed there."""
        if self.prober is None or not self.prober.at_work:
            return "no prober is at work to tell who takes writes now"
        others = [label for label in self.finding.leaders if label != self.reader.label]
        if not others:
            return "no other listed node is known to take writes now"
        words = f"{' and '.join(others)} takes writes now, as the prober has seen"
        if not self.follows:
            return words
        return f"{words}; not followed yet: {self.finding.words}"

    @property
    def primary_label(self) -> str:
        """The primary with its address, for messages."""
        return f"the primary ({self.reader.address})"

    def primary_is_away(self) -> bool:
        """Return whether the primary was found unreachable when somebody last looked."""
        if not self.primary_state.unreachable:
            return False
        probed = self.prober is not None and self.prober.at_work
        return bool(self.primary_state.current(Clock.monotonic(), probed=probed).unreachable)

    def nodes(self) -> list[Node]:
        """Return every node to which a thread may have a connection for reading."""
        return list(dict.fromkeys((*self.replicas.all, *self.replicas.leaving, self.reader)))

    def change_replicas(self, nodes: Sequence[tuple[Node, NodeSpec]], reader: Node) -> None:
        """Replace the present nodes with these, each with its configuration."""
        before, self.reader = self.reader, reader
        self._adopt(replica for replica, _ in nodes)
        self.replicas.replace(nodes, besides=() if before is reader else (before,))
        if self.prober is not None:
            self.replicas.watch(True)
        self.settings_met.keep({PRIMARY, *(replica.name for replica in (*self.replicas.all, reader))})

    def outdate_connections(self, generation: int | None = None, *, moved: bool = False) -> None:
        """Let no connection to the primary be used again that was opened before now.

        Parameters:
            generation: outdate only connections of this generation and older ones.
            moved: the primary has moved, so these connections lead to another server.
        """
        with self._lock:
            now = self.generation
            following = now + 1 if generation is None else max(now, generation + 1)
            if moved:
                self.moved_at = following
            self.generation = following

    def write_taken(self, conn: ServerConnection) -> bool:
        """Record that the primary has taken a write; return whether it had not been known to take any.

        Parameters:
            conn: the connection to it.
        """
        with self._lock:
            if conn.generation != self.generation:
                return False  # it may lead to a primary that others know to be read-only, or to have moved
            if self.writes == "lost":
                # The address may have been moved since others connected to a primary that was read-only.
                self.generation += 1
                conn.generation = self.generation
            self.writes = "taken"
        self.primary_state = UNKNOWN
        return True

    def stop_threads(self) -> None:
        """Stop the prober and the discovery until the next use."""
        if self.discovery is not None:
            self.discovery.stop()
        if self.prober is not None:
            self.prober.stop()

    def is_left_behind(self, generation: int) -> bool:
        """Return whether a connection of this generation leads to a server that was the primary once."""
        return generation < self.moved_at

    def known_positions(self) -> list[Position | None]:
        """Return the position that each replica is known to have reached; None if it was never asked."""
        return [replica.progress.reached for replica in self.replicas.all]

    def waits_for_itself(self) -> bool:
        """Return whether some node is a member of a Galera cluster, where each read waits by itself."""
        return any(replica.in_galera for replica in self.replicas.all)

    def stats(self) -> dict[str, Any]:
        """Return the counters of ``db.stats()``."""
        writer, reader = self.writer_causes.snapshot(), self.reader_causes.snapshot()
        numbers: dict[str, Any] = {"primary": sum(writer.values()), **self.counters.snapshot()}
        numbers.update({f"primary.because.{cause}": writer[cause] + reader[cause] for cause in CAUSES})
        nodes = {replica.name: replica for replica in (*self.replicas.all, self.reader)}
        numbers["replicas"] = self.replicas.reads()
        for replica in nodes.values():
            numbers.update(replica.counters())
        return numbers
