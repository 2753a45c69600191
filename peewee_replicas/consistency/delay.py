"""Estimates how long a node takes to show a write, so that a read can decide whether to wait there.

No I/O, no clock. An estimate decides only where a read goes. Whether a node shows what the read must see is
always proven by the node's own answer.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

WORTH_WAITING: Final = 0.005
"""Seconds. A read waits for a replica if it expects to wait at most this long; else the primary serves it."""
LONGEST_PAUSE: Final = 1.0
"""Seconds that pass at most before a read checks again a node that is expected to take too long."""
_GROWTH = 1.5


class Since(NamedTuple):
    """How old the newest part of a position is.

    Attributes:
        at: on a monotonic clock, when it was added to what a read must see.
        origin: ``"written"``: it is this program's write, acknowledged then; ``"asked"``: the primary
            reported it then, and it may be older; ``"received"``: it came from elsewhere then, for example
            with a bookmark, and is probably older.
    """

    at: float
    origin: Literal["written", "asked", "received"]


class Delay:
    """The time that one node needs to show a write, estimated from what reads have found there.

    The estimate rises at once, because it is too low if a read had to wait. It falls by half at a time, so
    that a node whose delay varies is not waited for in vain every other time.

    Attributes:
        seconds: the estimate; None: nothing is known yet.
    """

    __slots__ = ("_check_at", "_pause", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._pause = 0.0
        self._check_at = 0.0

    def left(self, age: float) -> float:
        """Return after how many seconds the node is expected to show a write; 0 if nothing is known.

        Parameters:
            age: the write's age in seconds.
        """
        return 0.0 if self.seconds is None else max(0.0, self.seconds - age)

    def missed(self, age: float, now: float) -> None:
        """Record that the node did not show a write of this age in seconds.

        Parameters:
            now: a monotonic clock's reading, in seconds.
        """
        if self.seconds is None or age >= self.seconds:
            # How much longer it will take is not known. In equal steps, many reads would ask in vain.
            self._set(age * _GROWTH, now)
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._check_at = now + self._pause

    def shown(self, age: float, now: float) -> None:
        """Record that the node showed a write of this age in seconds, or an older one."""
        if self.seconds is not None and age < self.seconds:
            self._set(max(age, min(self.seconds / 2, LONGEST_PAUSE)), now)

    def waited(self, before: float, after: float, now: float) -> None:
        """Record that a read asked for a write of age `before`, and was told at age `after` that it is there.

        An answer that took long may have waited for the write, or only for a busy machine. It counts as a
        wait if the write was young enough to be waited for.
        """
        took = after - before
        if took > WORTH_WAITING and before <= max(self.seconds or 0.0, took) + WORTH_WAITING:
            if self.seconds is None or after > self.seconds:
                self._set(after, now)
                return
        elif self.seconds is None and after <= WORTH_WAITING:
            self._set(after, now)
        self.shown(after, now)

    def may_check(self, now: float) -> bool:
        """Return whether a read may ask the node although it is expected to take too long.

        If so, no other read may for a while. Call it with a lock held, so that only one read at a time does.
        """
        if now < self._check_at:
            return False
        self._check_at = now + max(self._pause, WORTH_WAITING)
        return True

    def _set(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self._pause = min(seconds, LONGEST_PAUSE)
        self._check_at = now + self._pause
