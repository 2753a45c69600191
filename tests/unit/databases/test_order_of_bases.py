"""A user's class that stands behind ours among the bases is refused if peewee would have called it.

The members of the kind are the places in which a class can stand: before ours, between ours and peewee's
class that ours replaces (a subclass of that class or of one below it, as with a pool), and behind peewee's.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from peewee import SQL, Database, MySQLDatabase, SqliteDatabase
from playhouse.pool import PooledMySQLDatabase
from playhouse.shortcuts import ReconnectMixin

from peewee_replicas import (
    ConfigurationError,
    PooledReplicatedDatabase,
    ReplicatedDatabase,
    ReplicatedSqliteDatabase,
)

pytestmark = pytest.mark.once


class Retrying(MySQLDatabase):
    def execute_sql(self, sql: str, params: Any = None) -> Any:
        return super().execute_sql(sql, params)


class RetryingPool(PooledMySQLDatabase):
    def begin(self, *args: Any) -> Any:
        return super().begin(*args)


class RetryingFile(SqliteDatabase):
    def connect(self, reuse_if_open: bool = False) -> Any:
        return super().connect(reuse_if_open)


class Harmless(MySQLDatabase):
    limit_max = 5

    def get_tables(self, schema: Any = None) -> Any:
        return super().get_tables(schema)


REFUSED = [
    (ReplicatedDatabase, Retrying, "execute_sql"),
    (PooledReplicatedDatabase, RetryingPool, "begin"),
    (PooledReplicatedDatabase, Retrying, "execute_sql"),
    (ReplicatedSqliteDatabase, RetryingFile, "connect"),
]


@pytest.mark.parametrize(("ours", "theirs", "method"), REFUSED)
def test_a_class_that_peewee_would_have_called_must_stand_before_ours(
    ours: Any, theirs: Any, method: str
) -> None:
    words = rf"Mine: {theirs.__name__}\.{method}\(\) .*put {theirs.__name__} before {ours.__name__}"
    with pytest.raises(ConfigurationError, match=words):
        type("Mine", (ours, theirs), {})
    assert type("Mine", (theirs, ours), {}).__mro__[1] is theirs


def test_what_ours_does_not_override_may_stand_anywhere() -> None:
    assert type("Mine", (ReplicatedDatabase, Harmless), {}).limit_max == 5  # type: ignore[attr-defined]


class Counting(SqliteDatabase):
    executed = 0

    def execute(self, query: Any, **options: Any) -> Any:
        type(self).executed += 1
        return super().execute(query, **options)


def test_where_ours_calls_the_next_class_it_does_wherever_that_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    peewees = SqliteDatabase.execute

    def traced(self: Any, query: Any, **options: Any) -> Any:
        seen.append(query)
        return peewees(self, query, **options)

    for number, bases in enumerate(
        [(ReplicatedSqliteDatabase, Counting), (Counting, ReplicatedSqliteDatabase)]
    ):
        made: Any = type("Mine", bases, {"executed": 0})
        database = made(str(tmp_path / f"{number}.db"))
        with monkeypatch.context() as patched:
            patched.setattr(Database, "execute", traced)  # also once the class has been made
            database.execute(SQL("SELECT 1"))
        assert (made.executed, len(seen)) == (1, number + 1)
        database.close()


def test_behind_peewees_class_it_is_as_idle_as_with_peewee(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        type("Mine", (ReplicatedDatabase, ReconnectMixin), {})
    assert caplog.messages == [
        "Mine: ReconnectMixin.begin() would never be called; put ReconnectMixin before ReplicatedDatabase "
        "in the list of base classes"
    ]
