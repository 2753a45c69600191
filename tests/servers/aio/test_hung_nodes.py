"""A node that hangs costs a task a bounded time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from peewee import OperationalError
from support.clusters.repaired import repaired
from support.databases.async_pools import making
from support.databases.lost import SESSIONS
from support.databases.nodes import nodes_of
from support.waiting import until

from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.aio import transport as streams

make = pytest.fixture(making)


def test_a_primary_that_hangs_costs_a_question_a_bounded_time(server: Any) -> None:
    with repaired(server, 1, []) as cluster:
        database = cluster.database(AsyncReplicatedDatabase, connect_timeout=1, probe_interval=None)

        async def work() -> None:
            assert (await database.aexecute_sql("SELECT 1")).fetchall() == ((1,),)
            await database.aexecute_sql("DO 1")  # reports no position, so that one is owed
            cluster.primary.pause()
            try:
                assert (await database.aexecute_sql("SELECT 2")).fetchall() == ((2,),)
                async with database.readonly(consistency="strong"):
                    with pytest.raises(OperationalError, match=r"the primary \(127"):
                        await database.aexecute_sql("SELECT 3")
            finally:
                cluster.primary.resume()
            await cancel_who_finds_out_whether_it_is_back()
            await database.close_pool()

        async def cancel_who_finds_out_whether_it_is_back() -> None:
            session, breaker = (
                database._parts.consistency.own_session(),
                database._parts.cluster.reader.breaker,
            )
            await database.aexecute_sql("DO 1")
            database._parts.cluster.reader.failed("a test")
            while not breaker.due(time.monotonic()):
                await asyncio.sleep(0.01)
            cluster.primary.pause()
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            loop.call_later(0.3, task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await database.aexecute_sql("SELECT 4")
            cluster.primary.resume()
            while session.owes:  # others ask then
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
        replica = nodes_of(database)[running().index(1)]
        replica.failed("a test")
        assert await asyncio.to_thread(replica.hang_up) == 1
        while not database.stats()["retries"]:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.close_pool()

    asyncio.run(work())
