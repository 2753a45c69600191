"""Scopes and places hold for all that is awaited in them, and end with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.databases.async_pools import closed, count, making, sessions
from support.databases.models import Item, Note
from support.waiting import until

make = pytest.fixture(making)


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
