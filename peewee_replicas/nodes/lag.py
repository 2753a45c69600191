"""How far a node is behind the primary: by positions that were sampled there, or by heartbeats. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .interview import Facts

_SAMPLES_KEPT = 64


class Samples:
    """Where the primary was, and when: a replica that has reached a sample is no further behind than that.

    Attributes:
        newest: the last position sampled, or None.
        seen_at: when the primary has last answered; None: it has not.
        answers: whether it did so the last time it was asked.
        server: who it was.
        beats: its newest heartbeats, or None.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[float, Any]] = []
        self.newest: Any = None
        self.seen_at: float | None = None
        self.answers = False
        self.server: tuple[str, str] | None = None
        self.beats: Mapping[str, datetime] | None = None

    def add(self, asked_at: float, answered_at: float, told: Facts) -> None:
        """Take in what the primary has answered."""
        if self.server is not None and told.itself != self.server:
            self._kept.clear()  # another server plays the primary now
        self.server, self.seen_at, self.answers = told.itself, answered_at, True
        self.beats = told.beats
        self.newest = told.sample
        if told.sample is None:
            return
        if len(self._kept) > 1 and self._kept[-1][1] == told.sample == self._kept[-2][1]:
            self._kept.pop()  # idle: the first and the last moment of one position tell all
        self._kept.append((asked_at, told.sample))
        if len(self._kept) > _SAMPLES_KEPT:
            half = _SAMPLES_KEPT // 2
            self._kept[:half] = self._kept[:half:2]  # the older, the further apart

    def miss(self) -> None:
        """The primary could not be asked."""
        self.answers = False

    def reached(self, position: Any) -> float | None:
        """When the newest sample was taken that this position covers; None where it covers none."""
        kind = type(position)
        covered = (
            at for at, sample in reversed(self._kept) if type(sample) is kind and position.covers(sample)
        )
        return next(covered, None)

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


def heartbeat_lag(primary: Mapping[str, datetime] | None, replica: Mapping[str, datetime] | None) -> Any:
    """Seconds between the newest heartbeat on the primary and the same server's on the replica, or None."""
    if not primary or not replica:
        return None
    beating = max(primary, key=primary.__getitem__)
    if beating not in replica:
        return None
    return max(0.0, (primary[beating] - replica[beating]).total_seconds())
