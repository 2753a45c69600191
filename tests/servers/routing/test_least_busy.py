"""`least-busy` on real servers: a slow replica is left out, and found again when it is fast."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from support.databases.nodes import nodes_of
from support.waiting import until

from peewee_replicas.nodes import latency as latencies


def on_this_node_alone(cluster: Any, node: Any, sql: str) -> None:
    """Run it on a replica, in no replica's history."""
    with (
        pymysql.connect(
            host=node.host, port=node.port, user=cluster.admin_user, password=cluster.password
        ) as conn,
        conn.cursor() as cursor,
    ):
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(sql)


@pytest.fixture
def slowed(cluster: Any, db: Any) -> Iterator[Any]:
    """Called with seconds, makes every read of the view `seen` on the second replica take so long."""
    node, name = cluster.replicas[1], cluster.database_name

    def slow(seconds: float) -> None:
        on_this_node_alone(
            cluster, node, f"CREATE OR REPLACE VIEW {name}.seen AS SELECT 1 AS one WHERE SLEEP({seconds}) = 0"
        )

    cluster.primary.execute(f"CREATE VIEW {name}.seen AS SELECT 1 AS one")
    cluster.sync()
    yield slow
    cluster.primary.execute(f"DROP VIEW IF EXISTS {name}.seen")
    cluster.sync()


def test_a_slow_replica_is_left_out_and_used_again_when_it_is_fast(
    cluster: Any, slowed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latencies, "MEMORY", 1e6)  # nothing fades yet
    slowed(0.5)
    database = cluster.database(consistency="eventual", policy="least-busy", probe_interval=None)
    fast, slow = nodes_of(database)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(100):
                database.execute_sql("SELECT one FROM seen").fetchall()
            database.close()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    counts = cluster.counts()
    # Until six reads have told, any may be on the slow one; the threads start together.
    assert counts[slow.name].reads <= 20
    assert counts[fast.name].reads >= 380
    assert slow.latency is not None
    assert fast.latency is not None
    assert slow.latency > 0.4 > fast.latency

    slowed(0)
    before = slow.reads
    database.execute_sql("SELECT one FROM seen")
    assert slow.reads == before  # it is not known yet that it is fast
    monkeypatch.setattr(latencies, "MEMORY", 0.2)
    until(lambda: database.execute_sql("SELECT one FROM seen") and slow.reads >= before + 20)
    assert slow.latency is None or slow.latency < 0.4
    database.close()


def test_a_replica_on_which_reads_fail_at_once_is_not_taken_for_a_fast_one(cluster: Any, slowed: Any) -> None:
    slowed(0.01)
    on_this_node_alone(cluster, cluster.replicas[0], f"DROP VIEW {cluster.database_name}.seen")
    database = cluster.database(consistency="eventual", policy="least-busy", probe_interval=None)
    failing, _ = nodes_of(database)
    for _ in range(40):  # as after a schema change that has not arrived there
        database.execute_sql("SELECT one FROM seen").fetchall()
    assert database.stats()["reruns"] == failing.reads <= 24
    database.close()


def test_latencies_cost_nothing_where_no_policy_looks_at_them(cluster: Any, db: Any) -> None:
    for policy, kept in (("round-robin", False), ("random", False), (lambda given: given[0], True)):
        database = cluster.database(consistency="eventual", policy=policy, probe_interval=None)
        for _ in range(12):
            database.execute_sql("SELECT 1")
        assert (database.replicas[0].latency is not None) is kept
        database.close()
