"""Choose the replica for a read: by the policy, or the scope's node, or one that has not been tried yet."""

from __future__ import annotations

from typing import cast

from ..concurrency import Here
from ..consistency.catch_up import CatchUp
from ..nodes.cluster import Cluster
from ..nodes.node import Node
from ..nodes.replica_set import within
from ..scopes.frames import Frame, Selector, keeping, pinning, selecting, tightest_lag
from .picker import Picker
from .policies import Policy, made_afresh

# With more selectors than this in use, each begins again with a policy of its own.
_MOST_PICKERS = 100


class Choice:
    """Chooses among the usable replicas of one database.

    Parameters:
        cluster: the nodes.
        policy: picks one of the replicas that may serve a read.
        here: identifies the current thread or task.
    """

    def __init__(self, cluster: Cluster, policy: Policy, here: Here) -> None:
        self._cluster = cluster
        self._policy = policy
        self._here = here
        self._plain = Picker((), policy, here)
        self._next = self._plain.next
        self._pickers: dict[Selector, Picker] = {}

    def choose(self, catch_up: CatchUp | None = None, *, scoped: bool = True) -> Node | None:
        """Return the replica for a read, or None if none is usable; takes one turn of the policy.

        Parameters:
            catch_up: the position the read must see; a replica known to show it is preferred.
            scoped: whether this context may be inside a scope.
        """
        usable = self._cluster.replicas.usable
        if scoped:
            return self._choose_in_scope(usable, catch_up)
        chosen = self._next(usable)
        if catch_up is not None and chosen is not None:
            chosen = catch_up.prefer(chosen, usable, checks=True)
        return chosen

    def _choose_in_scope(self, usable: tuple[Node, ...], catch_up: CatchUp | None) -> Node | None:
        picker = self._picker(selecting(self._cluster))
        pin = pinning(self._cluster)
        if pin is not None:
            return self._pinned(pin, picker, usable, catch_up)
        usable = picker.accepted(usable)
        chosen = picker.next(usable)
        if catch_up is not None and chosen is not None:
            chosen = catch_up.prefer(chosen, usable, checks=True)
        return chosen

    def _picker(self, selector: Selector) -> Picker:
        if not selector:
            return self._plain
        picker = self._pickers.get(selector)
        if picker is None:
            if len(self._pickers) >= _MOST_PICKERS:
                self._pickers.clear()
            policy = made_afresh(self._policy)
            picker = self._pickers.setdefault(selector, Picker(selector, policy, self._here))
        return picker

    def _pinned(
        self, pin: Frame, picker: Picker, usable: tuple[Node, ...], catch_up: CatchUp | None = None
    ) -> Node | None:
        before = cast("Node | None", pin.node)
        if self._may_stay(pin, picker, usable):
            pin.chosen_for = picker.selector
            return before
        if pin.served:
            return None  # leaving a node that has served a read needs the primary's position first
        usable = self.within_scope(usable)
        unit = self._cluster.units.frame() if self._cluster.units is not None else pin
        # A scope inside a unit of work must see no less than the unit has seen.
        kept = cast("Node | None", unit.node) if unit is not pin else None
        if unit is not pin and unit.served and kept not in usable:
            return None
        # Called without the lock, because the policy may be a user's code.
        node = kept if kept in usable else picker.pick(usable)
        if catch_up is not None and node is not None:
            node = catch_up.prefer(node, usable)
        with pin.lock:
            if pin.node is before or pin.node is None:
                pin.node, pin.chosen_for = node, picker.selector
                if unit.node is None:
                    unit.node, unit.chosen_for = node, picker.selector
            return cast("Node | None", pin.node)  # another thread's choice, if that thread was first

    def _may_stay(self, pin: Frame, picker: Picker, usable: tuple[Node, ...]) -> bool:
        """Return whether the node that a scope keeps to may serve a read here."""
        node = cast("Node | None", pin.node)
        if node is None:
            return False
        if pin.chosen_for == picker.selector:
            return node in usable or node is self._cluster.reader
        return node in picker.accepted(usable)  # a scope inside wants other nodes, or has ended

    def next_for_connect(self) -> Node | None:
        """Return the replica that the next plain read would use, without taking a turn."""
        usable = self._cluster.replicas.usable
        picker = self._picker(selecting(self._cluster))
        if not picker.accepted(usable):
            return None
        pin = pinning(self._cluster)
        if pin is not None:
            return self._pinned(pin, picker, usable)
        return picker.foresee(picker.accepted(usable))

    def another(self, tried: set[Node], catch_up: CatchUp | None = None) -> Node | None:
        """Return a usable replica that has not been tried yet, for a read that needs another.

        Parameters:
            tried: the replicas that could not serve the read.
            catch_up: the position the read must see; a replica known to show it is preferred.
        """
        candidates = self.within_scope(self._cluster.replicas.usable)
        others = tuple(replica for replica in candidates if replica not in tried)
        picker = self._picker(selecting(self._cluster))
        if tried or picker is self._plain or len(others) < 2:
            # The plain policy is not asked: it would lose count of its turns for reads outside this scope.
            replica = others[0] if others else None
        else:
            # The scope in force has to leave its node, so its policy has not been asked yet.
            replica = picker.pick(others)
        if replica is not None:
            if catch_up is not None:
                replica = catch_up.prefer(replica, others)
            self.stay_with(replica)
        return replica

    def stay_with(self, replica: Node) -> None:
        """Make this the node of the scope in force, if that scope keeps to one node."""
        for frame in keeping(self._cluster):
            with frame.lock:
                frame.node, frame.chosen_for = replica, selecting(self._cluster)

    def within_scope(self, usable: tuple[Node, ...]) -> tuple[Node, ...]:
        """Return the replicas of `usable` that the scopes in force accept, by lag and by tags."""
        selector = selecting(self._cluster)
        return self._picker(selector).accepted(within(usable, tightest_lag(self._cluster)))

    def foreseen(self) -> Node | None:
        """Return the replica that a read would use now; None if only the policy could decide."""
        usable = self._cluster.replicas.usable
        picker, pin = self._picker(selecting(self._cluster)), pinning(self._cluster)
        if pin is not None and self._may_stay(pin, picker, within(usable, tightest_lag(self._cluster))):
            return cast("Node | None", pin.node)
        usable = self.within_scope(usable)
        return usable[0] if len(usable) == 1 else None
