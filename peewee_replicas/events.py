"""What the library tells about its decisions: routes, events and counters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Literal, NamedTuple, Protocol, TypeVar

from .concurrency import new_lock

logger = logging.getLogger("peewee.replicas")

E = TypeVar("E")

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

_in_route_hook: ContextVar[bool] = ContextVar("peewee_replicas_in_route_hook", default=False)


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


class Named(Protocol):
    """What an event says of its node."""

    @property
    def name(self) -> str: ...


class NodeNews:
    """Tells the hooks of one database of its nodes.

    Attributes:
        database: the name of the database.
        hooks: callables that are given one `NodeEvent` per change.
    """

    def __init__(self) -> None:
        self.database = ""
        self.hooks: list[NodeHook] = []

    def tell(self, node: Named, state: str, cause: str) -> None:
        """Tell the hooks that a node's state has changed."""
        if self.hooks:
            _tell(self.hooks, NodeEvent(self.database, node.name, state, cause), "node_hooks")


def tell_of_route(hooks: Iterable[RouteHook], event: RouteEvent) -> None:
    """Tell the hooks of an execution; of those that a hook makes itself it is not told."""
    if _in_route_hook.get():
        return  # or a hook that writes its events to the same database would do so for ever
    token = _in_route_hook.set(True)
    try:
        _tell(hooks, event, "route_hooks")
    finally:
        _in_route_hook.reset(token)


def _tell(hooks: Iterable[Callable[[E], object]], event: E, attribute: str) -> None:
    for hook in list(hooks):
        try:
            hook(event)
        except Exception:
            # What is told of has happened, and the statement has its result or its error: neither may be
            # replaced by an error of the hook's.
            logger.exception("a callable of %s has failed", attribute)


class Counters:
    """Named numbers that only grow, exact under threads."""

    def __init__(self, *names: str) -> None:
        self._lock = new_lock()
        self._values = dict.fromkeys(names, 0)

    def add(self, name: str, amount: int = 1) -> None:
        """Raise `name`, one of the names given at first, by `amount`."""
        with self._lock:
            self._values[name] += amount  # no call in it, so that no signal handler counts in the midst of it

    def snapshot(self) -> dict[str, int]:
        """All numbers as they are now."""
        with self._lock:
            return dict(self._values)
