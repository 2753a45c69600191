"""Keeps the position that each node is known to have reached."""

from __future__ import annotations

from ..concurrency import new_lock
from ..positions import Position
from ..servers.refusals import PAUSE_SECONDS
from .delay import Delay

# Seconds before a replica is asked again after a wait on it timed out.
STALL_PAUSE = 0.05


class Progress:
    """The position that one node is known to have reached. It belongs to a server, not to an address.

    Attributes:
        server: the server's identity, as reported on a connection.
        reached: the position that the server is known to have reached.
        stalled: the position it had reached when a wait on it timed out, or None.
        retry_at: on a monotonic clock, when it may be asked again after that timeout.
        reported_at: on a monotonic clock, when it last reported its position.
        delay: the time it needs to show a write.
        refusal: why the server refuses to be asked for its position, in words; ``""`` if it does not.
        waiters: the executions waiting on it now; a set, for the reason given in `Node.start`.
        taught: the last report from which nothing more about `delay` could be learned: the position that was
            looked for in it, when it came, and the estimate.
    """

    __slots__ = (
        "_shown", "delay", "lock", "reached", "refusal", "refused_until", "reported_at", "retry_at", "server",
        "stalled", "taught", "waiters",
    )  # fmt: skip

    def __init__(self) -> None:
        self.lock = new_lock()
        self.server: str | None = None
        self.reached: Position | None = None
        self.stalled: Position | None = None
        self.retry_at = 0.0
        self.reported_at = float("-inf")
        self.delay = Delay()
        self.refusal = ""
        self.refused_until = 0.0
        self.waiters: set[object] = set()
        self.taught: tuple[object, float, float | None] = (None, float("-inf"), None)
        self._shown: tuple[Position | None, str | None] = (None, None)

    @property
    def waiting(self) -> int:
        """How many wait on it now."""
        return len(self.waiters)

    def covers(self, position: Position, server: str | None) -> bool:
        """Return whether the node, if it still is `server`, is known to have reached `position`."""
        shown = self._shown
        if shown[0] is position and shown[1] == server:
            return True  # a position never changes, and a node never goes back
        with self.lock:  # `reached` and `server` change together
            reached = self.reached
            # A bookmark may hold a position of the other kind of server.
            if (
                reached is None
                or type(reached) is not type(position)
                or server != self.server
                or not reached.covers(position)
            ):
                return False
            if self.reached is reached:  # otherwise it changed during the comparison
                self._shown = (position, server)
            return True

    def learn(
        self, server: str | None, position: Position, *, fresh: bool, now: float = float("-inf")
    ) -> None:
        """Record the position that a node has reported.

        Parameters:
            server: the server's identity.
            position: the position it has reached.
            fresh: whether the connection was asked for the first time; it may lead to another server, or to
                the same server with older data.
            now: a monotonic clock's reading when it reported, in seconds.
        """
        with self.lock:
            known = self.reached
            self.reported_at = max(now, self.reported_at)
            if known is None or server != self.server or (fresh and not position.covers(known)):
                # A new connection may only have answered before others did that are recorded already, so the
                # same server keeps its estimate.
                if known is not None and server != self.server:
                    self.delay = Delay()
                self.server, self.reached, self.stalled = server, position, None
                self._shown = (None, None)
                return
            merged = known.merge(position)
            if self.reached is not known:
                return  # during merge() a signal handler recorded something newer
            self.reached = merged
            if self.stalled is not None and self.reached != self.stalled:
                self.stalled = None

    def refuse(self, refusal: str, now: float) -> bool:
        """Record that the server refuses for good to be asked; return whether this is news.

        Parameters:
            refusal: why, in words.
            now: a monotonic clock's reading, in seconds.
        """
        with self.lock:
            news = refusal != self.refusal
            self.refusal, self.refused_until = refusal, now + PAUSE_SECONDS
            return news

    def stall(self, now: float) -> None:
        """Record that a wait timed out.

        Parameters:
            now: a monotonic clock's reading, in seconds.
        """
        with self.lock:
            self.stalled = self.reached
            self.retry_at = now + STALL_PAUSE
