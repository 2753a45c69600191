"""A scope with a bound on lag, begun before anything is known of the nodes, keeps no event loop waiting.

The ways to enter a scope were listed from the callers of `Scope`'s ``begin``: ``with``, ``async with``, a
decorated coroutine, a decorated generator, and inside of ``db.run()``, where a greenlet can wait.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from support.databases.async_pools import closed, making

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.concurrency import Clock

make = pytest.fixture(making)

BOUND = 30.0
READ = "SELECT 1"
Work = Callable[[], Awaitable[Any]]


async def by_with(database: Any, work: Work) -> None:
    with database.readonly(max_lag=BOUND):
        await work()


async def by_async_with(database: Any, work: Work) -> None:
    async with database.readonly(max_lag=BOUND):
        await work()


async def by_decorator(database: Any, work: Work) -> None:
    await database.readonly(max_lag=BOUND)(work)()


async def by_generator(database: Any, work: Work) -> None:
    @database.readonly(max_lag=BOUND)
    async def generate() -> AsyncIterator[None]:
        await work()
        yield

    async for _ in generate():
        pass


WAYS = [by_with, by_async_with, by_decorator, by_generator]


@pytest.fixture
def silent() -> Iterator[dict[str, Any]]:
    """A node that takes connections and says nothing, so that the first look at all nodes takes long."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"host": "127.0.0.1", "port": server.getsockname()[1], "name": "silent"}


async def longest_pause(work: Awaitable[Any]) -> float:
    """The longest time for which other tasks did not run meanwhile, in seconds."""
    pauses: list[float] = []

    async def tick() -> None:
        before = Clock.monotonic()
        while True:
            await asyncio.sleep(0)
            now = Clock.monotonic()
            pauses.append(now - before)
            before = now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)  # it begins
    try:
        await work
        await asyncio.sleep(0)
    finally:
        ticking.cancel()
    return max(pauses)


@pytest.mark.parametrize("way", WAYS)
def test_other_tasks_run_while_lag_is_not_known(cluster: Any, make: Any, silent: Any, way: Any) -> None:
    parameters = [{"port": node.port, "name": node.name} for node in cluster.replicas]
    database = make(probe_interval=5.0, replicas=[*parameters, silent])
    events: list[Any] = []
    database.route_hooks.append(events.append)

    async def work() -> None:
        prober = database._parts.cluster.prober
        asked = asyncio.Event()

        async def read() -> None:
            asked.set()
            assert not prober.looked.is_set()
            await database.aexecute_sql(READ)

        assert await longest_pause(way(database, read)) < 0.25
        assert asked.is_set()
        assert events[0].node in ("replica-1", "replica-2")
        await closed(cluster, database)

    asyncio.run(work())


@pytest.mark.parametrize("way", WAYS)
def test_the_first_read_is_served_by_a_replica(cluster: Any, make: Any, way: Any) -> None:
    database = make(probe_interval=5.0)
    events: list[Any] = []
    database.route_hooks.append(events.append)

    async def work() -> None:
        await way(database, lambda: database.aexecute_sql(READ))
        await way(database, lambda: database.run(lambda: database.cursor().execute(READ)))
        assert [event.role for event in events] == ["replica"]
        assert set(handed_out(database)) <= {"replica-1", "replica-2"}
        assert handed_out(database)
        await database.aclose()
        await closed(cluster, database)

    asyncio.run(work())


def handed_out(database: Any) -> list[str]:
    """The nodes to which this task was handed connections."""
    return [lease.lender.node.name for lease in database._members.plain.state.leases]


def test_in_a_greenlet_the_entry_waits(cluster: Any, make: Any) -> None:
    database = make(probe_interval=5.0)

    def enter() -> str:
        with database.readonly(max_lag=BOUND):
            return str(database.explain_route(READ).role)

    async def work() -> None:
        assert await database.run(enter) == "replica"
        await closed(cluster, database)

    asyncio.run(work())


def test_all_reads_together_wait_no_longer_than_one(cluster: Any, make: Any, silent: Any) -> None:
    database = make(probe_interval=60.0, replicas=[silent], fallback="primary")

    async def read() -> None:
        with database.readonly(max_lag=BOUND):
            for _ in range(5):
                await database.aexecute_sql(READ)

    async def work() -> None:
        started = Clock.monotonic()
        await asyncio.gather(*(read() for _ in range(5)))
        assert 0.4 < Clock.monotonic() - started < 2.0
        await closed(cluster, database)

    asyncio.run(work())


def test_the_synchronous_form_waits_at_the_entry(cluster: Any) -> None:
    database = cluster.database(ReplicatedDatabase, probe_interval=5.0)
    with database.readonly(max_lag=BOUND):
        assert database.explain_route(READ).role == "replica"
    database.close()
