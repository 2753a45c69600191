"""How many reads may fall back to the primary. Pure, told the time."""

from __future__ import annotations

from ..concurrency import new_lock

WINDOW = 100
"""So many reads make up the share at any moment: what was saved for longer is forgotten."""
QUIET_SECONDS = 1.0
"""If no read fell back for so long, one may in any case: one read now and then melts no primary."""


class FallbackBudget:
    """Lets at most a share of the reads fall back, and exactly that under threads.

    Every read that may be served by a replica earns its share of a fallback, be it served, fallen back or
    refused, and each fallback costs one. So of any ``n`` reads one after the other at most
    ``share * (n + WINDOW)`` fall back, and of the first ``n`` at most ``share * n + 1``, apart from one in
    `QUIET_SECONDS` when there is none else. With a share of 0 none does.

    Parameters:
        share: from 0 to 1; None: no bound.
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
        """Whether one read may fall back; if so, it counts as one that does.

        Parameters:
            now: a monotonic clock's reading, in seconds.
            sent: how often reads were sent to replicas, in all.
            wasted: how often this read was, which is not another one.
        """
        if self.share is None:
            return True
        with self._lock:
            self._earn(self.share, sent, wasted)
            if self._left >= 1.0:
                self._left -= 1.0
            elif not self.share or (self._last is not None and now - self._last < QUIET_SECONDS):
                return False
            self._last = now
            return True

    def charge(self, now: float, sent: int) -> None:
        """Count a read that follows one that fell back to where that went: a scope stays with its node."""
        if self.share is None:
            return
        with self._lock:
            self._earn(self.share, sent, 0)
            # No more than a window is owed, so that one long scope does not refuse others for ever.
            self._left = max(self._left - 1.0, -self._most)
            self._last = now

    def _earn(self, share: float, sent: int, wasted: int) -> None:
        # A signal handler may read too, in the midst of this; with no call between them the numbers agree.
        self._asked += 1
        self._wasted += wasted
        reads = sent + self._asked - self._wasted
        left = self._left + share * (reads - self._known)
        self._left = left if left < self._most else self._most
        self._known = reads
