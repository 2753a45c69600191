"""What users are given of a node: the members that are documented, and no others."""

from __future__ import annotations

import copy
import pickle
import re
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.databases.nodes import nodes_of

from peewee_replicas import ConfigurationError, Replica, ReplicatedDatabase, RoundRobin

DOCS = Path(__file__).parents[3] / "docs" / "reference.md"


def make(**arguments: Any) -> Any:
    given = {"replicas": ["a", "b", "c"], "host": "p", "probe_interval": None, **arguments}
    return ReplicatedDatabase("app", **given)


def chosen(database: Any) -> Any:
    return database._parts.router.choice.choose()


def test_its_members_are_those_of_the_reference() -> None:
    section = DOCS.read_text().split("\n## `Replica`\n")[1].split("\n## ")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {name for cell in first_cells for name in re.findall(r"`(\w+)", cell)}
    assert {name for name in dir(Replica) if not name.startswith("_")} == documented


def test_it_shows_its_node_and_changes_nothing_but_by_its_methods() -> None:
    database = make()
    replica, node = database.replicas[0], nodes_of(database)[0]
    for name in (name for name in dir(Replica) if not name.startswith("_")):
        if name not in ("eject", "restore"):
            assert getattr(replica, name) == getattr(node, name)
            with pytest.raises(AttributeError):
                setattr(replica, name, None)
    with pytest.raises(AttributeError):
        replica.note = "a member of the user's own"
    replica.eject("being upgraded")
    assert (node.state, node.cause, replica.state) == ("ejected", "being upgraded", "ejected")
    assert repr(replica) == "<Replica a:3306 ejected>"
    replica.restore()
    assert node.state == "up"


def test_there_is_one_of_each_node() -> None:
    database = make()
    assert database.replicas == database.replicas
    assert len(set(database.replicas) | set(database.replicas)) == 3
    kept = database.replicas[0]
    database.set_replicas(["a", "d"])
    assert database.replicas[0] is kept
    gone = weakref.ref(database.replicas[1])
    assert gone() is not None


def test_it_belongs_to_its_process() -> None:
    replica = make().replicas[0]
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled; pass its name"):
            attempt(replica)


def test_a_policy_of_the_users_own_is_given_them() -> None:
    given: list[Any] = []

    def last(replicas: Sequence[Replica]) -> Replica:
        given.append(replicas)
        return replicas[-1]

    database = make(policy=last)
    for _ in range(3):
        assert chosen(database) is nodes_of(database)[-1]
    assert given[0] == database.replicas
    assert given[0] is given[2]  # which tells that nothing has changed
    database.replicas[2].eject("for a moment")
    assert chosen(database) is nodes_of(database)[1]
    assert given[-1] == database.replicas[:2]


@pytest.mark.parametrize("answer", [None, "a", "node", "other"])
def test_what_it_returns_has_to_be_one_of_them(answer: Any) -> None:
    database = make(policy=lambda _: answer)
    answer = {"node": nodes_of(database)[0], "other": make().replicas[0]}.get(answer, answer)
    with pytest.raises(ConfigurationError, match="none of the replicas it was given: a:3306, b:3306, c:3306"):
        chosen(database)


def test_a_policy_that_builds_on_ours_works_with_them() -> None:
    class Mine(RoundRobin):
        """The same, and it remembers."""

        def __init__(self) -> None:
            super().__init__()
            self.chosen: list[str] = []

        def __call__(self, replicas: Sequence[Any]) -> Any:
            found = super().__call__(replicas)
            self.chosen.append(found.name)
            return found

    database = make(policy=Mine)
    names = [chosen(database).name for _ in range(6)]
    assert names == ["a:3306", "b:3306", "c:3306"] * 2
    assert database._parts.router.choice.next_for_connect() is nodes_of(database)[0]  # it peeks, too


def test_reads_that_fail_on_a_node_out_of_rotation_do_not_lengthen_its_absence() -> None:
    database = make()
    node = nodes_of(database)[0]
    node.cannot_read("a broken disk")
    assert node.state == "up"
    node.cannot_read("a broken disk")
    assert node.state == "ejected"
    counted = node._read_faults._count, node.ejections
    for _ in range(5):  # of threads that were reading when it left
        node.cannot_read("a broken disk")
    assert (node._read_faults._count, node.ejections) == counted
