"""What attacks on the asyncio form have found."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from typing import Any

import peewee
import pytest
from peewee import InterfaceError, OperationalError
from support.clusters import own_cluster
from support.databases.async_pools import SESSIONS, closed, count, end_sessions, making, sessions
from support.databases.models import Item, Note
from support.waiting import until

from peewee_replicas import ReplicatedDatabaseProxy
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.aio import transport as streams

make = pytest.fixture(making)

pytestmark = pytest.mark.once


# Scopes and places


def test_a_generator_that_fails_when_closed_ends_its_scope(cluster: Any, make: Any) -> None:
    database = make()

    @database.readonly(snapshot=True)
    async def rows() -> Any:
        try:
            yield await count(database)
        finally:
            raise KeyError("closing")

    async def work() -> None:
        generator = rows()
        await asyncio.gather(*(count(database) for _ in range(4)))
        before = sessions(cluster)
        await anext(generator)
        assert sum(sessions(cluster)) == sum(before) + 1
        with pytest.raises(KeyError):
            await generator.aclose()
        await asyncio.to_thread(until, lambda: sessions(cluster) == before)
        await closed(cluster, database)

    asyncio.run(work())


def test_on_primary_is_a_place_for_all_that_is_awaited(cluster: Any, make: Any) -> None:
    database = make()
    seen: list[str] = []
    database.route_hooks.append(lambda event: seen.append(event.role))

    async def work() -> None:
        query = Item.select().limit(1)
        await database.on_primary.aprefetch(query, (Note.select(), Item), Note)
        await database.on_primary.aexecute(query)
        assert len([row async for row in database.on_primary.iterate(query.clone())]) == 1
        assert set(seen) == {"primary"}
        await database.list(query.clone())  # it was there for once
        assert seen.pop() == "replica"
        with Item.bind_ctx(database.on_primary):
            await database.aexecute(Item.select())
            assert len([row async for row in database.iterate(Item.select())]) == 100
        assert set(seen) == {"primary"}
        await closed(cluster, database)

    asyncio.run(work())


# Transactions


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


# Loops


def test_loops_that_have_ended_are_forgotten(cluster: Any, make: Any) -> None:
    database = make()
    loops: list[Any] = []

    async def work() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await count(database)
        await database.aexecute(Item.update(n=1).where(Item.n == -1))

    for _ in range(12):
        asyncio.run(work())
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 5  # each pool may know the last
    assert sum(loop.is_closed() for loop in streams._open) <= 1


def test_closing_the_pools_of_one_loop_leaves_another_loop_alone(cluster: Any, make: Any) -> None:
    database = make(acquire_timeout=20)
    closing, done = threading.Event(), threading.Event()

    async def first() -> None:
        async def hold() -> None:
            async with database.atomic():
                while not done.is_set():
                    await asyncio.sleep(0.01)

        holder = asyncio.create_task(hold())
        while database.stats()["primary"] == 0 and not any(state.conn for state in _states(database)):
            await asyncio.sleep(0.01)
        closer = asyncio.create_task(database.close_pool())
        await asyncio.sleep(0.05)
        closing.set()
        await asyncio.gather(holder, closer)

    async def second() -> int:
        await asyncio.to_thread(closing.wait, 20)
        try:
            return await database.aexecute(Item.update(n=1).where(Item.n == -1)) + await count(database)
        finally:
            done.set()

    thread = threading.Thread(target=lambda: asyncio.run(first()))
    thread.start()
    assert asyncio.run(second()) == 100
    thread.join()


def _states(database: Any) -> list[Any]:
    return list(database._tasks._states.values())


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


# Nodes that hang


def test_a_primary_that_hangs_costs_a_question_a_bounded_time(server: Any) -> None:
    with own_cluster(server, replicas=1) as cluster:
        database = cluster.database(AsyncReplicatedDatabase, connect_timeout=1, probe_interval=None)

        async def work() -> None:
            assert (await database.aexecute_sql("SELECT 1")).fetchall() == ((1,),)
            await database.aexecute_sql("DO 1")  # reports no position, so that one is owed
            cluster.primary.pause()
            try:
                assert (await database.aexecute_sql("SELECT 2")).fetchall() == ((2,),)
                async with database.readonly(consistency="strong"):
                    with pytest.raises(OperationalError, match="the primary, for reading"):
                        await database.aexecute_sql("SELECT 3")
            finally:
                cluster.primary.resume()
            await cancel_who_finds_out_whether_it_is_back()
            await database.close_pool()

        async def cancel_who_finds_out_whether_it_is_back() -> None:
            session, breaker = (
                database._replication.consistency.own_session(),
                database._replication.reader.breaker,
            )
            await database.aexecute_sql("DO 1")
            database._replication.reader.failed("a test")
            while not breaker.due(time.monotonic()):
                await asyncio.sleep(0.01)
            cluster.primary.pause()
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            loop.call_later(0.3, task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await database.aexecute_sql("SELECT 4")
            cluster.primary.resume()
            while session.owed:  # others ask then
                await database.aexecute_sql("SELECT 5")
                await asyncio.sleep(0.05)

        async def bounded() -> None:
            await asyncio.wait_for(work(), 60)

        asyncio.run(bounded())


def test_a_connection_is_ended_from_another_thread_without_its_loops_sockets(
    cluster: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make()

    class Refusing:
        """The socket of a loop that lets nobody shut it down, as uvloop's."""

        def __init__(self, sock: Any) -> None:
            self._sock = sock

        def __getattr__(self, name: str) -> Any:
            if name == "shutdown":
                raise TypeError("transport sockets do not support shutdown()")
            return getattr(self._sock, name)

    def opened(stream: Any, reader: Any, writer: Any) -> None:
        begin(stream, reader, writer)
        stream._socket = Refusing(stream._socket)

    begin = streams.Stream.__init__
    monkeypatch.setattr(streams.Stream, "__init__", opened)

    async def work() -> None:
        task = asyncio.create_task(database.aexecute_sql("SELECT SLEEP(3)"))
        slow = f"{SESSIONS} AND info LIKE 'SELECT SLEEP(3)%%'"

        def running() -> list[int]:
            return [len(node.execute(slow, (cluster.user,))) for node in cluster.replicas]

        await asyncio.to_thread(until, lambda: any(running()))
        replica = database.replicas[running().index(1)]
        replica.failed("a test")
        assert await asyncio.to_thread(replica.hang_up) == 1
        while not database.stats()["retries"]:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.close_pool()

    asyncio.run(work())
