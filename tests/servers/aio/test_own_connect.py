"""A program's own `aconnect()`, `connect()` and `aclose()` in the asyncio form.

What they set while they connect comes back with the next connection, and they are called for the same
things as in peewee's form: overridden in a subclass, one of them or both, or put in the place of ours later,
into the object, the class, or our own class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import pytest
from peewee import InterfaceError, OperationalError
from playhouse.pwasyncio import AsyncMySQLDatabase
from support.databases.async_pools import run
from support.databases.lost import item_names, lose_primary
from support.databases.models import Item
from support.databases.retrying import mixed
from support.proxies.saboteur import Saboteur

from peewee_replicas import OutcomeUnknown
from peewee_replicas.aio import AsyncReplicatedDatabase

ZONE = "SET SESSION time_zone = '+05:00'"
HOUR = "SELECT HOUR(FROM_UNIXTIME(0))"
WRITE = "INSERT INTO item (name, n) VALUES ('written', 0)"


class Raw:
    """Sends what it sets on the connection that it has got."""

    async def aconnect(self: Any) -> Any:
        conn = await super().aconnect()  # type: ignore[misc]  # a mixin
        await conn.execute(ZONE)
        return conn


class ByConnect:
    def connect(self: Any, *args: Any) -> Any:
        result = super().connect(*args)  # type: ignore[misc]  # a mixin
        self.execute_sql(ZONE)
        return result


class InTwoClasses(Raw):
    async def aconnect(self: Any) -> Any:
        conn = await super().aconnect()
        await conn.execute("SET @who = 'me'")
        return conn


class Both(Raw):
    """Its `connect()` sets something too, which no statement sets again."""

    def connect(self: Any, *args: Any) -> Any:
        result = super().connect(*args)  # type: ignore[misc]  # a mixin
        self.execute_sql("SET @who = 'me'")
        return result


class Plain:
    """Changes nothing."""


Made = Callable[..., Any]


@pytest.fixture
def made(db: Any, cluster: Any) -> Iterator[Made]:
    """Makes a database of a subclass, to which `Item` is bound."""

    def make(mixin: type, **options: Any) -> Any:
        options = {"consistency": "eventual", "probe_interval": None, **options}
        database = cluster.database(mixed(mixin, AsyncReplicatedDatabase), **options)
        database.bind([Item])
        return database

    yield make
    db.bind([Item])


async def value(database: Any, question: str = HOUR) -> Any:
    return (await database.aexecute_sql(question, ())).fetchone()[0]


@pytest.mark.parametrize("mixin", [Raw, ByConnect, InTwoClasses])
def test_what_is_set_while_connecting_is_there_after_a_loss(made: Made, cluster: Any, mixin: type) -> None:
    database = made(mixin)

    async def streamed() -> list[str]:
        return [row.name async for row in database.iterate(Item.select().where(Item.n == 0))]

    async def transaction() -> int:
        async with database.atomic():
            await database.run(Item.create, name="in a transaction", n=1)
            return int(await value(database))

    async def work() -> None:
        for connected in (True, False):
            if connected:
                await database.aconnect()
            else:
                await database.aclose()
            assert await value(database) == 5
            for _ in range(2):
                lose_primary(cluster, database)
                assert await value(database) == 5
                lose_primary(cluster, database)
                await database.aexecute_sql(WRITE, ())
                lose_primary(cluster, database)
                assert await transaction() == 5
                lose_primary(cluster, database)
                assert set(await streamed()) == {"written"}
                assert await value(database) == 5
                if mixin is InTwoClasses:
                    assert await value(database, "SELECT @who") == "me"

    run(database, work)
    assert item_names(cluster) == ["written", "in a transaction"] * 4


def test_it_is_there_after_a_transaction_that_was_lost(made: Made, cluster: Any) -> None:
    database = made(Raw)

    async def work() -> None:
        for _ in range(2):
            with pytest.raises(OperationalError):
                async with database.atomic():
                    await database.aexecute_sql(WRITE, ())
                    lose_primary(cluster, database)
                    await database.aexecute_sql(WRITE, ())
            assert await value(database) == 5
            await database.aexecute_sql(WRITE, ())

    run(database, work)
    assert item_names(cluster) == ["written"] * 2


def test_a_read_that_was_lost_is_repeated_with_it_and_no_write_is(made: Made, cluster: Any) -> None:
    with Saboteur(cluster.primary.port) as saboteur:
        database = made(Raw, port=saboteur.port)

        async def work() -> None:
            for when in ("before", "after"):
                saboteur.cut("HOUR", when)
                assert await value(database) == 5
            saboteur.cut("INSERT", "after")
            with pytest.raises(OutcomeUnknown):
                await database.aexecute_sql(WRITE, ())
            assert await value(database) == 5
            await database.aexecute_sql(WRITE, ())
            assert saboteur.spoiled == 3

        run(database, work)
    assert item_names(cluster) == ["written"] * 2


@pytest.mark.parametrize("mixin", [Raw, ByConnect])
def test_no_read_goes_to_a_replica_without_it_while_the_primary_is_down(own_pair: Any, mixin: type) -> None:
    database = own_pair.database(mixed(mixin, AsyncReplicatedDatabase), probe_interval=None)

    async def fails() -> None:
        for _ in range(3):
            with pytest.raises(OperationalError):
                await value(database)

    async def work() -> None:
        own_pair.primary.kill()
        await fails()
        own_pair.primary.start()
        assert await value(database) == 5
        own_pair.primary.kill()
        await fails()
        own_pair.primary.start()
        assert [await value(database) for _ in range(3)] == [5] * 3

    run(database, work)


def test_what_a_task_sets_later_does_not_come_back_unnoticed(made: Made, cluster: Any) -> None:
    database = made(Raw)

    async def work() -> None:
        for text in (ZONE, "SET @mine = 5", "CREATE TEMPORARY TABLE mine (a INT)"):
            assert await value(database) == 5
            await database.aexecute_sql(text, ())
            lose_primary(cluster, database)
            for sql in (HOUR, WRITE, HOUR):
                with pytest.raises((OperationalError, InterfaceError), match=r"close\(\)"):
                    await database.aexecute_sql(sql, ())
            await database.aclose()

    run(database, work)
    assert item_names(cluster) == []


def test_what_connect_sets_beside_an_aconnect_does_not_come_back_unnoticed(made: Made, cluster: Any) -> None:
    """For a statement, peewee's form calls `aconnect()` alone."""
    database = made(Both)

    async def work() -> None:
        async with database:
            assert (await value(database), await value(database, "SELECT @who")) == (5, "me")
            lose_primary(cluster, database)
            with pytest.raises((OperationalError, InterfaceError)):
                await value(database, "SELECT @who")
        for _ in range(2):
            assert (await value(database), await value(database, "SELECT @who")) == (5, None)
            lose_primary(cluster, database)

    run(database, work)


class Noting:
    """Notes which of the methods open or close something."""

    calls: list[str]

    def connect(self: Any, *args: Any) -> Any:
        self.note("connect")
        return super().connect(*args)  # type: ignore[misc]  # a mixin

    async def aconnect(self: Any) -> Any:
        self.note("aconnect")
        return await super().aconnect()  # type: ignore[misc]  # a mixin

    def close(self: Any) -> Any:
        self.calls.append("close")
        return super().close()  # type: ignore[misc]  # a mixin

    async def aclose(self: Any) -> None:
        self.calls.append("aclose")
        await super().aclose()  # type: ignore[misc]  # a mixin

    def note(self: Any, name: str) -> None:
        if self.is_closed():
            self.calls.append(name)


async def each_way(database: Any) -> list[list[str]]:
    """Connect and close in each way that there is, and return which methods that has called."""
    found = []

    async def context() -> None:
        async with database:
            await database.aexecute_sql("SELECT 1", ())

    for use in (
        lambda: database.list(Item.select()),  # first, where the server's version is not known yet
        lambda: database.aexecute_sql("SELECT 1", ()),
        lambda: database.run(database.connect),
        lambda: database.aconnect(),
        context,
    ):
        for close in (lambda: database.aclose(), lambda: database.run(database.close)):
            database.calls.clear()
            await use()
            await close()
            found.append(database.calls[:])
    return found


def of_peewee(cluster: Any, mixin: type) -> Any:
    parameters = cluster.parameters(cluster.primary)
    return mixed(mixin, AsyncMySQLDatabase)(parameters.pop("database"), **parameters)


def test_of_two_overridden_methods_those_are_called_that_peewee_calls(made: Made, cluster: Any) -> None:
    seen: list[Any] = []
    for database in (of_peewee(cluster, Noting), made(Noting)):
        database.calls = []

        async def work(database: Any = database) -> None:
            seen.append(await each_way(database))

        with database.bind_ctx([Item]):
            run(database, work)
    assert seen[0] == seen[1]
    assert seen[1][0] == ["aconnect", "aclose"]
    assert ["connect", "aconnect", "aclose"] in seen[1]


@pytest.mark.parametrize("where", ["object", "class", "ours"])
def test_what_is_put_in_the_place_of_a_method_is_called_as_peewee_calls_it(
    made: Made, cluster: Any, where: str
) -> None:
    seen: list[Any] = []
    for database, base in (
        (of_peewee(cluster, Plain), AsyncMySQLDatabase), (made(Plain), AsyncReplicatedDatabase)
    ):  # fmt: skip
        owner = {"object": database, "class": type(database), "ours": base}[where]
        database.calls = []

        def spy(name: str, database: Any = database, owner: Any = owner) -> Any:
            genuine = getattr(owner, name)

            def call(*args: Any) -> Any:
                if name == "aclose" or database.is_closed():
                    database.calls.append(name)
                return genuine(*args)

            return mock.patch.object(owner, name, call)

        async def work(database: Any = database, spy: Any = spy) -> None:
            for replaced in (("aconnect",), ("aclose",), ("aconnect", "aclose")):
                with ExitStack() as spies:
                    for name in replaced:
                        spies.enter_context(spy(name))
                    seen.append(await each_way(database))
            database.calls.clear()
            await database.aexecute_sql("SELECT 1", ())
            await database.aclose()
            assert database.calls == []

        with database.bind_ctx([Item]):
            run(database, work)
    assert seen[:3] == seen[3:]
    assert seen[5][0] == ["aconnect", "aclose"]


def test_what_an_object_got_later_sets_is_there_for_the_task_and_after_a_loss(
    made: Made, cluster: Any
) -> None:
    database = made(Plain)
    genuine = database.aconnect

    async def zoned() -> Any:
        conn = await genuine()
        await conn.execute(ZONE)
        return conn

    async def work() -> None:
        database.aconnect = zoned
        for _ in range(2):
            assert [await value(database) for _ in range(2)] == [5] * 2
            await database.aexecute_sql(WRITE, ())
            lose_primary(cluster, database)
        assert await value(database) == 5
        await database.aclose()
        async with database:
            lose_primary(cluster, database)
            assert await value(database) == 5
        async with database.on_primary as place:
            assert await value(place) == 5

    run(database, work)
    assert item_names(cluster) == ["written"] * 2
