"""Policies: pick the next replica for a read. No I/O, no clock. Each database has its own instance."""

from __future__ import annotations

import inspect
import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast

from .. import concurrency
from ..nodes.replica import Replica


class Candidate(Protocol):
    """The attributes of a replica that a policy may use."""

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

# While a node warms up, its weight counts in tenths, so that turns stay whole numbers.
_PARTS = 10
# Latencies up to twice the lowest, or up to this many seconds above it, count as equal.
_EQUALS = 2.0
_NOISE = 0.001
# With more replicas than this, each read compares only this many, chosen pseudo-randomly.
_LOOKED_AT = 8
_SCATTER = 0x9E3779B97F4A7C15
_SHIFTS = range(4, 52, 8)
# The exponent of the penalty for higher latencies. With 1, a slow node would still get part of a heavy load.
_PENALTY = 2


def spread(weights: Sequence[int]) -> tuple[int, ...]:
    """Return one round of turns with each index ``i`` in proportion to ``weights[i]``, evenly spread.

    Parameters:
        weights: whole numbers; an index with weight 0 gets no turn.
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
    """Picks each replica in turn, by weight. Each routed read takes exactly one turn, even with threads.

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
        """Return a policy with the same settings that shares no state with this one."""
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
        """Return the next replica without taking the turn."""
        turns = self._turns(replicas)
        return replicas[turns[self.taken % len(turns)]]


class Random:
    """Picks a replica at random, by weight.

    Parameters:
        generator: your own `random.Random`, for a repeatable sequence.
    """

    name = "random"
    uses_latency = False

    def __init__(self, generator: random.Random | None = None) -> None:
        self._generator = generator
        self._choices = (generator or concurrency.generator).choices
        self._plan: tuple[object, list[float]] = ((), [])

    def fresh(self) -> Random:
        """Return a policy with the same settings, including the generator that the user passed."""
        return type(self)(self._generator)

    def __call__(self, replicas: Sequence[C]) -> C:
        known, weights = self._plan
        if known is not replicas:
            weights = list(itertools.accumulate(replica.current_weight for replica in replicas))
            self._plan = (replicas, weights)
        return self._choices(replicas, cum_weights=weights)[0]


class LeastBusy:
    """Picks the replica with the fewest running reads for its weight, and avoids slow ones.

    Equals take turns.

    Only reads that this process has sent count. A replica is slow if its recent reads took more
    than twice as long as those of the fastest. A slow replica is used only if the others have many times more
    running reads, and now and then to find out whether it is still slow.

    With more than eight replicas, each read compares eight: the one whose turn it is, six that are not slow,
    and any one. So a choice among thirty replicas costs no more than one among eight.
    """

    name = "least-busy"
    uses_latency = True

    def __init__(self) -> None:
        self._turns = RoundRobin()
        self._known = _Known((), 0, 0.0, (), ())

    def fresh(self) -> LeastBusy:
        """Return a policy that shares no state with this one."""
        return type(self)()

    def __call__(self, replicas: Sequence[C]) -> C:
        first = self._turns(replicas)
        return self._best(first, replicas, self._turns.taken)

    def peek(self, replicas: Sequence[C]) -> C:
        """Return the next replica without taking a turn."""
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
        # The first of several equals wins, so start from a different replica each time.
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
    """The ratings of all replicas by latency, computed again after as many turns as there are replicas.

    Attributes:
        replicas, turn: the replicas, and the turn at which they were rated.
        bound: the highest latency, in seconds, that does not count as slow.
        rated: each replica with its penalty.
        fast: the part of `rated` without a penalty.
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
    """Return the factor by which a replica's number of running reads is multiplied for its latency."""
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
"""Picks one of the replicas that may serve a read. It gets the same sequence until something changes."""

PolicyName = Literal["round-robin", "random", "least-busy"]


def made_afresh(policy: Policy) -> Policy:
    """Return a policy with the same settings that shares no state with this one; itself if it makes none."""
    fresh = cast("Callable[[], Policy] | None", _own(policy, "fresh"))
    return policy if fresh is None else fresh()


def peek_of(policy: Policy) -> Policy | None:
    """Return what tells a policy's next choice without taking the turn; None if it cannot tell."""
    return cast("Policy | None", _own(policy, "peek"))


def _own(policy: Policy, name: str) -> object:
    # A mock makes up what it is asked for, and a wrapper may pass the look-up on to the policy that it wraps.
    # What is found that way would be used in place of the mock or the wrapper.
    if inspect.getattr_static(policy, name, None) is None:
        return None
    found: object = getattr(policy, name)
    return found


POLICIES: dict[str, Callable[[], Policy]] = {
    RoundRobin.name: RoundRobin,
    Random.name: Random,
    LeastBusy.name: LeastBusy,
}
