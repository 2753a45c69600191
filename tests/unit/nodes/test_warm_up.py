"""How much of a node's weight counts after it came into rotation, told the time."""

from __future__ import annotations

import pytest

from peewee_replicas.nodes.latency import MEMORY, Latency
from peewee_replicas.nodes.warm_up import WARM_UP_SECONDS, WarmUp

pytestmark = pytest.mark.pure


def test_nothing_warms_up_at_the_start_of_a_program() -> None:
    it = WarmUp()
    assert it.shares(["a", "b"], [], 0.0) == {"a": 1.0, "b": 1.0}
    assert it.next_step is None


def test_a_node_that_comes_back_grows_in_steps_to_all_of_its_weight() -> None:
    it = WarmUp(10.0, 10)
    it.shares(["a", "b"], [], 0.0)
    it.shares(["a"], ["a", "b"], 50.0)
    assert it.next_step is None
    seen = [it.shares(["a", "b"], ["a"], 100.0)["b"]]
    now = 100.0
    while it.next_step is not None:
        assert it.next_step > now
        now = it.next_step
        shares = it.shares(["a", "b"], ["a", "b"], now)
        assert shares["a"] == 1.0
        seen.append(shares["b"])
    assert seen == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert now == pytest.approx(100.0 + WARM_UP_SECONDS * 0.9)


def test_where_every_node_warms_up_all_count_in_full() -> None:
    it = WarmUp()
    it.shares(["a"], [], 0.0)
    assert it.shares(["b"], ["a"], 10.0) == {"b": 1.0}  # alone, as after a loss of all others
    assert it.shares(["b", "c"], ["b"], 11.0) == {"b": 1.0, "c": 0.1}
    assert it.shares(["c"], ["b", "c"], 12.0) == {"c": 1.0}  # the warm one went
    assert it.next_step is None


def test_a_node_that_goes_out_again_begins_anew() -> None:
    it = WarmUp()
    it.shares(["a"], [], 0.0)
    it.shares(["a", "b"], ["a"], 10.0)
    assert it.shares(["a", "b"], ["a", "b"], 15.0)["b"] == 0.6
    it.shares(["a"], ["a", "b"], 16.0)
    assert it.shares(["a", "b"], ["a"], 17.0)["b"] == 0.1


def test_a_step_that_was_missed_is_made_up_for() -> None:
    it = WarmUp()
    it.shares(["a"], [], 0.0)
    it.shares(["a", "b"], ["a"], 10.0)
    assert it.shares(["a", "b"], ["a", "b"], 500.0) == {"a": 1.0, "b": 1.0}


def latency_after(*reads: tuple[float, float]) -> Latency:
    it = Latency()
    for seconds, now in reads:
        it.add(seconds, now)
    return it


def test_no_latency_is_known_before_some_reads() -> None:
    assert Latency().at(5.0) is None
    assert latency_after(*[(0.004, 5.0)] * 5).at(5.0) is None
    assert latency_after(*[(0.004, 5.0)] * 6).at(5.0) == 0.004


def test_of_the_first_reads_those_on_cold_caches_do_not_count() -> None:
    it = latency_after((0.050, 1.0), (0.080, 1.1), (0.001, 1.2), *[(0.050, 1.2)] * 5)
    assert it.at(1.2) == 0.001


def test_a_latency_follows_a_node_that_becomes_slow_within_few_reads() -> None:
    it = latency_after(*((0.001, number / 1000) for number in range(1000)))
    for number in range(5):
        it.add(0.010, 1.0 + number / 100)
    found = it.at(1.05)
    assert found is not None
    assert found > 0.002


def test_one_long_report_does_not_make_a_node_slow() -> None:
    it = latency_after(*((0.001, number / 1000) for number in range(1000)))
    it.add(60.0, 1.0)
    found = it.at(1.0)
    assert found is not None
    assert found < 0.002


def test_a_latency_fades_without_reads_and_then_believes_the_next_one() -> None:
    it = latency_after(*((0.010, number / 100) for number in range(300)))
    late = 3.0 + 2 * MEMORY
    faded = it.at(late)
    assert faded is not None
    assert faded < 0.002
    it.add(0.001, late)
    again = it.at(late)
    assert again is not None
    assert again < 0.0025


def test_to_fail_makes_no_node_fast_and_to_time_out_makes_it_slow() -> None:
    it = Latency()
    for number in range(100):
        it.add_failure(0.001, number / 100)
    assert it.at(1.0) is None
    it = latency_after(*((0.010, number / 100) for number in range(300)))
    for number in range(100):
        it.add_failure(0.001, 3.0 + number)
    assert it.at(102.0) == pytest.approx(0.010)  # it does not fade either, for it is in use
    for number in range(20):
        it.add_failure(2.0, 102.0 + number)
    found = it.at(122.0)
    assert found is not None
    assert found > 0.5


def test_clocks_that_step_back_do_no_harm() -> None:
    it = latency_after(*((0.001, now) for now in (10.0, 9.0, 9.5, 9.0, 8.0, 8.5, 7.0, 8.0, 9.0)))
    assert it.at(8.0) == pytest.approx(0.001)
