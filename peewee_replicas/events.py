"""What the library tells about its decisions: routes, events and counters."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from .concurrency import new_lock

logger = logging.getLogger("peewee.replicas")

Role = Literal["primary", "replica"]


class Route(NamedTuple):
    """Where one execution goes, and why.

    Attributes:
        role: ``"primary"`` or ``"replica"``.
        node: the node's name; None where a policy would have to be asked first.
        kind: what the statement is, from its text alone.
        reason: the first rule that held, in words.
    """

    role: Role
    node: str | None
    kind: str
    reason: str


class RouteEvent(NamedTuple):
    """One execution, as given to each callable of ``db.route_hooks`` when it has ended.

    Attributes:
        database: the name of the database.
        sql: the text, without its parameters.
        role, node, kind, reason: as in `Route`; of the last attempt, where there were several.
        attempts: how often the statement was handed to a node (1 unless a node failed or refused it).
        observed: with ``reads="observe"``, the replica it would have gone to; otherwise None.
        duration: seconds, from the decision to the first result.
        error: the name of the exception's class and its message, or None.
    """

    database: str
    sql: str
    role: Role
    node: str
    kind: str
    reason: str
    attempts: int
    observed: str | None
    duration: float
    error: str | None


RouteHook = Callable[[RouteEvent], object]


class NodeEvent(NamedTuple):
    """A node's state has changed, as given to each callable of ``db.node_hooks``.

    Attributes:
        database: the name of the database.
        node: the node's name; ``"primary"`` for the primary.
        state: as `Replica.state`; of the primary also ``"down"``.
        cause: why, in words; ``""`` where the node is up again.
    """

    database: str
    node: str
    state: str
    cause: str


NodeHook = Callable[[NodeEvent], object]


class NodeNews:
    """Tells the hooks of one database of its nodes.

    Attributes:
        database: the name of the database.
        hooks: callables that are given one `NodeEvent` per change.
    """

    def __init__(self) -> None:
        self.database = ""
        self.hooks: list[NodeHook] = []

    def tell(self, node: Any, state: str, cause: str) -> None:
        """A node's state has changed. A hook that fails is logged: no statement is to fail for it."""
        for hook in list(self.hooks):
            try:
                hook(NodeEvent(self.database, node.name, state, cause))
            except Exception:
                logger.exception("a callable of node_hooks has failed")


class Counters:
    """Named numbers that only grow, exact under threads."""

    def __init__(self, *names: str) -> None:
        self._lock = new_lock()
        self._values = dict.fromkeys(names, 0)

    def add(self, name: str, amount: int = 1) -> int:
        """Raise `name` by `amount` and return what it is then."""
        with self._lock:
            value = self._values[name] = self._values.get(name, 0) + amount
            return value

    def snapshot(self) -> dict[str, int]:
        """All numbers as they are now."""
        with self._lock:
            return dict(self._values)
