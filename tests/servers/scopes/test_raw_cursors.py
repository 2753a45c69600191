"""Raw cursors in `readonly()` keep its promises."""

from __future__ import annotations

from typing import Any

import pytest
from support.clusters.repaired import repaired

from peewee_replicas import (
    ReadOnlyViolation,
)

READ = "SELECT COUNT(*) FROM item"
PORT = "SELECT @@port"


def test_a_raw_cursor_in_readonly_sees_what_was_written(server: str) -> None:
    with repaired(server, 1, []) as cluster:
        database = cluster.database(catch_up_timeout=0.05)
        database.execute_sql("CREATE TABLE item (n INT)")
        cluster.sync()
        cluster.replicas[0].freeze()
        database.execute_sql("INSERT INTO item VALUES (1)")
        with database.readonly():
            for cursor in (database.cursor(), database.connection().cursor()):
                cursor.execute(READ)
                assert cursor.fetchone() == (1,)


def test_a_raw_cursor_of_on_primary_in_readonly_is_on_the_primary(db: Any, cluster: Any) -> None:
    with db.readonly():
        for cursor in (db.on_primary.cursor(), db.on_primary.connection().cursor()):
            cursor.execute(PORT)
            assert cursor.fetchone() == (cluster.primary.port,)
            with pytest.raises(ReadOnlyViolation):
                cursor.execute("DELETE FROM item")


def test_a_raw_cursor_in_readonly_is_refused_where_the_primary_carries_a_temporary_table(db: Any) -> None:
    db.execute_sql("CREATE TEMPORARY TABLE aside (n INT)")
    with db.readonly(), pytest.raises(ReadOnlyViolation, match="temporary table"):
        db.cursor()
