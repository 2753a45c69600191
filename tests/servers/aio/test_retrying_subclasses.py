"""Subclasses of the asyncio form that retry: where they can, and what is repeated there.

The members of the kind are the methods of peewee's asyncio form through which statements and connections go:
`aexecute_sql()`, `execute_sql()`, `aexecute()`, `run()`, `aconnect()`, `connect()` and `aclose()`, each
overridden. The same of the form with threads is in `tests/servers/databases`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peewee import OperationalError
from playhouse.pwasyncio import AsyncMySQLDatabase
from support.databases.async_pools import closed, end_sessions, run, sessions
from support.databases.lost import item_names, lose_primary
from support.databases.models import Item
from support.databases.retrying import mixed
from support.proxies.saboteur import Saboteur

from peewee_replicas import OutcomeUnknown
from peewee_replicas.aio import AsyncReplicatedDatabase

DEADLOCK = 1213
ATTEMPTS = 3


class AwaitedStatement:
    """Retries as the documentation shows."""

    async def aexecute_sql(self: Any, sql: str, params: Any = None) -> Any:
        for left in reversed(range(ATTEMPTS)):
            try:
                return await super().aexecute_sql(sql, params)  # type: ignore[misc]  # a mixin
            except OperationalError:
                if not left or self.in_transaction():
                    raise
                await self.aclose()
        raise AssertionError("not reached")


class Statement:
    def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
        for left in reversed(range(ATTEMPTS)):
            try:
                return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin
            except OperationalError:
                if not left or self.in_transaction():
                    raise
                self.close()
        raise AssertionError("not reached")


class Both(Statement, AwaitedStatement):
    pass


class Function:
    """Retries the program's whole function, but nothing of unknown outcome."""

    async def run(self: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        for left in reversed(range(ATTEMPTS)):
            try:
                return await super().run(function, *args, **kwargs)  # type: ignore[misc]  # a mixin
            except OutcomeUnknown:
                raise
            except OperationalError:
                if not left or self.in_transaction():
                    raise
        raise AssertionError("not reached")


class FunctionWhateverHappened:
    """Does not ask whether a write may have happened."""

    async def run(self: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().run(function, *args, **kwargs)  # type: ignore[misc]  # a mixin
        except OperationalError:
            return await super().run(function, *args, **kwargs)  # type: ignore[misc]  # a mixin


Retried = Callable[..., tuple[Any, Saboteur]]


@pytest.fixture
def retried(db: Any, cluster: Any) -> Iterator[Retried]:
    """Makes a database of a class that retries; its primary is behind a saboteur, its table empty."""
    with Saboteur(cluster.primary.port) as saboteur:

        def make(mixin: type, **options: Any) -> tuple[Any, Saboteur]:
            database = cluster.database(
                mixed(mixin, AsyncReplicatedDatabase),
                port=saboteur.port,
                **{"consistency": "eventual", "probe_interval": None, **options},
            )
            database.bind([Item])
            return database, saboteur

        yield make
        db.bind([Item])


class Seeing:
    """Notes what it gets, and retries nothing."""

    seen: list[str]

    async def aexecute(self: Any, query: Any) -> Any:
        self.seen.append("aexecute")
        return await super().aexecute(query)  # type: ignore[misc]  # a mixin

    def begin(self: Any, *args: Any) -> Any:
        self.seen.append("begin")
        return super().begin(*args)  # type: ignore[misc]  # a mixin

    def commit(self: Any) -> Any:
        self.seen.append("commit")
        return super().commit()  # type: ignore[misc]  # a mixin

    async def aexecute_sql(self: Any, sql: str, params: Any = None) -> Any:
        assert params is not None  # peewee's `execute_sql()` sees to that
        self.seen.append(sql)
        return await super().aexecute_sql(sql, params)  # type: ignore[misc]  # a mixin

    async def aconnect(self: Any) -> Any:
        if self.is_closed():
            self.seen.append("connect")
        return await super().aconnect()  # type: ignore[misc]  # a mixin

    async def aclose(self: Any) -> None:
        self.seen.append("close")
        await super().aclose()  # type: ignore[misc]  # a mixin


def test_the_awaited_methods_get_what_they_get_from_peewee(db: Any, cluster: Any) -> None:
    def several() -> int:
        Item.create(name="in a function")
        Item._meta.database.execute_sql("DO 0")
        return int(Item.select().count())

    async def program(database: Any) -> None:
        async with database:
            assert await database.run(several) >= 1
            await database.aexecute(Item.insert(name="awaited", n=1))
            await database.list(Item.select())
            await database.aexecute_sql("SELECT 1", ())
            assert [row.name async for row in database.iterate(Item.select())] == ["in a function", "awaited"]
            async with database.atomic():
                await database.aexecute(Item.update(n=2))
            await database.aexecute(Item.delete())

    seen = []
    parameters = cluster.parameters(cluster.primary)
    for made in (
        mixed(Seeing, AsyncMySQLDatabase)(parameters.pop("database"), **parameters),
        cluster.database(mixed(Seeing, AsyncReplicatedDatabase)),
    ):
        made.seen = []
        with made.bind_ctx([Item]):
            run(made, lambda made=made: program(made))  # type: ignore[misc]  # a loop's variable
        seen.append(made.seen)
    peewees, ours = seen
    # Ours opens the primary's connection by itself when the first write needs it.
    assert [each for each in ours if each != "connect"] == [each for each in peewees if each != "connect"]
    assert ours[0] == peewees[0] == "connect"
    assert ours.count("connect") == 2
    assert len(ours) == 16


@pytest.mark.parametrize("server", ["mariadb"])
def test_a_statement_stays_at_its_place_on_the_way_through_such_a_method(db: Any, cluster: Any) -> None:
    replicas = [
        {"name": node.name, "host": node.host, "port": node.port, "tags": {"use": node.name}}
        for node in cluster.replicas
    ]
    end_sessions(cluster)
    options = {"replicas": replicas, "probe_interval": None}
    database = cluster.database(mixed(Seeing, AsyncReplicatedDatabase), **options)
    database.seen, nodes = [], []
    database.route_hooks.append(lambda event: nodes.append(event.node))
    last = cluster.replicas[-1].name

    async def work() -> None:
        for place in (database.on_primary, database.on_replicas(use=last)):
            async with place:
                await place.list(Item.select())
                await place.aexecute_sql("SELECT 1", ())
        for node in cluster.replicas:
            await closed(cluster, database)
            await database.on_replicas(use=node.name).aconnect()
            assert sessions(cluster) == [0, *(int(each is node) for each in cluster.replicas)]

    with database.bind_ctx([Item]):
        run(database, work)
    assert nodes == ["primary", "primary", last, last]
    assert len([each for each in database.seen if each.startswith("SELECT")]) == 4


@pytest.mark.parametrize("mixin", [AwaitedStatement, Statement, Both])
def test_a_read_is_repeated_and_a_write_that_may_have_happened_is_not(
    cluster: Any, retried: Retried, mixin: type
) -> None:
    database, saboteur = retried(mixin, reads="primary")

    async def work() -> None:
        for when, write in (
            ("after", lambda: database.run(Item.create, name="in a function")),
            ("before", lambda: database.aexecute(Item.insert(name="awaited", n=0))),
            ("after", lambda: database.aexecute_sql("INSERT INTO item (name, n) VALUES ('raw', 0)")),
        ):
            saboteur.cut("INSERT", when)
            with pytest.raises(OutcomeUnknown):
                await write()
        assert item_names(cluster) == ["in a function", "raw"]
        saboteur.answer("UPDATE", DEADLOCK)  # the server has undone it
        assert await database.aexecute(Item.update(n=Item.n + 1)) == 2
        for _ in range(2):
            saboteur.cut("SELECT", "after")
        assert await database.count(Item.select()) == 2
        saboteur.cut("UPDATE", "before")
        with pytest.raises(OperationalError):
            async with database.atomic():
                await database.aexecute(Item.insert(name="half", n=0))
                await database.aexecute(Item.update(n=Item.n + 1))
        saboteur.cut("COMMIT", "after")
        with pytest.raises(OutcomeUnknown):
            async with database.atomic():
                await database.aexecute(Item.insert(name="whole", n=0))
        assert saboteur.spoiled == 8

    run(database, work)
    assert cluster.primary.execute("SELECT name, n FROM app.item ORDER BY id") == [
        ("in a function", 1), ("raw", 1), ("whole", 0),
    ]  # fmt: skip


def test_run_repeats_the_programs_whole_function(cluster: Any, retried: Retried) -> None:
    database, saboteur = retried(Function)

    def two_writes() -> None:
        Item.create(name="first")
        Item.create(name="second")

    async def work() -> None:
        saboteur.answer("second", DEADLOCK)
        await database.run(two_writes)
        assert item_names(cluster) == ["first", "first", "second"]
        saboteur.cut("second", "after")
        with pytest.raises(OutcomeUnknown):
            await database.run(two_writes)
        assert item_names(cluster)[3:] == ["first", "second"]

    run(database, work)
    careless, saboteur = retried(FunctionWhateverHappened)

    async def again() -> None:
        saboteur.cut("second", "after")
        await careless.run(two_writes)
        assert item_names(cluster)[5:] == ["first", "second"] * 2

    run(careless, again)


def test_run_repeats_a_transaction_that_lost_its_connection_as_a_whole(
    cluster: Any, retried: Retried
) -> None:
    database, saboteur = retried(Function)
    kills = [cluster]

    def two_writes() -> None:
        with database.atomic():
            Item.create(name="first")
            if kills:
                lose_primary(kills.pop())
            Item.create(name="second")

    async def work() -> None:
        await database.run(two_writes)
        assert item_names(cluster) == ["first", "second"]
        saboteur.cut("COMMIT", "after")
        with pytest.raises(OutcomeUnknown):
            await database.run(two_writes)
        assert item_names(cluster)[2:] == ["first", "second"]
        with pytest.raises(OperationalError):
            async with database.atomic():
                await database.aexecute(Item.insert(name="half", n=0))
                lose_primary(cluster)
                await database.aexecute(Item.insert(name="other half", n=0))
        assert len(item_names(cluster)) == 4

    run(database, work)


class Patient:
    """Waits for a server that refuses clients, in whichever of the two methods."""

    attempts = 0
    between: Any

    async def aconnect(self: Any) -> Any:
        for left in reversed(range(ATTEMPTS)):
            try:
                return await super().aconnect()  # type: ignore[misc]  # a mixin
            except OperationalError:
                if not left:
                    raise
                type(self).attempts += 1
                self.between()
        raise AssertionError("not reached")


class PatientInGreenlet:
    attempts = 0
    between: Any

    def connect(self: Any, reuse_if_open: bool = True) -> Any:
        for left in reversed(range(ATTEMPTS)):
            try:
                return super().connect(reuse_if_open)  # type: ignore[misc]  # a mixin
            except OperationalError:
                if not left:
                    raise
                type(self).attempts += 1
                self.between()
        raise AssertionError("not reached")


@pytest.mark.parametrize("mixin", [Patient, PatientInGreenlet])
@pytest.mark.parametrize("server", ["mariadb"])
def test_a_retry_of_connecting_waits_for_the_primary(cluster: Any, retried: Retried, mixin: Any) -> None:
    database, saboteur = retried(mixin)
    type(database).between = staticmethod(lambda: saboteur.refuse(0))

    async def begin() -> None:
        async with database.atomic():
            await database.aexecute(Item.insert(name="begun", n=0))

    async def work() -> None:
        for write in (
            lambda: database.aexecute(Item.insert(name="awaited", n=0)),
            lambda: database.run(Item.create, name="in a function"),
            begin,
        ):
            saboteur.refuse(1053)
            type(database).attempts = 0
            await write()
            assert type(database).attempts == 1
            await database.close_pool()

    run(database, work)
    assert item_names(cluster) == ["awaited", "in a function", "begun"]
