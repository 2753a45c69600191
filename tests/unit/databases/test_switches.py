"""The switches `reads` and `writes` in every class: where they come from, what they take and change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from peewee_replicas import (
    ConfigurationError,
    PooledReplicatedDatabase,
    ReadOnlyViolation,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
    ReplicatedSqliteDatabase,
)
from peewee_replicas.aio import AsyncReplicatedDatabase

READ = "SELECT 1"
VARIABLE = "PEEWEE_REPLICAS_READS"


@pytest.fixture(params=[ReplicatedDatabase, PooledReplicatedDatabase, AsyncReplicatedDatabase, "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "sqlite":
        return lambda **options: ReplicatedSqliteDatabase(tmp_path / "a.db", **options)
    return lambda **options: request.param("app", host="p", replicas=["r"], **options)


def role(db: Any) -> str:
    return str(db.explain_route(READ).role)


def test_an_assignment_wins_over_the_argument_and_outlives_init(make: Any) -> None:
    db = make(reads="primary")
    assert (db.reads, role(db)) == ("primary", "primary")
    db.reads = "replica"
    assert (db.reads, role(db)) == ("replica", "replica")
    db.init(db.database)
    assert db.reads == "replica"
    db.init(db.database, reads="observe")
    assert db.reads == "observe"


def test_the_environment_wins_over_the_argument(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, " primary ")
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        db = make(reads="replica")
    assert (db.reads, role(db)) == ("primary", "primary")
    assert "PEEWEE_REPLICAS_READS=primary in the environment overrides reads='replica'" in caplog.text
    db.reads = "replica"
    assert role(db) == "replica"
    db.init(db.database)
    assert db.reads == "primary"
    monkeypatch.setenv(VARIABLE, "0.25")
    assert make().reads == 0.25
    monkeypatch.setenv(VARIABLE, "")
    assert make(reads="observe").reads == "observe"


@pytest.mark.parametrize("wrong", ["replicas", "1.5", "-0.1", "nan", "True"])
def test_a_wrong_value_in_the_environment_is_an_error_at_construction(
    make: Any, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv(VARIABLE, wrong)
    with pytest.raises(ConfigurationError, match=f"{VARIABLE}=.*allowed are 'replica', 'primary'.*share"):
        make()


@pytest.mark.parametrize("wrong", ["replicas", 1.5, -1, float("nan"), True, None, "0.5"])
def test_a_wrong_value_is_refused_and_changes_nothing(make: Any, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="reads="):
        make(reads=wrong)
    db = make()
    with pytest.raises(ConfigurationError, match="reads="):
        db.reads = wrong
    assert db.reads == "replica"


def test_a_share_is_explained_by_where_most_reads_go() -> None:
    db = ReplicatedDatabase("app", host="p", replicas=["r"], reads=0.01)
    route = db.explain_route(READ)
    assert (route.role, route.cause, route.reason) == (
        "primary", "setting", "outside the share of reads=0.01",
    )  # fmt: skip
    db.reads = 0.75
    route = db.explain_route(READ)
    assert (route.role, route.reason) == ("replica", "a proven read, within the share of reads=0.75")
    assert db.explain_route("DELETE FROM t").role == "primary"
    db.replicas[0].eject("maintenance")
    assert "no replica can serve it" in db.explain_route(READ).reason


def test_health_knows_that_a_share_needs_the_primary_too() -> None:
    db = ReplicatedDatabase("app", host="p", replicas=["r"], reads=0.5, probe_interval=None)
    assert db.health().read_by == ("r:3306", "primary")
    db.replicas[0].eject("maintenance")
    assert (db.health().reads, db.health().read_by) == (True, ("primary",))
    db.reads = 1
    assert db.health().read_by == ("primary",)
    db.replicas[0].restore()
    assert db.health().read_by == ("r:3306",)


def test_a_proxy_passes_it_on() -> None:
    proxy = ReplicatedDatabaseProxy()
    with pytest.raises(AttributeError, match="uninitialized"):
        proxy.reads = "primary"
    db = ReplicatedDatabase("app", host="p", replicas=["r"])
    proxy.initialize(db)
    proxy.reads = "primary"
    assert db.reads == proxy.reads == "primary"


def test_writes_are_allowed_at_first_and_the_switch_outlives_init(make: Any) -> None:
    db = make()
    assert db.writes == "allow"
    db.writes = "refuse"
    with pytest.raises(ReadOnlyViolation, match='writes="refuse"'):
        db.explain_route("DELETE FROM t")
    db.init(db.database)
    assert db.writes == "refuse"
    with pytest.raises(ReadOnlyViolation, match='writes="refuse"'):
        db.begin()
    assert db.health().cause == 'writes="refuse"'
    for wrong in ("no", None, False):
        with pytest.raises(ConfigurationError, match=r"writes=.*'allow', 'refuse'"):
            db.writes = wrong
    assert db.writes == "refuse"


def test_sqlite_refuses_writes_on_all_ways(tmp_path: Path) -> None:
    db = ReplicatedSqliteDatabase(tmp_path / "a.db")
    db.execute_sql("CREATE TABLE t (n INTEGER)")
    cursor = db.cursor()
    db.writes = "refuse"
    insert = "INSERT INTO t VALUES (1)"
    ways: list[Any] = [
        lambda: db.execute_sql(insert),
        lambda: db.on_primary.execute_sql(insert),
        lambda: db.cursor().execute(insert),
        lambda: db.cursor().executemany("INSERT INTO t VALUES (?)", [(1,), (2,)]),
        lambda: db.cursor().executescript(insert),
        lambda: cursor.execute(insert),
        lambda: db.connection().execute(insert),
        lambda: db.connection().executemany("INSERT INTO t VALUES (?)", [(1,)]),
        lambda: db.connection().executescript(insert),
        lambda: db.execute_sql("BEGIN IMMEDIATE"),
        lambda: db.execute_sql("PRAGMA journal_mode = DELETE"),
        lambda: db.cursor().execute("PRAGMA main.journal_mode(memory)"),
        db.begin,
        db.atomic().__enter__,
    ]
    for way in ways:
        with pytest.raises(ReadOnlyViolation, match='writes="refuse"'):
            way()
    assert db.execute_sql("SELECT COUNT(*) FROM t").fetchone() == (0,)
    assert db.execute_sql("PRAGMA journal_mode").fetchone() == ("wal",)
    with db.primary():
        db.execute_sql("PRAGMA cache_size = 100")
        with pytest.raises(ReadOnlyViolation, match="refused a statement while"):
            db.execute_sql("PRAGMA user_version = 5")
    db.writes = "allow"
    with db.atomic():
        db.execute_sql(insert)
    db.close()
