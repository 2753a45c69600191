"""The policy `Nearest`: prefer the replicas of one zone. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ..errors import ConfigurationError
from ..nodes.callables import why_not_callable
from ..nodes.spec import Fail, did_you_mean, is_seconds
from ..nodes.tags import Tags
from ..statements.redaction import shown
from .policies import POLICIES, Candidate, Policy, PolicyName, made_afresh, peek_of


class Placed(Candidate, Protocol):
    """A replica with the attributes that this policy uses."""

    @property
    def tags(self) -> Tags: ...


C = TypeVar("C", bound=Placed)
# Replicas, those of the zone and the others. One value, because threads replace it at any time.
Divided = tuple[Sequence[Placed], tuple[Placed, ...], tuple[Placed, ...]]


class Nearest:
    """Picks replicas whose tag ``zone`` has one value, and others only if those are gone or too slow.

    A replica of the zone is too slow if its recent reads took more than `tolerance` seconds longer than those
    on the fastest replica elsewhere. After some seconds it is tried again, with one read at a time. While
    reads in the zone take longer than `tolerance`, some go elsewhere now and then, to learn how long they
    take there. A replica that has come back gets its reads gradually, and the others get the rest.

    Parameters:
        zone: the zone of this program, as in the replicas' tags.
        then: the policy among the replicas of the zone, and among the others: a name, or as for ``policy``.
        tolerance: seconds; how much slower the replicas of the zone may be. None: however slow they are.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    name = "nearest"

    def __init__(
        self,
        zone: str,
        then: PolicyName | Policy | Callable[[], Policy] = "least-busy",
        tolerance: float | None = 0.05,
    ) -> None:
        if not isinstance(zone, str) or not zone:
            raise ConfigurationError(f"zone={shown(zone)}: a text is wanted, as in the tags of the replicas")
        if tolerance is not None and not is_seconds(tolerance):
            raise ConfigurationError(
                f"tolerance={shown(tolerance)}: a number of seconds above 0 is wanted, or None"
            )
        self.zone = zone
        self.tolerance = tolerance
        self.then = self._near = as_policy("then", then, ConfigurationError)
        self._elsewhere = as_policy("then", then, ConfigurationError)
        self.uses_latency = tolerance is not None or bool(getattr(self.then, "uses_latency", True))
        if peek_of(self._near) is not None:
            self.peek = self._peek
        self._divided: Divided = ((), (), ())
        self._fit: tuple[Placed, ...] = ()
        self._slow: set[Placed] = set()
        self._credit = 0.0

    def fresh(self) -> Nearest:
        """Return a policy with the same settings that shares no state with this one."""
        return type(self)(self.zone, self.then, self.tolerance)

    def __call__(self, replicas: Sequence[C]) -> C:
        side, policy = self._side(replicas, takes_turn=True)
        picked: C = policy(side)  # type: ignore[arg-type, assignment]  # a user's policy gets handles here
        return picked

    def _peek(self, replicas: Sequence[C]) -> C:
        """Return the next replica without taking a turn."""
        side, policy = self._side(replicas, takes_turn=False)
        picked: C = policy.peek(side)  # type: ignore[attr-defined]  # `peek` is set only if it has one
        return picked

    def _side(self, replicas: Sequence[Placed], *, takes_turn: bool) -> tuple[Sequence[Placed], Policy]:
        """Return the replicas to choose from now, with the policy that chooses."""
        known, near, others = self._divided
        if known is not replicas:
            _, near, others = self._divided = self._divide(replicas)
        if not near:
            return others, self._elsewhere
        if not others:
            return near, self._near
        fit = self._fit_of(near, others)
        if fit and self._serves(fit, takes_turn):
            return fit, self._near
        return others, self._elsewhere

    def _divide(self, replicas: Sequence[Placed]) -> Divided:
        near = tuple(replica for replica in replicas if replica.tags.get("zone") == self.zone)
        others = tuple(replica for replica in replicas if replica.tags.get("zone") != self.zone)
        self._slow.intersection_update(near)
        return replicas, near, others

    def _fit_of(self, near: tuple[Placed, ...], others: tuple[Placed, ...]) -> tuple[Placed, ...]:
        """Return the replicas of the zone that are not too slow; the same tuple until that changes."""
        tolerance = self.tolerance
        if tolerance is None:
            return near
        latencies = [replica.latency for replica in near]
        # Usually they are so fast that nothing elsewhere can be faster by more than the tolerance.
        if not self._slow and all(each is None or each <= tolerance for each in latencies):
            return near
        bound = tolerance + min(replica.latency or 0.0 for replica in others)
        fit = tuple(
            replica
            for replica, latency in zip(near, latencies, strict=True)
            if self._is_fit(replica, latency or 0.0, bound)
        )
        # Policies notice changes by the identity of what they are given.
        if fit == near:
            return near
        before = self._fit
        if fit == before:
            return before
        self._fit = fit
        return fit

    def _is_fit(self, replica: Placed, latency: float, bound: float) -> bool:
        if latency > bound:
            self._slow.add(replica)
            return False
        if replica not in self._slow:
            return True
        # Without reads the latency fades. Just below the bound, it may only have faded.
        if latency <= bound / 2:
            self._slow.discard(replica)
            return True
        return not replica.in_flight

    def _serves(self, fit: tuple[Placed, ...], takes_turn: bool) -> bool:
        """Return whether this read is for the zone; while its replicas warm up, only some are."""
        current, full = sum(each.current_weight for each in fit), sum(each.weight for each in fit)
        if current >= full:
            return True
        credit = self._credit + current / full
        if takes_turn:
            self._credit = credit % 1.0
        return credit >= 1.0


def as_policy(name: str, value: object, fail: Fail) -> Policy:
    """Return the policy for an argument, with a state of its own.

    Parameters:
        name: the argument's name.
        value: a policy, its class, or its name.
        fail: turns a message into the exception to raise.
    """
    if isinstance(value, str) and value in POLICIES:
        return POLICIES[value]()
    if value is Nearest or value == Nearest.name:
        raise fail(f"{name}: Nearest needs its zone: {name}=Nearest(zone='…')")
    if isinstance(value, type):
        value = value()
    if callable(value):
        misfit = why_not_callable(value, ())
        if misfit:
            raise fail(
                f"{name}: the callable is called with one argument, the usable replicas; "
                f"that does not work here ({misfit})"
            )
        return made_afresh(value)  # because two databases given one policy must not share its state
    hint = did_you_mean(value, POLICIES) if isinstance(value, str) else ""
    raise fail(
        f"{name}={shown(value)}: allowed are {', '.join(map(repr, POLICIES))}, "
        f"or a callable that returns one of the replicas it is given{hint}"
    )


def is_built_in(policy: Policy) -> bool:
    """Return whether only this package's policies choose, and no class or function of a user's."""
    if type(policy) is Nearest:
        return is_built_in(policy.then)
    return type(policy) in POLICIES.values()
