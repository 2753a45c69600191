"""Who holds which connection under asyncio: pools, cancelled queries, loops that come and go."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from peewee import InterfaceError, OperationalError
from support.databases.async_pools import closed, count, end_sessions, making, sessions
from support.databases.lost import SESSIONS
from support.databases.models import Item
from support.databases.nodes import nodes_of
from support.waiting import until

from peewee_replicas.aio import AsyncReplicatedDatabase

pytestmark = pytest.mark.core

# A server notices that its client has gone when the statement ends.
_SLOW = "SELECT SLEEP(1)"

make = pytest.fixture(making)


# Pools


@pytest.mark.once
def test_connections_to_a_node_that_was_taken_out_are_closed(cluster: Any, make: Any) -> None:
    database = make()
    specs = [{"name": node.name, "host": node.host, "port": node.port} for node in cluster.replicas]

    async def left(database: Any) -> None:
        while sessions(cluster)[2]:
            await count(database)  # a statement now and then looks after those that have left
            await asyncio.sleep(0.01)

    async def main() -> None:
        await asyncio.gather(*(count(database) for _ in range(12)))
        database.set_replicas(specs[1:])
        rows = database.iterate(Item.select(), buffer_size=10)
        await anext(rows)
        gone = nodes_of(database)[0]
        database.set_replicas(specs[:1])
        await count(database)
        assert len([row async for row in rows]) == 99
        await asyncio.wait_for(left(database), 20)
        assert not gone.has_connections()
        await closed(cluster, database)

    asyncio.run(main())


@pytest.mark.once
def test_the_task_that_finds_a_node_back_does_not_keep_its_connection(cluster: Any, make: Any) -> None:
    database = make(pool_size=1)
    back, _ = nodes_of(database)

    async def main() -> None:
        back.failed("a test")
        while back.state != "up":
            await count(database)  # one of them tries the node
            await asyncio.sleep(0.01)
        for _ in range(12):  # as it warms up, it gets one of 11; and it may have one connection only
            await asyncio.wait_for(asyncio.create_task(count(database)), 5)
        await closed(cluster, database)

    asyncio.run(main())


@pytest.mark.once
def test_a_connection_that_streamed_nothing_in_the_end_streams_nothing_later(cluster: Any, make: Any) -> None:
    database = make(consistency="strong")  # the primary is asked before each read

    async def main() -> None:
        assert len([row async for row in database.iterate(Item.select())]) == 100
        for replica in database.replicas:
            replica.eject("a test")
        async with database.readonly():
            cursor = await database.aexecute_sql("SELECT id FROM item")
            assert len(cursor.fetchall()) == 100
        await closed(cluster, database)

    asyncio.run(main())


def test_pools_are_one_for_each_node_each_of_its_own_size(cluster: Any, make: Any) -> None:
    first, second = ({"host": node.host, "port": node.port} for node in cluster.replicas)
    database = make(pool_size=3, replicas=[first, {**second, "pool_size": 5, "pool_min_size": 5}])
    most = [0, 0, 0]

    async def look() -> None:
        for at, number in enumerate(await asyncio.to_thread(sessions, cluster)):
            most[at] = max(most[at], number)

    async def watch() -> None:
        while True:
            await look()

    async def work() -> None:
        watcher = asyncio.create_task(watch())
        found = await asyncio.gather(*(database.aexecute_sql("SELECT SLEEP(0.02)") for _ in range(60)))
        assert len(found) == 60
        await look()  # a pool keeps what it has opened
        await asyncio.gather(*(task(n) for n in range(20)))
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        await closed(cluster, database)

    async def task(n: int) -> None:
        async with database.atomic():
            await database.aexecute(Item.update(n=n).where(Item.name == f"item {n}"))

    asyncio.run(work())
    assert most[1:] == [3, 5]
    assert most[0] <= 3


def test_tasks_that_write_and_read_do_not_wait_for_each_other_for_ever(cluster: Any, make: Any) -> None:
    database = make(pool_size=2, consistency="session", acquire_timeout=60)

    async def task(n: int) -> None:
        item = await database.run(lambda: Item.create(name=f"mine {n}"))
        assert await database.run(lambda: Item.get_by_id(item.id)) == item
        async with database.readonly():
            assert await database.run(lambda: Item.get_by_id(item.id)) == item
        async for row in database.iterate(Item.select().where(Item.id == item.id)):
            await database.aexecute(Item.update(n=n).where(Item.id == row.id))
            assert (await database.get(Item.select().where(Item.id == row.id))).n == n

    async def work() -> None:
        await asyncio.gather(*(task(n) for n in range(60)))
        await closed(cluster, database)

    asyncio.run(work())


def test_a_read_that_fell_back_keeps_no_connection_to_the_primary(cluster: Any, make: Any) -> None:
    database = make(pool_size=1, acquire_timeout=5)
    for replica in database.replicas:
        replica.eject("for the test")

    async def task(done: asyncio.Event) -> int:
        found = await count(database)
        await done.wait()  # the task lives on, as a consumer of a queue does
        return found

    async def work() -> None:
        done = asyncio.Event()
        tasks = [asyncio.create_task(task(done)) for _ in range(5)]
        while database.stats()["fallbacks"] < 5:
            assert not any(one.done() for one in tasks)
            await asyncio.sleep(0.01)
        done.set()
        assert await asyncio.gather(*tasks) == [100] * 5
        await closed(cluster, database)

    asyncio.run(work())


def test_a_pool_that_is_exhausted_says_so_and_ejects_nobody(cluster: Any, make: Any) -> None:
    database = make(pool_size=1, acquire_timeout=0.2, connect_timeout=10)

    async def work() -> None:
        first = asyncio.create_task(hold())
        await entered.wait()
        with pytest.raises(OperationalError, match=r"pool of 1 to the primary.*acquire_timeout=0\.2"):
            await database.aexecute(Item.update(n=1))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        async with database.readonly():  # streams from both replicas, which nobody gives back
            streams = [database.iterate(Item.select()) for _ in range(2)]
            await streams[0].__anext__()
            # This task waits for nobody: what it holds may be what the other one waits for.
            assert len([row async for row in streams[1]]) == 100
            await streams[0].aclose()
        assert [replica.state for replica in database.replicas] == ["up", "up"]
        await closed(cluster, database)

    async def hold() -> None:
        async with database.atomic():
            entered.set()
            await asyncio.sleep(60)

    entered = asyncio.Event()
    asyncio.run(work())


def test_closing_the_pools_closes_every_connection_and_the_database_can_be_used_again(
    cluster: Any, make: Any
) -> None:
    database = make(probe_interval=0.2)

    async def work() -> None:
        for _ in range(2):
            assert await count(database) == 100
            await database.aexecute(Item.update(n=1).where(Item.n == -1))
            assert any(sessions(cluster))
            await closed(cluster, database)
            assert not [thread for thread in threading.enumerate() if "prober" in thread.name]

    asyncio.run(work())


def test_connections_of_a_task_that_ends_go_back_and_dirty_ones_are_closed(cluster: Any, make: Any) -> None:
    database = make(pool_size=1)

    async def dirty(sql: str) -> None:
        await database.aexecute_sql(sql)

    async def work() -> None:
        await asyncio.create_task(dirty("UPDATE item SET n = 5 WHERE name = 'item 5'"))
        (before,) = cluster.primary.execute(SESSIONS, (cluster.user,))
        await asyncio.create_task(dirty("UPDATE item SET n = 6 WHERE name = 'item 5'"))
        assert cluster.primary.execute(SESSIONS, (cluster.user,)) == [before]
        for sql in ("BEGIN", "SET @mine = 1", "CREATE TEMPORARY TABLE mine (n INT)", "SET autocommit = 0"):
            await asyncio.create_task(dirty(sql))
            async with database.primary():
                found = await database.aexecute_sql("SELECT @@autocommit, @mine, CONNECTION_ID()")
            assert found.fetchone()[:2] == (1, None)
            await database.aclose()
        await closed(cluster, database)

    asyncio.run(work())


# Cancelled


def test_a_cancelled_query_never_returns_a_half_read_connection(cluster: Any, make: Any) -> None:
    database = make(pool_size=1)

    async def work() -> None:
        for sql in (_SLOW, f"{_SLOW} FROM item LIMIT 1", "SELECT * FROM item a, item b, item c"):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(database.aexecute_sql(sql), 0.1)
            for n in range(3):
                assert (await database.aexecute_sql(f"SELECT {n}")).fetchall() == ((n,),)
        async with database.primary():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(database.aexecute_sql(_SLOW), 0.1)
            assert (await database.aexecute_sql("SELECT 7")).fetchall() == ((7,),)
        await closed(cluster, database)

    asyncio.run(work())


def test_a_cancelled_transaction_is_rolled_back_and_stays_cancelled(cluster: Any, make: Any) -> None:
    database = make()

    async def transaction() -> None:
        async with database.atomic():
            await database.aexecute(Item.update(n=-7))
            await database.aexecute_sql("SELECT SLEEP(1) FROM item LIMIT 1 FOR UPDATE")

    async def work() -> None:
        task = asyncio.create_task(transaction())
        slow = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(1) FROM%'"
        await asyncio.to_thread(until, lambda: cluster.primary.execute(slow) == [(1,)])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with database.primary():
            assert await database.count(Item.select().where(Item.n == -7)) == 0
        await closed(cluster, database)

    asyncio.run(work())


def test_tasks_cancelled_at_any_moment_leak_no_place_in_a_pool(cluster: Any, make: Any) -> None:
    database = make(pool_size=2, acquire_timeout=30)

    async def task(n: int) -> None:
        await database.aexecute_sql("SELECT SLEEP(0.01)")
        async with database.atomic():
            await database.aexecute(Item.update(n=n).where(Item.name == f"item {n}"))

    async def work() -> None:
        for turn in range(30):
            tasks = [asyncio.create_task(task(n)) for n in range(12)]
            for _ in range(turn):
                await asyncio.sleep(0.001)
            for one in tasks[::2]:
                one.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [one for one in outcomes if isinstance(one, Exception)]
        await asyncio.gather(*(task(n) for n in range(6)))
        await closed(cluster, database)

    asyncio.run(work())


# Loops


def test_idle_connections_that_were_killed_cost_no_read(cluster: Any, make: Any) -> None:
    database = make(pool_min_size=3)

    async def work() -> None:
        for _ in range(4):
            await asyncio.gather(*(count(database) for _ in range(6)))
            for node in cluster.nodes:
                for (number,) in node.execute(SESSIONS, (cluster.user,)):
                    node.execute("KILL %s", (number,))
            assert await asyncio.gather(*(count(database) for _ in range(6))) == [100] * 6
        assert [replica.state for replica in database.replicas] == ["up", "up"]
        await closed(cluster, database)

    asyncio.run(work())


@pytest.mark.once
def test_what_is_read_while_the_pools_are_closed_leaves_no_connection(cluster: Any, make: Any) -> None:
    database = make(pool_size=1)

    async def read() -> None:
        while True:
            try:
                await count(database)
            except InterfaceError:
                return

    async def work() -> None:
        readers = [asyncio.create_task(read()) for _ in range(3)]
        while database.stats()["replica-1.reads"] < 5:
            await asyncio.sleep(0.001)
        await database.close_pool()
        await asyncio.gather(*readers)
        await asyncio.to_thread(until, lambda: not any(sessions(cluster)))
        assert [replica.state for replica in database.replicas] == ["up", "up"]

    asyncio.run(work())


@pytest.mark.once
def test_a_task_that_lives_long_keeps_no_database(cluster: Any) -> None:
    end_sessions(cluster)

    async def work() -> None:
        nodes = [{"host": node.host, "port": node.port} for node in cluster.replicas]
        parameters = cluster.parameters(cluster.primary)
        database = AsyncReplicatedDatabase(**parameters, replicas=nodes, probe_interval=None)
        for sql in ("SELECT 1", "DO 1"):
            await database.aexecute_sql(sql)
        assert any(sessions(cluster))
        gone = weakref.ref(database)
        del database
        gc.collect()
        assert gone() is None
        await asyncio.to_thread(until, lambda: not any(sessions(cluster)))

    asyncio.run(work())


@pytest.mark.once
def test_a_database_that_is_initialised_again_writes_where_it_leads_now(cluster: Any, make: Any) -> None:
    database = make()
    there = cluster.replicas[0]

    async def port() -> int:
        async with database.primary():
            return int((await database.aexecute_sql("SELECT @@port")).fetchone()[0])

    async def work() -> None:
        assert await asyncio.create_task(port()) == cluster.primary.port
        database.init(database.database, host=there.host, port=there.port, replicas=[])
        assert await asyncio.create_task(port()) == there.port
        await closed(cluster, database)

    asyncio.run(work())
