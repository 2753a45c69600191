"""Averages how long recent reads took on a node. No I/O, no clock."""

from __future__ import annotations

import math

MEMORY = 10.0
"""Seconds over which latencies are averaged. Without reads the average fades to a third in that time."""
LEAST_PART = 1 / 16
"""The least share of a new read in the average, so that the average also follows a burst of reads."""
OUTLIER = 8.0
"""A read counts as at most this many times the average, so that one slow query does not make a node slow."""
FIRST_READS = 8
"""The fastest of this many first reads counts; the others may have met cold caches or a new connection."""
UNKNOWN_BELOW = 6
"""After fewer reads than this, the latency is unknown."""


class Latency:
    """A moving average over time, in seconds."""

    __slots__ = ("_at", "_reads", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._at = 0.0
        self._reads = 0

    def add(self, seconds: float, now: float) -> None:
        """Add one read.

        Parameters:
            seconds: how long the read took.
            now: a monotonic clock's reading when the read ended.
        """
        if self._reads < FIRST_READS:
            self._reads += 1
            self._seconds = seconds if self._reads == 1 else min(seconds, self._seconds)
        else:
            kept = min(math.exp(-max(now - self._at, 0.0) / MEMORY), 1 - LEAST_PART)
            self._seconds = self._seconds * kept + min(seconds, OUTLIER * self._seconds) * (1 - kept)
        self._at = now

    def add_failure(self, seconds: float, now: float) -> None:
        """Add a read that failed. Failing fast does not make a node fast, but timing out makes it slow.

        Parameters:
            seconds, now: as for `add`.
        """
        if self._reads >= FIRST_READS and seconds > self._seconds:
            self.add(seconds, now)
        else:
            self._at = now  # the average keeps fading from here

    def at(self, now: float) -> float | None:
        """Return the average in seconds, or None after too few reads."""
        if self._reads < UNKNOWN_BELOW:
            return None
        return self._seconds * math.exp(-max(now - self._at, 0.0) / MEMORY)
