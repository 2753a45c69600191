"""Subclasses that connect in their own way open replicas in that way too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from support.databases.plain import Person, making

from peewee_replicas import ConfigurationError, PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.core

CLASSES = [ReplicatedDatabase, PooledReplicatedDatabase]


@pytest.fixture
def make(cluster: LocalCluster) -> Iterator[Callable[..., Any]]:
    with making(cluster, Person) as make:
        yield make


def _use_all(database: Any) -> list[str]:
    names = [Person.get_by_id(1).name, Person.get_by_id(2).name]
    Person.update(age=1).where(Person.id == 1).execute()
    return names


@pytest.mark.parametrize("base", CLASSES)
def test_a_token_is_fetched_for_every_connection(make: Any, cluster: LocalCluster, base: Any) -> None:
    """As for a cloud's short-lived passwords: one token per connection, by the address it is for."""
    tokens: list[Any] = []

    class WithToken(base):  # type: ignore[misc]  # a parameter
        def __init__(self, *args: Any, region: str = "", **kwargs: Any) -> None:
            self.region = region
            super().__init__(*args, **kwargs)
            self.made_by = "the owner"

        def _connect(self) -> Any:
            tokens.append((self.connect_params["port"], self.region, self.made_by))
            self.connect_params["password"] = cluster.password
            return super()._connect()

    database = make(WithToken, region="eu", password="none yet")
    assert _use_all(database) == ["ada", "grace"]
    assert sorted(tokens) == sorted((node.port, "eu", "the owner") for node in cluster.nodes)
    database.close_all() if hasattr(database, "close_all") else database.close()
    database.region = "us"  # what is changed later holds for replicas too
    assert _use_all(database) == ["ada", "grace"]
    assert {region for _, region, _ in tokens[3:]} == {"us"}


@pytest.mark.parametrize("base", CLASSES)
def test_initialize_connection_runs_on_every_node(make: Any, base: Any) -> None:
    initialised: list[int] = []

    class Initialised(base):  # type: ignore[misc]  # a parameter
        def _initialize_connection(self, conn: Any) -> None:
            initialised.append(self.connect_params["port"])
            self.execute_sql("SET @who = 'me'")
            with conn.cursor() as cursor:
                cursor.execute("SET SESSION group_concat_max_len = 2345")

    database = make(Initialised)
    assert _use_all(database) == ["ada", "grace"]
    assert len(set(initialised)) == len(initialised) == 3
    conns = [database._state.conn, *(node.conn for node in database._parts.replicas.opened())]
    for conn in conns:
        assert conn.ask("SELECT @who, @@group_concat_max_len") == (("me", 2345),)
    # Set while connecting, it is how the user wants every connection to be, and no state of this one.
    assert database.explain_route(Person.select()).role == "replica"


def test_execute_sql_and_cursor_overridden_see_each_statement_once(make: Any) -> None:
    seen: list[str] = []

    class Watching(ReplicatedDatabase):
        def execute_sql(self, sql: str, params: Any = None) -> Any:
            seen.append(sql.split()[0])
            return super().execute_sql(sql, params)

    database = make(Watching)
    assert _use_all(database) == ["ada", "grace"]
    assert seen == ["SELECT", "SELECT", "UPDATE"]


def test_init_overridden_is_not_called_for_replicas(make: Any) -> None:
    calls: list[Any] = []

    class Defaults(ReplicatedDatabase):
        def init(self, database: str | None, **kwargs: Any) -> None:
            calls.append(getattr(getattr(self, "opening", None), "node", None))
            kwargs.setdefault("connect_timeout", 9)
            super().init(database, **kwargs)

    database = make(Defaults)
    assert _use_all(database) == ["ada", "grace"]
    assert {node.db.connect_params["connect_timeout"] for node in database._parts.replicas.opened()} == {9}
    assert calls[0] is None


@pytest.mark.parametrize("base", CLASSES)
def test_connect_giving_another_connection_is_refused(make: Any, cluster: LocalCluster, base: Any) -> None:
    class Plain(base):  # type: ignore[misc]  # a parameter
        def _connect(self) -> Any:
            return pymysql.connect(database=self.database, autocommit=True, **self.connect_params)

    database = make(Plain)
    for work in (lambda: Person.get_by_id(1), lambda: Person.delete().execute(), database.connect):
        with pytest.raises(
            ConfigurationError, match=r"Plain\._connect\(\) returned a Connection .*super\(\)\._connect"
        ):
            work()
    assert Person.table_exists.__self__ is Person
    rows = cluster.primary.execute(f"SELECT COUNT(*) FROM `{cluster.database_name}`.dropin_person")
    assert rows == [(3,)]


def test_models_bound_to_a_subclass_use_its_attributes(make: Any) -> None:
    class Tuned(ReplicatedDatabase):
        limit_max = 5

    database = make(Tuned)
    assert database.on_primary.limit_max == 5
    assert isinstance(database.on_primary, Tuned)
    assert _use_all(database) == ["ada", "grace"]
