"""What `atomic(read_only=…)` takes, and the same block over SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peewee_replicas import (
    ConfigurationError,
    ReadOnlyViolation,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
    ReplicatedSqliteDatabase,
)


@pytest.mark.parametrize("make", [lambda: ReplicatedDatabase("app", host="p"), ReplicatedDatabaseProxy])
def test_other_values_and_other_arguments_are_refused(make: Any) -> None:
    db = make()
    for wrong in (1, "yes", None):
        with pytest.raises(ConfigurationError, match="read_only="):
            db.atomic(read_only=wrong)
    with pytest.raises(ConfigurationError, match="no other argument"):
        db.atomic("READ COMMITTED", read_only=True)
    with pytest.raises(ConfigurationError, match="no other argument"):
        db.atomic(read_only=True, isolation_level="READ COMMITTED")


def test_sqlite_reads_one_snapshot(tmp_path: Path) -> None:
    db = ReplicatedSqliteDatabase(tmp_path / "a.db")
    db.execute_sql("CREATE TABLE t (n INTEGER)")

    def rows() -> int:
        return int(db.execute_sql("SELECT COUNT(*) FROM t").fetchone()[0])

    with db.atomic(read_only=True):
        assert rows() == 0
        with db.primary():
            db.execute_sql("INSERT INTO t VALUES (1)")
        assert rows() == 0
        with pytest.raises(ReadOnlyViolation):
            db.execute_sql("INSERT INTO t VALUES (2)")
    assert rows() == 1
    db.close()
