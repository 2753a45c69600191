"""Where statements go, as the servers themselves counted them."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from peewee import fn
from support.clusters import version_of
from support.databases.models import Item, Note

from peewee_replicas.testing import LocalCluster

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]

READS = 1_000


def reads(cluster: LocalCluster) -> tuple[int, list[int]]:
    """How many reads the primary, and each replica, has counted."""
    counts = cluster.counts()
    return counts["primary"].reads, [counts[node.name].reads for node in cluster.replicas]


def fill(cluster: LocalCluster, rows: int = 10) -> None:
    Item.insert_many([{"name": f"item {n}", "n": n} for n in range(rows)]).execute()
    cluster.sync()  # the database is at level eventual
    first = Item.select().order_by(Item.id).first()
    Note.create(item=first, text="a note")
    cluster.sync()
    cluster.reset_counts()


def test_of_a_thousand_reads_outside_scopes_none_reaches_the_primary(cluster: Any, db: Any) -> None:
    fill(cluster)
    key = Item.select(fn.MIN(Item.id)).scalar()
    db.close()
    database = cluster.database(consistency="eventual")  # as it comes, having written nothing
    cluster.reset_counts()
    shapes = (
        lambda: Item.get_by_id(key),
        lambda: Item.select().where(Item.n > 3).count(),
        lambda: list(Note.select(Note, Item).join(Item)),
        lambda: Item.select(fn.SUM(Item.n)).where(Item.name.startswith("item")).scalar(),
        lambda: database.execute_sql("SELECT n FROM item WHERE id = %s", (key,)).fetchone(),
    )
    with database.bind_ctx([Item, Note]):
        for turn in range(READS):
            shapes[turn % len(shapes)]()
    primary, replicas = reads(cluster)
    assert primary == 0
    assert replicas == [READS // 2, READS // 2]
    assert cluster.counts()["primary"].connections == 0
    told = database.stats()
    assert told["fallbacks"] == told["reruns"] == told["retries"] == 0


def test_in_readonly_all_reads_reach_one_replica(cluster: Any, db: Any) -> None:
    fill(cluster)
    used = set()
    for _ in range(4):
        cluster.reset_counts()
        with db.readonly():
            for _ in range(100):
                Item.select().count()
        primary, replicas = reads(cluster)
        assert primary == 0
        assert sorted(replicas) == [0, 100]
        used.add(tuple(replicas))
    assert len(used) == 2  # each scope picks anew, so the scopes share the replicas


@pytest.mark.lesson(14)
def test_prefetch_in_readonly_reads_parents_and_children_from_one_replica(cluster: Any, db: Any) -> None:
    fill(cluster)
    for _ in range(4):
        cluster.reset_counts()
        with db.readonly():
            found = Item.select().prefetch(Note.select())
            assert sum(len(item.notes) for item in found) == 1
        primary, replicas = reads(cluster)
        assert primary == 0
        assert sorted(replicas) == [0, 2]


@pytest.mark.lesson(12)
def test_a_lazy_query_goes_where_it_is_iterated_not_where_it_was_built(cluster: Any, db: Any) -> None:
    fill(cluster)
    with db.primary():
        built_in_primary = Item.select()
        relation = Note.get()
    cluster.reset_counts()
    assert len(list(built_in_primary)) == 10
    assert relation.item.name == "item 0"
    assert len(list(relation.item.notes)) == 1
    primary, replicas = reads(cluster)
    assert (primary, sum(replicas)) == (0, 3)

    built_outside = Item.select().iterator
    cluster.reset_counts()
    with db.primary():
        assert len(list(built_outside())) == 10
    assert reads(cluster) == (1, [0, 0])


LOCKING = [
    "SELECT * FROM item FOR UPDATE",
    "SELECT * FROM item FOR UPDATE;",
    "SELECT * FROM item\nFOR\n\tUPDATE",
    "SELECT * FROM item FOR UPDATE NOWAIT",
    "SELECT * FROM item FOR UPDATE -- the end",
    "SELECT * FROM item FOR/**/UPDATE /* the end */",
    "SELECT * FROM item LOCK IN SHARE MODE",
    "(SELECT * FROM item LOCK IN SHARE MODE)",
    "WITH a AS (SELECT 1 AS x) SELECT * FROM item, a FOR UPDATE",
    "select * from item where id in (select 1) for update",
]
LOCKING_SKIPS = ["SELECT * FROM item FOR UPDATE SKIP LOCKED"]  # MySQL, and MariaDB since 10.6
LOCKING_MYSQL = [
    "SELECT * FROM item FOR SHARE",
    "SELECT * FROM item FOR UPDATE OF item",
    "SELECT * FROM item i FOR SHARE OF i SKIP LOCKED",
]


@pytest.mark.lesson(1)
def test_locking_reads_reach_the_primary_however_they_are_written(cluster: Any, db: Any, server: str) -> None:
    skips = server == "mysql" or version_of(cluster) >= (10, 6)
    texts = LOCKING + (LOCKING_SKIPS if skips else []) + (LOCKING_MYSQL if server == "mysql" else [])
    cluster.reset_counts()
    for text in texts:
        db.execute_sql(text)
    list(Item.select().for_update())
    assert reads(cluster) == (len(texts) + 1, [0, 0])


IN_SESSION = [
    "SELECT LAST_INSERT_ID()",
    "SELECT FOUND_ROWS()",
    "SELECT ROW_COUNT()",
    "SELECT @mine",
    "SELECT @mine := 5",
    "SELECT CONNECTION_ID()",
    "SELECT @@sql_mode",
]


@pytest.mark.lesson(5)
def test_functions_of_the_session_are_answered_by_the_session_that_wrote(cluster: Any, db: Any) -> None:
    db.execute_sql("INSERT INTO item (name, n) VALUES ('a', 0)")
    key = db.execute_sql("SELECT LAST_INSERT_ID()").fetchone()[0]
    with db.primary():
        assert Item.get().id == key
    cluster.reset_counts()
    for text in IN_SESSION:
        db.execute_sql(text)
    assert reads(cluster) == (len(IN_SESSION), [0, 0])


@pytest.mark.lesson(6)
def test_comments_and_literals_neither_hide_a_write_nor_send_a_read_to_the_primary(
    cluster: Any, db: Any
) -> None:
    texts = [
        "/* first */ SELECT 1",
        "-- first\nSELECT 1",
        "# first\nSELECT 1",
        "SELECT 'FOR UPDATE'",
        "SELECT 'it''s; DELETE FROM item'",
        "SELECT 1 /* INSERT INTO item */",
        "SELECT `name` AS `update` FROM item",
    ]
    for text in texts:
        db.execute_sql(text)
    primary, replicas = reads(cluster)
    assert (primary, sum(replicas)) == (0, len(texts))
    for text in (
        "/* SELECT */ INSERT INTO item (name, n) VALUES ('x', 1)",
        "-- SELECT\nINSERT INTO item (name, n) VALUES ('x', 1)",
        "/*!50000 INSERT */ INTO item (name, n) VALUES ('x', 1)",
        "/*! INSERT INTO item (name, n) VALUES ('x', 1) */",
    ):
        db.execute_sql(text)
    assert cluster.counts()["primary"].writes == 4
    cluster.sync()
    assert Item.select().where(Item.name == "x").count() == 4


@pytest.mark.lesson(8)
def test_introspection_and_migrations_ask_the_primary(cluster: Any, db: Any) -> None:
    db.close()
    cluster.reset_counts()
    with db.primary():
        version = db.server_version  # known or not, it is nobody's read
    assert version is not None
    assert "item" in db.get_tables()
    assert db.table_exists("item")
    assert Item.table_exists()
    assert {"id", "name", "n"} == {column.name for column in db.get_columns("item")}
    assert db.get_indexes("item")
    assert db.get_foreign_keys("note")
    assert db.get_primary_keys("item") == ["id"]
    counts = cluster.counts()
    assert [counts[node.name].reads for node in cluster.replicas] == [0, 0]
    assert counts["primary"].reads > 0
    db.execute_sql("CREATE TABLE made_here (id INT PRIMARY KEY)")
    try:
        assert db.table_exists("made_here")  # at once, before any replica can have it
    finally:
        db.execute_sql("DROP TABLE made_here")


def test_writes_and_what_they_return_come_from_the_primary(cluster: Any, db: Any) -> None:
    item = Item.create(name="one", n=1)
    Item.update(n=2).where(Item.id == item.id).execute()
    Item.insert_many([{"name": "two"}, {"name": "three"}]).execute()
    item.delete_instance()
    Item.replace(id=99, name="four").execute()
    counts = cluster.counts()
    assert counts["primary"].writes == 5
    assert [counts[node.name].writes for node in cluster.replicas] == [0, 0]
    cluster.sync()
    for node in cluster.nodes:
        assert node.execute("SELECT COUNT(*) FROM app.item") == [(3,)]


def test_on_primary_binds_a_query_or_a_model_to_the_primary(cluster: Any, db: Any) -> None:
    fill(cluster)
    with db.on_primary.bind_ctx([Item], bind_refs=False, bind_backrefs=False):
        Item.select().count()
        Note.select().count()
    assert reads(cluster)[0] == 1
    assert sum(reads(cluster)[1]) == 1
    cluster.reset_counts()
    Item.select().execute(db.on_primary)
    db.on_primary.execute_sql("SELECT 1")
    with db.readonly():
        db.on_primary.execute_sql("SELECT 1")
    assert reads(cluster) == (3, [0, 0])


def test_reads_primary_makes_reading_from_replicas_opt_in(cluster: Any, db: Any) -> None:
    database = cluster.database(reads="primary", consistency="eventual")
    for _ in range(10):
        database.execute_sql("SELECT 1")
    assert reads(cluster) == (10, [0, 0])
    assert database.explain_route("SELECT 1").reason == 'reads="primary"'
    with database.readonly():
        for _ in range(10):
            database.execute_sql("SELECT 1")
    primary, replicas = reads(cluster)
    assert primary == 10
    assert sorted(replicas) == [0, 10]


def test_observe_sends_all_to_the_primary_and_tells_where_reads_would_have_gone(
    cluster: Any, db: Any
) -> None:
    database = cluster.database(reads="observe", consistency="eventual")
    events: list[Any] = []
    database.route_hooks.append(events.append)
    for _ in range(10):
        database.execute_sql("SELECT 1")
    with database.readonly():
        for _ in range(10):
            database.execute_sql("SELECT 1")
    database.execute_sql("SELECT CONNECTION_ID()")
    assert reads(cluster) == (21, [0, 0])
    assert [cluster.counts()[node.name].connections for node in cluster.replicas] == [0, 0]
    assert {event.role for event in events} == {"primary"}
    outside = [event.observed for event in events[:10]]
    assert outside.count("replica-1") == outside.count("replica-2") == 5
    assert len({event.observed for event in events[10:20]}) == 1
    assert events[20].observed is None  # no read, so it would have gone nowhere else
    assert database.stats()["observed"] == 20


def test_without_replicas_everything_works_on_the_primary_scopes_included(cluster: Any, db: Any) -> None:
    database = cluster.database(replicas=[], consistency="eventual")
    with database.bind_ctx([Item, Note]):
        Item.create(name="a")
        assert Item.select().count() == 1
        with database.readonly():
            assert Item.select().count() == 1
        with database.primary():
            assert Item.select().count() == 1
    assert reads(cluster) == (3, [0, 0])
    assert database.stats()["fallbacks"] == 0


def test_the_primary_takes_part_in_reading_where_it_is_listed(cluster: Any, db: Any) -> None:
    own = cluster.primary
    nodes = [{"host": node.host, "port": node.port} for node in (own, *cluster.replicas)]
    database = cluster.database(replicas=nodes, consistency="eventual")
    for _ in range(30):
        database.execute_sql("SELECT 1")
    assert reads(cluster) == (10, [10, 10])


def test_explain_route_tells_what_then_happens_and_changes_nothing(cluster: Any, db: Any) -> None:
    db.close()
    cluster.reset_counts()
    before = db.stats()
    for _ in range(3):
        db.explain_route("SELECT 1")
    assert db.explain_route("SELECT 1")[:3] == ("replica", None, "read")
    assert db.explain_route("DELETE FROM item")[:3] == ("primary", "primary", "write")
    assert db.explain_route(Item.select()).role == "replica"
    assert db.explain_route(Item.select().for_update()).kind == "locking"
    assert db.explain_route(Item.insert(name="x")).role == "primary"
    assert db.stats() == before
    assert {counts.connections for counts in cluster.counts().values()} == {0}
    with db.atomic():
        assert db.explain_route("SELECT 1").role == "primary"
    with db.readonly():
        db.execute_sql("SELECT 1")
        told = db.explain_route("SELECT 1").node
        events: list[Any] = []
        db.route_hooks.append(events.append)
        db.execute_sql("SELECT 1")
    assert told == events[0].node


def test_explain_route_is_right_where_servers_keep_no_gtids(cluster: Any) -> None:
    database = cluster.database()
    events: list[Any] = []
    database.route_hooks.append(events.append)
    database._parts.consistency.own_session().stick(time.monotonic() + 60)
    for scoped in (False, True):
        with database.readonly() if scoped else contextlib.nullcontext():
            route = database.explain_route("SELECT 1")
            database.execute_sql("SELECT 1")
        assert route.role == "primary"
        assert (route.node, route.reason) == (events[-1].node, events[-1].reason)
    database.close()
