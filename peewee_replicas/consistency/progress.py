"""How far each node is known to have come."""

from __future__ import annotations

from ..concurrency import new_lock
from ..positions import Position

# Seconds for which a replica that timed out and has not moved is not even asked again.
STALL_PAUSE = 0.05
# Seconds for which others are preferred to a replica on which a wait took long.
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
        self.server: str | None = None
        self.reached: Position | None = None
        self.stalled: Position | None = None
        self.retry_at = 0.0
        self.late_until = 0.0
        self.waiting = 0
        self._shown: tuple[Position | None, str | None] = (None, None)

    def covers(self, position: Position, server: str | None) -> bool:
        """Whether the node behind a connection to `server` is known to have reached `position`."""
        shown = self._shown
        if shown[0] is position and shown[1] == server:
            return True  # a position never changes, and a node never goes back
        with self.lock:  # the two belong together
            reached = self.reached
            # A bookmark may hold a position of the other kind of server.
            if (
                reached is None
                or type(reached) is not type(position)
                or server != self.server
                or not reached.covers(position)
            ):
                return False
            if self.reached is reached:  # else it was learned anew while this was compared
                self._shown = (position, server)
            return True

    def learn(self, server: str | None, position: Position, *, fresh: bool) -> None:
        """Take in where a node said that it is.

        Parameters:
            fresh: the connection has not been asked before, so the server behind it may be another one, or
                the same one with older data.
        """
        with self.lock:
            known = self.reached
            if known is None or server != self.server or (fresh and not position.covers(known)):
                self.server, self.reached, self.stalled = server, position, None
                self._shown = (None, None)
                return
            merged = known.merge(position)
            if self.reached is not known:
                return  # a signal handler has asked it during merge(), and what that has learned is newer
            self.reached = merged
            if self.stalled is not None and self.reached != self.stalled:
                self.stalled = None

    def stall(self, now: float) -> None:
        """Remember that a wait timed out."""
        with self.lock:
            self.stalled = self.reached
            self.late_until = now + LATE_PAUSE
            self.retry_at = now + STALL_PAUSE
