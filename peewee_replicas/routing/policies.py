"""Policies: who is next among the replicas that may serve a read. Pure, and one instance per database."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from ..nodes.replica import Replica


class Candidate(Protocol):
    """What a policy may look at."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> int: ...
    @property
    def current_weight(self) -> float: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def latency(self) -> float | None: ...


C = TypeVar("C", bound=Candidate)

# While nodes warm up, parts of their weights count: tenths, so that turns can be whole.
_PARTS = 10
# Up to so many times the lowest latency, or so many seconds above it, nodes are equals.
_EQUALS = 2.0
_NOISE = 0.001
# Of more replicas than that, so many are looked at for one read, and which is as good as chance.
_LOOKED_AT = 8
_SCATTER = 0x9E3779B97F4A7C15
_SHIFTS = range(4, 52, 8)
# How a latency counts beyond that: with 1 the slow node would still get a part of a heavy load.
_PENALTY = 2


def spread(weights: Sequence[int]) -> tuple[int, ...]:
    """One round of turns in which index ``i`` comes ``weights[i]`` times, as evenly as can be.

    Parameters:
        weights: whole numbers; those that are 0 get no turn.
    """
    divisor = math.gcd(*weights) or 1
    shares = [weight // divisor for weight in weights]
    credit = [0] * len(shares)
    turns = []
    for _ in range(sum(shares)):
        for index, share in enumerate(shares):
            credit[index] += share
        best = max(range(len(shares)), key=credit.__getitem__)
        credit[best] -= sum(shares)
        turns.append(best)
    return tuple(turns)


class RoundRobin:
    """Each replica in turn, by weight. One turn per routed read, exact under threads.

    Attributes:
        taken: how many turns were taken.
    """

    name = "round-robin"
    uses_latency = False

    def __init__(self) -> None:
        self._counter = itertools.count()
        self.taken = 0
        self._plan: tuple[object, tuple[int, ...]] = ((), ())

    def fresh(self) -> RoundRobin:
        """A policy of the same settings that shares no state with this one."""
        return type(self)()

    def _turns(self, replicas: Sequence[C]) -> tuple[int, ...]:
        known, turns = self._plan
        if known is not replicas:
            turns = spread([round(replica.current_weight * _PARTS) for replica in replicas])
            self._plan = (replicas, turns)
        return turns

    def __call__(self, replicas: Sequence[C]) -> C:
        turns = self._turns(replicas)
        turn = next(self._counter)  # atomic, so that no two threads share a turn
        self.taken = turn + 1
        return replicas[turns[turn % len(turns)]]

    def peek(self, replicas: Sequence[C]) -> C:
        """Who would be next, without taking the turn."""
        turns = self._turns(replicas)
        return replicas[turns[self.taken % len(turns)]]


class Random:
    """A replica at random, by weight.

    Parameters:
        generator: a `random.Random` of your own, for a repeatable sequence.
    """

    name = "random"
    uses_latency = False

    def __init__(self, generator: random.Random | None = None) -> None:
        self._generator = generator
        self._choices = (generator or random.Random()).choices
        self._plan: tuple[object, list[float]] = ((), [])

    def fresh(self) -> Random:
        """A policy of the same settings; a generator that was given is the user's to share."""
        return type(self)(self._generator)

    def __call__(self, replicas: Sequence[C]) -> C:
        known, weights = self._plan
        if known is not replicas:
            weights = list(itertools.accumulate(replica.current_weight for replica in replicas))
            self._plan = (replicas, weights)
        return self._choices(replicas, cum_weights=weights)[0]


class LeastBusy:
    """The replica with the least work in hand for its weight, and not a slow one; equals take turns.

    Work in hand is what this process has sent to it and not yet got back. A replica is slow whose reads
    lately took more than twice as long as those of the fastest: it is used only where the others have many
    times more in hand, and now and then, to see whether it still is.

    Of more than eight replicas each read looks at eight: the one whose turn it is, six that are not slow,
    and one of all, so that a choice costs the same among thirty.
    """

    name = "least-busy"
    uses_latency = True

    def __init__(self) -> None:
        self._turns = RoundRobin()
        self._known = _Known((), 0, 0.0, (), ())

    def fresh(self) -> LeastBusy:
        """A policy that shares no state with this one."""
        return type(self)()

    def __call__(self, replicas: Sequence[C]) -> C:
        first = self._turns(replicas)
        return self._best(first, replicas, self._turns.taken)

    def peek(self, replicas: Sequence[C]) -> C:
        """Who would be next, without taking a turn."""
        return self._best(self._turns.peek(replicas), replicas, self._turns.taken + 1)

    def _best(self, first: C, replicas: Sequence[C], turn: int) -> C:
        idle = not first.in_flight
        own = first.latency
        if idle and own is None:
            return first
        count = len(replicas)
        known = self._known
        if known.replicas is not replicas or turn - known.turn >= count:
            known = self._known = _look(replicas, turn)
        penalty = _penalty(own, known.bound)
        if idle and penalty == 1.0:
            return first
        # Of equals the first that is looked at is taken, so that is another one each time.
        bits = turn * _SCATTER
        rated = known.fast if count > _LOOKED_AT else known.rated
        looked_at = [(first, penalty)]
        if len(rated) <= _LOOKED_AT:
            start = (bits >> 20 & 0xFFF) % len(rated)
            looked_at += rated[start:]
            looked_at += rated[:start]
        else:
            looked_at += [rated[(bits >> shift & 0xFFF) % len(rated)] for shift in _SHIFTS]
            looked_at.append(known.rated[(bits >> 44 & 0xFFF) % count])
        return _least(looked_at)


class _Known(NamedTuple):
    """What was found by looking at the latencies of all replicas, which is done once in as many turns.

    Attributes:
        replicas, turn: of which, and when.
        bound: the latency up to which one is not slow.
        rated: each with its penalty; `fast`: those that have none.
    """

    replicas: Sequence[Any]
    turn: int
    bound: float
    rated: tuple[tuple[Any, float], ...]
    fast: tuple[tuple[Any, float], ...]


def _look(replicas: Sequence[Candidate], turn: int) -> _Known:
    latencies = [replica.latency for replica in replicas]
    lowest = min((known for known in latencies if known is not None), default=0.0)
    bound = max(lowest * _EQUALS, lowest + _NOISE)
    rated = tuple((one, _penalty(its, bound)) for one, its in zip(replicas, latencies, strict=True))
    return _Known(replicas, turn, bound, rated, tuple(pair for pair in rated if pair[1] == 1.0))


def _penalty(latency: float | None, bound: float) -> float:
    """How many times as much work in hand a replica of that latency counts for."""
    return 1.0 if latency is None or latency <= bound else (latency / bound * _EQUALS) ** _PENALTY


def _least(rated: Sequence[tuple[C, float]]) -> C:
    best, least = rated[0][0], math.inf
    for replica, penalty in rated:
        weight = replica.current_weight
        if weight:
            cost = (replica.in_flight + 1) / weight * penalty
            if cost < least:
                best, least = replica, cost
    return best


Policy = Callable[[Sequence[Replica]], Replica]
"""Picks one of the replicas that may serve a read; a sequence that is the same object has not changed."""

POLICIES: dict[str, Callable[[], Policy]] = {
    RoundRobin.name: RoundRobin,
    Random.name: Random,
    LeastBusy.name: LeastBusy,
}
