"""Policies as pure functions of what they are given."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peewee_replicas.routing.policies import POLICIES, LeastBusy, Random, RoundRobin, spread

pytestmark = pytest.mark.pure


@dataclass(eq=False)
class Node:
    name: str
    weight: int = 1
    in_flight: int = 0
    latency: float | None = None
    part: float = 1.0

    @property
    def current_weight(self) -> float:
        return self.weight * self.part


def nodes(*weights: int) -> tuple[Node, ...]:
    return tuple(Node(f"n{place}", weight) for place, weight in enumerate(weights, 1))


weights = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)


@given(weights)
def test_one_round_gives_each_its_share_and_weight_0_nothing(given: list[int]) -> None:
    turns = spread(given)
    counted = Counter(turns)
    total = sum(given)
    for place, weight in enumerate(given):
        assert counted[place] * total == weight * len(turns)


@given(weights)
def test_turns_are_spread_never_in_lumps(given: list[int]) -> None:
    turns = spread(given)
    for length in range(1, len(turns) + 1):
        seen = Counter(turns[:length])
        for place, weight in enumerate(given):
            due = length * weight / sum(given)
            assert abs(seen[place] - due) < len(given)


def test_turns_of_equal_weights_alternate() -> None:
    assert spread([1, 1, 1]) == (0, 1, 2)
    assert spread([5, 5]) == (0, 1)
    assert spread([2, 1]) in ((0, 1, 0), (1, 0, 0), (0, 0, 1))


def test_round_robin_takes_turns_by_weight() -> None:
    policy, candidates = RoundRobin(), nodes(1, 2)
    assert Counter(policy(candidates).name for _ in range(300)) == {"n1": 100, "n2": 200}


@pytest.mark.lesson(32)
def test_round_robin_is_exact_under_threads() -> None:
    policy, candidates = RoundRobin(), nodes(1, 1, 1)
    seen: list[Counter[str]] = []

    def work() -> None:
        seen.append(Counter(policy(candidates).name for _ in range(3000)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(seen, Counter()) == {"n1": 8000, "n2": 8000, "n3": 8000}


@pytest.mark.parametrize("policy", [RoundRobin(), LeastBusy()])
def test_peek_tells_who_is_next_and_takes_no_turn(policy: Any) -> None:
    candidates = nodes(1, 2, 1)
    for _ in range(20):
        assert policy.peek(candidates) is policy.peek(candidates) is policy(candidates)


@pytest.mark.parametrize("policy", [RoundRobin(), LeastBusy(), Random()])
def test_a_policy_copes_with_nodes_that_come_and_go(policy: Any) -> None:
    every = nodes(1, 2, 3)
    for number in range(60):
        candidates = every[: 1 + number % 3]
        assert policy(candidates) in candidates


def test_random_follows_the_weights() -> None:
    policy, candidates, total = Random(random.Random(1)), nodes(1, 2, 0, 3), 6000
    seen = Counter(policy(candidates).name for _ in range(total))
    assert seen["n3"] == 0
    shares = {"n1": total / 6, "n2": total / 3, "n4": total / 2}
    # Two degrees of freedom, 0.1 %; the generator is seeded, so it never varies.
    assert sum((seen[name] - due) ** 2 / due for name, due in shares.items()) < 13.82


def test_random_with_a_generator_of_the_users_can_be_repeated() -> None:
    def sequence() -> list[str]:
        policy, candidates = Random(random.Random(5)), nodes(1, 1)
        return [policy(candidates).name for _ in range(20)]

    assert sequence() == sequence()


def test_least_busy_takes_the_least_work_for_its_weight() -> None:
    candidates = nodes(1, 4)
    policy = LeastBusy()
    candidates[0].in_flight, candidates[1].in_flight = 2, 4  # 2 each against 1 each
    assert {policy(candidates).name for _ in range(10)} == {"n2"}
    candidates[0].in_flight, candidates[1].in_flight = 1, 8
    assert {policy(candidates).name for _ in range(10)} == {"n1"}


def test_least_busy_lets_equals_take_turns() -> None:
    policy, candidates = LeastBusy(), nodes(1, 1)
    assert Counter(policy(candidates).name for _ in range(100)) == {"n1": 50, "n2": 50}
    for node in candidates:
        node.in_flight = 3
    assert Counter(policy(candidates).name for _ in range(100)) == {"n1": 50, "n2": 50}


def test_least_busy_takes_latencies_that_differ_little_for_equal() -> None:
    policy, candidates = LeastBusy(), nodes(1, 1, 1)
    for node, latency in zip(candidates, (0.0010, 0.0013, 0.0019), strict=True):
        node.latency = latency
    assert Counter(policy(candidates).name for _ in range(90)) == {"n1": 30, "n2": 30, "n3": 30}


def test_least_busy_leaves_a_slow_replica_out_until_the_others_have_much_more_in_hand() -> None:
    policy, candidates = LeastBusy(), nodes(1, 1, 1)
    for node, latency in zip(candidates, (0.001, 0.010, 0.001), strict=True):
        node.latency = latency
    assert Counter(policy(candidates).name for _ in range(90))["n2"] == 0
    candidates[0].in_flight = candidates[2].in_flight = 50
    assert Counter(policy(candidates).name for _ in range(90))["n2"] == 0
    candidates[0].in_flight = candidates[2].in_flight = 150
    assert {policy(candidates).name for _ in range(90)} == {"n2"}


def test_least_busy_uses_a_slow_replica_that_is_the_only_one_or_one_of_many() -> None:
    policy, candidates = LeastBusy(), nodes(1, 1)
    for node in candidates:
        node.latency = 5.0
    assert Counter(policy(candidates).name for _ in range(10)) == {"n1": 5, "n2": 5}
    assert policy(candidates[:1]) is candidates[0]


def test_least_busy_tries_a_replica_whose_latency_is_not_known() -> None:
    policy, candidates = LeastBusy(), nodes(1, 1)
    candidates[0].latency = 0.001
    assert Counter(policy(candidates).name for _ in range(10)) == {"n1": 5, "n2": 5}


@pytest.mark.parametrize("policy", [RoundRobin(), LeastBusy(), Random(random.Random(7))])
def test_a_node_that_warms_up_is_given_a_part_of_its_weight(policy: Any) -> None:
    candidates = nodes(1, 1, 1)
    for part in (0.1, 0.5, 1.0):
        candidates[2].part = part
        # A new tuple is what tells a policy that something has changed.
        given_now = (*candidates,)
        counted = Counter(policy(given_now).name for _ in range(21_000))
        assert counted["n3"] / 21_000 == pytest.approx(part / (2 + part), rel=0.08)
        assert counted["n1"] == pytest.approx(counted["n2"], rel=0.05)


def test_least_busy_does_not_flood_a_node_that_warms_up_and_is_idle() -> None:
    policy, candidates = LeastBusy(), nodes(1, 1)
    candidates[1].part = 0.1
    candidates[0].in_flight = 8
    assert Counter(policy(candidates).name for _ in range(110))["n2"] == 10  # its turns alone


@pytest.mark.parametrize("name", POLICIES)
def test_a_fresh_policy_shares_no_turns(name: str) -> None:
    first: Any = POLICIES[name]()
    candidates = nodes(1, 1)
    first(candidates)
    second = first.fresh()
    assert type(second) is type(first)
    if name != "random":
        assert second(candidates).name == "n1"
        assert first(candidates).name == "n2"


@pytest.mark.parametrize("count", [5, 7, 8, 16, 32, 100])
def test_least_busy_is_even_among_many_equals(count: int) -> None:
    policy, candidates = LeastBusy(), nodes(*[1] * count)
    assert set(Counter(policy(candidates).name for _ in range(10 * count)).values()) == {10}
    candidates[3].in_flight = 9  # its reads go to all the others alike
    reads = 4000 * count
    counted = Counter(policy(candidates).name for _ in range(reads))
    assert counted.pop("n4", 0) < 0.01 * reads / count  # where chance has found it alone
    assert len(counted) == count - 1
    assert max(counted.values()) < 1.3 * min(counted.values())


@pytest.mark.parametrize(("count", "slow"), [(5, 4), (8, 6), (9, 8), (16, 8), (16, 15), (32, 16), (32, 31)])
def test_least_busy_leaves_slow_replicas_out_however_many_they_are(count: int, slow: int) -> None:
    policy, candidates = LeastBusy(), nodes(*[1] * count)
    for place, node in enumerate(candidates):
        node.latency = 0.05 if place < slow else 0.005
    names = {node.name for node in candidates[slow:]}
    assert {policy(candidates).name for _ in range(20 * count)} == names
    for node in candidates:
        node.in_flight = 3
    assert {policy(candidates).name for _ in range(20 * count)} == names
    for node in candidates[slow:]:
        node.in_flight = 3 * 400
    counted = Counter(policy(candidates).name for _ in range(100 * count))
    # By chance one of many is looked at that is slow.
    assert sum(counted[name] for name in names) < (1 if count <= 8 else 60 * count)


@pytest.mark.parametrize("count", [9, 32])
def test_least_busy_soon_knows_of_a_replica_that_becomes_slow_or_fast(count: int) -> None:
    policy, candidates = LeastBusy(), nodes(*[1] * count)
    for node in candidates:
        node.latency = 0.005
    assert {policy(candidates).name for _ in range(2 * count)} == {node.name for node in candidates}
    for latency, reads in ((0.05, 0), (0.005, 10)):
        candidates[3].latency = latency
        for _ in range(count):
            policy(candidates)  # it looks at all once in as many turns
        assert Counter(policy(candidates).name for _ in range(10 * count))["n4"] == reads


@pytest.mark.parametrize("count", [5, 8, 9, 16, 32])
def test_least_busy_finds_the_replicas_that_are_idle(count: int) -> None:
    """As many clients as replicas, which serve one read at a time, each as long as the others."""
    policy, candidates = LeastBusy(), nodes(*[1] * count)
    waiting: list[Node] = []
    served = 0
    for _ in range(200):
        for node in waiting:  # each replica has served the first of those that wait for it
            if node.in_flight:
                node.in_flight -= 1
                served += 1
        for _ in range(count - sum(node.in_flight for node in candidates)):
            policy(candidates).in_flight += 1
        waiting = list(candidates)
    assert served > 0.95 * 199 * count
