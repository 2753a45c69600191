"""What a replica's dict says holds for that replica alone: the bound of its lag, its pool, its driver.

What a dict may have came from `NodeSpec` and from the signatures of the classes' constructors. Tags have
modules of their own, weights are in ``test_policies.py``, and the asyncio form's pools in
``aio/test_connections.py``.
"""

from __future__ import annotations

from typing import Any

import pytest
from playhouse.pool import MaxConnectionsExceeded
from support.forms.threads import in_threads
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase

READ = "SELECT n FROM slot"


def dicts(cluster: Any, *each: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": node.name, "host": node.host, "port": node.port, **given}
        for node, given in zip(cluster.replicas, each, strict=True)
    ]


@pytest.mark.parametrize("server", ["mariadb"])  # the prober takes the bound, not the server
def test_a_replica_may_have_a_bound_of_its_own_for_the_lag(own_three: Any) -> None:
    replicas = dicts(own_three, {"max_lag": None}, {})
    database = own_three.database(consistency="eventual", probe_interval=0.1, max_lag=0.3, replicas=replicas)
    patient, strict = database.replicas
    until(lambda: database.execute_sql(READ) and None not in (patient.lag, strict.lag), 120)
    for node in own_three.replicas:
        node.freeze()
    own_three.primary.execute(f"UPDATE {own_three.database_name}.slot SET n = n + 1")
    until(lambda: database.execute_sql(READ) and strict.state == "lagging" and (patient.lag or 0) > 0.3, 120)
    assert patient.state == "up"
    before = database.stats()["replica-1.reads"]
    database.execute_sql(READ)
    assert database.stats()["replica-1.reads"] == before + 1
    database.close()
    database.dispose()


def test_a_replica_may_have_a_pool_of_its_own_size(cluster: Any, db: Any) -> None:
    replicas = dicts(cluster, {"max_connections": 1, "timeout": None}, {})
    database = cluster.database(
        PooledReplicatedDatabase, consistency="eventual", max_connections=3, replicas=replicas
    )
    small, large = database.replicas

    def hold(_: Any = None) -> int:
        """Take a connection of the only node in rotation, and keep it."""
        try:
            database.execute_sql("SELECT COUNT(*) FROM item").fetchall()
        except MaxConnectionsExceeded:
            return 0
        return 1

    for out, size in ((large, 1), (small, 3)):
        out.eject("a test")
        kept = in_threads(5, hold)
        assert sum(kept) == size
        out.restore()
        database.close_all()


@pytest.mark.parametrize("cls", [ReplicatedDatabase, PooledReplicatedDatabase, AsyncReplicatedDatabase])
def test_a_replica_may_have_settings_of_the_driver_of_its_own(cluster: Any, db: Any, cls: Any) -> None:
    replicas = dicts(cluster, {"init_command": "SET max_sort_length = 77"}, {})
    database = cluster.database(cls, consistency="eventual", replicas=replicas)

    def found() -> list[int]:
        lengths = []
        for out in reversed(database.replicas):
            out.eject("a test")
            with database.readonly():
                lengths.append(database.execute_sql("SELECT @@max_sort_length").fetchone()[0])
            out.restore()
        return lengths

    if cls is AsyncReplicatedDatabase:
        import asyncio

        async def work() -> list[int]:
            lengths: list[int] = await database.run(found)
            await database.close_pool()
            return lengths

        assert asyncio.run(work()) == [77, 1024]
    else:
        assert found() == [77, 1024]


@pytest.mark.parametrize("why", ["refused", "cannot read"])
def test_a_primary_that_left_the_rotation_stays_out_when_writes_connect(cluster: Any, why: str) -> None:
    # It has answered all the time. Each new connection for writing would send reads there in vain again.
    listed = {"name": "p", "host": cluster.primary.host, "port": cluster.primary.port}
    if why == "refused":
        listed["user"] = "nobody"
    replica = cluster.replicas[0]
    nodes = [listed, {"name": "r", "host": replica.host, "port": replica.port}]
    db = cluster.database(consistency="eventual", replicas=nodes, policy="round-robin")
    if why == "cannot read":
        node = db._parts.cluster.reader
        node.cannot_read("a broken disk")
        node.cannot_read("a broken disk")
    for _ in range(10):
        with db.primary():
            db.execute_sql("SELECT 1")
        for _ in range(2):
            db.execute_sql("SELECT 1").fetchall()
        db.close()
    stats = db.stats()
    assert (stats["p.ejections"], stats["p.restorations"], stats["p.reads"]) == (1, 0, 0)
