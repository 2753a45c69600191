"""What earlier probes of a node have found, which later ones are compared with. Pure."""

from __future__ import annotations

from typing import Any

from .fitness import Fitness, assess
from .interview import Facts
from .lag import Samples, heartbeat_lag, lag_bound


class ProbeHistory:
    """What the probes of one node have found.

    Attributes:
        server: who answered last; None: nobody yet.
        read_only: whether that was read-only; None: not known.
    """

    def __init__(self) -> None:
        self.server: tuple[str, str] | None = None
        self.read_only: bool | None = None
        self._position: Any = None
        self._own_writes: Any = None
        self._reached_at: float | None = None

    def assess(
        self, told: Facts, answered_at: float, samples: Samples,
        *, serves: bool, listed: bool, max_lag: float | None,
    ) -> Fitness:  # fmt: skip
        """Whether the node may serve reads, by what it has answered now and before.

        Parameters:
            told: what it has answered now; `answered_at`: when.
            samples: of the primary.
            serves: whether it serves reads; else it is the primary, and nothing more.
            listed: whether it was given as the primary.
            max_lag: the bound; None: there is none.
        """
        if not serves:
            self.server = told.itself
            remark = "has read_only=ON: it takes no writes" if told.read_only else ""
            return Fitness("up", "", "primary", 0.0, remark)
        before, position = self._position, told.position
        moved_back = before is not None and position is not None and not position.covers(before)
        if told.itself != self.server or moved_back:
            self._reached_at = self._own_writes = None
        self.server, self._position = told.itself, position
        reached_at = None if position is None else samples.reached(position)
        if reached_at is not None:
            self._reached_at = max(reached_at, self._reached_at or reached_at)
        lag = heartbeat_lag(samples.beats, told.beats)
        if lag is None and self._reached_at is not None:
            lag = lag_bound(self._reached_at, answered_at, samples)
        own, self._own_writes = self._own_writes, told.own_writes
        return assess(
            told,
            is_primary=listed or (bool(told.server) and told.itself == samples.server),
            listed=listed,
            # What was there a round ago and has not arrived at the primary since is not on its way.
            diverged=own is not None and type(samples.newest) is type(own) and not samples.newest.covers(own),
            lag=lag,
            doubt=samples.known and position is not None and self._reached_at is None,
            samples=samples,
            max_lag=max_lag,
        )
