"""Subclasses of the asyncio form that do more than retry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from support.databases.models import Item
from support.databases.retrying import mixed

from peewee_replicas.aio import AsyncReplicatedDatabase

ZONE = "SET SESSION time_zone = '+05:00'"
HOUR = "SELECT HOUR(FROM_UNIXTIME(0))"


class Zoned:
    """Sets the time zone whenever it connects."""

    async def aconnect(self: Any) -> Any:
        conn = await super().aconnect()  # type: ignore[misc]  # a mixin
        await conn.execute(ZONE)
        return conn


class ZonedInGreenlet:
    def connect(self: Any, *args: Any) -> Any:
        result = super().connect(*args)  # type: ignore[misc]  # a mixin
        self.execute_sql(ZONE)
        return result


@pytest.fixture
def made(db: Any, cluster: Any) -> Iterator[Callable[..., Any]]:
    """Makes a database of a subclass, to which `Item` is bound."""

    def make(mixin: type, **options: Any) -> Any:
        database = cluster.database(mixed(mixin, AsyncReplicatedDatabase), **options)
        database.bind([Item])
        return database

    yield make
    db.bind([Item])


def run(database: Any, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        try:
            await work()
        finally:
            await database.close_pool()

    asyncio.run(main())


@pytest.mark.parametrize("mixin", [Zoned, ZonedInGreenlet])
def test_what_a_subclass_sets_while_it_connects_stays_for_the_task(made: Any, mixin: type) -> None:
    database = made(mixin)

    async def hours() -> list[int]:
        return [(await database.aexecute_sql(HOUR, ())).fetchone()[0] for _ in range(3)]

    async def work() -> None:
        assert await hours() == [5, 5, 5]
        await database.run(Item.create, name="written")
        assert await hours() == [5, 5, 5]
        assert await asyncio.create_task(hours()) == [5, 5, 5]

    run(database, work)
