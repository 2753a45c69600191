"""The set of nodes that serve reads: which are in rotation, warming up, or removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..concurrency import Clock, new_lock
from .node import Node
from .spec import NodeSpec
from .warm_up import WarmUp

# Seconds between two checks for open connections to removed nodes.
_LOOK_AGAIN = 1.0


class ReplicaSet:
    """All nodes that serve reads.

    `usable` is an immutable tuple that is replaced in one assignment, so reading it needs no lock. Any
    change, even of a weight, makes a new tuple, so a policy can detect changes by its identity.

    Attributes:
        all: every replica, in the order given.
        usable: the replicas in rotation now.
        ejected: the replicas with a weight above 0 that are out of rotation.
        leaving: removed nodes to which connections are still open.
        unwatched: whether the next read has to start the prober.
        undiscovered: whether the next statement has to start asking who the replicas are.
        ages: whether connections have a greatest age, so that each statement looks for old ones.
        unsettled: whether the set needs upkeep before the next statement runs.
    """

    def __init__(self, replicas: Sequence[Node], *, ages: bool = False) -> None:
        self.all = tuple(replicas)
        self.usable: tuple[Node, ...] = ()
        self.ejected: tuple[Node, ...] = ()
        self.leaving: tuple[Node, ...] = ()
        self.ages = ages
        self.unwatched = False
        self.undiscovered = False
        self.unsettled = False
        self._lock = new_lock()
        self._warm_up = WarmUp()
        self._past_reads = 0
        self._look_at = 0.0
        self._arrangements = 0
        for replica in self.all:
            replica.on_change = self._refresh
        self._refresh()

    def _refresh(self) -> None:
        with self._lock:
            self._arrange(Clock.monotonic())

    def _arrange(self, now: float) -> None:
        self._arrangements += 1
        this = self._arrangements
        # A weight of 0 means no reads, so policies never see such a node.
        weighted = [replica for replica in self.all if replica.weight]
        usable = tuple([replica for replica in weighted if replica.serves])
        ejected = tuple([replica for replica in weighted if replica.breaker.open])
        shares = self._warm_up.shares(usable, self.usable, now)
        for replica in usable:
            if this == self._arrangements:
                replica.current_weight = replica.weight * shares[replica]
        if this == self._arrangements:  # otherwise a signal handler has just ejected or restored a node
            self.usable, self.ejected = usable, ejected
        self._note()

    def _note(self) -> None:
        # No calls here: a signal handler could run during one, and its changes must not be undone.
        upkeep = self.unwatched or self.ejected or self.leaving or self._warm_up.next_step is not None
        busy = upkeep or self.ages or self.undiscovered
        self.unsettled = True if busy else False  # noqa: SIM210  # bool() would be a call

    def warm_up(self, now: float) -> None:
        """Raise the weights of nodes that are warming up, if the next step is due."""
        due = self._warm_up.next_step
        if due is not None and now >= due:
            with self._lock:
                self._arrange(now)

    def replace(self, nodes: Iterable[tuple[Node, NodeSpec]], *, besides: Sequence[Node] = ()) -> None:
        """Make these the nodes of the set, with these weights and tags, and remove the others.

        Parameters:
            nodes: each with its configuration.
            besides: nodes outside the set to remove too.
        """
        with self._lock:
            specs = dict(nodes)
            gone = [replica for replica in dict.fromkeys((*self.all, *besides)) if replica not in specs]
            for replica in gone:
                replica.removed = True
                if replica not in self.all:
                    replica.booked_reads = replica.reads  # reads so far went to the primary, not to a replica
            for replica, spec in specs.items():
                replica.adopt(spec)
                replica.on_change = self._refresh
            # Other threads may have connections to removed nodes, which only these threads can close.
            self.leaving = (*self.leaving, *(replica for replica in gone if replica not in self.leaving))
            self.all = tuple(specs)
            self._look_at = 0.0
            self._arrange(Clock.monotonic())

    def watch(self, unwatched: bool) -> None:
        """Set whether the next read has to start the prober."""
        with self._lock:
            self.unwatched = unwatched
            self._note()

    def wait_for_discovery(self, undiscovered: bool) -> None:
        """Set whether the next statement has to start asking who the replicas are."""
        with self._lock:
            self.undiscovered = undiscovered
            self._note()

    def linger(self, replica: Node) -> None:
        """Record that a connection was opened to a removed node, so that the connection is closed later."""
        with self._lock:
            if replica not in self.leaving:
                self.leaving = (*self.leaving, replica)
                self._note()

    def to_look_at(self, now: float, *, at_once: bool) -> tuple[Node, ...]:
        """Return the removed nodes, if it is time to check for open connections to them; else none."""
        if not at_once and now < self._look_at:
            return ()
        self._look_at = now + _LOOK_AGAIN
        return self.leaving

    def part(self, replica: Node) -> None:
        """Forget a removed node once no connection to it is open."""
        with self._lock:
            if replica in self.leaving and not replica.has_connections():
                self.leaving = tuple(other for other in self.leaving if other is not replica)
                # The total in `stats()` must not fall because a node has left.
                self._past_reads += replica.reads - replica.booked_reads
                replica.booked_reads = replica.reads
                self._note()

    def forget_leaving(self) -> None:
        """Forget all removed nodes, in a forked child, which has no connections."""
        with self._lock:
            self._past_reads += sum(replica.reads - replica.booked_reads for replica in self.leaving)
            self.leaving = ()
            self._note()

    def reads(self) -> int:
        """Return how many reads were sent to replicas since the set was made, including removed ones."""
        with self._lock:
            known = (*self.all, *self.leaving)
            return self._past_reads + sum(replica.reads - replica.booked_reads for replica in known)

    def reasons(
        self, besides: set[Node], max_lag: float | None = None, accepts: Callable[[Node], bool] = bool
    ) -> str:
        """Return, in words, why each unusable node is unusable, except those in `besides`.

        Parameters:
            besides: nodes to leave out.
            max_lag: the scope's own bound, in seconds; None: it has none.
            accepts: whether the scopes in force accept a node; others are left out too.
        """
        if not self.all:
            return "no replicas are configured"
        usable = within(self.usable, max_lag)
        return "; ".join(
            f"{replica.label}: {replica.cause or _too_far(replica, max_lag)}"
            for replica in self.all
            if replica not in besides and replica not in usable and accepts(replica)
        )


def within(replicas: tuple[Node, ...], max_lag: float | None) -> tuple[Node, ...]:
    """Return the replicas known to lag at most `max_lag` seconds; all of them if it is None."""
    if max_lag is None:
        return replicas
    return tuple(replica for replica in replicas if replica.lag is not None and replica.lag <= max_lag)


def _too_far(replica: Node, max_lag: float | None) -> str:
    if not replica.weight:
        return "weight 0"
    if replica.lag is None:
        return f"its lag is not known, and max_lag={max_lag} was asked for"
    return f"{replica.lag:.1f} s behind, more than max_lag={max_lag}"
