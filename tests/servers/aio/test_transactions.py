"""Transactions of tasks end once and as a whole, also where they are cancelled or lose their connection."""

from __future__ import annotations

import asyncio
from typing import Any

import peewee
import pytest
from peewee import OperationalError
from support.databases.async_pools import closed, making
from support.databases.lost import SESSIONS
from support.databases.models import Item

from peewee_replicas import ReplicatedDatabaseProxy

make = pytest.fixture(making)


def test_a_cancelled_commit_leaves_the_task_a_working_database(cluster: Any, make: Any) -> None:
    database = make(consistency="session")
    called: list[str] = []

    async def work() -> None:
        task: Any = asyncio.current_task()
        for end in ("commit", "rollback"):
            transaction = await database.atomic().__aenter__()
            database.after_commit(lambda: called.append("of what was cancelled"))
            await database.aexecute(Item.update(n=-3).where(Item.name == "item 5"))
            task.get_loop().call_soon(task.cancel)
            arguments = (None, None, None) if end == "commit" else (KeyError, KeyError(), None)
            with pytest.raises(asyncio.CancelledError):
                await transaction.__aexit__(*arguments)
            getattr(task, "uncancel", lambda: 0)()
            assert not database.in_transaction()
            async with database.atomic():
                await database.aexecute(Item.update(n=-4).where(Item.name == "item 5"))
            assert (await database.get(Item.select().where(Item.name == "item 5"))).n == -4
        assert not called
        await closed(cluster, database)

    asyncio.run(work())


def test_what_follows_a_lost_commit_in_its_block_is_not_done_by_itself(cluster: Any, make: Any) -> None:
    database = make(consistency="session")

    async def work() -> None:
        with pytest.raises(peewee.PeeweeException):
            async with database.atomic() as transaction:
                await database.aexecute(Item.update(n=-7))
                for (number,) in cluster.primary.execute(SESSIONS, (cluster.user,)):
                    cluster.primary.execute("KILL %s", (number,))
                with pytest.raises(OperationalError):
                    await transaction.acommit()
                await database.aexecute(Item.update(n=-8))
        await database.aexecute(Item.update(n=-9).where(Item.name == "item 5"))
        assert await database.count(Item.select().where(Item.n < 0)) == 1
        await closed(cluster, database)

    asyncio.run(work())


def test_a_commit_cancelled_while_it_waits_for_a_stream_is_rolled_back(cluster: Any, make: Any) -> None:
    database = make(consistency="session")

    async def work() -> None:
        task: Any = asyncio.current_task()
        transaction = await database.atomic().__aenter__()
        await database.aexecute(Item.update(n=-5))
        rows = database.iterate(Item.select(), buffer_size=5)
        await anext(rows)
        task.get_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await transaction.__aexit__(None, None, None)
        getattr(task, "uncancel", lambda: 0)()
        await database.aexecute(Item.update(n=-6).where(Item.name == "item 5"))
        assert await database.count(Item.select().where(Item.n < 0)) == 1
        await rows.aclose()
        await closed(cluster, database)

    asyncio.run(work())


@pytest.mark.parametrize("name", ["atomic", "transaction", "savepoint"])
def test_transactions_of_a_proxy_are_its_databases(cluster: Any, make: Any, name: str) -> None:
    proxy = ReplicatedDatabaseProxy()
    proxy.initialize(make())

    async def work() -> None:
        async with proxy.atomic(), getattr(proxy, name)():
            await proxy.aexecute(Item.update(n=-1).where(Item.name == "item 5"))
        async with proxy.primary():
            assert await proxy.count(Item.select().where(Item.n == -1)) == 1
        await closed(cluster, proxy)

    asyncio.run(work())
