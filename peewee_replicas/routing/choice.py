"""Choose the replica for a read: by the policy, or the scope's node, or one that has not been tried yet."""

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
from ..statements.redaction import shown
from .policies import POLICIES, Policy


class Choice:
    """Chooses among the usable replicas of one database.

    Parameters:
        cluster: the nodes.
        policy: picks one of the replicas that may serve a read.
        here: identifies the current thread or task.
    """

    def __init__(self, cluster: Cluster, policy: Policy, here: Here) -> None:
        self._cluster = cluster
        peek = getattr(policy, "peek", None)
        self._pick: Callable[[tuple[Node, ...]], Node]
        self._peek: Callable[[tuple[Node, ...]], Node] | None
        if type(policy) in POLICIES.values():
            # The built-in policies use only attributes that a node has too, so they need no handles.
            self._pick = policy  # type: ignore[assignment]
            self._peek = peek
        else:
            self._pick = partial(self._by_handles, policy)
            self._peek = None if peek is None else partial(self._by_handles, peek)
        self._handles: tuple[tuple[Node, ...], tuple[Replica, ...]] = ((), ())
        self._reserved = here.local()

    def choose(self, catch_up: CatchUp | None = None, *, scoped: bool = True) -> Node | None:
        """Return the replica for a read, or None if none is usable; takes one turn of the policy.

        Parameters:
            catch_up: the position the read must see; a replica known to show it is preferred.
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
        """Ask a user's own policy, which is given public `Replica` objects."""
        nodes, handles = self._handles
        if nodes is not usable:  # policies may compare by identity to notice changes
            handles = tuple(node.handle for node in usable)
            self._handles = (usable, handles)
        chosen = policy(handles)
        for node in usable:
            if node.handle is chosen:
                return node
        raise ConfigurationError(
            f"the policy returned {shown(chosen)}, which is none of the replicas it was given: "
            + ", ".join(node.name for node in usable)
        )

    def _pinned(self, pin: Frame, usable: tuple[Node, ...], catch_up: CatchUp | None = None) -> Node | None:
        before = cast("Node | None", pin.node)
        if before is not None and (before in usable or before is self._cluster.reader):
            return before
        if pin.served:
            return None  # leaving a node that has served a read needs the primary's position first
        usable = self.within_scope(usable)
        unit = self._cluster.units.frame() if self._cluster.units is not None else pin
        # A scope inside a unit of work must see no less than the unit has seen.
        kept = cast("Node | None", unit.node) if unit is not pin else None
        # Called without the lock, because the policy may be a user's code.
        node = kept if kept in usable else self._ask_policy(usable)
        if catch_up is not None and node is not None:
            node = catch_up.prefer(node, usable)
        with pin.lock:
            if pin.node is before or pin.node is None:
                pin.node = node
                if unit.node is None:
                    unit.node = node
            return cast("Node | None", pin.node)  # another thread's choice, if that thread was first

    def next_for_connect(self) -> Node | None:
        """Return the replica that the next plain read would use, without taking a turn."""
        usable = self._cluster.replicas.usable
        if not usable:
            return None
        pin = pinning(self._cluster)
        if pin is not None:
            return self._pinned(pin, usable)
        if self._peek is not None:
            return self._peek(usable)
        # A policy without `peek` takes its turn now; the choice is kept for this thread's next read.
        self._reserved.replica = chosen = self._ask_policy(usable)
        return chosen

    def another(self, tried: set[Node]) -> Node | None:
        """Return a usable replica that has not been tried yet, for a read that failed on others."""
        for replica in self.within_scope(self._cluster.replicas.usable):
            if replica not in tried:
                self.stay_with(replica)
                return replica
        return None

    def stay_with(self, replica: Node) -> None:
        """Make this the node of the scope in force, if that scope keeps to one node."""
        pin = pinning(self._cluster)
        if pin is not None:
            with pin.lock:
                pin.node = replica

    def within_scope(self, usable: tuple[Node, ...]) -> tuple[Node, ...]:
        """Return the replicas of `usable` that are within the tightest lag limit of the scopes in force."""
        return within(usable, tightest_lag(self._cluster))

    def foreseen(self) -> Node | None:
        """Return the replica that a read would use now; None if only the policy could decide."""
        usable = self.within_scope(self._cluster.replicas.usable)
        pin = pinning(self._cluster)
        if pin is not None and (pin.node in usable or pin.node is self._cluster.reader):
            return pin.node
        return usable[0] if len(usable) == 1 else None
