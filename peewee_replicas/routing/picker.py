"""Ask one policy for a replica, out of those that a scope accepts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..concurrency import Here
from ..errors import ConfigurationError
from ..nodes.node import Node
from ..nodes.replica import Replica
from ..nodes.selector import among
from ..scopes.frames import Selector
from ..statements.redaction import shown
from .nearest import is_built_in
from .policies import Policy, peek_of

Pick = Callable[[tuple[Node, ...]], Node]


class Picker:
    """Asks one policy, for the nodes that one selector accepts.

    Policies notice changes by the identity of the sequence they are given, and count their turns. So each
    selector has a picker, with a policy of its own if the policy can be made afresh.

    Parameters:
        selector: which nodes it may pick.
        policy: picks one of the replicas that may serve a read.
        here: identifies the current thread or task.
    """

    def __init__(self, selector: Selector, policy: Policy, here: Here) -> None:
        self.selector = selector
        peek = peek_of(policy)
        self._pick: Pick
        self._peek: Pick | None
        if is_built_in(policy):
            # The built-in policies use only attributes that a node has too, so they need no handles.
            self._pick = policy  # type: ignore[assignment]
            self._peek = peek  # type: ignore[assignment]
        else:
            self._pick = partial(self._by_handles, policy)
            self._peek = None if peek is None else partial(self._by_handles, peek)
        self._handles: tuple[tuple[Node, ...], tuple[Replica, ...]] = ((), ())
        self._accepted: tuple[tuple[Node, ...], tuple[Node, ...]] = ((), ())
        self._reserved = here.local()

    def accepted(self, usable: tuple[Node, ...]) -> tuple[Node, ...]:
        """Return those of the replicas that the selector accepts; the same tuple until `usable` changes."""
        if not self.selector:
            return usable
        known, accepted = self._accepted
        if known is not usable:
            accepted = among(usable, self.selector)
            self._accepted = (usable, accepted)
        return accepted

    def next(self, replicas: tuple[Node, ...]) -> Node | None:
        """Return the replica that the policy picks, or None if there are none; takes one turn."""
        if self._peek is None:
            reserved: Node | None = getattr(self._reserved, "replica", None)
            if reserved is not None:
                self._reserved.replica = None
                if reserved in replicas:
                    return reserved
        return self._pick(replicas) if replicas else None

    def pick(self, replicas: tuple[Node, ...]) -> Node | None:
        """Do the same, for a scope: a choice that was kept for a plain read stays kept."""
        return self._pick(replicas) if replicas else None

    def foresee(self, replicas: tuple[Node, ...]) -> Node:
        """Return the replica that `next` would return, without taking a turn; there must be some."""
        if self._peek is not None:
            return self._peek(replicas)
        # A policy without `peek` takes its turn now; the choice is kept for this thread's next read.
        self._reserved.replica = chosen = self._pick(replicas)
        return chosen

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
