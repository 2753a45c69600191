"""`atomic(read_only=True)`: peewee's words for `readonly(snapshot=True)`.

Every way to enter a scope has a line: ``with``, a decorated function and ``async with``; on a database, and
on a proxy initialised later. The list is that of `Scope`'s own entries.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.clusters.lagging import Slot, bound, elsewhere, n_of
from support.databases.async_pools import making

from peewee_replicas import ReadOnlyViolation, ReplicatedDatabaseProxy

make = pytest.fixture(making)


@pytest.mark.usefixtures("form")
def test_it_is_one_snapshot_of_a_replica_without_writes(pair: Any) -> None:
    with bound(pair) as db:
        pair.reset_counts()
        with db.atomic(read_only=True) as entered:
            assert entered is db
            assert n_of() == 1
            elsewhere(pair, "UPDATE slot SET n = 2")
            pair.sync()
            assert n_of() == 1
            with pytest.raises(ReadOnlyViolation):
                Slot.update(n=9).execute()
            with pytest.raises(ReadOnlyViolation), db.atomic():
                pass
        assert n_of() == 2
        with db.atomic(), pytest.raises(ReadOnlyViolation), db.atomic(read_only=True):
            pass
        with db.atomic(read_only=False):
            Slot.update(n=3).execute()
        counts = pair.counts()
        assert (counts["primary"].writes, counts["primary"].begins, counts["replica-1"].reads) == (1, 2, 3)


def test_it_decorates_on_a_database_and_on_a_proxy(pair: Any) -> None:
    proxy = ReplicatedDatabaseProxy()

    @proxy.atomic(read_only=True)
    def twice() -> tuple[int, int]:
        first = n_of()
        elsewhere(pair, "UPDATE slot SET n = n + 1")
        pair.sync()
        return first, n_of()

    with bound(pair) as db:
        proxy.initialize(db)
        first, second = twice()
        assert first == second == 1
        first, second = db.atomic(read_only=True)(twice)()
        assert first == second == 2


def test_it_is_entered_with_async_with(cluster: Any, make: Any) -> None:
    database = make()

    async def work() -> None:
        async with database.atomic(read_only=True):
            with pytest.raises(ReadOnlyViolation, match="readonly"):
                await database.aexecute_sql("DELETE FROM item")
        await database.close_pool()

    asyncio.run(work())
