"""The reads of several databases at one server, looked at together."""

from __future__ import annotations

from peewee_replicas.nodes.silence import ASK_AFTER, FIRST_PATIENCE, SECOND_PATIENCE, STEP
from peewee_replicas.nodes.waiting_reads import Tally, WaitingReads


class Node:
    """The numbers that one database keeps of its reads there."""

    def __init__(self, answers: int = 0, waiting: int = 0) -> None:
        self.answers, self.waiting, self.reads = answers, waiting, answers + waiting


class Server:
    """A server at which several databases read, and a prober that follows each advice."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = {node: Tally() for node in nodes}
        self.reads = WaitingReads()
        self.now = 0.0

    def look(self) -> str:
        self.now += STEP
        advice = self.reads.look(self.now, self.nodes.items())
        if advice == "ask":
            self.reads.silence.asked(self.now)
        elif advice == "ask again":
            self.reads.silence.asked_again(self.now)
        return advice

    def hung(self, steps: int = 40) -> bool:
        return any(self.look() == "hung" for _ in range(steps))


def test_one_that_waits_alone_is_seen() -> None:
    assert Server(Node(5), Node(7), Node(waiting=1)).hung()


def test_where_nobody_waits_nothing_is_asked() -> None:
    server = Server(Node(5), Node())
    assert {server.look() for _ in range(40)} == {""}


def test_an_answer_to_another_database_is_a_sign_of_life() -> None:
    busy = Node()
    server = Server(Node(waiting=1), busy)
    for _ in range(40):
        busy.answers += 1
        assert server.look() == ""


def test_a_database_that_comes_is_no_sign_of_life() -> None:
    server = Server(Node(waiting=1))
    steps = int((ASK_AFTER + FIRST_PATIENCE + SECOND_PATIENCE) / STEP) + 3
    seen = []
    for _ in range(steps):
        server.nodes[Node(100)] = Tally()
        seen.append(server.look())
    assert "hung" in seen


def test_one_that_leaves_takes_no_signs_of_life_with_it() -> None:
    """Otherwise so many answers as it ever had would have to come before one counts again."""
    left, stays = Node(1000), Node(waiting=1)
    server = Server(left, stays)
    server.look()
    del server.nodes[left]
    for _ in range(40):
        stays.answers += 1
        assert server.look() == ""


def test_an_answered_probe_is_a_sign_of_life() -> None:
    server = Server(Node(waiting=1))
    for _ in range(40):
        server.reads.probes += 1
        assert server.look() == ""


def test_few_answers_count_as_much_as_many() -> None:
    large, small = Node(1000), Node(waiting=1)
    server = Server(large, small)
    server.look()
    large.answers += 1
    for _ in range(40):
        server.look()
        small.answers += 1
        assert server.look() == ""
