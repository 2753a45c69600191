"""The asyncio form calls methods that were replaced in an object or a class as peewee does, at its places.

The members of the kind are those of `tests/servers/databases/test_replaced_methods.py`, with the awaited
methods of this form: ``aexecute_sql()``, which every statement passes, those that take a query, and those
that open and close.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from peewee import OperationalError
from playhouse.pwasyncio import AsyncModel, AsyncMySQLDatabase
from support.databases.async_pools import run
from support.databases.models import Item, Note

from peewee_replicas.aio import AsyncReplicatedDatabase

PRIMARY, REPORT, BOTH = {"primary"}, {"replica-2"}, {"replica-1", "replica-2"}
COUNT = "SELECT COUNT(*) FROM item"


@pytest.fixture
def database(db: Any, cluster: Any) -> Iterator[Any]:
    replicas = [
        {"name": node.name, "host": node.host, "port": node.port, "tags": {"use": use}}
        for node, use in zip(cluster.replicas, ("web", "report"), strict=True)
    ]
    made = cluster.database(AsyncReplicatedDatabase, replicas=replicas, consistency="eventual")
    vars(made)["served"] = []
    made.route_hooks.append(lambda event: made.served.append(event.node))
    made.bind([Item, Note])
    yield made
    db.bind([Item, Note])


def retrying(method: Any) -> Any:
    async def call(*args: Any) -> Any:
        try:
            return await method(*args)
        except OperationalError:
            return await method(*args)

    return call


def calling(method: Any) -> Any:
    return lambda *args: method(*args)


def in_a_task(method: Any) -> Any:
    return lambda *args: asyncio.ensure_future(method(*args))


def limiting(method: Any) -> Any:
    async def call(*args: Any) -> Any:
        return await asyncio.wait_for(method(*args), 30)

    return call


def mocking(method: Any) -> Any:
    return mock.AsyncMock(wraps=method)


AROUND = pytest.mark.parametrize("around", [retrying, calling, in_a_task, limiting, mocking])


def bound_to(place: Any) -> Any:
    meta = type("Meta", (), {"database": place, "table_name": Item._meta.table_name})
    return type("Placed", (AsyncModel,), {"Meta": meta})


async def nodes(database: Any, work: Callable[[], Any], times: int = 4) -> set[str]:
    database.served.clear()
    for _ in range(times):
        await work()
    return set(database.served)


async def where(database: Any, place: Any) -> list[set[str]]:
    """The nodes of each way to read through a place."""
    model = bound_to(place)

    async def stream() -> None:
        async for _ in place.iterate(Item.select()):
            pass

    return [
        await nodes(database, lambda: database.list(model.select())),
        await nodes(database, lambda: model.aget_or_none(id=1)),
        await nodes(database, lambda: database.run(lambda: list(model.select()))),
        await nodes(database, lambda: place.list(Item.select())),
        await nodes(database, lambda: place.aexecute(Item.select())),
        await nodes(database, lambda: place.scalar(Item.select())),
        await nodes(database, lambda: place.aprefetch(Item.select(), Note)),
        await nodes(database, lambda: place.aexecute_sql(COUNT)),
        await nodes(database, stream),
    ]


async def check_places(database: Any) -> None:
    for place, served in ((database.on_primary, PRIMARY), (database.on_replicas(use="report"), REPORT)):
        assert await where(database, place) == [served] * 9
    assert await nodes(database, lambda: database.list(Item.select())) == BOTH
    assert await nodes(database, lambda: database.aexecute_sql(COUNT)) == BOTH


@AROUND
@pytest.mark.core
def test_a_wrapper_of_the_objects_aexecute_sql_leaves_each_place_its_nodes(
    database: Any, around: Any
) -> None:
    async def work() -> None:
        database.aexecute_sql = around(database.aexecute_sql)
        await check_places(database)

    run(database, work)


@pytest.mark.parametrize("name", ["aexecute", "list", "scalar", "aprefetch"])
@AROUND
def test_so_does_a_wrapper_of_what_takes_a_query(database: Any, name: str, around: Any) -> None:
    async def work() -> None:
        setattr(database, name, around(getattr(database, name)))
        await check_places(database)

    run(database, work)


@pytest.mark.parametrize("name", ["execute_sql", "execute", "iterate"])
def test_so_does_a_wrapper_of_what_is_called_in_greenlets_or_streams(database: Any, name: str) -> None:
    async def work() -> None:
        setattr(database, name, mock.Mock(wraps=getattr(database, name)))
        await check_places(database)

    run(database, work)


def test_a_function_runs_at_the_places_of_its_own_models(database: Any) -> None:
    async def work() -> None:
        database.run = calling(database.run)
        run_there = database.on_primary.run
        assert await nodes(database, lambda: run_there(lambda: list(Item.select()))) == BOTH
        assert await nodes(database, lambda: run_there(database.execute_sql, COUNT)) == BOTH

    run(database, work)


def test_what_a_wrapper_asks_through_a_model_of_the_database_gets_no_place(database: Any) -> None:
    asked: list[str] = []
    genuine, depth = database.aexecute_sql, 0

    async def asking(sql: str, params: Any = None) -> Any:
        nonlocal depth
        depth += 1
        try:
            if depth == 1:
                await database.list(Item.select())
                asked.append(database.served[-1])
            return await genuine(sql, params)
        finally:
            depth -= 1

    async def work() -> None:
        database.aexecute_sql = asking
        for place, served in ((database.on_primary, PRIMARY), (database.on_replicas(use="report"), REPORT)):
            asked.clear()
            model = bound_to(place)
            await nodes(database, lambda model=model: database.list(model.select()))
            assert set(database.served[1::2]) == served
            assert set(asked) == BOTH

    run(database, work)


def test_a_place_is_in_force_for_its_own_task_only(database: Any) -> None:
    genuine = database.aexecute_sql

    async def work() -> None:
        gone_on = asyncio.Event()

        async def waiting(sql: str, params: Any = None) -> Any:
            if "WAIT" in sql:
                await gone_on.wait()
            return await genuine(sql, params)

        database.aexecute_sql = waiting
        other = asyncio.ensure_future(database.on_primary.aexecute_sql(f"/* WAIT */ {COUNT}"))
        await asyncio.sleep(0)
        assert await nodes(database, lambda: database.aexecute_sql(COUNT)) == BOTH
        database.served.clear()
        gone_on.set()
        await other
        assert database.served == ["primary"]

    run(database, work)


@pytest.mark.parametrize("tags", [{}, {"use": "report"}])
def test_what_is_put_into_a_place_gets_its_statements_and_no_others(
    database: Any, tags: dict[str, str]
) -> None:
    async def work() -> None:
        place = database.on_replicas(**tags) if tags else database.on_primary
        model, seen = bound_to(place), []
        genuine = place.aexecute_sql

        async def traced(sql: str, params: Any = None) -> Any:
            seen.append(sql)
            return await genuine(sql, params)

        place.aexecute_sql = traced
        assert await nodes(database, lambda: database.list(Item.select())) == BOTH
        assert seen == []
        served = REPORT if tags else PRIMARY
        assert await nodes(database, lambda: database.list(model.select())) == served
        assert await nodes(database, lambda: place.aexecute_sql(COUNT)) == served
        assert len(seen) == 8

    run(database, work)


@pytest.mark.parametrize("name", ["aexecute_sql", "aexecute", "aconnect", "aclose", "execute"])
@pytest.mark.parametrize("owner", ["class", "object"])
def test_a_method_replaced_later_is_called_as_often_as_with_peewees_class(
    database: Any, cluster: Any, name: str, owner: str
) -> None:
    parameters = cluster.parameters(cluster.primary)
    peewees = type("Own", (AsyncMySQLDatabase,), {})(parameters.pop("database"), **parameters)
    ours = cluster.database(type("Own", (AsyncReplicatedDatabase,), {}), consistency="eventual")
    calls = []
    for one in (peewees, ours):
        place = type(one) if owner == "class" else one
        genuine, seen = getattr(place, name), []

        def traced(*args: Any, genuine: Any = genuine, seen: Any = seen, **kwargs: Any) -> Any:
            seen.append(args)
            return genuine(*args, **kwargs)

        async def work(one: Any = one, place: Any = place, traced: Any = traced) -> None:
            setattr(place, name, traced)
            await one.aexecute(Item.select())
            await one.run(lambda: list(Item.select()))
            await one.aclose()
            await one.run(lambda: list(Item.select()))
            await one.run(one.close)

        with one.bind_ctx([Item]):
            run(one, work)
        calls.append(len(seen))
    if name == "aconnect":  # with peewee, each statement calls it
        assert calls[1]
    else:
        assert calls[1] == calls[0]
