"""A node that leaves the rotation before the program can be told: it is told once, by whoever can first."""

from __future__ import annotations

import pytest

from peewee_replicas.nodes.node import Node
from peewee_replicas.nodes.replica_set import ReplicaSet
from peewee_replicas.nodes.spec import NodeSpec


@pytest.fixture
def node() -> Node:
    return Node(NodeSpec("replica-1", 1, {}), "10.0.0.1:3306", lambda _: None)


@pytest.fixture
def told(node: Node) -> list[tuple[str, str]]:
    """What the program is told of the node: its states and their causes."""
    found: list[tuple[str, str]] = []
    node.on_event = lambda _, state, cause: found.append((state, cause))
    return found


def test_it_is_out_of_rotation_at_once(node: Node, told: list[tuple[str, str]]) -> None:
    replicas = ReplicaSet([node])
    node.leave_untold("no answer")
    assert (replicas.usable, replicas.ejected) == ((), (node,))
    assert (node.state, node.cause) == ("ejected", "no answer")
    assert told == []


def test_the_program_is_told_once(node: Node, told: list[tuple[str, str]]) -> None:
    node.leave_untold("no answer")
    node.failed("no answer; check the network")
    node.failed("lost a connection")
    assert told == [("ejected", "no answer; check the network")]
    assert node.ejections == 1


def test_what_was_told_is_not_told_again(node: Node, told: list[tuple[str, str]]) -> None:
    node.failed("lost a connection")
    node.leave_untold("no answer")
    node.failed("no answer; check the network")
    assert told == [("ejected", "lost a connection")]


def test_the_program_hears_nothing_if_the_next_attempt_succeeds(
    node: Node, told: list[tuple[str, str]]
) -> None:
    replicas = ReplicaSet([node])
    node.leave_untold("no answer")
    node.works()
    assert (replicas.usable, replicas.ejected) == ((node,), ())
    assert told == []
    assert (node.ejections, node.restorations) == (0, 0)
    node.failed("no answer")
    node.works()
    assert told == [("ejected", "no answer"), ("up", "")]


def test_one_that_is_ejected_by_hand_stays_out(node: Node, told: list[tuple[str, str]]) -> None:
    node.eject("maintenance")
    node.leave_untold("no answer")
    node.failed("no answer")
    node.works()
    assert told == [("ejected", "maintenance")]
    assert node.state == "ejected"
