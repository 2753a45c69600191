"""The nodes of one database: the replicas, the primary as a node for reading, and who looks after them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from ..concurrency import new_lock
from ..events import Counters, NodeNews
from ..positions import Position
from ..scopes.frames import Units
from .node import Node
from .prober import Prober, ProbeSettings, WriteState
from .replica_set import ReplicaSet
from .setting_differences import Comparison

PRIMARY: Literal["primary"] = "primary"
"""What the primary is called in events, statistics and messages."""

COUNTED = (
    "primary", "fallbacks", "fallbacks_refused", "retries", "reruns", "refused", "observed", "asked",
    "unasked", "waits", "behind", "snapshots_lost", "hung_up", "positions_lost",
)  # fmt: skip
"""The counters of every database, in the order of ``db.stats()``."""


class Cluster:
    """All nodes of one database; also the identity by which scopes know that database.

    Parameters:
        replicas: the nodes that serve reads.
        reader: the primary, as a node for reading under the server's guard.
        settings: those that the prober follows.
        timed: whether the policy looks at latencies, so that they have to be kept.

    Attributes:
        news: tells the callables of ``node_hooks``.
        counters: the numbers of ``db.stats()`` that belong to no single node.
        prober: what looks how the nodes are; None: their health is learned from traffic alone.
        settings_met: what each node's settings were, to tell of differences that change results.
        generation: how often the primary was found to be one no longer; connections to it from before that
            are not used again.
        writes: what was seen of writes to the primary: ``"unseen"``: nothing; ``"taken"``; ``"lost"``: it has
            taken some and is read-only now; ``"refused"``: it is read-only, and was never seen to take any.
        on_primary_answer: called with the primary's identity and position each time the prober was told them.
        membership_lock: held while the list of replicas is exchanged.
        units: where each unit of work keeps to one node; None: each of its reads takes a turn of the policy.
    """

    def __init__(self, replicas: ReplicaSet, reader: Node, settings: ProbeSettings, *, timed: bool) -> None:
        self.settings = settings
        self.replicas = replicas
        self.reader = reader
        self.news = NodeNews()
        self.counters = Counters(*COUNTED)
        self.prober: Prober | None = None
        self.settings_met = Comparison()
        self.generation = 0
        self.writes: WriteState = "unseen"
        self.on_primary_answer: Callable[[str, Position | None], None] = lambda *_: None
        self.membership_lock = new_lock()
        self.units: Units | None = None
        self._timed = timed
        self._take_in(replicas.all)

    def _take_in(self, replicas: Iterable[Node]) -> None:
        for replica in replicas:
            replica.timed = self._timed
            replica.on_event = self.news.tell

    @property
    def primary_label(self) -> str:
        """The primary's name and address, for messages."""
        return f"the primary ({self.reader.address})"

    def nodes(self) -> list[Node]:
        """Every node that a thread may have a connection to for reading."""
        return list(dict.fromkeys((*self.replicas.all, *self.replicas.leaving, self.reader)))

    def change_replicas(self, nodes: Sequence[tuple[Node, int]], reader: Node) -> None:
        """Put these nodes, with these weights, in the place of the present ones."""
        before, self.reader = self.reader, reader
        self._take_in(replica for replica, _ in nodes)
        self.replicas.replace(nodes, besides=() if before is reader else (before,))
        if self.prober is not None:
            self.replicas.watch(True)
        self.settings_met.keep({PRIMARY, *(replica.name for replica in (*self.replicas.all, reader))})

    def known_positions(self) -> list[Position | None]:
        """What replicas are known to have executed, as far as they were asked."""
        return [replica.progress.reached for replica in self.replicas.all]

    def stats(self) -> dict[str, Any]:
        """The counters of ``db.stats()``."""
        numbers: dict[str, Any] = self.counters.snapshot()
        nodes = {replica.name: replica for replica in (*self.replicas.all, self.reader)}
        numbers["replicas"] = self.replicas.reads()
        for replica in nodes.values():
            numbers.update(replica.counters())
        return numbers
