"""What a statement costs under asyncio, counted: no task, no lock, and few questions for the running task."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playhouse.pwasyncio import AsyncMySQLDatabase
from support.databases.async_pools import making
from support.databases.models import Item

pytestmark = pytest.mark.once

make = pytest.fixture(making)

_STATEMENTS = 20
Work = Callable[[Any], Awaitable[None]]


async def read(database: Any) -> None:
    for number in range(_STATEMENTS):
        assert await database.count(Item.select().where(Item.n == number)) == 1


async def read_in_readonly(database: Any) -> None:
    async with database.readonly():
        await read(database)


async def write(database: Any) -> None:
    for number in range(_STATEMENTS):
        query = Item.update(name=f"written {next(_names)}").where(Item.n == number)
        assert await database.aexecute(query) == 1


async def stream(database: Any) -> None:
    rows = [row async for row in database.iterate(Item.select(), buffer_size=5)]  # 100 rows: twenty batches
    assert len(rows) == 100


_names = iter(range(1_000_000))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often asyncio's locks were taken, and the running task was asked for."""
    found: Counter[str] = Counter()

    def count(owner: Any, name: str, title: str) -> None:
        genuine = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            found[title] += 1
            return genuine(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    for lock in (asyncio.Lock, asyncio.Semaphore, asyncio.Condition):
        count(lock, "acquire" if lock is not asyncio.Condition else "wait", "locks")
    count(asyncio, "current_task", "asked")
    return found


def _count(database: Any, work: Work, counted: Counter[str]) -> Counter[str]:
    """Do the work in one task whose connections are open; return what was counted meanwhile."""

    async def main() -> Counter[str]:
        for _ in range(2):  # the second goes to the other replica, so that all connections are open then
            await work(database)
        loop = asyncio.get_running_loop()
        tasks: Counter[str] = Counter()

        def new_task(loop: Any, coroutine: Any, **options: Any) -> Any:
            tasks["tasks"] += 1
            return asyncio.Task(coroutine, loop=loop, **options)

        loop.set_task_factory(new_task)
        counted.clear()
        await work(database)
        found = counted + tasks
        loop.set_task_factory(None)
        await database.close_pool()
        return found

    return asyncio.run(main())


@pytest.mark.parametrize("work", [read, read_in_readonly, write, stream])
def test_neither_statements_nor_streams_nor_pools_take_a_lock_or_a_task(
    cluster: Any, make: Any, counted: Counter[str], work: Work
) -> None:
    found = _count(make(consistency="session"), work, counted)
    assert (found["locks"], found["tasks"]) == (0, 0)


def test_peewees_own_form_takes_a_lock_for_each_statement(
    cluster: Any, make: Any, counted: Counter[str]
) -> None:
    """Which shows that the test above would notice one."""
    options = cluster.parameters("primary")
    database = AsyncMySQLDatabase(options.pop("database"), **options)
    with database.bind_ctx([Item]):
        assert _count(database, read, counted)["locks"] >= _STATEMENTS


@pytest.mark.parametrize(("work", "most"), [(read, 5), (read_in_readonly, 5), (write, 3)])
def test_the_running_task_is_asked_for_few_times_a_statement(
    cluster: Any, make: Any, counted: Counter[str], work: Work, most: int
) -> None:
    asked = _count(make(consistency="session"), work, counted)["asked"]
    assert asked <= most * _STATEMENTS + 5, "look up what is known already only once, and pass it on"
