"""Threads that come to connect to a node which another one has just found unreachable."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pymysql.constants import CR
from pymysql.err import OperationalError

from peewee_replicas.concurrency import Clock
from peewee_replicas.connections.diagnosis import GIVEN_UP
from peewee_replicas.connections.opening import NodeOpening, TurnedAway
from peewee_replicas.nodes.node import Node
from peewee_replicas.nodes.spec import NodeSpec


@pytest.fixture
def node() -> Node:
    return Node(NodeSpec("replica-1", 1, {}), "10.0.0.1:3306", lambda _: None)


def comes(node: Node, *, unreached: int | None = None, watch: Any = None) -> None:
    """A thread, or the prober if there is a watcher, comes to connect; it began when this many had failed."""
    state: Any = SimpleNamespace(unreached=node.unreached if unreached is None else unreached)
    cluster: Any = None
    NodeOpening(cluster, node, watch).before(state)


def fails(node: Node, *, watch: Any = None, given_up: bool = False) -> None:
    cluster: Any = None
    error = OperationalError(CR.CR_CONN_HOST_ERROR, "no answer")
    setattr(error, GIVEN_UP, given_up)
    opening = NodeOpening(cluster, node, watch)
    opening.failed(error)
    if given_up:  # once, it says nothing about the node
        opening.failed(error)
    assert node.unreached == 1


def test_one_that_has_waited_is_turned_away(node: Node) -> None:
    fails(node)
    node.failed_at = None
    comes(node)
    with pytest.raises(TurnedAway):
        comes(node, unreached=0)


def test_one_that_comes_before_the_node_is_ejected_is_turned_away(node: Node) -> None:
    fails(node)
    with pytest.raises(TurnedAway):
        comes(node)
    comes(node, watch=print)  # the prober looks all the same


@pytest.mark.parametrize("seconds", [0.6, -60.0])
def test_nobody_is_turned_away_for_long(node: Node, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    fails(node)
    now = Clock.monotonic()
    monkeypatch.setattr(Clock, "monotonic", lambda: now + seconds)
    comes(node)


@pytest.mark.parametrize("how", [{"watch": print}, {"given_up": True}], ids=["prober", "given up"])
def test_what_ejects_no_node_by_itself_turns_nobody_away_who_comes_later(node: Node, how: Any) -> None:
    fails(node, **how)
    comes(node)
    with pytest.raises(TurnedAway):
        comes(node, unreached=0)
