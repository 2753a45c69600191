"""The pool of the asyncio form, on its own: who gets a connection, and who does not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from peewee import InterfaceError, OperationalError
from playhouse.pool import MaxConnectionsExceeded

from peewee_replicas.aio.pool import Pool


class Fake:
    """As much of a connection as a pool looks at."""

    def __init__(self) -> None:
        self.open, self.dead, self.held = True, False, False
        self.last_used = 0.0
        self.pool: Any = None
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.set_result(None)
        self.socket = SimpleNamespace(lost=lost)

    def dropped(self) -> bool:
        return self.dead

    def close(self) -> None:
        self.open = False


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def opened(pool: Pool) -> Fake:
    pool.reserve()
    conn = Fake()
    pool.opened(conn)
    return conn


def make(size: int = 2, timeout: float = 30.0, recycle: float = -1) -> Pool:
    return Pool("a node", size, timeout, recycle)


def test_the_last_used_connection_is_used_next_and_dead_ones_are_closed() -> None:
    async def work() -> None:
        pool = make(3)
        conns = [opened(pool) for _ in range(3)]
        assert pool.full
        for conn in conns:
            pool.give_back(conn)
        conns[2].dead = True
        assert pool.take() is conns[1]
        assert not conns[2].open
        assert not pool.full
        assert pool.take() is conns[0]
        assert pool.take() is None

    run(work)


def test_unused_connections_are_recycled() -> None:
    async def work() -> None:
        pool = make(recycle=0.0)
        conn = opened(pool)
        pool.give_back(conn)
        conn.last_used -= 1
        assert pool.take() is None
        assert not conn.open

    run(work)


def test_tasks_are_served_in_the_order_in_which_they_wait() -> None:
    async def work() -> None:
        pool = make(1)
        conn = opened(pool)
        served: list[int] = []

        async def wait(number: int) -> None:
            found = await pool.wait(patient=True)
            served.append(number)
            assert pool.take() is None
            pool.give_back(found)

        tasks = [asyncio.create_task(wait(number)) for number in range(5)]
        await asyncio.sleep(0)
        pool.give_back(conn)
        assert pool.take() is None  # it is somebody's already
        await asyncio.gather(*tasks)
        assert served == [0, 1, 2, 3, 4]
        assert pool.take() is conn

    run(work)


def test_a_closed_connection_makes_room_for_a_waiting_task() -> None:
    async def work() -> None:
        pool = make(1)
        conn = opened(pool)
        waiting = asyncio.create_task(pool.wait(patient=True))
        await asyncio.sleep(0)
        pool.discard(conn)
        assert await waiting is None
        with pytest.raises(MaxConnectionsExceeded):
            pool.reserve()  # the place is reserved
        pool.opened(Fake())
        assert pool.full

    run(work)


@pytest.mark.parametrize("closed", [False, True])
def test_a_task_cancelled_while_it_is_served_leaks_nothing(closed: bool) -> None:
    async def work() -> None:
        pool = make(1)
        conn = opened(pool)
        waiting = asyncio.create_task(pool.wait(patient=True))
        await asyncio.sleep(0)
        (pool.discard if closed else pool.give_back)(conn)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.take() is (None if closed else conn)
        if closed:
            opened(pool)
        assert pool.full

    run(work)


def test_a_wait_that_times_out_is_no_failure_of_the_node() -> None:
    async def work() -> None:
        pool = make(1, timeout=0.01)
        opened(pool)
        with pytest.raises(
            OperationalError, match=r"pool of 1 to a node \(acquire_timeout=0\.01\)"
        ) as caught:
            await pool.wait(patient=True)
        assert isinstance(caught.value, MaxConnectionsExceeded)

    run(work)


def test_an_impatient_task_waits_only_for_connections_that_will_come_back() -> None:
    async def work() -> None:
        pool = make(2)
        held, short = opened(pool), opened(pool)
        pool.hold(held, True)
        waiting = asyncio.create_task(pool.wait(patient=False))
        patient = asyncio.create_task(pool.wait(patient=True))
        await asyncio.sleep(0)
        pool.hold(short, True)  # now both are
        with pytest.raises(MaxConnectionsExceeded, match="streaming"):
            await waiting
        with pytest.raises(MaxConnectionsExceeded):
            await pool.wait(patient=False)
        pool.give_back(short)
        assert await patient is short
        assert not short.held

    run(work)


def test_a_closed_pool_gives_out_no_connection() -> None:
    async def work() -> None:
        pool = make(2)
        idle, used = opened(pool), opened(pool)
        pool.give_back(idle)
        waiting = [asyncio.create_task(pool.wait(patient=True)) for _ in range(1)]
        await asyncio.sleep(0)
        pool.close()
        assert not idle.open
        for refused in (*waiting, pool.wait(patient=True)):
            with pytest.raises(InterfaceError, match="shutting down"):
                await refused
        with pytest.raises(InterfaceError):
            pool.reserve()
        asyncio.get_running_loop().call_soon(pool.give_back, used)
        await pool.closed(asyncio.get_running_loop().time() + 30)
        assert not used.open
        stuck = make(1)
        left = opened(stuck)
        stuck.close()
        await stuck.closed(asyncio.get_running_loop().time())
        assert not left.open

    run(work)
