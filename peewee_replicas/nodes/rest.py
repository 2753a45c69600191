"""Leaving a busy node in peace for a moment: pure state, told the time by its caller."""

from __future__ import annotations

from collections.abc import Callable

from ..concurrency import new_lock

SHORTEST_REST = 0.5
LONGEST_REST = 2.0


class Rest:
    """Pauses in which no new connection to a node is tried, because it takes none now.

    It is not dead: what is connected goes on, and the node stays in rotation for that.

    Parameters:
        jitter: called without arguments, returns a number in [0, 1); spreads the pauses of many processes.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._lock = new_lock()
        self._until = 0.0
        self.cause = ""
        """Why, in words; ``""`` once a connection has been opened again."""

    def begin(self, now: float, cause: str) -> bool:
        """Begin a pause, or another; True if the node was not known to be busy.

        Parameters:
            now: a monotonic clock's reading, in seconds.
            cause: why, in words.
        """
        with self._lock:
            is_news = not self.cause
            self.cause = cause
            self._until = now + SHORTEST_REST + (LONGEST_REST - SHORTEST_REST) * self._jitter()
            return is_news

    def holds(self, now: float) -> bool:
        """Whether no new connection is to be tried now."""
        return bool(self.cause) and now < self._until

    def end(self) -> None:
        """A connection was opened: the node is not busy any more."""
        self.cause = ""
