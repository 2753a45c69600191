"""How far a node is behind the primary: by positions that were sampled there, or by heartbeats. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ..positions import Position
from .interview import Facts

_SAMPLES_KEPT = 64


class Samples:
    """Where the primary was, and when: a replica that has reached a sample is no further behind than that.

    Attributes:
        told: what the primary has answered last; None: nothing yet.
        asked_at, seen_at: when it was asked that, and when it answered; None: not yet.
        answers: whether it answered the last time it was asked.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[float, Position]] = []
        self.told: Facts | None = None
        self.asked_at: float | None = None
        self.seen_at: float | None = None
        self.answers = False

    def add(self, asked_at: float, answered_at: float, told: Facts) -> None:
        """Take in what the primary has answered."""
        if self.told is not None and told.server != self.told.server:
            self._kept.clear()  # another server plays the primary now
        self.told, self.asked_at, self.seen_at, self.answers = told, asked_at, answered_at, True
        if told.sample is None:
            return
        if len(self._kept) > 1 and self._kept[-1][1] == told.sample == self._kept[-2][1]:
            self._kept.pop()  # idle: the first and the last moment of one position tell all
        self._kept.append((asked_at, told.sample))
        if len(self._kept) > _SAMPLES_KEPT:
            # Old samples matter only for replicas that are far behind, where a coarse answer will do.
            half = _SAMPLES_KEPT // 2
            self._kept[:half] = self._kept[:half:2]  # the older, the further apart

    def miss(self) -> None:
        """The primary could not be asked."""
        self.answers = False

    def reached(self, position: Position) -> float | None:
        """When the newest sample was taken that this position covers; None where it covers none."""
        kind = type(position)
        covered = (
            at for at, sample in reversed(self._kept) if type(sample) is kind and position.covers(sample)
        )
        return next(covered, None)

    def gained(self, before: Position | None, now: Position | None) -> bool:
        """Whether a node at `now` has reached a sample that it had not reached at `before`."""
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
    def known(self) -> bool:
        """Whether there is any sample to compare with."""
        return bool(self._kept)


def lag_bound(reached_at: float, answered_at: float, samples: Samples) -> float:
    """By how many seconds, at most, a node was behind when it answered.

    While the primary cannot be asked, lag stands still.

    Parameters:
        reached_at: when the newest sample was taken that the node had then reached.
    """
    until = answered_at if samples.answers or samples.seen_at is None else min(answered_at, samples.seen_at)
    return max(0.0, until - reached_at)


def heartbeat_lag(
    primary: Mapping[str, datetime] | None, replica: Mapping[str, datetime] | None
) -> float | None:
    """Seconds between the newest heartbeat on the primary and the same server's on the replica, or None."""
    if not primary or not replica:
        return None
    beating = max(primary, key=primary.__getitem__)
    if beating not in replica:
        return None
    return max(0.0, (primary[beating] - replica[beating]).total_seconds())
