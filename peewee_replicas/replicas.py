"""A node and the set of them: connections, state, counters."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from .arguments import NodeSpec
from .forks import new_lock
from .health import Breaker
from .progress import Progress

logger = logging.getLogger("peewee.replicas")


class Replica:
    """A node that serves reads, as users see it.

    Attributes:
        name: how it is called in events, errors and statistics.
        address: ``host:port``, or the path of its socket.
        weight: its share of the reads, relative to the others'.
        in_flight: reads that this process has sent to it and not yet got back.
        unreached: how often connecting to it has failed.
        is_primary: whether it is the primary, in its role as a node for reading.
    """

    def __init__(
        self,
        spec: NodeSpec,
        address: str,
        make: Callable[[Replica], Any],
        *,
        is_primary: bool = False,
    ) -> None:
        self.name = spec.name or address
        self.address = address
        self.weight = spec.weight
        self.overrides = spec.overrides
        self.is_primary = is_primary
        self.in_flight = 0
        self.breaker = Breaker(random.random)
        self.progress = Progress()
        self.on_change: Callable[[], None] = lambda: None
        self.reads = 0
        self.connections = 0
        self.unreached = 0
        self.ejections = 0
        self.restorations = 0
        self._lock = new_lock()
        self._make = make
        self._database: Any = None

    def __repr__(self) -> str:
        return f"<Replica {self.label} {self.state}>"

    @property
    def label(self) -> str:
        """Name and address, for messages."""
        return self.name if self.name == self.address else f"{self.name} ({self.address})"

    @property
    def state(self) -> str:
        """``"up"``, or ``"ejected"`` while it is out of rotation."""
        return "ejected" if self.breaker.open else "up"

    def eject(self, reason: str) -> None:
        """Take the node out of rotation until `restore` is called.

        Parameters:
            reason: why, in words; it appears in the log and in errors.
        """
        self.breaker.eject(reason)
        logger.warning("replica %s ejected by hand: %s", self.label, reason)
        self.on_change()

    def restore(self) -> None:
        """Put the node back into rotation now."""
        self.breaker.restore()
        logger.warning("replica %s restored by hand", self.label)
        self.on_change()

    def after_fork(self) -> None:
        """In a forked child: have no connections, and none of the parent's other threads."""
        self._database = None
        self.in_flight = self.progress.waiting = 0
        self.breaker.forget_try()

    @property
    def database(self) -> Any:
        """The peewee database of this node alone; made at first need, when a subclass is complete."""
        if self._database is None:
            with self._lock:
                if self._database is None:
                    self._database = self._make(self)
        return self._database

    @property
    def made(self) -> Any:
        """The node's database if anything has needed it yet, else None."""
        return self._database

    def start(self) -> None:
        """Count one read as sent."""
        with self._lock:
            self.in_flight += 1
            self.reads += 1

    def finish(self) -> None:
        """Count one read as over."""
        with self._lock:
            self.in_flight -= 1

    def connected(self) -> None:
        """Count one connection as opened; a node that was out of rotation is back."""
        with self._lock:
            self.connections += 1
        self.works()

    def failed(self, cause: str) -> None:
        """Take the node out of rotation for a while, because it could not be had."""
        if self.breaker.fail(time.monotonic(), cause):
            self.ejections += 1
            logger.warning("replica %s ejected: %s", self.label, cause)
            self.on_change()

    def counters(self) -> dict[str, int]:
        """This node's part of ``db.stats()``."""
        names = ("reads", "in_flight", "connections", "ejections", "restorations")
        return {f"{self.name}.{name}": getattr(self, name) for name in names}

    def works(self) -> None:
        """Bring the node back, because a try on it worked."""
        if self.breaker.succeed():
            self.restorations += 1
            logger.warning("replica %s restored", self.label)
            self.on_change()


class ReplicaSet:
    """All nodes that serve reads.

    The usable ones are an immutable tuple that is replaced in one assignment, so that readers of it need
    no lock and policies can tell by its identity whether anything has changed.

    Attributes:
        all: every replica, in the order given.
        usable: those in rotation now.
        ejected: those with a weight that are out of rotation.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.all = tuple(replicas)
        self._lock = new_lock()
        self.usable: tuple[Replica, ...] = ()
        self.ejected: tuple[Replica, ...] = ()
        for replica in self.all:
            replica.on_change = self._refresh
        self._refresh()

    def _refresh(self) -> None:
        with self._lock:
            weighted = [replica for replica in self.all if replica.weight]
            self.usable = tuple(replica for replica in weighted if not replica.breaker.open)
            self.ejected = tuple(replica for replica in weighted if replica.breaker.open)

    def reasons(self, besides: set[Replica]) -> str:
        """Why each node that is not usable is not, except those in `besides`."""
        if not self.all:
            return "no replicas are configured"
        return "; ".join(
            f"{replica.label}: {replica.breaker.cause or 'weight 0'}"
            for replica in self.all
            if replica not in besides and replica not in self.usable
        )
