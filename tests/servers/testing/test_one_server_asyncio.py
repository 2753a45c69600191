"""The testing mode around the asyncio database: as around the synchronous one, by ``async with``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from peewee import IntegrityError
from support.databases.models import Item, Note

from peewee_replicas import ReadOnlyViolation
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.testing import LocalCluster, one_server


@pytest.fixture
def alone(cluster: LocalCluster) -> Any:
    """A database whose replicas do not exist, over the primary of the cluster."""
    primary = cluster.parameters(cluster.primary)
    return AsyncReplicatedDatabase(
        primary.pop("database"),
        replicas=[{"host": "replica-1.invalid", "name": "one"}, {"host": "replica-2.invalid", "name": "two"}],
        **primary,
    )


def run(database: Any, program: Callable[[], Awaitable[None]]) -> None:
    """Run a program in an event loop, with an empty table of `Item`."""

    async def work() -> None:
        with database.bind_ctx([Item, Note]):
            await database.adrop_tables([Note, Item], safe=True)  # another test may have made both
            await database.acreate_tables([Item])
            await database.aclose()
            await program()
            await database.close_pool()

    asyncio.run(work())


async def rows(database: Any) -> int:
    return int(await database.count(Item.select()))


async def create(database: Any, name: str) -> None:
    await database.aexecute(Item.insert(name=name))


@pytest.mark.parametrize("transaction", [False, True])
def test_reads_are_routed_as_in_production_and_see_what_the_test_wrote(alone: Any, transaction: bool) -> None:
    events: list[Any] = []
    alone.route_hooks.append(events.append)

    async def program() -> None:
        events.clear()
        async with one_server(alone, transaction=transaction):
            await create(alone, "a")
            assert await rows(alone) == 1
            assert [row.name for row in await alone.list(Item.select())] == ["a"]
            assert [row.name async for row in alone.iterate(Item.select())] == ["a"]
            assert alone.explain_route("SELECT 1").role == "replica"
            with alone.readonly(), pytest.raises(ReadOnlyViolation, match="write"):
                await create(alone, "b")
        routes = [(event.kind, event.node) for event in events if not event.error]
        assert routes == [("write", "primary"), ("read", "one"), ("read", "two"), ("read", "one")]

    run(alone, program)


def test_the_transaction_around_a_test_is_rolled_back(alone: Any) -> None:
    async def program() -> None:
        async with one_server(alone, transaction=True):
            async with alone.atomic():
                await create(alone, "kept")
                async with alone.atomic() as nested:
                    await create(alone, "never")
                    await nested.arollback()
            with pytest.raises(ZeroDivisionError):
                async with alone.atomic():
                    await create(alone, "never")
                    1 / 0  # noqa: B018  # the failure
            assert await rows(alone) == 1
            with pytest.raises(IntegrityError):
                await alone.aexecute_sql("INSERT INTO item (id, name, n) VALUES (1, 'x', 1), (1, 'y', 1)")
            assert await rows(alone) == 1
        with alone.primary():
            assert await rows(alone) == 0
        assert not alone.in_transaction()

    run(alone, program)


def test_the_program_may_open_and_close_as_it_likes(alone: Any) -> None:
    async def program() -> None:
        async with one_server(alone, transaction=True):
            for name in ("a", "b"):
                async with alone, alone.atomic():
                    await create(alone, name)
                await alone.aclose()
            assert await rows(alone) == 2
        with alone.primary():
            assert await rows(alone) == 0

    run(alone, program)


def test_it_ends_also_when_the_test_fails(alone: Any) -> None:
    async def program() -> None:
        with pytest.raises(ZeroDivisionError):
            async with one_server(alone, transaction=True):
                await create(alone, "c")
                1 / 0  # noqa: B018  # the failure
        assert not alone.in_transaction()
        with alone.primary():
            assert await rows(alone) == 0

    run(alone, program)
