"""How far each node is known to have come, and one read's way to a node that has come far enough."""

from __future__ import annotations

import time
from typing import Any

from ..concurrency import new_lock
from ..positions import Position

# Threads that may wait on one replica at a time: a bulk load must not park every thread of a program.
WAITERS = 16
# Seconds for which a replica that timed out and has not moved is not even asked again.
STALL_PAUSE = 0.05
# A wait longer than this many seconds makes others preferred, for so many seconds.
LATE_AFTER = 0.02
LATE_PAUSE = 1.0


class Progress:
    """How far one node is known to have come; it belongs to the server that was met, not to its address.

    Attributes:
        server: the identity of that server, as a connection asked for it.
        reached: what it is known to have reached.
        stalled: what it had reached when a wait on it timed out, or None.
        retry_at: on a monotonic clock, when it may be asked again after that.
        late_until: on a monotonic clock, until when others are preferred, because a wait on it took long.
        waiting: threads that wait on it now.
    """

    __slots__ = ("_shown", "late_until", "lock", "reached", "retry_at", "server", "stalled", "waiting")

    def __init__(self) -> None:
        self.lock = new_lock()
        self.server: Any = None
        self.reached: Position | None = None
        self.stalled: Position | None = None
        self.retry_at = 0.0
        self.late_until = 0.0
        self.waiting = 0
        self._shown: tuple[Position | None, Any] = (None, None)

    def covers(self, position: Position, server: Any) -> bool:
        """Whether the node behind a connection to `server` is known to have reached `position`."""
        shown = self._shown
        if shown[0] is position and shown[1] == server:
            return True  # a position never changes, and a node never goes back
        with self.lock:  # the two belong together
            reached: Any = self.reached
            # A bookmark may hold a position of the other kind of server.
            if type(reached) is not type(position) or server != self.server or not reached.covers(position):
                return False
            self._shown = (position, server)
            return True

    def learn(self, server: Any, position: Any, *, fresh: bool) -> None:
        """Take in where a node said that it is.

        Parameters:
            fresh: the connection has not been asked before, so the server behind it may be another one, or
                the same one with older data.
        """
        with self.lock:
            known: Any = self.reached
            anew = known is None or server != self.server
            if anew or (fresh and not position.covers(known)):
                self.server, self.reached, self.stalled = server, position, None
                self._shown = (None, None)
                return
            self.reached = known.merge(position)
            if self.stalled is not None and self.reached != self.stalled:
                self.stalled = None

    def stall(self, now: float) -> None:
        """Remember that a wait timed out."""
        with self.lock:
            self.stalled = self.reached
            self.late_until = now + LATE_PAUSE
            self.retry_at = now + STALL_PAUSE


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
        self._waits = False

    def add(self, position: Any) -> None:
        """Wait for that as well."""
        mine: Any = self._position
        merged = mine.merge(position) if type(mine) is type(position) else position
        if merged is not mine:
            self._position, self._text = merged, ""

    def known(self, replica: Any, server: Any) -> bool:
        """Whether no wait is needed there."""
        return bool(replica.is_primary or replica.progress.covers(self._position, server))

    def prefer(self, first: Any, usable: tuple[Any, ...]) -> Any:
        """`first`, unless it was late lately and another is known to be there, or was not late.

        A replica that keeps up is asked in the same send as the read, so that reads stay spread over all.
        """
        now = time.monotonic()
        if now >= first.progress.late_until or self.known(first, first.progress.server):
            return first
        for replica in usable:
            if self.known(replica, replica.progress.server):
                return replica
        for replica in usable:
            if now >= replica.progress.late_until:
                return replica
        return first

    def query(self, replica: Any, conn: Any) -> str:
        """The query that waits there, or ``""`` where there is no use in waiting."""
        now = time.monotonic()
        progress: Progress = replica.progress
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
        self._sent, self._waits = now, left > 0
        if not self._text:
            self._text = self._position.text()
        return str(conn.dialect.wait(self._text, left))

    def learn(self, replica: Any, conn: Any, answer: Any) -> bool:
        """Take in the answer; True if the node has reached the position."""
        progress: Progress = replica.progress
        if answer is None or isinstance(answer, Exception):
            progress.stall(time.monotonic())
            return False
        now = time.monotonic()
        if now - self._sent > LATE_AFTER:
            progress.late_until = now + LATE_PAUSE
        reached = answer[0] == 0
        position = conn.dialect.position(answer[2] or "")
        if reached:
            position = position.merge(self._position)
        progress.learn(answer[1], position, fresh=conn.server is None)
        conn.server = answer[1]
        if not reached:
            self._left -= now - self._sent
            if self._waits or progress.stalled is not None:  # a look without a wait tells nothing of stalling
                progress.stall(now)
        return bool(reached)
