"""A named lock keeps reads where it is held, for as long as it is held, and is warned of once.

The members of the kind are the functions GET_LOCK, RELEASE_LOCK and RELEASE_ALL_LOCKS (MySQL's and MariaDB's
manuals name no others that take or give back a lock of a session by name), each got or not got, as SELECT and
as DO, once and several times, and texts in which they stand beside something else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from peewee_replicas import PooledReplicatedDatabase

GET, RELEASE = "SELECT GET_LOCK(%s, 0)", "SELECT RELEASE_LOCK(%s)"
READ = "SELECT COUNT(*) FROM item"


@pytest.fixture(name="pooled")
def _pooled(cluster: Any) -> Iterator[Any]:
    database = cluster.database(PooledReplicatedDatabase, max_connections=4)
    database.execute_sql("CREATE TABLE IF NOT EXISTS item (id INT PRIMARY KEY, n INT)")
    database.close()
    yield database
    database.close_all()
    database.dispose()


def role(database: Any) -> str:
    return str(database.explain_route(READ).role)


def test_fifty_locks_taken_and_released_are_one_warning_and_one_connection(
    pooled: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connections = set()
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        for _ in range(50):
            assert pooled.execute_sql(GET, ("nightly",)).fetchone()[0] == 1
            assert role(pooled) == "primary"
            assert pooled.execute_sql(RELEASE, ("nightly",)).fetchone()[0] == 1
            assert role(pooled) == "replica"
            connections.add(pooled._state.conn.thread_id())
            pooled.close()
    assert len(connections) == 1
    assert len([text for text in caplog.messages if "named lock" in text]) == 1


def test_locks_on_many_connections_of_several_databases_are_one_warning(
    cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        for number in range(3):
            with closing(cluster.database()) as database:
                for name in "ab":
                    database.execute_sql(GET, (f"{name}{number}",))
                    assert role(database) == "primary"
                    database.close()
    assert len([text for text in caplog.messages if "named lock" in text]) == 1


@pytest.mark.parametrize(
    "released",
    [
        [(GET, ("a",)), ("DO RELEASE_LOCK(%s)", ("a",))],
        [(GET, ("a",)), (GET, ("b",)), ("SELECT RELEASE_ALL_LOCKS()", None)],
        [(GET, ("a",)), (GET, ("a",)), (RELEASE, ("a",)), (RELEASE, ("a",))],
        [(GET, ("A",)), ("select release_lock('a') AS `done`", None)],
        [("DO GET_LOCK('a', 0)", None), ("SELECT RELEASE_ALL_LOCKS()", None)],
        [(GET, ("it's",)), (RELEASE, ("it's",))],
    ],
)
def test_a_lock_that_was_released_leaves_nothing_behind(pooled: Any, released: Any) -> None:
    for sql, params in released[:-1]:
        pooled.execute_sql(sql, params)
        assert role(pooled) == "primary"
    pooled.execute_sql(*released[-1])
    assert role(pooled) == "replica"


@pytest.mark.parametrize(
    "held",
    [
        [(GET, ("a",)), (RELEASE, ("b",))],
        [(GET, ("a",)), (GET, ("a",)), (RELEASE, ("a",))],
        [(GET, ("a",)), (GET, ("b",)), (RELEASE, ("a",))],
        [("SELECT GET_LOCK(CONCAT('a', ''), 0)", None), (RELEASE, ("a",))],
        [("SELECT GET_LOCK('a', 0), GET_LOCK('b', 0)", None), (RELEASE, ("a",))],
        [("DO GET_LOCK('a', 0)", None), (RELEASE, ("b",))],
        [(GET, ("a",)), ("SELECT IS_USED_LOCK('a')", None)],
    ],
)
def test_reads_stay_where_a_lock_is_or_may_be_held(pooled: Any, held: Any) -> None:
    for sql, params in held:
        pooled.execute_sql(sql, params)
        assert role(pooled) == "primary"


def test_a_lock_that_was_not_got_leaves_nothing_behind(pooled: Any, cluster: Any) -> None:
    with closing(cluster.database()) as other:
        assert other.execute_sql(GET, ("taken",)).fetchone()[0] == 1
        assert pooled.execute_sql(GET, ("taken",)).fetchone()[0] == 0
        assert role(pooled) == "replica"


def test_a_connection_that_holds_a_lock_is_closed_with_it(pooled: Any, cluster: Any) -> None:
    pooled.execute_sql(GET, ("mine",))
    pooled.close()
    with closing(cluster.database()) as other:
        assert other.execute_sql(GET, ("mine",)).fetchone()[0] == 1


@pytest.mark.parametrize("text", ["SET SESSION time_zone = '+05:00'", "CREATE TEMPORARY TABLE mine (a INT)"])
def test_what_was_set_under_a_lock_stays_after_its_release(pooled: Any, text: str) -> None:
    pooled.execute_sql(GET, ("a",))
    pooled.execute_sql(text)
    pooled.execute_sql(RELEASE, ("a",))
    assert role(pooled) == "primary"
    pooled.close()
    assert role(pooled) == "replica"
