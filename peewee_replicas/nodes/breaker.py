"""Decides whether a node is in rotation and takes new connections. No I/O, no clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from ..concurrency import new_lock

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
SHORTEST_BACKOFF = 0.5
LONGEST_BACKOFF = 2.0


class Breaker:
    """Takes a failing node out of rotation, and lets one caller at a time try it again.

    Parameters:
        jitter: returns a number in [0, 1), so that processes do not all try a node at the same moment.
        current: returns the thread or task that is running.
    """

    def __init__(
        self, jitter: Callable[[], float], current: Callable[[], Hashable] = threading.get_ident
    ) -> None:
        self._jitter = jitter
        self._current = current
        self._lock = new_lock()
        self._pause = 0.0
        self._until = 0.0
        self._trying: Hashable = None  # the thread or task that is trying the node
        self.open = False
        """Whether the node is out of rotation."""
        self.by_hand = False
        self.cause = ""
        self.longest: float | None = None
        """The longest pause, in seconds, while the prober tries the node; None: `LONGEST_PAUSE`."""

    def fail(self, now: float, cause: str, absence: float | None = None) -> bool:
        """Take the node out of rotation for a pause; return True if it was in rotation.

        Parameters:
            now: a monotonic clock's reading, in seconds.
            cause: why, in words.
            absence: the length of the pause, in seconds; None: a pause that doubles with each failed try.
        """
        with self._lock:
            was_in = not self.open
            mine = self._trying == self._current()
            if was_in or mine:
                # Only a failed try lengthens the pause; late failures of old connections do not.
                longest = LONGEST_PAUSE if self.longest is None else min(LONGEST_PAUSE, self.longest)
                # The pause doubles, so that a node that is down for long costs ever fewer tries.
                self._pause = min(longest, max(FIRST_PAUSE, self._pause * 2))
                # Half of it is random, so that processes that lost a node together do not try it together.
                self._until = now + (absence or self._pause) * (0.5 + self._jitter() / 2)
            if mine:
                self._trying = None
            self.open = True
            if not self.by_hand:
                self.cause = cause
            return was_in

    def due(self, now: float) -> bool:
        """Return whether `may_try` would return True, without beginning a try."""
        return self.open and not self.by_hand and self._trying is None and now >= self._until

    def may_try(self, now: float) -> bool:
        """Return whether this caller may try the node; no other may until it calls `fail` or `succeed`."""
        me = self._current()
        with self._lock:
            if not self.open or self.by_hand or self._trying is not None or now < self._until:
                return False
            self._trying = me
            return True

    def let_go(self) -> None:
        """End a try that showed nothing about the node, so that the next caller may try."""
        with self._lock:
            if self._trying == self._current():
                self._trying = None

    def forget_try(self) -> None:
        """End the try of a thread that does not exist in a forked child, so that another caller may try."""
        with self._lock:
            self._trying = None

    def succeed(self) -> bool:
        """Bring the node back after a successful try; return True if it was out."""
        with self._lock:
            was_out = self.open and not self.by_hand
            if not self.by_hand:
                self.open = False
                self._trying = None
                self._pause = self._until = 0.0
                self.cause = ""
            return was_out

    def eject(self, cause: str) -> None:
        """Take the node out of rotation by hand; it stays out until `restore`."""
        with self._lock:
            self.open = self.by_hand = True
            self._trying = None
            self.cause = cause

    def restore(self) -> None:
        """Put the node back into rotation by hand."""
        with self._lock:
            self.open = self.by_hand = False
            self._trying = None
            self._pause = self._until = 0.0
            self.cause = ""


class Backoff:
    """Pauses new connections to a node that has refused one because it is too busy.

    The node is not dead: it stays in rotation, and its open connections stay in use.

    Parameters:
        jitter: returns a number in [0, 1), so that processes do not all come back at the same moment.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._lock = new_lock()
        self._until = 0.0
        self.cause = ""
        """Why, in words; ``""`` once a connection has been opened again."""

    def begin(self, now: float, cause: str) -> bool:
        """Begin a pause, or another one; return True if the node was not known to be busy.

        Parameters:
            now: a monotonic clock's reading, in seconds.
            cause: why, in words.
        """
        with self._lock:
            is_news = not self.cause
            self.cause = cause
            # The pause does not double, because a busy server may have room again at any moment.
            self._until = now + SHORTEST_BACKOFF + (LONGEST_BACKOFF - SHORTEST_BACKOFF) * self._jitter()
            return is_news

    def holds(self, now: float) -> bool:
        """Return whether new connections are paused now."""
        return bool(self.cause) and now < self._until

    def end(self) -> None:
        """End the pause, because a connection could be opened."""
        self.cause = ""
