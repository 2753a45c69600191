"""Event loops that come and go: each has pools of its own, and nothing of them stays."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from support.databases.async_pools import count, making, sessions
from support.databases.models import Item
from support.waiting import until

from peewee_replicas.aio import transport as streams

pytestmark = pytest.mark.core

make = pytest.fixture(making)


def test_loops_that_come_and_go_have_pools_of_their_own(cluster: Any, make: Any) -> None:
    database = make(consistency="session")

    async def work() -> int:
        await database.aexecute(Item.update(n=Item.n + 1))
        return await count(database)

    for _ in range(3):
        assert asyncio.run(work()) == 100  # leaves its connections to the end of its loop
        gc.collect()
        until(lambda: not any(sessions(cluster)))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(work()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [100] * 3
    gc.collect()
    until(lambda: not any(sessions(cluster)))


@pytest.mark.once
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


def _states(database: Any) -> list[Any]:
    return list(database._tasks._states.values())


@pytest.mark.once
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
