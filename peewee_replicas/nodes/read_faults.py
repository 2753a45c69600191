"""Decides when a node that answers but cannot read its own data leaves the rotation. No I/O, no clock."""

from __future__ import annotations

from ..concurrency import new_lock

FIRST_ABSENCE = 30.0
LONGEST_ABSENCE = 300.0
FORGOTTEN_AFTER = 600.0


class ReadFaults:
    """Counts the reads that failed on a node because of its disk or memory and that another node could serve.

    Such a node answers every probe, so a successful try proves nothing. It therefore stays out for a long
    time, and for longer each time it fails again.
    """

    def __init__(self) -> None:
        self._lock = new_lock()
        self._count = 0
        self._last = 0.0

    def note(self, now: float) -> float | None:
        """Count one such read; return the seconds to keep the node out of rotation, or None after the first.

        Parameters:
            now: a monotonic clock's reading, in seconds.
        """
        with self._lock:
            if self._count and now - self._last > FORGOTTEN_AFTER:
                self._count = 0
            self._last = now
            self._count += 1
            again = self._count - 2
        return None if again < 0 else min(LONGEST_ABSENCE, FIRST_ABSENCE * 2.0 ** min(again, 10))
