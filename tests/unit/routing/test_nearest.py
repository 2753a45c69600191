"""`Nearest` prefers the replicas of its zone: as a pure function, and in a simulation with its own clock.

What can happen to the replicas of the zone was listed from what a policy sees of a replica: they are there or
not, warm up, are slow for a time or for good, and are busy. In the simulation each replica has the `Latency`
that the library measures with, and a wire: 1 ms to those of the zone, 20 ms to the others.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from peewee_replicas import ConfigurationError, Nearest, Random, Replica, ReplicatedDatabase, RoundRobin
from peewee_replicas.nodes.latency import Latency

NEAR_WIRE, FAR_WIRE = 0.001, 0.020


class Node:
    """A replica behind a wire, in simulated time."""

    def __init__(self, world: World, name: str, zone: str, wire: float) -> None:
        self.world, self.name, self.wire = world, name, wire
        self.tags = {"zone": zone} if zone else {}
        self.weight, self.current_weight = 1, 1.0
        self.in_flight = 0
        self.work = 0.0
        self.measured = Latency()

    @property
    def latency(self) -> float | None:
        return self.measured.at(self.world.now)


class World:
    """Clients that read one after the other, each through the policy, until the time is over."""

    def __init__(self, policy: Any, near: int = 2, far: int = 2) -> None:
        self.policy = policy
        self.now = 0.0
        self.near = [Node(self, f"near {n}", "a", NEAR_WIRE) for n in range(near)]
        self.far = [Node(self, f"far {n}", "b", FAR_WIRE) for n in range(far)]
        self.usable: tuple[Node, ...] = (*self.near, *self.far)

    def run(self, seconds: float, clients: int = 2) -> Reads:
        ends, order = self.now + seconds, itertools.count()
        began = self.now
        reads = Reads()
        pending: list[tuple[float, int, Node | None, float]] = [
            (self.now, next(order), None, 0.0) for _ in range(clients)
        ]
        while pending:
            self.now, _, node, sent = heapq.heappop(pending)
            if node is not None:
                node.in_flight -= 1
                node.measured.add(self.now - sent, self.now)
                reads.add(node, self.now - sent, self.now - began)
            if self.now < ends:
                node = self.policy(self.usable)
                node.in_flight += 1
                done = self.now + node.wire + node.work
                heapq.heappush(pending, (done, next(order), node, self.now))
        self.now = ends
        return reads


class Reads:
    """What was read where, and how long it took."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.slow_after = 0.0

    def add(self, node: Node, seconds: float, at: float) -> None:
        self.counted[node.name] += 1
        self.seconds.append(seconds)
        if seconds > 0.1:
            self.slow_after = at

    @property
    def share(self) -> float:
        """The share that the replicas of the zone served."""
        near = sum(number for name, number in self.counted.items() if name.startswith("near"))
        return near / sum(self.counted.values())

    @property
    def slow(self) -> int:
        """How many took longer than a tenth of a second."""
        return sum(seconds > 0.1 for seconds in self.seconds)


THEN = ["least-busy", "round-robin", "random"]


@pytest.mark.parametrize("then", THEN)
def test_all_reads_are_near_while_that_is_fast(then: Any) -> None:
    world = World(Nearest("a", then))
    reads = world.run(10)
    assert reads.share == 1.0
    assert len(reads.seconds) == pytest.approx(2 * 10 / NEAR_WIRE, rel=0.01)
    assert reads.counted["near 0"] == pytest.approx(reads.counted["near 1"], rel=0.05)


def test_when_those_of_the_zone_are_gone_the_others_serve_until_they_are_back() -> None:
    world = World(Nearest("a"))
    world.run(2)
    world.usable = (world.near[1], *world.far)
    assert set(world.run(2).counted) == {"near 1"}
    world.usable = (*world.far,)
    reads = world.run(5)
    assert reads.share == 0.0
    assert reads.counted["far 0"] == pytest.approx(reads.counted["far 1"], rel=0.05)
    world.usable = (*world.near, *world.far)
    assert world.run(2).share == 1.0


def test_a_replica_that_comes_back_gets_its_reads_gradually() -> None:
    world = World(Nearest("a"), near=1)
    shares = []
    for part in (0.1, 0.5, 1.0):
        world.near[0].current_weight = part
        world.usable = (*world.usable,)
        # By reads, not by time: those that are near take a twentieth of the time of the others.
        picked = Counter(world.policy(world.usable).name for _ in range(1000))
        shares.append(picked["near 0"] / 1000)
    assert shares == pytest.approx([0.1, 0.5, 1.0], abs=0.01)


@pytest.mark.parametrize("then", THEN)
def test_when_those_of_the_zone_are_slow_the_others_serve_until_they_are_fast_again(then: Any) -> None:
    world = World(Nearest("a", then))
    world.run(2)
    for node in world.near:
        node.work = 0.2
    reads = world.run(60)
    assert reads.share < 0.01
    # Some find it out, two clients at once, and then a replica is tried by one read at a time.
    assert reads.slow < 150
    for node in world.near:
        node.work = 0.0
    world.run(30)  # in which they are tried
    assert world.run(3).share == 1.0


def test_one_slow_replica_of_the_zone_is_left_to_the_policy_inside_it() -> None:
    world = World(Nearest("a", "round-robin"))
    world.run(2)
    world.near[0].work = 0.2
    reads = world.run(15)
    assert reads.share > 0.99  # the other one of the zone
    assert reads.slow < 100


def test_what_is_slow_everywhere_is_read_near() -> None:
    """A tolerance says how much slower than elsewhere, not how slow."""
    world = World(Nearest("a", tolerance=0.05))
    world.run(2)
    for node in (*world.near, *world.far):
        node.work = 0.3
    world.run(30)
    reads = world.run(120)
    assert reads.share > 0.8  # some go elsewhere, because what was known of that fades
    for node in (*world.near, *world.far):
        node.work = 0.03  # within the tolerance, and nothing elsewhere is asked
    world.run(30)
    assert world.run(60).share == 1.0


@pytest.mark.parametrize(("tolerance", "far"), [(0.05, True), (1.0, False), (None, False)])
def test_the_tolerance_decides_when_others_are_used(tolerance: float | None, far: bool) -> None:
    world = World(Nearest("a", tolerance=tolerance))
    world.run(2)
    for node in world.near:
        node.work = 0.3
    world.run(10)
    assert (world.run(30).share < 0.5) is far


def test_without_tags_or_without_others_it_is_the_policy_inside() -> None:
    policy = Nearest("a", "round-robin")
    for zone in ("a", "b", ""):
        world = World(policy, near=0, far=0)
        world.usable = tuple(Node(world, name, zone, FAR_WIRE) for name in "xyz")
        names = [policy(world.usable).name for _ in range(6)]
        assert sorted(names) == sorted("xyzxyz")


def test_peek_tells_who_is_next_and_takes_no_turn() -> None:
    policy = Nearest("a", "round-robin")
    world = World(policy)
    for _ in range(10):
        assert policy.peek(world.usable) is policy.peek(world.usable) is policy(world.usable)
    assert not hasattr(Nearest("a", "random"), "peek")


def test_a_fresh_one_has_the_same_settings_and_no_state_in_common() -> None:
    first = Nearest("a", "round-robin", 0.5)
    world = World(first)
    first(world.usable)
    second = first.fresh()
    assert (second.zone, second.tolerance, type(second.then)) == ("a", 0.5, RoundRobin)
    assert second(world.usable) is world.near[0]
    assert first(world.usable) is world.near[1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Nearest(""), "zone='': a text is wanted"),
        (lambda: Nearest(1), "zone=1: a text is wanted"),  # type: ignore[arg-type]
        (lambda: Nearest("a", "randm"), "then='randm'.*did you mean 'random'"),  # type: ignore[arg-type]
        (lambda: Nearest("a", "nearest"), "then: Nearest needs its zone"),  # type: ignore[arg-type]
        (lambda: Nearest("a", tolerance=0), "tolerance=0: a number of seconds above 0"),
        (lambda: Nearest("a", tolerance=True), "tolerance=True: a number of seconds"),
        (lambda: ReplicatedDatabase("app", policy="nearest"), "policy: Nearest needs its zone"),  # type: ignore[arg-type]
        (lambda: ReplicatedDatabase("app", policy=Nearest), "policy: Nearest needs its zone"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_a_policy_of_the_users_inside_it_gets_what_users_get() -> None:
    given: list[Any] = []

    def first(replicas: Any) -> Any:
        given.append(replicas)
        return replicas[0]

    replicas = [{"host": "a", "tags": {"zone": "a"}}, {"host": "b", "tags": {"zone": "b"}}]
    database = ReplicatedDatabase("app", host="p", replicas=replicas, policy=Nearest("b", first))
    chosen = database._parts.router.choice.choose()
    assert chosen is not None
    assert chosen.name == "b:3306"
    assert given == [(database.replicas[1],)]
    assert isinstance(given[0][0], Replica)


@pytest.mark.parametrize(
    ("policy", "timed"),
    [(Nearest("a"), True), (Nearest("a", Random, None), False), (Nearest("a", "least-busy", None), True)],
)
def test_latencies_are_measured_where_it_uses_them(policy: Nearest, timed: bool) -> None:
    assert policy.uses_latency is timed
