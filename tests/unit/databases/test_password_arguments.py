"""What `password` takes: text, or a plain callable; for the primary and each replica, under both names."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from peewee_replicas import ConfigurationError, PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.nodes.callables import takes_refused

CLASSES = [ReplicatedDatabase, PooledReplicatedDatabase, AsyncReplicatedDatabase]


async def later(node: Any) -> str:
    return "hunter2"


class Later:
    async def __call__(self, node: Any) -> str:
        return "hunter2"


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("wrong", "words"), [(later, "coroutine"), (Later(), "coroutine"), (5, "text"), (["hunter2"], "text")]
)
def test_what_cannot_be_asked_is_refused(cls: Any, wrong: Any, words: str) -> None:
    for given in ({"password": wrong}, {"replicas": [{"host": "r", "password": wrong}]}):
        with pytest.raises(ConfigurationError, match=f"password: .*{words}") as raised:
            cls("app", host="p", **given)
        assert "hunter2" not in str(raised.value)


def none() -> str:
    return "hunter2"


def two(node: Any, region: str) -> str:
    return "hunter2"


def keyword(node: Any, *, region: str) -> str:
    return "hunter2"


class Two:
    def __call__(self, node: Any, region: str) -> str:
        return "hunter2"


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("wrong", [none, two, keyword, Two(), lambda refused: "", lambda *, node: ""])
def test_one_that_cannot_be_called_with_a_node_is_refused(cls: Any, wrong: Any) -> None:
    for given in ({"password": wrong}, {"replicas": [{"host": "r", "password": wrong}]}):
        with pytest.raises(ConfigurationError, match="password: the callable is called with one argument"):
            cls("app", host="p", **given)


@pytest.mark.parametrize(
    "right",
    [
        lambda node: "",
        lambda node, refused: "",
        lambda node, *, refused: "",
        lambda node, **words: "",
        lambda *nodes: "",
        lambda anything=None, more=None: "",
        functools.partial(two, region="x"),
        type("One", (), {"__call__": lambda self, node: ""})(),
        str,
    ],
)
def test_one_that_can_be_called_with_a_node_is_taken(right: Any) -> None:
    ReplicatedDatabase("app", host="p", password=right)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_callable_is_not_asked_before_a_connection_is_opened(cls: Any) -> None:
    def password(node: Any) -> str:
        raise AssertionError

    db = cls("app", host="p", password=password, replicas=[{"host": "r", "passwd": password}, "s"])
    assert [replica.host for replica in db.replicas] == ["r", "s"]
    assert [replica.port for replica in db.replicas] == [3306, 3306]
    assert db.explain_route("SELECT 1").role == "replica"
    db.set_replicas([{"host": "r", "password": password}])


def test_a_socket_has_neither_host_nor_port() -> None:
    db = ReplicatedDatabase("app", host="p", replicas=[{"unix_socket": "/run/r.sock"}])
    assert (db.replicas[0].host, db.replicas[0].port) == (None, None)


def test_a_callable_is_told_of_a_refusal_if_it_can_be() -> None:
    assert takes_refused(lambda node, refused: "")
    assert takes_refused(lambda node, **words: "")
    assert not takes_refused(lambda node: "")
    assert not takes_refused(dict)
