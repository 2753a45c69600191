"""Which replica serves a read: the policy's turn, the node that a scope keeps to, and what else is left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from ..concurrency import Here
from ..consistency.catch_up import CatchUp
from ..errors import ConfigurationError
from ..nodes.cluster import Cluster
from ..nodes.node import Node
from ..nodes.replica import Replica
from ..nodes.replica_set import within
from ..scopes.frames import Frame, pinning, tightest_lag
from .policies import POLICIES, Policy


class Choice:
    """Chooses among the usable replicas of one database.

    Parameters:
        cluster: the nodes.
        policy: who picks among those that may serve a read.
        here: tells threads, or tasks, apart.
    """

    def __init__(self, cluster: Cluster, policy: Policy, here: Here) -> None:
        self._cluster = cluster
        peek = getattr(policy, "peek", None)
        self._pick: Callable[[tuple[Node, ...]], Node]
        self._peek: Callable[[tuple[Node, ...]], Node] | None
        if type(policy) in POLICIES.values():
            # The built-in ones know nothing but what a node has too, and need no handle in between.
            self._pick = policy  # type: ignore[assignment]
            self._peek = peek
        else:
            self._pick = partial(self._by_handles, policy)
            self._peek = None if peek is None else partial(self._by_handles, peek)
        self._handles: tuple[tuple[Node, ...], tuple[Replica, ...]] = ((), ())
        self._reserved = here.local()

    def choose(self, catch_up: CatchUp | None = None, *, scoped: bool = True) -> Node | None:
        """The replica for a read, or None when none is usable; takes one turn of the policy.

        Parameters:
            catch_up: what the read must see; a replica that is known to show it is preferred.
            scoped: whether this context may be inside a scope.
        """
        usable = self._cluster.replicas.usable
        pin = pinning(self._cluster) if scoped else None
        if pin is not None:
            return self._pinned(pin, usable, catch_up)
        chosen = self._next(usable)
        if catch_up is not None and chosen is not None:
            chosen = catch_up.prefer(chosen, usable)
        return chosen

    def _next(self, usable: tuple[Node, ...]) -> Node | None:
        if self._peek is None:
            reserved: Node | None = getattr(self._reserved, "replica", None)
            if reserved is not None:
                self._reserved.replica = None
                if reserved in usable:
                    return reserved
        return self._ask_policy(usable)

    def _ask_policy(self, usable: tuple[Node, ...]) -> Node | None:
        return self._pick(usable) if usable else None

    def _by_handles(self, policy: Policy, usable: tuple[Node, ...]) -> Node:
        """Ask a policy of the user's own, which sees nodes as users do."""
        nodes, handles = self._handles
        if nodes is not usable:  # policies may tell by identity whether anything has changed
            handles = tuple(node.handle for node in usable)
            self._handles = (usable, handles)
        chosen = policy(handles)
        for node in usable:
            if node.handle is chosen:
                return node
        raise ConfigurationError(
            f"the policy returned {chosen!r}, which is none of the replicas it was given: "
            + ", ".join(node.name for node in usable)
        )

    def _pinned(self, pin: Frame, usable: tuple[Node, ...], catch_up: CatchUp | None = None) -> Node | None:
        before = cast("Node | None", pin.node)
        if before is not None and (before in usable or before is self._cluster.reader):
            return before
        if pin.served:
            return None  # leaving a node that has served needs the primary's position first
        usable = self.within_scope(usable)
        unit = self._cluster.units.frame() if self._cluster.units is not None else pin
        # A scope inside a unit of work sees no less than the unit has seen.
        kept = cast("Node | None", unit.node) if unit is not pin else None
        # Not under the lock: the policy may be the user's.
        node = kept if kept in usable else self._ask_policy(usable)
        if catch_up is not None and node is not None:
            node = catch_up.prefer(node, usable)
        with pin.lock:
            if pin.node is before or pin.node is None:
                pin.node = node
                if unit.node is None:
                    unit.node = node
            return cast("Node | None", pin.node)  # another thread's choice, if that was there first

    def next_for_connect(self) -> Node | None:
        """Which replica the next plain read would use, without taking its turn."""
        usable = self._cluster.replicas.usable
        if not usable:
            return None
        pin = pinning(self._cluster)
        if pin is not None:
            return self._pinned(pin, usable)
        if self._peek is not None:
            return self._peek(usable)
        # A policy that cannot be peeked at is asked now, and its answer is kept for this thread's next read.
        self._reserved.replica = chosen = self._ask_policy(usable)
        return chosen

    def another(self, tried: set[Node]) -> Node | None:
        """A usable replica that was not tried yet, for a read that failed on the others."""
        for replica in self.within_scope(self._cluster.replicas.usable):
            if replica not in tried:
                self.stay_with(replica)
                return replica
        return None

    def stay_with(self, replica: Node) -> None:
        """Let the scope in force, if one keeps to a node, keep to this one from now on."""
        pin = pinning(self._cluster)
        if pin is not None:
            with pin.lock:
                pin.node = replica

    def within_scope(self, usable: tuple[Node, ...]) -> tuple[Node, ...]:
        """Those of `usable` that are within the tightest bound on lag of the scopes in force."""
        return within(usable, tightest_lag(self._cluster))

    def foreseen(self) -> Node | None:
        """The replica that a read would go to now, if that is certain without asking the policy."""
        usable = self.within_scope(self._cluster.replicas.usable)
        pin = pinning(self._cluster)
        if pin is not None and (pin.node in usable or pin.node is self._cluster.reader):
            return pin.node
        return usable[0] if len(usable) == 1 else None
