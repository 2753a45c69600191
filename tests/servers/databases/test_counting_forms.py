"""`counting()` on servers, in every form: reads, waits, and tasks that run at the same time.

The members of the kind are the forms that share `RoutedMembers.execute_sql()`: plain, pooled, and asyncio,
with tasks at the same time. What they count is tested without servers.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.clusters.lagging import LONG, Slot, bound, frozen, n_of, soon
from support.peewees import needs_asyncio

from peewee_replicas import PooledReplicatedDatabase


@pytest.mark.usefixtures("form")
def test_a_read_that_waits_for_its_replica(pair: Any) -> None:
    with bound(pair, catch_up_timeout=LONG) as db, frozen(pair), db.counting() as counts:
        Slot.update(n=2).execute()
        with soon(pair.replicas[0].thaw):
            assert n_of() == 2
    assert (counts.reads, counts.primary) == ({pair.replicas[0].name: 1}, {"write": 1})
    assert counts.waits == 1
    assert 0 < counts.waited <= counts.replica_seconds < counts.seconds


def test_the_pooled_form_counts_transactions(pair: Any) -> None:
    with bound(pair, PooledReplicatedDatabase) as db, db.counting() as counts, db.atomic():
        Slot.update(n=2).execute()
    assert (counts.reads, counts.primary) == ({}, {"transaction": 3})


@needs_asyncio
def test_tasks_count_where_they_were_started(cluster: Any) -> None:
    from peewee_replicas.aio import AsyncReplicatedDatabase

    db = cluster.database(AsyncReplicatedDatabase, consistency="eventual", probe_interval=None)

    async def work() -> None:
        async def others() -> int:
            with db.counting() as own:
                await db.aexecute_sql("SELECT 1")
            return sum(own.reads.values())

        with db.counting() as counts:
            assert await asyncio.gather(*(others() for _ in range(3))) == [1, 1, 1]
            async with db.atomic():
                await db.aexecute_sql("SELECT 2")
        await db.aexecute_sql("SELECT 3")
        await db.close_pool()
        assert sum(counts.reads.values()) == 3
        assert counts.primary == {"transaction": 3}

    cluster.reset_counts()
    asyncio.run(work())
    assert db._members.reports.counting.in_use == 0
    assert sum(cluster.counts()[node.name].reads for node in cluster.replicas) == 4
