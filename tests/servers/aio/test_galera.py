"""Tasks read from members of a Galera cluster what was written before, by themselves and by other tasks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from support.clusters.galera import SETUPS, Galera, galera, needs_galera
from support.clusters.lagging import watched

from peewee_replicas.aio import AsyncReplicatedDatabase

pytestmark = [pytest.mark.once, needs_galera]

TASKS, PAIRS = 5, 30


def opened(cluster: Galera) -> Any:
    parameters = cluster.parameters(0)
    replicas = [{"name": f"member-{n + 1}", "port": cluster.nodes[n].port} for n in (1, 2)]
    return AsyncReplicatedDatabase(
        parameters.pop("database"), **parameters, replicas=replicas, probe_interval=0.1
    )


async def pairs(db: Any, row: int) -> list[tuple[int, int]]:
    """Write and read back, by turns; return what was written beside what was read."""
    found = []
    for n in range(1, PAIRS + 1):
        await db.aexecute_sql("UPDATE t SET n = %s WHERE id = %s", (n, row))
        cursor = await db.aexecute_sql("SELECT n FROM t WHERE id = %s", (row,))
        found.append((n, cursor.fetchone()[0]))
    await db.aclose()
    return found


async def read_by_another_task(db: Any) -> int:
    cursor = await db.aexecute_sql("SELECT MIN(n) FROM t")
    return int(cursor.fetchone()[0])


async def work(cluster: Galera) -> None:
    db = opened(cluster)
    try:
        await db.aexecute_sql("CREATE TABLE t (id INT PRIMARY KEY, n INT)")
        await db.aexecute_sql("INSERT INTO t VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)")
        deadline = time.monotonic() + 60
        with watched(db) as events:
            while not {event.node for event in events} >= {"member-2", "member-3"}:
                assert time.monotonic() < deadline
                await read_by_another_task(db)
            del events[:]
            for found in await asyncio.gather(*(pairs(db, row) for row in range(1, TASKS + 1))):
                assert [read for _, read in found] == [written for written, _ in found]
            assert await asyncio.create_task(read_by_another_task(db)) == PAIRS
        reads = [event.node for event in events if event.kind == "read"]
        assert set(reads) == {"member-2", "member-3"}
    finally:
        await db.close_pool()


@pytest.mark.parametrize("setup", SETUPS)
def test_tasks_see_what_was_written(setup: str) -> None:
    with galera(setup) as cluster:
        asyncio.run(work(cluster))
