"""What was found out about the nodes of one database: records each node's answers, and that it gave none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from ..concurrency import Clock, new_lock
from ..events import Counters, NodeNews
from ..log import EventName, log_event
from ..positions import Position
from ..servers.error_meanings import in_words
from ..servers.identity import name_among_all
from .failover import Finding
from .fitness import ANOTHER_SERVER, primary_remark, role_change
from .interview import Facts
from .lag import Samples
from .node import Node
from .primary_state import PrimaryState
from .probe_history import ProbeHistory, Surroundings, surroundings
from .probe_line import Answer
from .replica_set import ReplicaSet
from .roles import Moved
from .waiting_reads import Tally

# Seconds in which an answer may still have come after the first question without one: it was on its way.
_ON_ITS_WAY = 0.1

WriteState = Literal["unseen", "taken", "lost", "refused"]


class ProbeSettings(Protocol):
    """The settings of a database that the prober uses."""

    @property
    def max_lag(self) -> float | None: ...
    @property
    def heartbeat_table(self) -> str | None: ...
    @property
    def follow_primary(self) -> bool: ...
    @property
    def max_connection_age(self) -> float | None: ...


class ProbedCluster(Protocol):
    """The nodes of one database, as the prober needs them.

    Attributes:
        replicas: the nodes that serve reads.
        reader: the primary; also one of the replicas if it is listed among them.
        writes: whether the primary takes writes; set by the prober when it finds the primary writable.
        primary_state: the last finding about the primary; set by the prober.
        finding: what the last look has shown of who is the primary; set by the prober.
        on_new_primary: called with the name of a node that has become the primary, and the reason in words.
        moved: the node that has taken the writes over; another value after each move of the primary.
        counters: counts the connections that the prober has cut.
        news: calls the user's hooks when something happens to the primary.
        settings: the database's settings.
        on_primary_answer: called with the primary's identity and position each time it reports them.
        on_silence_left: called when the primary's address leads to another server than a silent one, with the
            time since which that one has answered nothing; returns how many connections to it were cut.
        is_awaited: returns whether a statement waits for its answer on a connection for writing.
    """

    @property
    def replicas(self) -> ReplicaSet: ...
    @property
    def reader(self) -> Node: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def news(self) -> NodeNews: ...
    @property
    def moved(self) -> Moved | None: ...
    @property
    def settings(self) -> ProbeSettings: ...
    @property
    def on_primary_answer(self) -> Callable[[str, Position | None], None]: ...
    @property
    def on_silence_left(self) -> Callable[[float], int]: ...
    @property
    def is_awaited(self) -> Callable[[], bool]: ...

    def outdate_connections(self) -> None:
        """Let no connection to the primary be used again that was opened before now."""

    @property
    def on_new_primary(self) -> Callable[[str, str], object]: ...

    writes: WriteState
    primary_state: PrimaryState
    finding: Finding


class Findings:
    """What is known of one node from its probes.

    Attributes:
        history: what its probes have found.
        looked: it has been probed, and the primary before it.
        asked_at: when the first of the questions was sent whose answers `history` has, by a monotonic clock.
        failed_at: when the last attempt to ask it failed, by a monotonic clock.
        said: the problem logged last; ``""`` once the node has answered again.
        opened: the number of the connection that reported its position last; 0: none has.
        tally: what has been counted of its reads.
    """

    def __init__(self) -> None:
        self.history = ProbeHistory()
        self.looked = False
        self.asked_at = self.failed_at = float("-inf")
        self.said = ""
        self.opened = 0
        self.tally = Tally()


class ProbeRecords:
    """The findings about the nodes of one database.

    Parameters:
        cluster: the nodes, which learn what is found.

    Attributes:
        sampled: set once the primary has been asked for its position, or could not be asked.
        findings: what is known of each node.
    """

    def __init__(self, cluster: ProbedCluster) -> None:
        self._cluster = cluster
        # Nodes that are being connected to have threads of their own.
        self._lock = new_lock()
        self.forget()

    def forget(self) -> None:
        """Forget all findings, because another primary follows, or the nodes were not probed for a while."""
        with self._lock:
            self.samples = Samples()
            self.sampled = threading.Event()
            self.findings: dict[Node, Findings] = {}

    def keep(self, nodes: Iterable[Node], *, on_other_connections: bool) -> None:
        """Forget the findings about all other nodes.

        Parameters:
            nodes: the nodes that are probed from now on.
            on_other_connections: whether other connections probe them than until now.
        """
        with self._lock:
            self.findings = {node: self.findings.get(node) or Findings() for node in nodes}
            if on_other_connections:
                for found in self.findings.values():
                    found.opened = 0

    def all_looked(self) -> bool:
        """Return whether every node has been probed, each replica after the primary."""
        return all(found.looked for found in self.findings.values())

    def ask_primary(self) -> None:
        """Record that the primary is being asked."""
        with self._lock:
            self.samples.ask()

    def missed(self, node: Node) -> None:
        """Record that a node could not be asked."""
        if node is self._cluster.reader:
            with self._lock:
                self.samples.miss()

    def goal(self, node: Node) -> Position | None:
        """Return the position of the primary that a node is asked to reach; None for the primary itself."""
        return None if node is self._cluster.reader else self.samples.newest

    def take(self, replica: Node, answer: Answer) -> None:
        """Record a node's answers."""
        cluster, told = self._cluster, answer.told
        found = self.findings.get(replica)
        if replica.removed or found is None:
            return
        found.asked_at = answer.asked_at
        compared = replica is cluster.reader or self.sampled.is_set()
        changed = ""
        around = self._surroundings(replica)
        with self._lock:
            if replica is cluster.reader:
                self.samples.add(answer.asked_at, answer.answered_at, told)
                changed = self._note_changed_role(found, told)
                read_only = told.read_only and not told.member
                cluster.primary_state = PrimaryState(read_only=read_only, found_at=answer.answered_at)
                cluster.on_primary_answer(name_among_all(told.variables), told.sample)
            fitness = found.history.assess(
                told, answer.answered_at, around, serves=replica in cluster.replicas.all,
                listed=replica.is_primary, max_lag=replica.max_lag_within(cluster.settings.max_lag),
            )  # fmt: skip
        if changed:
            log_event(
                "primary_changed",
                "%s %s, so connections to it are made anew",
                replica.title,
                changed,
                node=replica.name,
                cause=changed,
            )
        if changed == ANOTHER_SERVER and answer.silent_since is not None:
            # The server of before is silent and no longer the primary: what waits there would wait for ever.
            since = answer.silent_since + _ON_ITS_WAY
            cut = cluster.on_silence_left(since) + replica.leave_silent(since)
            cluster.counters.add("hung_up", cut)
        if found.said:
            found.said = ""
            log_event("node_probed_again", "%s answers the prober again", replica.title, node=replica.name)
        if replica is cluster.reader:
            takes_none = told.read_only and not told.member
            news = primary_remark(told) if takes_none else ""
            cluster.news.tell_of_primary("read_only" if takes_none else "up", news)
        if answer.complaint:
            complaint = answer.complaint
            log_event(
                "heartbeat_unreadable",
                "%s: %s; lag is taken from positions instead",
                replica.title,
                complaint,
                node=replica.name,
                cause=complaint,
            )
        progress = replica.progress
        # While a node that follows nobody serves reads, what it has applied counts as well.
        follows = fitness.role == "replica" or (fitness.role == "detached" and fitness.state == "up")
        if follows and told.position is not None and told.server.server_id:
            if progress.server in (None, told.server.text):
                fresh = found.opened != answer.opened
                progress.learn(told.server.text, told.position, fresh=fresh, now=answer.answered_at)
            found.opened = answer.opened
        replica.in_galera = told.galera
        reached = told.sample if fitness.role == "primary" else told.position
        replica.probed(fitness, None if reached is None else reached.text())
        found.looked = found.looked or compared

    def _surroundings(self, replica: Node) -> Surroundings:
        cluster, findings = self._cluster, self.findings

        def told(other: Node) -> Facts | None:
            found = findings.get(other)
            return None if found is None else found.history.told

        looked = [found.looked for other, found in findings.items() if other is not replica]
        return surroundings(
            replica, cluster.reader, cluster.replicas.all, told, self.samples, complete=all(looked)
        )

    def _note_changed_role(self, found: Findings, told: Facts) -> str:
        history = found.history
        server = None if history.told is None else history.told.server
        read_only = history.read_only
        if read_only is None and self._cluster.writes == "taken":
            read_only = False  # it took a write before the first probe
        words = role_change(told, server, read_only)
        if words:
            self._cluster.outdate_connections()
        history.read_only = told.read_only
        if not told.read_only:
            self._cluster.writes = "taken"
        return words

    def failed(self, node: Node) -> None:
        """Record that an attempt to ask a node has failed."""
        found = self.findings.get(node)
        if found is not None:
            found.looked, found.failed_at = True, Clock.monotonic()

    def unprobed(self, replica: Node, exc: Exception) -> None:
        """Log once that a node cannot be probed. This alone does not take a replica out of rotation."""
        found = self.findings.get(replica)
        if found is None:
            return
        cause = in_words(exc)
        plain_primary = replica not in self._cluster.replicas.all
        if plain_primary and not found.said:
            self._cluster.news.tell_of_primary("down", cause)
        if type(exc).__name__ + str(exc.args[:1]) != found.said:
            found.said = type(exc).__name__ + str(exc.args[:1])
            event: EventName = "primary_silent" if plain_primary else "node_not_probed"
            what = (
                "does not answer the prober"
                if plain_primary
                else "cannot be probed, so its state is not known"
            )
            log_event(event, "%s %s: %s", replica.title, what, cause, node=replica.name, cause=cause)
