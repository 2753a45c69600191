"""The breaker: who is out of rotation, for how long, and who may try."""

from __future__ import annotations

import pytest
from support.forms.threads import in_threads

from peewee_replicas.nodes.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker

pytestmark = pytest.mark.pure


def breaker(jitter: float = 1.0) -> Breaker:
    return Breaker(lambda: jitter)


def test_a_new_node_is_in_rotation() -> None:
    it = breaker()
    assert not it.open
    assert not it.may_try(1e9)  # there is nothing to try


def test_one_failure_ejects_and_says_so_once() -> None:
    it = breaker()
    assert it.fail(100.0, "refused")
    assert it.open
    assert it.cause == "refused"
    assert not it.fail(100.0, "refused again")
    assert it.cause == "refused again"


def test_it_may_be_tried_when_its_pause_is_over_by_one_caller_alone() -> None:
    it = breaker()
    it.fail(100.0, "refused")
    assert not it.may_try(100.0 + FIRST_PAUSE - 0.01)
    assert it.may_try(100.0 + FIRST_PAUSE)
    assert not it.may_try(100.0 + FIRST_PAUSE)
    assert not it.may_try(1e9)


@pytest.mark.lesson(23)
def test_of_many_threads_exactly_one_may_try() -> None:
    it = breaker()
    it.fail(0.0, "refused")
    answers = in_threads(16, lambda: it.may_try(1e9))
    assert answers.count(True) == 1
    assert len(answers) == 16


def test_pauses_grow_with_each_failed_try_up_to_a_bound() -> None:
    it = breaker()
    now, pauses = 0.0, []
    it.fail(now, "refused")
    for _ in range(10):
        ready = it._until
        pauses.append(ready - now)
        now = ready
        assert it.may_try(now)
        it.fail(now, "refused")
    assert pauses[:4] == pytest.approx([FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4, FIRST_PAUSE * 8])
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE)


def test_jitter_shortens_a_pause_by_at_most_half() -> None:
    low, high = breaker(0.0), breaker(0.999)
    low.fail(0.0, "refused")
    high.fail(0.0, "refused")
    assert low.may_try(FIRST_PAUSE / 2)
    assert not high.may_try(FIRST_PAUSE / 2)
    assert high.may_try(FIRST_PAUSE)


def test_late_failures_of_other_connections_do_not_lengthen_the_pause() -> None:
    it = breaker()
    it.fail(100.0, "refused")
    for _ in range(50):
        it.fail(100.1, "refused")
    assert it.may_try(100.0 + FIRST_PAUSE)


def test_a_try_that_works_brings_it_back_and_forgets_the_pauses() -> None:
    it = breaker()
    it.fail(0.0, "refused")
    assert it.may_try(1.0)
    it.fail(1.0, "refused")
    assert it.may_try(10.0)
    assert it.succeed()
    assert not it.open
    assert it.cause == ""
    assert not it.succeed()  # it was in already
    it.fail(20.0, "refused")
    assert it.may_try(20.0 + FIRST_PAUSE)


def test_a_try_that_said_nothing_leaves_it_to_the_next_caller() -> None:
    it = breaker()
    it.fail(0.0, "refused")
    assert it.may_try(1.0)
    it.let_go()
    assert it.open
    assert it.may_try(1.0)


def test_ejected_by_hand_it_stays_out_until_it_is_restored() -> None:
    it = breaker()
    it.eject("maintenance")
    assert it.open
    assert it.cause == "maintenance"
    assert not it.may_try(1e9)
    assert not it.succeed()
    assert it.open
    it.restore()
    assert not it.open
    assert it.cause == ""


def test_ejected_by_hand_while_it_is_tried_it_stays_out() -> None:
    it = breaker()
    it.fail(0.0, "refused")
    assert it.may_try(1.0)
    it.eject("maintenance")
    assert not it.succeed()
    assert it.open


def test_a_failure_does_not_hide_that_it_was_ejected_by_hand() -> None:
    it = breaker()
    it.eject("maintenance")
    it.fail(0.0, "refused")
    assert not it.may_try(1e9)
    assert it.cause == "maintenance"
