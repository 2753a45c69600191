"""Which nodes a selector accepts, as a pure function of tags and names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peewee_replicas import ConfigurationError, ReplicatedDatabase, ReplicatedDatabaseProxy
from peewee_replicas.nodes.node import Node
from peewee_replicas.nodes.selector import accepts, among, in_words, narrowed, selector_from, without_tags
from peewee_replicas.nodes.spec import NodeSpec

tags = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
asked = st.one_of(st.none(), tags, st.lists(tags, min_size=1, max_size=3))
names = st.one_of(st.none(), st.sampled_from(["n0", "n1", "n9"]))


def node(name: str, has: Any) -> Node:
    return Node(NodeSpec(name, 1, {}, has), name, lambda _: None)


def selector(wanted: Any = None, name: Any = None) -> Any:
    return selector_from(wanted, name, ConfigurationError)


@given(st.lists(tags, max_size=4), asked, names)
def test_the_first_that_any_node_satisfies_decides(given: Any, wanted: Any, name: Any) -> None:
    nodes = tuple(node(f"n{place}", has) for place, has in enumerate(given))
    alternatives = wanted if isinstance(wanted, list) else [wanted or {}]
    expected: tuple[Node, ...] = ()
    for each in alternatives:
        expected = expected or tuple(
            one for one in nodes if each.items() <= one.tags.items() and name in (None, one.name)
        )
    assert among(nodes, selector(wanted, name)) == expected
    accepted = [one for one in nodes if accepts(selector(wanted, name), one)]
    assert set(expected) <= set(accepted)
    assert bool(expected) == bool(accepted)


@given(tags, asked, asked, names, names)
def test_a_scope_inside_another_accepts_what_both_accept(
    has: Any, outer: Any, inner: Any, name: Any, other: Any
) -> None:
    one = node("n0", has)
    both = narrowed(selector(outer, name), selector(inner, other))
    assert accepts(both, one) == (
        accepts(selector(outer, name), one) and accepts(selector(inner, other), one)
    )


def test_the_order_of_the_scope_outside_goes_first() -> None:
    nodes = node("n0", {"a": "x"}), node("n1", {"a": "y", "b": "y"})
    outside, inside = selector([{"a": "x"}, {"a": "y"}]), selector([{"b": "y"}, {}])
    assert among(nodes, narrowed(outside, inside)) == nodes[:1]
    assert among(nodes, narrowed(inside, outside)) == nodes[1:]


@pytest.mark.parametrize(
    ("wanted", "name", "words"),
    [
        ({"zone": "a", "use": "web"}, None, "nodes with use=web and zone=a"),
        ([{"use": "web"}, {"zone": "a"}, {}], None, "nodes with use=web, or nodes with zone=a, or any node"),
        (None, "n1", "node 'n1'"),
        ({"use": "web"}, "n1", "node 'n1' with use=web"),
        ([{"use": "web"}, {"use": "web"}], None, "nodes with use=web"),
    ],
)
def test_it_is_said_in_words(wanted: Any, name: Any, words: str) -> None:
    assert in_words(selector(wanted, name)) == words


@pytest.mark.parametrize("wanted", [None, {}, [{}], [{}, {"use": "web"}]])
def test_what_accepts_any_node_asks_for_nothing(wanted: Any) -> None:
    assert selector(wanted) == ()


def test_without_tags_only_names_are_left() -> None:
    assert without_tags(selector({"use": "web"})) == ()
    assert without_tags(selector([{"use": "web"}, {}], "n1")) == selector(None, "n1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tags": "use:report"}, "tags=<str>: a dict is wanted"),
        ({"tags": "report"}, "tags='report': a dict is wanted"),
        ({"tags": ["report"]}, r"tags\[0\]='report': a dict is wanted"),
        ({"tags": []}, "tags=.*it is empty"),
        ({"tags": 5}, "tags=5: a dict is wanted"),
        ({"tags": {"rack": 1}}, "tags: 'rack': 1: names and values are texts"),
        ({"node": ""}, "node='': the name of a replica"),
        ({"node": 1}, "node=1: the name of a replica"),
        ({"node": "primary"}, r"node='primary'.*primary\(\)"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(arguments: Any, words: str) -> None:
    for database in (ReplicatedDatabase("app", host="p"), ReplicatedDatabaseProxy()):
        with pytest.raises(ConfigurationError, match=words):
            database.readonly(**arguments)


def test_on_replicas_needs_tags() -> None:
    for database in (ReplicatedDatabase("app", host="p"), ReplicatedDatabaseProxy()):
        with pytest.raises(ConfigurationError, match=r"on_replicas\(\): tags are wanted"):
            database.on_replicas()
        with pytest.raises(ConfigurationError, match="names and values are texts"):
            database.on_replicas(rack=1)  # type: ignore[arg-type]
