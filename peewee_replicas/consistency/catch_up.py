"""Finds a replica that shows what one read must see, and waits for it if necessary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from ..concurrency import Clock
from ..log import log_event
from ..positions import Position, Unmeasured
from ..servers.protocols import Row, ServerConnection
from ..servers.refusals import refusal
from .progress import LATE_PAUSE, Progress

# Threads that may wait on one replica at a time, so that a bulk load cannot block every thread of a program.
WAITERS = 16
# After a wait of more seconds than this on a replica, other replicas are preferred for a while.
LATE_AFTER = 0.02


class Node(Protocol):
    """A node that may have to catch up.

    Attributes:
        progress: the position that the node is known to have reached.
        is_primary: whether the node is the primary, which never lags.
        role: the role that the prober found.
        name: its name.
        title: its name and address, for messages.
    """

    progress: Progress
    is_primary: bool
    role: str | None

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...


N = TypeVar("N", bound=Node)


class CatchUp:
    """Decides, for one read, where to wait until a replica shows what the read must see.

    Parameters:
        position: the position that a replica must reach. `Unmeasured`: only connections whose reads wait by
            themselves will do.
        seconds: the time to spend waiting, over all nodes together.

    Attributes:
        waited: seconds spent waiting so far, over all nodes together.
    """

    __slots__ = ("_left", "_position", "_sent", "_text", "_waits", "waited")

    def __init__(self, position: Position | Unmeasured, seconds: float) -> None:
        self._position = position
        self._left = seconds
        self._text = ""
        self._sent = 0.0
        self._waits = 0.0
        self.waited = 0.0

    def add(self, position: Position) -> None:
        """Require this position as well."""
        mine = self._position
        if isinstance(mine, Unmeasured):
            return  # no connection that will do lacks anything
        merged = mine.merge(position) if type(mine) is type(position) else position
        if merged is not mine:
            self._position, self._text = merged, ""

    def known(self, replica: Node, server: str | None) -> bool:
        """Return whether no wait is needed on this replica.

        Parameters:
            replica: the node.
            server: the identity of the server on the connection to it.
        """
        if replica.is_primary:
            return True
        wanted = self._position
        return not isinstance(wanted, Unmeasured) and replica.progress.covers(wanted, server)

    def shown_by(self, replica: Node, conn: ServerConnection) -> bool:
        """Return whether a read on this connection to a replica needs no wait of the library's."""
        return conn.cluster_waits or self.known(replica, conn.server_identity)

    def prefer(self, first: N, usable: tuple[N, ...]) -> N:
        """Return `first`, or if it was late recently: a replica known to have caught up, or one not late.

        A replica that keeps up gets the wait and the read in one send, so that reads stay spread over all.
        """
        now = Clock.monotonic()
        if now >= first.progress.late_until or self.known(first, first.progress.server):
            return first
        for replica in usable:
            if self.known(replica, replica.progress.server):
                return replica
        for replica in usable:
            if now >= replica.progress.late_until:
                return replica
        return first

    def query(self, replica: Node, conn: ServerConnection) -> str:
        """Return the query that waits on this replica, or ``""`` if waiting is pointless."""
        now = Clock.monotonic()
        progress = replica.progress
        left = max(self._left, 0.0)  # with no time left, still ask without waiting, in the read's own send
        if conn.read_timeout:
            left = min(left, conn.read_timeout / 2)
        if isinstance(self._position, Unmeasured):
            return ""  # the connection's reads do not wait by themselves
        if progress.waiting >= WAITERS or (progress.refusal and now < progress.refused_until):
            return ""
        if progress.stalled is not None:
            if now < progress.retry_at:
                return ""
            left = 0.0  # the replica must move before anyone waits on it again
        if replica.role in ("primary", "detached"):
            # The primary, by another address, or a node that replicates from nobody. On some servers the wait
            # would never end.
            left = 0.0
        self._sent, self._waits = now, left
        if not self._text:
            self._text = self._position.text()
        return str(conn.dialect.wait(self._text, left))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Return a context manager that adds the duration of its block to `waited`."""
        started = Clock.monotonic()
        try:
            yield
        finally:
            self.waited += Clock.monotonic() - started

    def answer_seconds(self, conn: ServerConnection) -> float | None:
        """Return the time limit for the last `query` in seconds: its wait and time to answer."""
        spare = conn.connect_timeout
        return None if spare is None else self._waits + spare

    def learn(self, replica: Node, conn: ServerConnection, answer: Row | Exception | None) -> bool:
        """Record the answer; return whether the node has reached the position."""
        progress = replica.progress
        if answer is None or isinstance(answer, Exception):
            # A wait that ends in an error, such as the user's limit on statements, has still used up time.
            now = Clock.monotonic()
            self._left -= now - self._sent
            why = "" if answer is None else refusal(answer)
            if not why:
                progress.stall(now)
            elif progress.refuse(why, now):
                log_event(
                    "node_refuses_position",
                    "%s refuses to be asked what it has reached, so reads after a write go elsewhere: %s",
                    replica.title,
                    why,
                    node=replica.name,
                    cause=why,
                )
            return False
        now = Clock.monotonic()
        if now - self._sent > LATE_AFTER:
            progress.late_until = now + LATE_PAUSE
        progress.refusal = ""
        reached = answer[0] == 0
        position = conn.dialect.position(answer[2] or "")
        if reached and not isinstance(self._position, Unmeasured):
            position = position.merge(self._position)
        progress.learn(answer[1], position, fresh=conn.server_identity is None)
        conn.server_identity = answer[1]
        if not reached:
            self._left -= now - self._sent
            # A question without a wait does not show whether the node has stalled.
            if self._waits > 0 or progress.stalled is not None:
                progress.stall(now)
        return bool(reached)
