"""A connection whose session was changed is closed at check-in, and the next user meets a fresh one.

The members of the kind are all that a session keeps: what the trackers report (variables, schema, temporary
tables, prepared statements), what they do not report after an error, what holds for one transaction only,
and open transactions of each sort. Found by going through what MySQL's manual lists as session state under
COM_RESET_CONNECTION, and by what each failing statement can leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peewee
import pytest

from peewee_replicas import PooledReplicatedDatabase

CHANGES = [
    "SET SESSION foreign_key_checks = 0",
    "SET SESSION unique_checks = 0",
    "SET SESSION lock_wait_timeout = 7",
    "SET SESSION sql_mode = ''",
    "SET TRANSACTION READ ONLY",
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET @mine = 1",
    "SET autocommit = 0",
    "SET NAMES latin1",
    "CREATE TEMPORARY TABLE mine (n INT)",
    "PREPARE p FROM 'SELECT 1'",
    "BEGIN",
    "LOCK TABLES item READ",
    "SELECT GET_LOCK('mine', 0)",
    "HANDLER item OPEN",
]


@pytest.fixture(name="pooled")
def _pooled(cluster: Any) -> Iterator[Any]:
    database = cluster.database(PooledReplicatedDatabase, max_connections=4)
    database.execute_sql("CREATE TABLE IF NOT EXISTS item (id INT PRIMARY KEY, n INT)")
    database.close()
    yield database
    database.close_all()
    database.dispose()


def connection(pooled: Any) -> int:
    pooled.execute_sql("DO 1")
    return int(pooled._state.conn.thread_id())


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_session_meets_nobody_else(pooled: Any, change: str) -> None:
    before = connection(pooled)
    pooled.execute_sql(change)
    pooled.close()
    if change in ("BEGIN",):
        pooled.execute_sql("DO 1")
        assert not pooled._state.conn.transaction
    else:
        assert connection(pooled) != before


@pytest.mark.parametrize(
    "body",
    [
        "BEGIN CREATE TEMPORARY TABLE item (id INT, name VARCHAR(9), n INT); SIGNAL SQLSTATE '45000'; END",
        "BEGIN SET SESSION foreign_key_checks = 0; SIGNAL SQLSTATE '45000'; END",
        "BEGIN SET @mine = 1; SIGNAL SQLSTATE '45000'; END",
        "BEGIN DO GET_LOCK('mine', 0); SIGNAL SQLSTATE '45000'; END",
    ],
)
def test_what_a_failed_procedure_has_left_meets_nobody_else(pooled: Any, body: str) -> None:
    pooled.execute_sql("DROP PROCEDURE IF EXISTS leaves")
    pooled.execute_sql(f"CREATE PROCEDURE leaves() {body}")
    pooled.close()
    before = connection(pooled)
    with pytest.raises(peewee.PeeweeException):
        pooled.execute_sql("CALL leaves()")
    pooled.close()
    try:
        assert connection(pooled) != before
    finally:
        pooled.execute_sql("DROP PROCEDURE leaves")


@pytest.mark.parametrize("sql", ["INSERT INTO item (id) VALUES (1), (1)", "SELECT 1 FROM nowhere"])
def test_a_plain_failure_costs_no_connection(pooled: Any, sql: str) -> None:
    before = connection(pooled)
    with pytest.raises(peewee.PeeweeException):
        pooled.execute_sql(sql)
    pooled.close()
    assert connection(pooled) == before
