"""Subclasses of the asyncio form that do more than retry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from peewee import DataError, OperationalError
from playhouse.pwasyncio import AsyncMySQLDatabase, await_
from support.databases.async_pools import run
from support.databases.lost import item_names
from support.databases.models import Item
from support.databases.retrying import mixed
from support.proxies.saboteur import Saboteur

from peewee_replicas import OutcomeUnknown
from peewee_replicas.aio import AsyncReplicatedDatabase

ZONE = "SET SESSION time_zone = '+05:00'"
HOUR = "SELECT HOUR(FROM_UNIXTIME(0))"
SLOW_WRITE = "INSERT INTO item (name, n) SELECT 'audit', SLEEP(0.5)"


class Plain:
    """Changes nothing."""


class Zoned:
    """Sets the time zone whenever it connects."""

    async def aconnect(self: Any) -> Any:
        conn = await super().aconnect()  # type: ignore[misc]  # a mixin
        await conn.execute(ZONE)
        return conn


class CountingDepth(Zoned):
    depth = deepest = 0

    async def aconnect(self: Any) -> Any:
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        try:
            return await super().aconnect()
        finally:
            self.depth -= 1


class ZonedInGreenlet:
    def connect(self: Any, *args: Any) -> Any:
        result = super().connect(*args)  # type: ignore[misc]  # a mixin
        self.execute_sql(ZONE)
        return result


class Asking:
    """Asks the server something whenever it connects, and does not read the answer."""

    async def aconnect(self: Any) -> Any:
        conn = await super().aconnect()  # type: ignore[misc]  # a mixin
        await conn.execute("SELECT 1")
        return conn


class Initializing:
    """Sends its settings to each new connection through its own method."""

    seen: list[str]

    def _initialize_connection(self: Any, conn: Any) -> None:
        super()._initialize_connection(conn)  # type: ignore[misc]  # a mixin
        await_(self.aexecute_sql(ZONE))

    async def aexecute_sql(self: Any, sql: str, params: Any = None) -> Any:
        self.seen.append(sql)
        return await super().aexecute_sql(sql, params)  # type: ignore[misc]  # a mixin


class LimitedConnecting:
    """Limits the time for connecting; before Python 3.12, that is a task of its own."""

    async def aconnect(self: Any) -> Any:
        return await asyncio.wait_for(asyncio.ensure_future(super().aconnect()), 20)  # type: ignore[misc]


class LimitedStatement:
    """Limits the time of each attempt; before Python 3.12, that is a task of its own."""

    seconds = 20.0

    async def aexecute_sql(self: Any, sql: str, params: Any = None) -> Any:
        for left in (2, 1, 0):
            attempt = asyncio.ensure_future(super().aexecute_sql(sql, params))  # type: ignore[misc]
            try:
                return await asyncio.wait_for(attempt, self.seconds)
            except (OperationalError, asyncio.TimeoutError):
                if not left:
                    raise
        raise AssertionError("not reached")


class Auditing:
    """Writes beside each read, in a task that nobody waits for, and tries that again."""

    written: Any

    async def aexecute_sql(self: Any, sql: str, params: Any = None) -> Any:
        if sql.startswith("SELECT"):
            self.written = asyncio.ensure_future(self.aexecute_sql(SLOW_WRITE, ()))
            await asyncio.sleep(0.1)
        try:
            return await super().aexecute_sql(sql, params)  # type: ignore[misc]  # a mixin
        except OperationalError:
            return await super().aexecute_sql(sql, params)  # type: ignore[misc]  # a mixin


@pytest.fixture
def made(db: Any, cluster: Any) -> Iterator[Callable[..., Any]]:
    """Makes a database of a subclass, to which `Item` is bound."""

    def make(mixin: type, **options: Any) -> Any:
        database = cluster.database(mixed(mixin, AsyncReplicatedDatabase), **options)
        database.bind([Item])
        return database

    yield make
    db.bind([Item])


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


def test_what_a_subclass_sends_while_it_connects_may_call_it_once_more(made: Any) -> None:
    database = made(CountingDepth)

    async def work() -> None:
        await database.aexecute_sql(HOUR, ())
        assert database.deepest == 2
        await database.run(Item.create, name="written")
        assert database.deepest == 2

    run(database, work)


def test_a_subclass_may_query_while_a_stream_connects(made: Any) -> None:
    database = made(Asking)

    async def work() -> None:
        await database.run(Item.create, name="first")
        for query in (Item.select(), Item.select().for_update()):
            await database.aclose()
            assert [row.name async for row in database.iterate(query)] == ["first"]
            assert await database.aexecute(Item.update(n=Item.n + 1)) == 1

    run(database, work)


def test_a_subclass_may_await_its_own_method_for_each_new_connection(made: Any) -> None:
    database = made(Initializing, consistency="eventual")
    database.seen = []

    async def work() -> None:
        for _ in range(2):
            assert (await database.aexecute_sql(HOUR, ())).fetchone() == (5,)
        await database.run(Item.create, name="written")
        assert (await database.on_primary.aexecute_sql(HOUR, ())).fetchone() == (5,)

    run(database, work)
    assert database.seen.count(ZONE) == 3


def test_connecting_may_happen_in_another_task(made: Any, cluster: Any) -> None:
    database = made(LimitedConnecting)

    async def work() -> None:
        await database.run(Item.create, name="first")
        await database.aclose()
        async with database.atomic():
            await database.run(Item.create, name="second")
        await database.aclose()
        assert await database.count(Item.select()) == 2

    run(database, work)
    assert item_names(cluster) == ["first", "second"]


def test_a_write_that_may_have_happened_is_not_repeated_after_an_attempt_in_another_task(
    made: Any, cluster: Any
) -> None:
    with Saboteur(cluster.primary.port) as saboteur:
        database = made(LimitedStatement, port=saboteur.port)

        async def work() -> None:
            await database.run(Item.create, name="first")
            saboteur.cut("INSERT", "after")
            with pytest.raises(OutcomeUnknown):
                await database.run(Item.create, name="once")
            type(database).seconds = 0.5
            with pytest.raises(OutcomeUnknown):
                await database.aexecute_sql("INSERT INTO item (name, n) SELECT 'late', SLEEP(1.5)", ())
            type(database).seconds = 20
            saboteur.cut("INSERT", "after")
            with pytest.raises(OutcomeUnknown):  # what was remembered for the other calls is forgotten
                await database.run(Item.create, name="once")
            await database.run(Item.create, name="once")

        run(database, work)
    assert item_names(cluster).count("once") == 3
    assert item_names(cluster).count("late") <= 1


def test_a_write_in_a_task_that_a_call_has_left_behind_is_not_repeated(made: Any, cluster: Any) -> None:
    with Saboteur(cluster.primary.port) as saboteur:
        database = made(Auditing, port=saboteur.port, consistency="eventual")

        async def work() -> None:
            saboteur.cut("INSERT", "after")
            await database.aexecute_sql(HOUR, ())
            assert not database.written.done()
            with pytest.raises(OutcomeUnknown):
                await database.written

        run(database, work)
    assert item_names(cluster) == ["audit"]


@pytest.mark.parametrize("where", ["object", "class", "ours"])
def test_what_a_test_puts_in_the_place_of_the_method_gets_what_it_gets_from_peewee(
    made: Any, cluster: Any, where: str
) -> None:
    parameters = cluster.parameters(cluster.primary)
    peewees = mixed(Plain, AsyncMySQLDatabase)(parameters.pop("database"), **parameters)
    seen = []
    for database, base in ((peewees, AsyncMySQLDatabase), (made(Plain), AsyncReplicatedDatabase)):
        owner = {"object": database, "class": type(database), "ours": base}[where]
        genuine, texts = owner.aexecute_sql, []

        def spy(*args: Any, genuine: Any = genuine, texts: Any = texts) -> Any:
            texts.append(args[-2])
            return genuine(*args)

        async def work(database: Any = database, owner: Any = owner, spy: Any = spy) -> None:
            with mock.patch.object(owner, "aexecute_sql", spy):
                await database.run(Item.create, name="seen")
                await database.list(Item.select())
                await database.aexecute_sql("SELECT 1", ())
            with mock.patch.object(owner, "aexecute_sql", side_effect=DataError):
                for refused in (database.aexecute(Item.delete()), database.count(Item.select())):
                    with pytest.raises(DataError):
                        await refused
            await database.aexecute(Item.delete())

        with database.bind_ctx([Item]):
            run(database, work)
        seen.append(texts)
    assert seen[0] == seen[1]
    assert len(seen[1]) == 3


def test_what_a_test_puts_into_the_object_leaves_statements_on_the_primary(made: Any) -> None:
    database, nodes = made(Plain), []
    database.route_hooks.append(lambda event: nodes.append(event.node))

    async def work() -> None:
        with mock.patch.object(database, "aexecute_sql", database.aexecute_sql):
            await database.run(lambda: list(Item.select().execute(database.on_primary)))

    run(database, work)
    assert nodes == ["primary"]
