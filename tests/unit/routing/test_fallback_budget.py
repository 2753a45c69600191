"""The share of reads that may fall back, as a function of what was read and when."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peewee_replicas.routing.fallback_budget import QUIET_SECONDS, WINDOW, FallbackBudget

pytestmark = pytest.mark.pure


class Program:
    """Reads through a budget; `now` stands still unless a test moves it."""

    def __init__(self, share: float | None) -> None:
        self.budget = FallbackBudget(share)
        self.now = 1000.0
        self.sent = 0

    def served(self, reads: int) -> None:
        self.sent += reads

    def fall_back(self, reads: int, *, tried: int = 0) -> int:
        """How many of these reads may fall back, each after so many attempts on replicas."""
        allowed = 0
        for _ in range(reads):
            self.sent += tried
            allowed += self.budget.may_fall_back(self.now, self.sent, tried)
        return allowed


def test_what_is_given_back_has_not_been_spent() -> None:
    """A read was allowed to fall back, but a replica served it."""
    program = Program(0.1)
    for _ in range(200):
        if program.budget.may_skip_wait(program.now, program.sent):
            program.budget.give_back()
        program.served(1)
    assert program.fall_back(1000) == pytest.approx(0.1 * (1000 + WINDOW), abs=1.01)


def test_without_a_share_every_read_may_fall_back() -> None:
    assert Program(None).fall_back(1000) == 1000


def test_with_a_share_of_0_no_read_may_fall_back() -> None:
    program = Program(0)
    assert program.fall_back(10) == 0
    program.served(10_000)
    program.now += 100
    assert program.fall_back(10) == 0


def test_with_a_share_of_1_every_read_may_fall_back() -> None:
    assert Program(1).fall_back(5000) == 5000


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.5, 0.9])
def test_with_every_replica_gone_from_the_start_that_share_of_the_reads_falls_back(share: float) -> None:
    assert Program(share).fall_back(10_000) == pytest.approx(share * 10_000, abs=1.01)


@given(
    st.sampled_from([0.05, 0.2, 0.5]),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 300)), max_size=20),
)
def test_never_more_than_the_share_of_all_reads_so_far(share: float, phases: list[tuple[int, int]]) -> None:
    program, reads, fallen = Program(share), 0, 0
    for served, falling in phases:
        program.served(served)
        fallen += program.fall_back(falling)
        reads += served + falling
        assert fallen <= share * reads + 1 + 1e-6


@given(st.sampled_from([0.05, 0.2, 0.5]), st.integers(0, 10**7), st.integers(0, 2000))
def test_a_long_good_time_saves_up_no_more_than_a_window(share: float, good: int, bad: int) -> None:
    program = Program(share)
    program.served(good)
    assert program.fall_back(bad) <= max(1.0, share * WINDOW) + share * bad + 1e-6


@pytest.mark.parametrize("tried", [1, 3])
def test_a_read_that_was_tried_on_replicas_before_is_still_one_read(tried: int) -> None:
    assert Program(0.2).fall_back(5000, tried=tried) == pytest.approx(1000, abs=1.01)


def test_a_quiet_programs_reads_may_all_fall_back() -> None:
    program = Program(0.01)
    for _ in range(50):
        assert program.fall_back(1) == 1
        assert program.fall_back(1) == 0
        program.now += QUIET_SECONDS


def test_what_a_quiet_program_was_allowed_is_not_charged_later() -> None:
    program = Program(0.2)
    for _ in range(50):
        assert program.fall_back(1) == 1
        program.now += QUIET_SECONDS
    assert program.fall_back(100) == pytest.approx(20, abs=2)


def test_the_reads_of_a_scope_that_fell_back_count_and_are_paid_by_others() -> None:
    program = Program(0.2)
    assert program.fall_back(1) == 1
    for _ in range(9):  # nobody asks whether these may: their scope stays where it is
        program.budget.charge(program.now, program.sent)
    # 10 of 10 reads fell back, so that 40 others go by before the next may.
    assert program.fall_back(39) == 0
    assert program.fall_back(3) == 1


def test_a_long_scope_is_forgotten_after_a_window() -> None:
    program = Program(0.2)
    assert program.fall_back(1) == 1
    for _ in range(100_000):
        program.budget.charge(program.now, program.sent)
    assert program.fall_back(WINDOW) == 0
    assert program.fall_back(100) == pytest.approx(20, abs=1)
    program.served(2 * WINDOW)
    assert program.fall_back(1) == 1


def test_it_is_exact_under_threads() -> None:
    budget = FallbackBudget(0.25)
    allowed: list[int] = []

    def work() -> None:
        allowed.append(sum(budget.may_fall_back(1.0, 0, 0) for _ in range(2000)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == pytest.approx(4000, abs=1.01)
