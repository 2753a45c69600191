"""One read's way to a replica that has come far enough."""

from __future__ import annotations

from typing import Protocol, TypeVar

from ..concurrency import Clock
from ..positions import Position
from ..servers.protocols import Row, ServerConnection
from .progress import LATE_PAUSE, Progress

# Threads that may wait on one replica at a time: a bulk load must not park every thread of a program.
WAITERS = 16
# Seconds of waiting on a replica after which others are preferred to it for a while.
LATE_AFTER = 0.02


class Node(Protocol):
    """What is asked of a node that may have to catch up.

    Attributes:
        progress: how far it is known to have come.
        is_primary: whether it is the primary, which is never behind.
        role: what the prober found it to be.
    """

    progress: Progress
    is_primary: bool
    role: str | None


N = TypeVar("N", bound=Node)


class CatchUp:
    """One read's way to a replica that shows what it must see.

    Parameters:
        position: what that is.
        seconds: what may be spent on waiting, over all nodes together.
    """

    __slots__ = ("_left", "_position", "_sent", "_text", "_waits")

    def __init__(self, position: Position, seconds: float) -> None:
        self._position = position
        self._left = seconds
        self._text = ""
        self._sent = 0.0
        self._waits = 0.0

    def add(self, position: Position) -> None:
        """Wait for that as well."""
        mine = self._position
        merged = mine.merge(position) if type(mine) is type(position) else position
        if merged is not mine:
            self._position, self._text = merged, ""

    def known(self, replica: Node, server: str | None) -> bool:
        """Whether no wait is needed there."""
        return bool(replica.is_primary or replica.progress.covers(self._position, server))

    def prefer(self, first: N, usable: tuple[N, ...]) -> N:
        """`first`, unless it was late lately and another is known to be there, or was not late.

        A replica that keeps up is asked in the same send as the read, so that reads stay spread over all.
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
        """The query that waits there, or ``""`` where there is no use in waiting."""
        now = Clock.monotonic()
        progress = replica.progress
        left = max(self._left, 0.0)  # with nothing left to spend it is still asked, in the read's own send
        if conn.read_timeout:
            left = min(left, conn.read_timeout / 2)
        if progress.waiting >= WAITERS:
            return ""
        if progress.stalled is not None:
            if now < progress.retry_at:
                return ""
            left = 0.0  # it has to be seen to move before it is waited on again
        if replica.role == "primary":
            left = 0.0  # found to be the primary by another address, where some servers wait in vain
        self._sent, self._waits = now, left
        if not self._text:
            self._text = self._position.text()
        return str(conn.dialect.wait(self._text, left))

    def answer_seconds(self, conn: ServerConnection) -> float | None:
        """Seconds that the answer to the last `query` may take: the wait itself, and time to answer."""
        spare = conn.connect_timeout
        return None if spare is None else self._waits + spare

    def learn(self, replica: Node, conn: ServerConnection, answer: Row | Exception | None) -> bool:
        """Take in the answer; True if the node has reached the position."""
        progress = replica.progress
        if answer is None or isinstance(answer, Exception):
            # A wait that ends in an error, such as the user's limit on statements, was a wait all the same.
            self._left -= Clock.monotonic() - self._sent
            progress.stall(Clock.monotonic())
            return False
        now = Clock.monotonic()
        if now - self._sent > LATE_AFTER:
            progress.late_until = now + LATE_PAUSE
        reached = answer[0] == 0
        position = conn.dialect.position(answer[2] or "")
        if reached:
            position = position.merge(self._position)
        progress.learn(answer[1], position, fresh=conn.server_identity is None)
        conn.server_identity = answer[1]
        if not reached:
            self._left -= now - self._sent
            if (
                self._waits > 0 or progress.stalled is not None
            ):  # a look without a wait tells nothing of stalling
                progress.stall(now)
        return bool(reached)
