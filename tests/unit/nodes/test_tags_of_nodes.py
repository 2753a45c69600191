"""Tags and settings of one replica: where they may be given, what they may be, and where they are shown.

A replica is given as a dict or as a URL, to the constructor or to ``set_replicas()``. Its tags are shown by
`Replica`, by ``stats()`` and by ``pwreplicas status``; the list came from following a replica's weight.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.databases.nodes import nodes_of
from support.peewees import AsyncReplicatedDatabase

from peewee_replicas import ConfigurationError, PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.cli import status
from peewee_replicas.cli.answers import NodeAnswers, Survey

CLASSES = [ReplicatedDatabase, PooledReplicatedDatabase, AsyncReplicatedDatabase]


def make(*replicas: Any, cls: Any = ReplicatedDatabase, **given: Any) -> Any:
    return cls("app", host="p", probe_interval=None, replicas=replicas, **given)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "replica",
    [
        {"host": "r", "tags": {"use": "report", "zone": "a"}, "max_lag": 60},
        "mysql://r?tags=use:report,zone:a&max_lag=60",
    ],
)
def test_a_dict_and_a_url_say_the_same(cls: Any, replica: Any) -> None:
    database = make(replica, {"host": "other"}, cls=cls)
    first, second = database.replicas
    assert (dict(first.tags), dict(second.tags)) == ({"use": "report", "zone": "a"}, {})
    assert [one.max_lag_within(10.0) for one in nodes_of(database)] == [60, 10.0]
    stats = database.stats()
    assert (stats["r:3306.tags"], stats["other:3306.tags"]) == ("use=report, zone=a", "")
    assert "tags" not in nodes_of(database)[0].overrides


def test_no_bound_of_the_lag_is_a_bound_of_its_own() -> None:
    database = make({"host": "r", "max_lag": None})
    assert nodes_of(database)[0].max_lag_within(10.0) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tags": "report"}, "tags='report': a dict is wanted"),
        ({"tags": ["report"]}, "tags=.*a dict is wanted"),
        ({"tags": {"use": 1}}, "tags: 'use': 1: names and values are texts"),
        ({"tags": {"": "x"}}, "names and values are texts, and not empty"),
        ({"tags": {"use": ""}}, "names and values are texts, and not empty"),
        ({"tags": {5: "x"}}, "names and values are texts"),
        ({"max_lag": 0}, "max_lag=0: a number of seconds above 0 is wanted"),
        ({"max_lag": "database"}, "max_lag='database': a number of seconds"),
        ({"max_lag": True}, "max_lag=True: a number of seconds"),
    ],
)
def test_what_they_cannot_be_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"replicas\[0\]: .*{words}"):
        make({"host": "r", **given})
    with pytest.raises(ConfigurationError, match=rf"replicas\[0\]: .*{words}"):
        make("r").set_replicas([{"host": "r", **given}])


def test_set_replicas_changes_them_and_keeps_the_node() -> None:
    database = make({"host": "r", "tags": {"use": "report"}}, {"host": "s"})
    replica, usable = database.replicas[0], database._parts.cluster.replicas.usable
    database.set_replicas([{"host": "r", "tags": {"use": "web"}, "max_lag": 3}, {"host": "s"}])
    assert database.replicas[0] is replica
    assert dict(replica.tags) == {"use": "web"}
    assert nodes_of(database)[0].max_lag_within(10.0) == 3
    assert database._parts.cluster.replicas.usable is not usable  # what policies notice changes by


def test_tags_cannot_be_changed_from_outside() -> None:
    given = {"use": "report"}
    database = make({"host": "r", "tags": given})
    given["use"] = "web"
    with pytest.raises(TypeError):
        database.replicas[0].tags["use"] = "web"
    assert dict(database.replicas[0].tags) == {"use": "report"}


@pytest.mark.parametrize(
    ("cls", "taken", "refused", "words"),
    [
        (ReplicatedDatabase, {}, {"max_connections": 3}, "'max_connections'.*only a pooled database"),
        (ReplicatedDatabase, {}, {"pool_size": 3}, "'pool_size'.*only the asyncio database"),
        (
            PooledReplicatedDatabase,
            {"max_connections": 3, "timeout": 1},
            {"pool_size": 3},
            "only the asyncio",
        ),
        (PooledReplicatedDatabase, {"stale_timeout": 3}, {"max_connections": -1}, "replica r:3306: max_conn"),
        (AsyncReplicatedDatabase, {"pool_size": 3}, {"max_connections": 3}, "only a pooled database"),
        (AsyncReplicatedDatabase, {"acquire_timeout": 3}, {"pool_size": 0}, "replica r:3306: pool_size=0"),
    ],
)
def test_each_class_takes_the_sizes_of_its_own_pools(
    cls: Any, taken: dict[str, Any], refused: dict[str, Any], words: str
) -> None:
    database = make({"host": "r", **taken}, cls=cls)
    with pytest.raises(ConfigurationError, match=words):
        database.set_replicas([{"host": "r", **refused}])
    with pytest.raises(ConfigurationError, match=words):
        database.init("other", replicas=[{"host": "r", **refused}])
    assert database.database == "app"


def test_the_table_of_status_has_a_column_for_them_where_there_are_any() -> None:
    def answered(name: str, **given: Any) -> NodeAnswers:
        return NodeAnswers(name, "db:3306", "db", "app", "shop", name == "primary", error="down", **given)

    plain, tagged = answered("r"), answered("s", tags={"use": "report", "zone": "a"})
    assert "tags" not in status.columns(status.rows(Survey(answered("primary"), (plain,))))
    rows = status.rows(Survey(answered("primary"), (plain, tagged)))
    columns = status.columns(rows)
    shown = [dict(zip(columns, status.cells(row, columns), strict=True))["tags"] for row in rows]
    assert shown == ["", "", "use=report, zone=a"]
