"""Limit how many reads may fall back to the primary. Makes decisions only: no I/O; callers pass the time."""

from __future__ import annotations

from ..concurrency import new_lock

WINDOW = 100
"""The number of reads over which the share is measured: a fallback not used within them expires."""
QUIET_SECONDS = 1.0
"""After this many seconds without a fallback, one read may always fall back: it cannot overload a primary."""


class FallbackBudget:
    """Lets at most a share of the reads fall back, counted exactly even with threads.

    Each read that a replica may serve adds `share` to the budget, whether it is served, falls back or is
    refused; each fallback takes 1. So of any ``n`` consecutive reads at most ``share * (n + WINDOW)`` fall
    back, and of the first ``n`` at most ``share * n + 1``, plus one per `QUIET_SECONDS` without any other
    fallback. With a share of 0 none falls back.

    Parameters:
        share: from 0 to 1; None: no limit.
    """

    def __init__(self, share: float | None) -> None:
        self.share = share
        self._most = 0.0 if not share else max(1.0, share * WINDOW)
        self._left = min(1.0, self._most)
        self._lock = new_lock()
        self._last: float | None = None
        self._asked = 0
        self._wasted = 0
        self._known = 0

    def may_fall_back(self, now: float, sent: int, wasted: int) -> bool:
        """Return whether a read may fall back; if so, count its fallback.

        Parameters:
            now: a monotonic clock's reading, in seconds.
            sent: total count of reads sent to replicas.
            wasted: how many of these were attempts of this read, which is counted by itself.
        """
        if self.share is None:
            return True
        with self._lock:
            self._asked += 1
            self._wasted += wasted
            self._earn(self.share, sent)
            if self._left >= 1.0:
                self._left -= 1.0
            elif not self.share or (self._last is not None and now - self._last < QUIET_SECONDS):
                return False
            self._last = now
            return True

    def may_skip_wait(self, now: float, sent: int) -> bool:
        """Return whether a read that could wait for a replica may fall back instead; if so, count that.

        A read that may not is not counted here, because a replica will serve it, or `may_fall_back` is asked.
        """
        share = self.share
        if share is None:
            return True
        with self._lock:
            self._earn(share, sent)
            if self._left < 1.0:
                return False
            self._left -= 1.0
            self._asked += 1
            self._last = now
            return True

    def give_back(self) -> None:
        """Undo what `may_skip_wait` counted, because a replica has served the read."""
        with self._lock:
            self._asked -= 1
            self._left = min(self._left + 1.0, self._most)

    def charge(self, now: float, sent: int) -> None:
        """Count a fallback that cannot be refused: the first read of the scope fell back, and the scope keeps
        to its node."""
        if self.share is None:
            return
        with self._lock:
            self._asked += 1
            self._earn(self.share, sent)
            # The debt is limited, so that one long scope does not block other fallbacks for ever.
            self._left = max(self._left - 1.0, -self._most)
            self._last = now

    def _earn(self, share: float, sent: int) -> None:
        # A signal handler may run a read between calls; without a call in here the numbers stay consistent.
        reads = sent + self._asked - self._wasted
        left = self._left + share * (reads - self._known)
        self._left = left if left < self._most else self._most
        self._known = reads
