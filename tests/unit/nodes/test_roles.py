"""Who serves reads and what nodes inherit after the primary has moved: decided without any server.

The cases: whether the configured primary is listed, whether the list names the present primary, and whether
it is the configured one again. For parameters: those a node inherits, has of its own, and those the program
has changed since; after one move and after two.
"""

from __future__ import annotations

from typing import Any

import pytest

from peewee_replicas.nodes.roles import Moved, all_nodes, readers
from peewee_replicas.nodes.spec import NodeSpec, overlay


def node(host: str, **more: Any) -> NodeSpec:
    return NodeSpec(host, 1, {"host": host, **more})


def same(one: NodeSpec, other: NodeSpec) -> bool:
    return one.overrides["host"] == other.overrides["host"]


P, A, B, C = node("p"), node("a"), node("b"), node("c")


@pytest.mark.parametrize(
    ("listed", "primary", "reading", "possible"),
    [
        ([A, B], None, "ab", "pab"),
        ([A, B], P, "ab", "pab"),
        ([A, B], A, "pb", "pab"),
        ([A], A, "p", "pa"),
        ([P, A], None, "pa", "pa"),
        ([P, A], A, "pa", "pa"),
        ([P, B], A, "pb", "pb"),
        ([B, C], A, "pbc", "pbc"),  # `set_replicas` has left the present primary out
    ],
)
def test_who_serves_reads_and_who_can_be_the_primary(
    listed: list[NodeSpec], primary: NodeSpec | None, reading: str, possible: str
) -> None:
    assert "".join(spec.name for spec in readers(P, listed, primary, same)) == reading
    assert "".join(spec.name for spec in all_nodes(P, listed, same)) == possible


CONFIGURED: dict[str, object] = {"host": "p", "port": 3306, "user": "app", "password": "old"}


def test_nodes_inherit_from_the_configured_primary_after_any_number_of_moves() -> None:
    first = Moved.to(node("a", port=3307, user="other"), "app", CONFIGURED, None)
    present = first.present()
    assert present == {"host": "a", "port": 3307, "user": "other", "password": "old"}
    assert first.configured(present) == CONFIGURED
    present["password"] = "new"  # the program changes it while it runs
    assert first.configured(present) == {**CONFIGURED, "password": "new"}

    second = Moved.to(node("b"), "changed", present, first)
    assert second.present() == {"host": "b", "port": 3306, "user": "app", "password": "new"}
    assert second.database == "app"
    # Another thread may see the old parameters beside the new value.
    for seen in (present, second.present()):
        assert second.configured(seen) == {**CONFIGURED, "password": "new"}

    back = Moved.to(NodeSpec("p", 1, {}), "app", second.present(), second)
    assert back.present() == {**CONFIGURED, "password": "new"}


def test_a_socket_and_a_password_by_another_name_are_the_configured_primarys_own() -> None:
    configured: dict[str, object] = {"unix_socket": "/s", "passwd": "x"}
    moved = Moved.to(node("a", password="y"), "app", configured, None)
    assert moved.present() == {"host": "a", "password": "y"}
    assert moved.configured(moved.present()) == configured
    assert overlay(moved.configured(moved.present()), {"host": "b"}) == {"host": "b", "passwd": "x"}
