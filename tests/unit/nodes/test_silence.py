"""When a node that does not answer is asked, asked again and taken for hung, and what lets it begin anew.

The kinds of a sign of life are all that `nodes.silence.Silence` is told: a read that ends or a connection
that is open (`answers`), an answer to a question (`answered`), and bytes that nobody has read yet (`heard`).
What must not be taken for a hung node: no read waits; a long read; a stopped client; a node that is slow;
looks that come late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from peewee_replicas.nodes import silence
from peewee_replicas.nodes.silence import STEP, Silence

pytestmark = pytest.mark.pure


class Watched:
    """A node that is looked at, and a prober that follows each advice."""

    def __init__(self, waiting: int = 1) -> None:
        self.silence = Silence()
        self.now = 1000.0
        self.answers = self.started = 5
        self.waiting = waiting
        self.advised: list[tuple[str, float]] = []
        self.look()

    def look(self) -> str:
        advice = self.silence.look(self.now, answers=self.answers, waiting=self.waiting, started=self.started)
        if advice:
            self.advised.append((advice, round(self.now - 1000.0, 3)))
        if advice == "ask":
            self.silence.asked(self.now)
        elif advice == "ask again":
            self.silence.asked_again(self.now)
        return advice

    def go_on(self, seconds: float, at_each: Callable[[], object] = lambda: None) -> list[str]:
        """Look every step for so many seconds; returns what was advised, without repetitions."""
        before = len(self.advised)
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            at_each()
            if self.look() == "hung":
                break
        return [advice for advice, _ in self.advised[before:]]


def test_reads_without_an_answer_end_in_less_than_a_second() -> None:
    node = Watched()
    assert node.go_on(5.0) == ["ask", "ask again", "hung"]
    asked, again, hung = (when for _, when in node.advised)
    assert hung + STEP < 0.9  # the reads began up to a step before the first look
    assert again - asked >= silence.FIRST_PATIENCE - 1e-6
    assert hung - again >= silence.SECOND_PATIENCE - 1e-6


def test_nothing_is_asked_while_no_read_waits() -> None:
    assert Watched(waiting=0).go_on(60.0) == []


def test_a_question_that_is_older_than_the_read_counts_from_when_it_was_sent() -> None:
    """As when the prober's round had met the silent node before any read did."""
    node = Watched(waiting=0)
    node.silence.asked(node.now)
    node.go_on(0.5)
    node.waiting = 1
    assert node.go_on(5.0) == ["ask again", "hung"]


def test_a_question_that_may_take_a_while_is_given_that_time() -> None:
    plain, patient = Watched(), Watched()
    for node, may_take in ((plain, 0.0), (patient, 0.5)):
        node.silence.asked(node.now, may_take=may_take)
        assert node.go_on(5.0) == ["ask again", "hung"]
    assert patient.advised[0][1] - plain.advised[0][1] == pytest.approx(0.5, abs=STEP + 0.01)


def finish_a_read(node: Watched) -> None:
    node.answers += 1
    node.started += 1


SIGNS: dict[str, Callable[[Watched], Any]] = {
    "a read ends": finish_a_read,
    "the question is answered": lambda node: node.silence.answered(node.now),
    "bytes have arrived": lambda node: node.silence.heard(node.now),
}


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("after", ["ask", "ask again"])
def test_a_sign_of_life_after_each_step_lets_it_begin_anew(sign: str, after: str) -> None:
    node = Watched()
    while not node.advised or node.advised[-1][0] != after:
        node.now += STEP
        node.look()
    node.now += STEP
    SIGNS[sign](node)
    assert node.go_on(5.0) == ["ask", "ask again", "hung"]


@pytest.mark.parametrize("every", [0.2, 0.6])
def test_a_slow_node_that_answers_reads_is_not_hung(every: float) -> None:
    """Ten times slower than 20 ms, and slower than any patience: the questions are answered as late."""
    node = Watched()
    since = node.now

    def answer_late() -> None:
        nonlocal since
        if node.now - since >= every - 1e-6:
            since = node.now
            finish_a_read(node)

    assert "hung" not in node.go_on(60.0, answer_late)


def test_a_long_read_is_asked_about_less_and_less() -> None:
    node = Watched()
    asked = [0]

    def answer() -> None:
        if node.silence._asked is not None:
            asked[0] += 1
            node.silence.answered(node.now)

    node.go_on(60.0, answer)
    assert {advice for advice, _ in node.advised} == {"ask"}
    assert 20 < asked[0] < 70  # about once a second
    node.started += 1  # another read begins beside it, and waits too: it is helped as soon as the first was
    assert node.go_on(0.3) == ["ask"]


def looks_until_hung(stopped_at: int | None = None, late: float = STEP) -> int:
    """How many looks it takes, if the client is stopped for 20 s before one of them."""
    node = Watched()
    looks = 0
    while not node.advised or node.advised[-1][0] != "hung":
        node.now += 20.0 if looks == stopped_at else late
        looks += 1
        node.look()
    return looks


@pytest.mark.parametrize("stopped_at", range(looks_until_hung()))
def test_a_stopped_client_has_waited_for_one_step(stopped_at: int) -> None:
    """Wherever in the course of things it was stopped: the answers are there when it goes on."""
    assert looks_until_hung(stopped_at) == looks_until_hung()


def test_a_machine_on_which_looks_come_late_has_more_patience() -> None:
    assert looks_until_hung(late=10 * STEP) >= looks_until_hung() - 1  # however long each of them took


def test_a_node_that_is_usually_slow_to_answer_gets_more_time() -> None:
    quick, slow = Watched(), Watched()
    for node, takes in ((quick, 0.0), (slow, 0.2)):
        for _ in range(3):
            node.silence.asked(node.now)
            for _ in range(round(takes / STEP)):
                node.now += STEP
                node.look()
            node.silence.answered(node.now)
        node.started += 1
        began = node.now
        node.advised.clear()
        node.go_on(10.0)
        node.advised = [(advice, when + 1000.0 - began) for advice, when in node.advised]
    assert slow.advised[-1][1] > 2 * quick.advised[-1][1]
    assert slow.advised[-1][1] < 3.0
