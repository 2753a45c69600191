"""A read that was sent and lost its connection is sent once more, on the primary only if its node is dead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import pytest
from peewee import OperationalError
from support.clusters.repaired import repaired
from support.waiting import until

from peewee_replicas import (
    PooledReplicatedDatabase,
)
from peewee_replicas.databases import mysql

# A query that runs long enough to be broken off.
LONG = (
    "WITH RECURSIVE n AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM n WHERE a < 200) "
    "SELECT COUNT(*) FROM n AS x, n AS y, n AS z"
)
RUNNING = "SELECT id FROM information_schema.processlist WHERE user = 'app' AND info LIKE 'WITH RECURSIVE%'"


@pytest.mark.parametrize("fallback", ["primary", "error"])
@pytest.mark.parametrize("scope", ["readonly", "none"])
def test_a_query_that_outlasts_its_read_timeout_stays_off_the_primary(
    cluster: Any, fallback: str, scope: str
) -> None:
    database = cluster.database(read_timeout=1, fallback=fallback)
    events: list[Any] = []
    for _ in range(4):
        database.execute_sql("SELECT 1")
    with database.primary():
        database.execute_sql("SELECT 1")  # so that the next read has a position to reach
    database.route_hooks.append(events.append)
    with pytest.raises(OperationalError, match="2013"):
        if scope == "readonly":
            with database.readonly():
                database.execute_sql("SELECT SLEEP(3)")
        else:
            database.execute_sql("SELECT SLEEP(3)")
    assert [(event.role, event.attempts) for event in events] == [("replica", 2)]
    assert [replica.state for replica in database.replicas] == ["up", "up"]
    database.close()


@contextmanager
def killing(node: Any, database: Any, times: int = 1) -> Iterator[None]:
    """Kill the connections of the next long queries there."""
    database.execute_sql("SELECT 1")
    while database._parts.router.settings.policy.peek(database.replicas).name != node.name:
        database.execute_sql("SELECT 1")

    def kill() -> None:
        killed: set[int] = set()

        def kills() -> bool:
            for (key,) in node.execute(RUNNING):
                if key not in killed:
                    node.execute(f"KILL {key}")
                    killed.add(key)
            return len(killed) >= times

        until(kills)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()


def test_a_read_whose_connection_was_killed_returns_where_no_other_serves_it(server: str) -> None:
    with repaired(server, 2, []) as cluster:
        database = cluster.database(consistency="eventual")
        events: list[Any] = []
        with killing(cluster.replicas[0], database):
            cluster.replicas[1].kill()
            database.route_hooks.append(events.append)
            assert database.execute_sql(LONG).fetchone() == (200**3,)
        assert [(event.node, event.attempts) for event in events] == [("replica-1", 2)]
        assert database.stats()["primary"] == 0
        with (
            killing(cluster.replicas[0], database, times=2),
            pytest.raises(peewee.OperationalError, match="Lost connection"),
        ):
            database.execute_sql(LONG)  # not a third time, and not on the primary
        assert events[-1].attempts == 2
        assert database.stats()["primary"] == 0
        database.close()


def test_a_full_pool_is_no_reason_to_lose_a_read(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database = cluster.database(PooledReplicatedDatabase, consistency="eventual", max_connections=3)
    original = mysql._PooledNode.drop

    def drop(self: Any, conn: Any) -> None:
        original(self, conn)
        if self.node is database.replicas[0]:
            self.db._max_connections = -1  # others have taken them all

    with killing(cluster.replicas[0], database):
        monkeypatch.setattr(mysql._PooledNode, "drop", drop)
        assert database.execute_sql(LONG).fetchone() == (200**3,)
    assert database.stats()["primary"] == 0
    database.close_all()


def test_no_read_is_lost_when_a_replica_is_stopped_in_order(server: str) -> None:
    with repaired(server, 1, []) as cluster:
        database = cluster.database(consistency="eventual")
        database.execute_sql("SELECT 1")
        going, answers = threading.Event(), []

        def work() -> None:
            database.execute_sql("SELECT 1")
            going.set()
            answers.append(database.execute_sql(LONG.replace("200", "300")).fetchone()[0])
            database.close()

        thread = threading.Thread(target=work)
        thread.start()
        assert going.wait(20)
        running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'WITH RECURSIVE%'"
        while not cluster.replicas[0].execute(running)[0][0]:
            pass
        cluster.replicas[0].stop()
        thread.join()
        assert answers == [300**3]
        assert database.stats()["primary"] == 1
