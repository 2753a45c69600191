"""Computes how far a node lags the primary, by sampled positions or by heartbeats. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ..positions import Position
from .interview import Facts

_SAMPLES_KEPT = 64


class Samples:
    """Records the primary's positions with their times.

    A replica that has reached a sample lags at most as many seconds as have passed since it was taken.

    Attributes:
        told: the primary's last answer; None: it has not answered yet.
        asked_at, seen_at: when the question was sent, and when that answer came; None: not yet.
        answers: whether the primary answered the last question.
        asked: whether a question is under way that it has not answered yet.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[float, Position]] = []
        self.told: Facts | None = None
        self.asked_at: float | None = None
        self.seen_at: float | None = None
        self.answers = self.asked = False

    def ask(self) -> None:
        """Record that the primary is being asked."""
        self.asked = True

    def silent_since(self, moment: float) -> bool:
        """Return whether the primary has given no answer since then, and is not known to give one now.

        Parameters:
            moment: a monotonic clock's reading, in seconds.
        """
        if self.seen_at is not None and self.seen_at > moment:
            return False
        return self.asked or not self.answers

    def add(self, asked_at: float, answered_at: float, told: Facts) -> None:
        """Record the primary's answer."""
        if self.told is not None and told.server != self.told.server:
            self._kept.clear()  # another server is the primary now
        self.told, self.asked_at, self.seen_at = told, asked_at, answered_at
        self.answers, self.asked = True, False
        if told.sample is None:
            return
        if len(self._kept) > 1 and self._kept[-1][1] == told.sample == self._kept[-2][1]:
            self._kept.pop()  # idle: the first and last time of one position are enough
        self._kept.append((asked_at, told.sample))
        if len(self._kept) > _SAMPLES_KEPT:
            # Old samples matter only for replicas that lag far behind; a coarse answer is enough for these.
            half = _SAMPLES_KEPT // 2
            self._kept[:half] = self._kept[:half:2]  # older samples are kept further apart

    def miss(self) -> None:
        """Record that the primary could not be asked."""
        self.answers = self.asked = False

    def reached(self, position: Position) -> float | None:
        """Return when the newest sample that this position covers was taken; None if it covers none."""
        kind = type(position)
        covered = (
            at for at, sample in reversed(self._kept) if type(sample) is kind and position.covers(sample)
        )
        return next(covered, None)

    def gained(self, before: Position | None, now: Position | None) -> bool:
        """Return whether a node at `now` has reached a sample that it had not reached at `before`."""
        kind = type(now)
        if before is None or now is None or type(before) is not kind:
            return False
        return any(
            type(sample) is kind and now.covers(sample) and not before.covers(sample)
            for _, sample in self._kept
        )

    @property
    def newest(self) -> Position | None:
        """The last position sampled, or None."""
        return None if self.told is None else self.told.sample

    @property
    def oldest(self) -> Position | None:
        """The oldest position that is kept, or None."""
        return self._kept[0][1] if self._kept else None


def lag_bound(reached_at: float, answered_at: float, samples: Samples) -> float:
    """Return by how many seconds, at most, a node lagged when it answered.

    While the primary cannot be asked, the lag does not grow.

    Parameters:
        reached_at: when the newest sample that the node had reached by then was taken.
    """
    until = answered_at if samples.answers or samples.seen_at is None else min(answered_at, samples.seen_at)
    return max(0.0, until - reached_at)


def heartbeat_lag(
    primary: Mapping[str, datetime] | None, replica: Mapping[str, datetime] | None
) -> float | None:
    """Return how many seconds older the newest heartbeat on the replica is than the same server's newest on
    the primary; None if they cannot be compared."""
    if not primary or not replica:
        return None
    beating = max(primary, key=primary.__getitem__)
    if beating not in replica:
        return None
    return max(0.0, (primary[beating] - replica[beating]).total_seconds())
