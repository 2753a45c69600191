"""The asyncio form, as programs use it: the tests with the fixture `form` hold the rest."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import pytest
from peewee import CharField, ForeignKeyField, IntegerField, OperationalError
from playhouse.pwasyncio import AsyncModel, AsyncMySQLDatabase, MissingGreenletBridge

from peewee_replicas import ConfigurationError, ReadOnlyViolation
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.errors import TransactionEscapeError, TransactionEscapeWarning

pytestmark = pytest.mark.core


class Person(AsyncModel):
    name = CharField(unique=True)
    n = IntegerField(default=0)

    class Meta:
        table_name = "async_person"


class Post(AsyncModel):
    person = ForeignKeyField(Person, backref="posts")
    text = CharField()

    class Meta:
        table_name = "async_post"


MODELS = [Person, Post]


@contextmanager
def database(cluster: Any, database_class: Any = AsyncReplicatedDatabase, **options: Any) -> Iterator[Any]:
    """A database with the models bound, their tables empty on every node."""
    if database_class is AsyncMySQLDatabase:
        parameters = cluster.parameters(cluster.primary)
        made = AsyncMySQLDatabase(parameters.pop("database"), **{**parameters, **options})
    else:
        made = cluster.database(database_class, **options)

    async def prepare() -> None:
        await made.adrop_tables(list(reversed(MODELS)), safe=True)
        await made.acreate_tables(MODELS)
        await made.close_pool()

    with made.bind_ctx(MODELS):
        asyncio.run(prepare())
        cluster.sync()
        cluster.reset_counts()
        yield made


def run(made: Any, work: Callable[[], Any]) -> Any:
    """What a coroutine function returns; the pools are closed and nothing is left."""

    async def main() -> Any:
        try:
            return await work()
        finally:
            await made.close_pool()
            if not isinstance(made, AsyncReplicatedDatabase):
                await asyncio.sleep(0)  # aiomysql's own pool wakes others in a task of its own
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left

    return asyncio.run(main())


def reads(cluster: Any) -> tuple[int, list[int]]:
    counts = cluster.counts()
    return counts["primary"].reads, [counts[node.name].reads for node in cluster.replicas]


# What a program does with peewee's asyncio form, and what it gets from it


async def everything(db: Any) -> Any:
    """Every member of peewee's asyncio form, and what it gives."""
    found: list[Any] = []
    ada = await Person.acreate(name="ada", n=1)
    await Person.abulk_create([Person(name="bob", n=2), Person(name="cid", n=3)])
    await Post.acreate(person=ada, text="first")
    by_name = Person.select().order_by(Person.name)
    found.append([row.name for row in await db.list(by_name)])
    found.append([row.name for row in await db.aexecute(by_name)])
    found.append((await db.get(by_name)).name)
    found.append((await db.first(by_name)).name)
    found.append(await db.scalar(Person.select(peewee.fn.SUM(Person.n))))
    found.append(await db.count(Person.select()))
    found.append(await db.exists(Person.select().where(Person.name == "nobody")))
    found.append([row async for row in db.iterate(by_name.tuples(), buffer_size=2)])
    related = db.list(by_name.with_related(Person.posts))
    for people in (await db.aprefetch(by_name, Post.select()), await related):
        found.append([[post.text for post in person.posts] for person in people])
    found.append((await Person.aget(Person.name == "bob")).n)
    found.append(await Person.aget_or_none(Person.name == "nobody"))
    found.append((await Person.aget_by_id(ada.id)).name)
    found.append((await Person.aget_or_create(name="ada"))[1])
    found.append((await Person.aget_or_create(name="dee"))[1])
    found.append(await Person.aset_by_id(ada.id, {"n": 10}))
    ada.n = 11
    found.append(await ada.asave())
    post = await Post.aget()
    found.append((await post.afetch(Post.person)).n)
    found.append(await db.aexecute(Person.update(n=Person.n + 1).where(Person.name == "bob")))
    found.append(await db.run(lambda: [row.n for row in by_name]))
    async with db.atomic() as transaction:
        await Person.acreate(name="eve")
        await transaction.arollback()
    async with db.transaction(), db.savepoint():
        await Person.acreate(name="fay")
    found.append(await db.count(Person.select()))
    cursor = await db.aexecute_sql("SELECT name, n FROM async_person WHERE n > %s ORDER BY n", (2,))
    found.append((cursor.fetchone(), [tuple(row) for row in cursor.fetchall()][-1], cursor.description[0][0]))
    cursor = await db.aexecute_sql("INSERT INTO async_person (name, n) VALUES ('gus', 0), ('hal', 0)")
    found.append((cursor.rowcount, cursor.lastrowid > 0))
    for bad in ("SELECT nothing", "INSERT INTO async_person (name, n) VALUES ('gus', 0)"):
        try:
            await db.aexecute_sql(bad)
        except peewee.PeeweeException as exc:
            found.append((type(exc).__name__, exc.args[0]))
    found.append(await Person.adelete_by_id(ada.id) if not await Post.adelete_by_id(post.id) else None)
    found.append(db.is_closed())
    await db.aclose()
    found.append(db.is_closed())
    async with db:
        found.append(db.is_closed())
    found.append(await db.count(Person.select()))
    return found


def test_a_program_gets_from_it_what_it_gets_from_peewee(cluster: Any) -> None:
    outcomes = []
    for database_class in (AsyncMySQLDatabase, AsyncReplicatedDatabase):
        with database(cluster, database_class) as db:
            outcomes.append(run(db, lambda db=db: everything(db)))
    assert outcomes[1] == outcomes[0]
    assert isinstance(db, AsyncMySQLDatabase)


def test_reads_go_to_the_replicas_and_writes_to_the_primary(cluster: Any) -> None:
    async def work() -> None:
        for _ in range(10):
            assert await Person.aget_or_none(Person.id == 1) is None
        counts = cluster.counts()
        assert counts["primary"].reads == counts["primary"].connections == 0
        await Person.acreate(name="ada")
        async with db.primary():
            assert await db.count(Person.select()) == 1

    with database(cluster, consistency="eventual") as db:
        run(db, work)
        assert reads(cluster) == (1, [5, 5])
        assert db.stats()["replicas"] == 10
        assert [cluster.counts()[node.name].writes for node in cluster.nodes] == [1, 0, 0]


def test_scopes_of_coroutines_generators_and_their_children(cluster: Any) -> None:
    async def server() -> int:
        return int(await db.run(lambda: db.execute_sql("SELECT n FROM async_marker").fetchone()[0]))

    async def work() -> None:
        async with db.readonly():
            mine = await server()
            assert mine > 0
            assert await asyncio.gather(*(server() for _ in range(4))) == [mine] * 4
            with pytest.raises(ReadOnlyViolation):
                await Person.acreate(name="refused")
            with pytest.raises(ReadOnlyViolation):
                async with db.atomic():
                    pass
            async with db.primary():
                assert await server() == 0
                await Person.acreate(name="allowed")
            assert await server() == mine
            late = asyncio.create_task(asyncio.sleep(0))
        await late
        assert {await server() for _ in range(4)} == {1, 2}

        @db.primary()
        async def decorated() -> int:
            return await server()

        @db.primary()
        async def generated() -> AsyncIterator[int]:
            yield await server()
            yield await server()

        assert await decorated() == 0
        seen = []
        async for one in generated():
            seen.append(one)
            assert await server() > 0  # the consumer is in no scope
        assert seen == [0, 0]

    with database(cluster, consistency="eventual") as db:
        cluster.primary.execute("CREATE OR REPLACE TABLE app.async_marker (n INT)") if (
            cluster.server == "mariadb"
        ) else cluster.primary.execute("CREATE TABLE IF NOT EXISTS app.async_marker (n INT)")
        cluster.primary.execute("DELETE FROM app.async_marker")
        cluster.primary.execute("INSERT INTO app.async_marker VALUES (0)")
        cluster.sync()
        try:
            for number, node in enumerate(cluster.replicas, 1):
                mark(cluster, node, number)
            run(db, work)
        finally:
            for node in cluster.replicas:
                mark(cluster, node, 0)
            cluster.primary.execute("DROP TABLE app.async_marker")


def mark(cluster: Any, node: Any, number: int) -> None:
    from support.clusters import administrator

    with administrator(cluster, node) as conn, conn.cursor() as cursor:
        cursor.execute(f"UPDATE app.async_marker SET n = {number}")


def test_a_task_sees_its_own_writes_and_a_causal_session_those_of_its_children(pair: Any) -> None:
    from support.clusters.lagging import SHORT, Slot, frozen

    async def n() -> int:
        return int(await db.run(lambda: Slot.get(Slot.name == "a").n))

    async def write(value: int) -> None:
        await db.run(lambda: Slot.update(n=value).where(Slot.name == "a").execute())

    async def before_and_after() -> tuple[int, int]:
        before = await n()
        begun.set()
        await written.wait()
        return before, await n()

    async def work() -> None:
        nonlocal begun, written
        begun, written = asyncio.Event(), asyncio.Event()
        assert await n() == 1
        with frozen(pair):
            other = asyncio.create_task(before_and_after())
            await begun.wait()
            await write(2)
            written.set()
            assert await n() == 2  # this task's own
            assert await other == (1, 1)  # another's, which began before
            assert await asyncio.create_task(n()) == 2  # one begins with what the process has written
            async with db.causal_session():
                await asyncio.gather(write(3))
                assert await n() == 3
                assert await asyncio.gather(n(), n()) == [3, 3]
            bookmark = await db.abookmark()
        async with db.causal_session(bookmark):
            assert await n() == 3
        assert bookmark is not None

    begun: Any = None
    written: Any = None
    db: Any = pair.database(AsyncReplicatedDatabase, catch_up_timeout=SHORT)
    with db.bind_ctx([Slot]):
        run(db, work)


# Transactions


def test_concurrent_transactions_of_one_context_each_have_their_own_connection_and_outcome(
    cluster: Any,
) -> None:
    met = []

    async def one(name: str, *, fails: bool = False) -> None:
        async with db.atomic():
            await Person.acreate(name=name)
            met.append((await db.aexecute_sql("SELECT CONNECTION_ID()")).fetchone()[0])
            await written.wait()
            assert await db.count(Person.select()) == 1  # each sees only its own
            await counted.wait()  # what is committed earlier, the others may see
            if fails:
                raise ZeroDivisionError

    async def work() -> None:
        nonlocal written, counted
        written, counted = _Barrier(3), _Barrier(3)
        outcomes = await asyncio.gather(one("a"), one("b", fails=True), one("c"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), ZeroDivisionError, type(None)]
        async with db.primary():
            assert sorted(row.name for row in await db.list(Person.select())) == ["a", "c"]

    written: Any = None
    counted: Any = None
    with database(cluster) as db:
        run(db, work)
    assert len(set(met)) == 3


class _Barrier:
    """As `asyncio.Barrier`, which Python 3.10 lacks."""

    def __init__(self, parties: int) -> None:
        self._missing = parties
        self._event = asyncio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._event.set()
        await self._event.wait()


def test_a_task_that_escapes_its_transaction_is_told(cluster: Any) -> None:
    async def child() -> int:
        return int(await db.count(Person.select()))

    async def work() -> None:
        async with db.atomic():
            await Person.acreate(name="ada")
            assert await child() == 1
            with pytest.raises(TransactionEscapeError, match="is not part of the transaction"):
                await asyncio.create_task(child())
            apart = contextvars.Context()
            task = apart.run(asyncio.get_running_loop().create_task, child())
            assert await task == 0
        assert await asyncio.create_task(child()) == 1

    with database(cluster, on_transaction_escape="error", consistency="process") as db:
        run(db, work)

    async def warned() -> None:
        async with db.atomic():
            with pytest.warns(TransactionEscapeWarning, match=r"test_programs\.py"):
                assert await asyncio.create_task(child()) == 0

    with database(cluster, on_transaction_escape="warn") as db:
        run(db, warned)


@pytest.mark.lesson(19)
def test_hooks_after_a_commit_read_it(cluster: Any) -> None:
    seen: list[int] = []

    async def work() -> None:
        async with db.atomic():
            await Person.acreate(name="ada")
            db.after_commit(lambda: seen.append(Person.select().count()))

    with database(cluster) as db:
        run(db, work)
    assert seen == [1]


# What is bound where


def test_on_primary_is_the_same_database_at_its_primary(cluster: Any) -> None:
    async def work() -> None:
        twin = db.on_primary
        query = Person.select()
        for member in (twin.list, twin.count, twin.exists, twin.first, twin.aexecute):
            await member(query.clone())
        assert [row async for row in twin.iterate(query.clone())] == []
        assert issubclass(twin.Model, AsyncModel)
        with twin.bind_ctx([Person]):
            assert await Person.aget_or_none() is None

    with database(cluster, consistency="eventual") as db:
        run(db, work)
    assert reads(cluster) == (7, [0, 0])


def test_a_route_can_be_asked_for_anywhere(cluster: Any) -> None:
    async def work() -> None:
        assert db.explain_route("SELECT 1").role == "replica"
        async with db.atomic():
            assert db.explain_route("SELECT 1").reason == "a transaction is open"

    with database(cluster) as db:
        assert db.explain_route(Person.select()).role == "replica"
        run(db, work)
        events: list[Any] = []
        db.route_hooks.append(events.append)
        run(db, lambda: db.list(Person.select()))
        assert [(event.role, event.attempts) for event in events] == [("replica", 1)]


def test_outside_of_a_greenlet_the_remedy_is_told(cluster: Any) -> None:
    async def work() -> None:
        for wrong in (
            lambda: Person.select().count(),
            lambda: db.execute_sql("SELECT 1"),
            db.connect,
            db.bookmark,
        ):
            with pytest.raises(MissingGreenletBridge, match="await"):
                wrong()

    with database(cluster) as db:
        run(db, work)
        with pytest.raises(MissingGreenletBridge):
            db.execute_sql("SELECT 1")


def test_arguments_that_cannot_work_are_refused() -> None:
    for given in ({"pool_size": 0}, {"pool_min_size": -1}, {"acquire_timeout": "1"}, {"pool_recycle": "no"}):
        with pytest.raises(ConfigurationError, match=f"{next(iter(given))}=.*: a (whole )?number"):
            AsyncReplicatedDatabase("app", **given)
    with pytest.raises(ConfigurationError, match="'hots' is no connection parameter; did you mean 'host'"):
        AsyncReplicatedDatabase("app", replicas=[{"hots": "a"}])
    with pytest.raises(ConfigurationError, match="reads="):
        AsyncReplicatedDatabase("app", reads="anywhere")
    deferred = AsyncReplicatedDatabase(None)
    deferred.init("app", host="a", pool_size=3, replicas=["b:3307"])
    assert [replica.name for replica in deferred.replicas] == ["b:3307"]
    assert "pool_size" not in deferred.connect_params


def test_no_node_at_all_is_told_with_every_reason() -> None:
    db = AsyncReplicatedDatabase("app", host="127.0.0.1", port=1, replicas=["127.0.0.1:2"])
    with pytest.raises(OperationalError, match=r"no node can serve a read: 127\.0\.0\.1:2: .*the primary"):
        run(db, lambda: db.aexecute_sql("SELECT 1"))
