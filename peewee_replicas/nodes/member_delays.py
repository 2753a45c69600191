"""Decides how long a member that is behind its Galera cluster gets no reads. No I/O, no clock."""

from __future__ import annotations

from ..concurrency import new_lock

FIRST_ABSENCE = 1.0
LONGEST_ABSENCE = 30.0
FORGOTTEN_AFTER = 120.0


class MemberDelays:
    """Counts the reads that waited in vain for a member to catch up with its cluster.

    The server decides how long such a read waits, 30 s by default, and the member answers every probe
    meanwhile. So it is left alone for longer each time a read has waited in vain again.
    """

    def __init__(self) -> None:
        self._lock = new_lock()
        self._absence = 0.0
        self._last = 0.0

    def note(self, now: float) -> float:
        """Count one such read; return the seconds to keep the node out of rotation.

        Parameters:
            now: a monotonic clock's reading, in seconds.
        """
        with self._lock:
            if now - self._last > FORGOTTEN_AFTER:
                self._absence = 0.0
            self._last = now
            self._absence = min(LONGEST_ABSENCE, max(FIRST_ABSENCE, self._absence * 2))
            return self._absence
