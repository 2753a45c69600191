"""Streams under asyncio: which connection one has, and what becomes of it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from peewee import InterfaceError, OperationalError
from support.databases.async_pools import closed, count, making
from support.databases.lost import SESSIONS
from support.databases.models import Item

pytestmark = pytest.mark.core

make = pytest.fixture(making)


def test_a_stream_stays_on_its_node_and_nothing_else_is_sent_on_its_connection(
    cluster: Any, make: Any
) -> None:
    database = make()

    async def work() -> None:
        cluster.reset_counts()
        seen = 0
        async for item in database.iterate(Item.select().order_by(Item.n), buffer_size=7):
            assert item.n == seen
            seen += 1
            if not seen % 25:
                assert await count(database) == 100
        assert seen == 100
        counts = cluster.counts()
        assert sum(counts[node.name].reads for node in cluster.replicas) == 5
        assert counts["primary"].reads == 0
        async with database.atomic():
            await database.aexecute(Item.update(n=Item.n + 1000))
            rows = [row.n async for row in database.iterate(Item.select())]
            assert min(rows) == 1000
            half = database.iterate(Item.select())
            await half.__anext__()
            await half.aclose()
            assert await count(database) == 100
        await closed(cluster, database)

    asyncio.run(work())


def test_a_stream_that_is_left_early_gives_its_connection_up(cluster: Any, make: Any) -> None:
    database = make(pool_size=1, acquire_timeout=20)

    async def first(rows: AsyncIterator[Any]) -> Any:
        async for row in rows:
            return row

    async def work() -> None:
        for _ in range(5):
            assert (await first(database.iterate(Item.select().order_by(Item.n)))).n == 0
        assert await count(database) == 100
        async with database.atomic():
            assert (await first(database.iterate(Item.select().order_by(Item.n)))).n == 0
            assert await count(database) == 100  # waits for the loop to close the stream
        await closed(cluster, database)

    asyncio.run(work())


def test_a_query_beside_a_stream_on_the_primary_is_an_error(
    cluster: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peewee_replicas.aio.iterate._LEFT_BEHIND_SECONDS", 0.01)
    database = make()

    async def work() -> None:
        async with database.atomic():
            rows = database.iterate(Item.select())
            await rows.__anext__()
            with pytest.raises(InterfaceError, match="busy streaming results from iterate"):
                await count(database)
            assert len([row async for row in rows]) == 99
            assert await count(database) == 100
        await closed(cluster, database)

    asyncio.run(work())


def test_a_long_stream_is_held_back_at_the_server(cluster: Any, make: Any) -> None:
    database = make()
    wide = "SELECT REPEAT('x', 60000) AS name, a.id, a.n FROM item a, item b, item c LIMIT 2000"  # 120 MB

    async def work() -> None:
        rows = database.iterate(Item.raw(wide))
        await rows.__anext__()
        await asyncio.sleep(0.2)
        (stream,) = [one for one in gc.get_objects() if type(one).__name__ == "Stream" and one._held_back]
        assert stream._waiting < 4 << 20
        assert len([row async for row in rows]) == 1999
        await closed(cluster, database)

    asyncio.run(work())


def test_a_stream_whose_connection_is_lost_raises_and_the_next_query_works(cluster: Any, make: Any) -> None:
    database = make()
    wide = "SELECT REPEAT('x', 60000) AS name, a.id, a.n FROM item a, item b, item c LIMIT 2000"

    async def work() -> None:
        rows = database.iterate(Item.raw(wide))
        await rows.__anext__()
        for node in cluster.replicas:
            for (number,) in node.execute(SESSIONS, (cluster.user,)):
                node.execute("KILL %s", (number,))
        with pytest.raises(OperationalError):
            async for _ in rows:
                pass
        assert await count(database) == 100
        await closed(cluster, database)

    asyncio.run(work())


@pytest.mark.once
def test_a_stream_that_cannot_be_had_says_why(cluster: Any, make: Any) -> None:
    database = make()

    async def kill(times: int) -> None:
        while times:
            for node in cluster.replicas:
                query = f"{SESSIONS} AND info LIKE 'SELECT SLEEP(20)%%'"
                for (number,) in await asyncio.to_thread(node.execute, query, (cluster.user,)):
                    await asyncio.to_thread(node.execute, "KILL %s", (number,))
                    times -= 1
            await asyncio.sleep(0.02)

    async def work() -> None:
        killer = asyncio.create_task(kill(2))
        with pytest.raises(OperationalError, match="Lost connection"):
            await anext(database.iterate(Item.raw("SELECT SLEEP(20) AS n")))
        await killer
        await closed(cluster, database)

    asyncio.run(work())


@pytest.mark.once
def test_a_connection_with_a_stream_is_no_other_tasks(cluster: Any, make: Any) -> None:
    database = make(pool_size=1, acquire_timeout=5)
    rows: list[Any] = []

    async def begin() -> None:
        async with database.primary():
            rows.append(database.iterate(Item.select().limit(5)))
            await anext(rows[0])

    async def update() -> None:
        for n in range(2):  # the second would wait for the stream of another
            await database.aexecute(Item.update(n=n).where(Item.name == "item 5"))

    async def work() -> None:
        await asyncio.create_task(begin())
        await asyncio.create_task(update())
        await rows[0].aclose()
        await closed(cluster, database)

    asyncio.run(work())


@pytest.mark.once
def test_a_stream_served_by_the_primary_in_a_replicas_place_leaves_no_connection(
    cluster: Any, make: Any
) -> None:
    database = make(pool_size=1, acquire_timeout=5)
    for replica in database.replicas:
        replica.eject("for the test")

    async def task(done: asyncio.Event) -> int:
        found = len([row async for row in database.iterate(Item.select())])
        if database.stats()["fallbacks"] == 3:
            done.set()
        await done.wait()  # the task lives on
        return found

    async def work() -> None:
        done = asyncio.Event()
        assert await asyncio.gather(*(task(done) for _ in range(3))) == [100] * 3
        await closed(cluster, database)

    asyncio.run(work())


@pytest.mark.once
def test_a_database_closed_beside_a_stream_counts_on(cluster: Any, make: Any) -> None:
    database = make(pool_size=1)

    async def work() -> None:
        async with database:
            rows = database.iterate(Item.select())
            await anext(rows)
        await rows.aclose()
        # Else the task would not wait for other tasks' connections any more.
        assert not database._state.keeps
        assert await asyncio.gather(*(count(database) for _ in range(5))) == [100] * 5
        await closed(cluster, database)

    asyncio.run(work())
