"""Scopes under threads, tasks and greenlets, and what each thread's connections then see."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any

import pytest
from support.clusters import administrator
from support.databases.models import Item, Note
from support.forms import threads_only

from peewee_replicas import (
    ReadOnlyViolation,
    ReplicatedDatabaseProxy,
)

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]


@pytest.fixture
def marked(cluster: Any, db: Any) -> Any:
    """`db`; on each node, `note` holds the node's own name, which replication does not carry."""
    Item.create(id=1, name="marked")
    cluster.sync()
    for node in cluster.nodes:
        with closing(administrator(cluster, node)) as conn, conn.cursor() as cursor:
            cursor.execute("INSERT INTO note (item_id, text) VALUES (1, %s)", (node.name,))
    cluster.reset_counts()
    return db


def where() -> str:
    """The node that this read reaches."""
    return str(Note.get().text)


@pytest.mark.lesson(11)
def test_scopes_nest_and_restore(marked: Any) -> None:
    with marked.readonly():
        mine = where()
        assert mine.startswith("replica-")
        with marked.primary():
            assert where() == "primary"
            with marked.readonly():
                assert where() == mine  # the same node again
            assert where() == "primary"
        assert {where() for _ in range(6)} == {mine}
    assert {where() for _ in range(6)} == {"replica-1", "replica-2"}


def test_primary_inside_readonly_is_the_way_out_for_writes(cluster: Any, marked: Any) -> None:
    with marked.readonly():
        with pytest.raises(ReadOnlyViolation):
            Item.create(name="refused")
        with marked.primary():
            Item.create(name="allowed")
            with marked.atomic():
                Item.create(name="in a transaction")
        with pytest.raises(ReadOnlyViolation):
            Item.create(name="refused again")
    with marked.primary():
        assert {item.name for item in Item.select()} == {"marked", "allowed", "in a transaction"}


def test_on_primary_is_a_place_never_a_permission(marked: Any) -> None:
    with marked.readonly():
        assert marked.on_primary.execute_sql("SELECT text FROM note").fetchone() == ("primary",)
        with pytest.raises(ReadOnlyViolation):
            marked.on_primary.execute_sql("INSERT INTO item (name, n) VALUES ('x', 1)")
        with pytest.raises(ReadOnlyViolation):
            marked.on_primary.begin()


def test_decorators(marked: Any) -> None:
    @marked.primary()
    def on_primary() -> str:
        return where()

    @marked.readonly()
    def twice() -> set[str]:
        return {where() for _ in range(5)}

    @marked.primary()
    def generator() -> Iterator[str]:
        for _ in range(3):
            yield where()

    assert on_primary() == "primary"
    assert len({frozenset(twice()) for _ in range(4)}) == 2
    assert all(len(twice()) == 1 for _ in range(4))
    for found in generator():
        assert found == "primary"
        assert where().startswith("replica-")  # the consumer is outside


@threads_only("starts threads or an event loop itself")
def test_coroutines_tasks_and_to_thread(marked: Any) -> None:
    def in_thread() -> str:
        try:
            return where()
        finally:
            marked.close()

    async def task() -> str:
        await asyncio.sleep(0)
        return where()

    @marked.primary()
    async def scoped() -> list[str]:
        return [where(), await asyncio.create_task(task()), await asyncio.to_thread(in_thread)]

    @marked.primary()
    async def generator() -> AsyncIterator[str]:
        yield where()
        await asyncio.sleep(0)
        yield where()

    async def main() -> None:
        assert await scoped() == ["primary"] * 3
        assert where().startswith("replica-")
        async for found in generator():
            assert found == "primary"
            assert where().startswith("replica-")
        with marked.readonly():
            mine = where()
            assert await asyncio.to_thread(in_thread) == mine  # one scope, one node
            late = asyncio.create_task(task())
        with marked.primary():
            assert (await late).startswith("replica-")  # its scope has ended; this one is not its own

    asyncio.run(main())


@threads_only("starts threads or an event loop itself")
def test_threads_inherit_nothing_and_writes_of_others_are_not_refused(cluster: Any, marked: Any) -> None:
    failures: list[BaseException] = []
    entered, written = threading.Event(), threading.Event()

    def reader() -> None:
        try:
            with marked.readonly():
                mine = where()
                entered.set()
                assert written.wait(10)
                assert where() == mine
                with pytest.raises(ReadOnlyViolation):
                    Item.create(name="refused")
            marked.close()
        except BaseException as exc:
            failures.append(exc)
            entered.set()

    thread = threading.Thread(target=reader)
    thread.start()
    assert entered.wait(10)
    Item.create(name="by the other thread")
    written.set()
    thread.join()
    assert not failures
    assert cluster.counts()["primary"].writes == 1


@pytest.mark.lesson(11)
@threads_only("starts threads or an event loop itself")
def test_a_scope_that_an_exception_left_is_gone_for_the_next_job_of_the_thread(marked: Any) -> None:
    def job() -> None:
        with marked.primary():
            where()
            raise ZeroDivisionError

    from concurrent.futures import ThreadPoolExecutor

    def ask() -> str:
        try:
            return where()
        finally:
            marked.close()

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.submit(job).result()
        assert pool.submit(ask).result().startswith("replica-")


@pytest.mark.lesson(12)
def test_lazy_queries_and_relations_follow_the_scope_they_run_in(marked: Any) -> None:
    with marked.primary():
        built = Note.select()
        item = Item.get()
    assert next(iter(built)).text.startswith("replica-")
    assert item.notes.get().text.startswith("replica-")
    outside = Note.select()
    with marked.primary():
        assert next(iter(outside)).text == "primary"
        assert item.notes.get().text == "primary"


@pytest.mark.lesson(14)
def test_prefetch_in_readonly_takes_parents_and_children_from_one_replica(marked: Any) -> None:
    for _ in range(4):
        with marked.readonly():
            mine = where()
            (item,) = Item.select().prefetch(Note.select())
            assert [note.text for note in item.notes] == [mine]


GEVENT = """
from gevent import monkey
monkey.patch_all()
import json, sys
import gevent
from peewee import CharField, IntegerField, Model
from peewee_replicas import ReadOnlyViolation, ReplicatedDatabase

given = json.loads(sys.stdin.read())
db = ReplicatedDatabase(given.pop("name"), **given)

class Item(Model):
    name = CharField()
    n = IntegerField(default=0)
    class Meta:
        table_name = "item"

def reader(number):
    seen = set()
    for turn in range(20):
        with db.readonly():
            seen.add(db.execute_sql("SELECT @@server_id").fetchone()[0])
            gevent.sleep(0.0005)
            Item.select().count()
            gevent.sleep(0)
            try:
                Item.create(name="refused")
            except ReadOnlyViolation:
                pass
            else:
                raise SystemExit("written in readonly()")
        gevent.sleep(0)
    db.close()
    return sorted(seen)

def writer(number):
    for turn in range(20):
        Item.create(name=f"{number}-{turn}")
        gevent.sleep(0)
        with db.atomic():
            Item.create(name=f"{number}-{turn}-again")
            gevent.sleep(0.0005)
    db.close()

with db.bind_ctx([Item]):
    readers = [gevent.spawn(reader, n) for n in range(6)]
    writers = [gevent.spawn(writer, n) for n in range(6)]
    gevent.joinall(readers + writers, raise_error=True, timeout=60)
    with db.primary():
        count = Item.select().count()
print(json.dumps({"count": count, "seen": sorted({n for r in readers for n in r.value})}))
"""


@pytest.mark.lesson(13)
@threads_only("starts threads or an event loop itself")
def test_greenlets_are_each_in_their_own_scope_though_a_model_is_bound(cluster: Any, db: Any) -> None:
    pytest.importorskip("gevent")
    given = {
        **cluster.parameters(cluster.primary),
        "replicas": [{"host": node.host, "port": node.port} for node in cluster.replicas],
    }
    given["name"] = given.pop("database")
    db.close()
    done = subprocess.run(
        [sys.executable, "-c", GEVENT],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    own = [node.execute("SELECT @@server_id")[0][0] for node in cluster.replicas]
    assert told == {"count": 240, "seen": sorted(own)}
    assert [cluster.counts()[node.name].writes for node in cluster.replicas] == [0, 0]


@pytest.mark.once
def test_a_proxys_decorator_refuses_the_write_of_a_decorated_object(db: Any) -> None:
    proxy = ReplicatedDatabaseProxy()

    class Writer:
        def __call__(self) -> Any:
            yield db.execute_sql("DELETE FROM item")

    decorated = proxy.readonly()(Writer())
    proxy.initialize(db)
    with pytest.raises(ReadOnlyViolation):
        list(decorated())
