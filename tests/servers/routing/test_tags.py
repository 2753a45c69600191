"""Reads go to the nodes with the tags that were asked for, as the servers counted them.

Who can ask was listed from the users of `scopes.frames.selecting()`: ``readonly()`` with `tags` or `node`,
nested and with a snapshot, a proxy's, ``on_replicas()`` for a model, for one query, as a raw cursor and for a
stream, outside and inside scopes and in a unit of work. What they share is the choice of a node, so what a
scope has seen must stay seen wherever a choice makes it leave its node.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from peewee import IntegerField, Model
from support.databases.models import Item, Note
from support.forms import threads_only

from peewee_replicas import (
    NoReplicaAvailable,
    PooledReplicatedDatabase,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
)
from peewee_replicas.aio import AsyncReplicatedDatabase

pytestmark = pytest.mark.usefixtures("form")

READ = "SELECT COUNT(*) FROM item"
SLOT = "SELECT n FROM slot"
NODES = ("primary", "replica-1", "replica-2")
one_server = pytest.mark.parametrize("server", ["mariadb"])  # the library chooses, not the server


def tagged(cluster: Any, **given: dict[str, str]) -> list[dict[str, Any]]:
    """The cluster's replicas, `first` and `second` with these tags."""
    return [
        {"name": node.name, "host": node.host, "port": node.port, "tags": tags}
        for node, tags in zip(cluster.replicas, (given["first"], given["second"]), strict=True)
    ]


@pytest.fixture
def reads(cluster: Any, db: Any) -> Callable[..., Any]:
    """Counts what each node serves of some work with a database whose replicas are tagged.

    By the servers, or by events where the library's own questions to the servers would count too.
    """

    def count(work: Callable[[Any], Any], *, by: str = "servers", **options: Any) -> tuple[int, ...]:
        replicas = tagged(cluster, first={"use": "web", "zone": "a"}, second={"use": "report", "zone": "a"})
        database = cluster.database(**{"consistency": "eventual", "replicas": replicas, **options})
        served: Counter[str] = Counter()
        database.route_hooks.append(lambda event: served.update([event.node]))
        before = cluster.counts()
        work(database)
        after = cluster.counts()
        database.close()
        if by == "events":
            return tuple(served[name] for name in NODES)
        return tuple(after[name].reads - before[name].reads for name in NODES)

    return count


def in_scope(**given: Any) -> Callable[[Any], None]:
    def work(database: Any) -> None:
        for _ in range(4):
            with database.readonly(**given):
                database.execute_sql(READ).fetchall()

    return work


@one_server
@pytest.mark.parametrize(
    ("given", "served"),
    [
        ({"tags": {"use": "report"}}, (0, 0, 4)),
        ({"tags": {"use": "web", "zone": "a"}}, (0, 4, 0)),
        ({"tags": {"zone": "a"}}, (0, 2, 2)),
        ({"tags": [{"use": "none"}, {"use": "report"}, {}]}, (0, 0, 4)),
        ({"tags": [{"use": "none"}, {}]}, (0, 2, 2)),
        ({"tags": {"use": "web", "zone": "b"}}, (4, 0, 0)),
        ({"node": "replica-2"}, (0, 0, 4)),
        ({"node": "replica-2", "tags": {"use": "web"}}, (4, 0, 0)),
        ({"tags": {"use": "report"}, "snapshot": True}, (0, 0, 4)),
    ],
)
def test_a_scope_reads_from_the_nodes_that_it_asks_for(
    reads: Any, given: dict[str, Any], served: tuple[int, ...]
) -> None:
    assert reads(in_scope(**given)) == served


@one_server
def test_a_scope_inside_narrows_the_one_around_it(reads: Any) -> None:
    def work(database: Any) -> None:
        with database.readonly(tags={"zone": "a"}):
            for use in ("web", "report", "none"):
                with database.readonly(tags={"use": use}):
                    database.execute_sql(READ).fetchall()

    assert reads(work, by="events") == (1, 1, 1)


@one_server
def test_a_scope_inside_a_snapshot_stays_in_it_and_a_snapshot_inside_a_scope_takes_its_own_node(
    reads: Any,
) -> None:
    def inside(database: Any) -> None:
        with database.readonly(tags={"use": "report"}, snapshot=True):
            database.execute_sql(READ).fetchall()
            with database.readonly(tags={"use": "web"}):
                database.execute_sql(READ).fetchall()

    assert reads(inside) == (0, 0, 2)

    def around(database: Any) -> None:
        with database.readonly(tags={"use": "web"}) as scoped:
            database.execute_sql(READ).fetchall()
        with database.readonly():
            database.replicas[1].eject("so that the scope begins on the other")
            scoped.execute_sql(READ).fetchall()
            database.replicas[1].restore()
            with database.readonly(tags={"use": "report"}, snapshot=True):
                database.execute_sql(READ).fetchall()

    assert reads(around, by="events") == (0, 2, 1)


@one_server
def test_turns_are_taken_among_those_that_were_asked_for_however_reads_are_mixed(reads: Any) -> None:
    def work(database: Any) -> None:
        near = database.on_replicas(zone="a")
        for _ in range(10):  # were there one count of turns, each kind would always meet the same node
            database.execute_sql(READ).fetchall()
            near.execute_sql(READ).fetchall()

    assert reads(work) == (0, 10, 10)


@one_server
@pytest.mark.parametrize("cls", [ReplicatedDatabase, PooledReplicatedDatabase])
def test_a_model_and_a_query_may_be_bound_to_them(reads: Any, cls: Any, form: str) -> None:
    def work(database: Any) -> None:
        report = database.on_replicas(use="report")
        assert report is database.on_replicas(use="report")

        class Count(Model):
            n = IntegerField()

            class Meta:
                database = report
                table_name = "item"

        with database.bind_ctx([Item]):
            list(Count.select())  # the model
            list(Item.select().execute(report))  # one query
            Item.select().bind(report).count()
            with database.readonly(tags={"use": "web"}):
                Item.select().count()
                list(Count.select())  # both are wanted, and no node has both
            with database.primary():
                list(Count.select())
            with database.atomic():
                list(Count.select())
                Count.update(n=Count.n).execute()
            list(Item.select())
        assert database.explain_route(Count.select()).node == "replica-2"
        assert database.explain_route(Count.delete()).role == "primary"
        assert report.explain_route(READ).reason == "a proven read, on nodes with use=report"
        with report.readonly() as scoped:
            assert scoped is report

    options = {} if form == "asyncio" else {"database_class": cls}
    served = reads(work, by="events", **options)
    # On the primary: what wants two nodes at once, what is in primary(), and the four events of atomic().
    assert (served[0], served[1] + served[2]) == (6, 5)
    assert served[2] >= 3


@one_server
def test_a_proxy_has_them_before_its_database(cluster: Any, db: Any, reads: Any) -> None:
    proxy = ReplicatedDatabaseProxy()
    report = proxy.on_replicas(use="report")
    scope = proxy.readonly(tags={"use": "report"})

    def work(database: Any) -> None:
        proxy.initialize(database)
        report.execute_sql(READ).fetchall()
        with scope:
            database.execute_sql(READ).fetchall()

    assert reads(work) == (0, 0, 2)


@one_server
def test_a_scope_of_theirs_holds_for_the_database_itself(cluster: Any, db: Any, reads: Any) -> None:
    def work(database: Any) -> None:
        report = database.on_replicas(use="report")
        for scope in (report.readonly(), report.readonly(tags={"zone": "a"}), report.atomic(read_only=True)):
            with scope:
                database.execute_sql(READ).fetchall()

    assert reads(work) == (0, 0, 3)


@one_server
@threads_only("a raw cursor has a test of its own there")
def test_a_raw_cursor_and_connect_use_them(reads: Any) -> None:
    def work(database: Any) -> None:
        with database.readonly(tags={"use": "report"}):
            cursor = database.cursor()
            cursor.execute(READ)
            cursor.fetchall()
        database.close()
        report = database.on_replicas(use="report")
        report.connect()
        assert [node.node.name for node in database._parts.replicas.opened()] == ["replica-2"]

    assert reads(work) == (0, 0, 1)


@one_server
@threads_only("it makes the asyncio form by itself")
def test_awaited_queries_and_streams_use_them(cluster: Any, db: Any) -> None:
    replicas = tagged(cluster, first={"use": "web"}, second={"use": "report"})
    database = cluster.database(AsyncReplicatedDatabase, consistency="eventual", replicas=replicas)
    report = database.on_replicas(use="report")

    async def main() -> None:
        query = Item.select().bind(report)
        await database.aexecute(query)
        await database.list(query.clone())
        assert [row async for row in database.iterate(query)] == []
        plain = Item.select()
        await report.list(plain)
        await report.count(plain)
        await report.aexecute(plain)
        assert [row async for row in report.iterate(plain)] == []
        await report.aprefetch(plain, Note.select())
        await report.aexecute_sql(READ)
        async with database.readonly(node="replica-2"):
            await database.aexecute_sql(READ)
        await database.close_pool()

    before = cluster.counts()
    with database.bind_ctx([Item, Note]):
        asyncio.run(main())
    after = cluster.counts()
    assert [after[name].reads - before[name].reads for name in NODES] == [0, 0, 11]


@one_server
def test_without_such_a_node_the_words_say_what_was_asked_for(cluster: Any, db: Any) -> None:
    replicas = tagged(cluster, first={"use": "web"}, second={"use": "report"})
    database = cluster.database(consistency="eventual", fallback="error", replicas=replicas)
    database.replicas[1].eject("being upgraded")
    wanted = r"wanted: nodes with use=report; replica-2 \(.*\): being upgraded\)"
    with database.readonly(tags={"use": "report"}), pytest.raises(NoReplicaAvailable, match=wanted):
        database.execute_sql(READ)
    with pytest.raises(NoReplicaAvailable, match="wanted: nodes with use=none; no replica matches"):
        database.on_replicas(use="none").execute_sql(READ)
    unknown = "wanted: node 'replica-9'; no replica matches"
    with database.readonly(node="replica-9"), pytest.raises(NoReplicaAvailable, match=unknown):
        database.execute_sql(READ)


def seen(database: Any) -> int:
    return int(database.execute_sql(SLOT).fetchone()[0])


@pytest.mark.parametrize("way", ["scope", "on_replicas", "unit"])
def test_what_a_scope_has_seen_stays_seen_when_tags_make_it_leave_its_node(own_three: Any, way: str) -> None:
    late = own_three.replicas[1]
    late.freeze()
    own_three.primary.execute(f"UPDATE {own_three.database_name}.slot SET n = 2")
    own_three.sync(60)
    replicas = tagged(own_three, first={"use": "web"}, second={"use": "report"})
    database = own_three.database(
        consistency="eventual",
        catch_up_timeout=0.05,
        replicas=replicas,
        spread="unit" if way == "unit" else "statement",
    )
    assert seen(database.on_replicas(use="report")) == 1  # where nothing was seen before, old data will do
    database.close()
    if way == "unit":
        assert seen(database.on_replicas(use="web")) == 2
        assert seen(database.on_replicas(use="report")) == 2
        assert seen(database) == 2
        with database.readonly(tags={"use": "report"}):
            assert seen(database) == 2
    else:
        with database.readonly(tags=[{"use": "web"}, {}]):
            assert seen(database) == 2
            if way == "scope":
                with database.readonly(tags=[{"use": "report"}]):
                    assert seen(database) == 2
                    assert seen(database) == 2
            else:
                assert seen(database.on_replicas(use="report")) == 2
            assert seen(database) == 2
    database.close()


@one_server
@threads_only("the tags are the same there")
def test_a_scope_leaves_its_node_once_and_comes_back_from_the_primary(cluster: Any, db: Any) -> None:
    replicas = tagged(cluster, first={"use": "web", "zone": "a"}, second={"use": "report", "zone": "a"})
    database = cluster.database(consistency="eventual", replicas=replicas)
    nodes = []
    database.route_hooks.append(lambda event: nodes.append(event.node))
    with database.readonly(tags={"zone": "a"}):
        database.replicas[1].eject("so that the scope begins on the other")
        database.execute_sql(READ).fetchall()
        database.replicas[1].restore()
        for use in ("report", "none", "report"):
            with database.readonly(tags={"use": use}):
                for _ in range(2):
                    database.execute_sql(READ).fetchall()
            database.execute_sql(READ).fetchall()
    back = nodes[6]
    assert back != "primary"
    second = ["replica-2"] * 3
    assert nodes == ["replica-1", *second, "primary", "primary", back, *second]
    # One question for each move: to the second, to the primary, back, and perhaps to the second.
    assert database.stats()["asked"] == (4 if back == "replica-1" else 3)
