"""Packages that replace `peewee.Database.execute_sql()` see and stop the statements of our classes too.

The members of the kind are what such packages do with the method: OpenTelemetry's wraps and calls it;
peewee-migrate puts a mock in its place, so that migrations already done are not executed again. Each may come
before this library is imported, or afterwards. They were found by a search for the method's name. Tests
replace it in the class that they use, such as `peewee.MySQLDatabase`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import peewee
import pytest
from support.peewees import needs_peewee

from peewee_replicas import ReplicatedSqliteDatabase
from peewee_replicas.databases import replicated
from peewee_replicas.databases.overrides import own_function

pytestmark = pytest.mark.once


@pytest.fixture(name="db")
def _db(tmp_path: Path) -> Iterator[Any]:
    database = ReplicatedSqliteDatabase(str(tmp_path / "app.db"))
    database.execute_sql("CREATE TABLE item (n INT)")
    yield database
    database.close()


@needs_peewee("4.5", "a method that is called for our classes too")
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("owner", [peewee.Database, peewee.SqliteDatabase])
def test_a_wrapper_sees_each_statement_once_and_routes_stay(
    db: Any, before: bool, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    peewees = owner.execute_sql

    @functools.wraps(peewees)
    def traced(self: Any, sql: str, params: Any = None) -> Any:
        seen.append(sql)
        return peewees(self, sql, params)

    routes: list[Any] = []
    logged: list[Any] = []
    db.route_hooks.append(routes.append)
    db.query_hooks.append(logged.append)
    monkeypatch.setattr(owner, "execute_sql", traced)
    if before:
        found = own_function(peewee.SqliteDatabase, "execute_sql")
        assert found is None
        monkeypatch.setattr(ReplicatedSqliteDatabase, "peewees_execute_sql", found)
    texts = ["INSERT INTO item VALUES (1)", "SELECT n FROM item"]
    for text in texts:
        cursor = db.execute_sql(text)
    assert cursor.fetchall() == [(1,)]
    db.on_primary.execute_sql("SELECT n FROM item").fetchall()
    assert [sql for sql in seen if "item" in sql] == [*texts, texts[1]]
    assert [route.role for route in routes] == ["primary", "replica", "primary"]
    assert len(logged) == 3


@needs_peewee("4.5", "a method that is called for our classes too")
@pytest.mark.parametrize("owner", ["Database", "SqliteDatabase"])
def test_what_stands_in_its_place_is_all_that_is_called(db: Any, owner: str) -> None:
    with mock.patch(f"peewee.{owner}.execute_sql", return_value="mocked"):
        assert db.execute_sql("INSERT INTO item VALUES (1)") == "mocked"
    assert db.execute_sql("SELECT COUNT(*) FROM item").fetchall() == [(0,)]


def test_before_peewee_4_5_its_method_is_passed_over_because_it_would_bypass_the_routes(
    db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes: list[Any] = []
    db.route_hooks.append(routes.append)
    monkeypatch.setattr(replicated, "HAS_HOOKS", False)
    with mock.patch("peewee.Database.execute_sql", side_effect=AssertionError):
        assert db.execute_sql("SELECT COUNT(*) FROM item").fetchall() == [(0,)]
    assert [route.role for route in routes] == ["replica"]


def test_a_class_behind_peewees_own_is_called_in_its_turn_and_what_replaces_its_method_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Behind(peewee.Database):  # type: ignore[misc]  # peewee is not typed
        def execute(self, query: Any, **options: Any) -> Any:
            seen.append("first")
            return super().execute(query, **options)

    class Own(ReplicatedSqliteDatabase, Behind):
        pass

    def later(self: Any, query: Any, **options: Any) -> Any:
        seen.append("later")
        return peewee.Database.execute(self, query, **options)

    database = Own(str(tmp_path / "app.db"))
    routes: list[Any] = []
    database.route_hooks.append(routes.append)
    database.execute(peewee.SQL("SELECT 1"))
    monkeypatch.setattr(Behind, "execute", later)
    database.execute(peewee.SQL("SELECT 1"))
    assert seen == ["first", "later"]
    assert [route.role for route in routes] == ["replica"] * 2
    database.close()
