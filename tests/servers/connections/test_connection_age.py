"""`max_connection_age`: idle connections are replaced, so that a name's new address is found; no others are.

Who keeps a connection was listed from the places that store one: a thread's or task's state at the primary
and at a node, the two kinds of pools, a snapshot, and the prober. An age of a microsecond makes every
connection old at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from support.clusters.lagging import bound
from support.databases.models import Item
from support.proxies.relay import Relay
from support.waiting import until

from peewee_replicas import ConfigurationError, PooledReplicatedDatabase, ReplicatedSqliteDatabase

AT_ONCE = 1e-6


@pytest.fixture
def moving(cluster: Any, db: Any) -> Iterator[Relay]:
    """An address that leads to the first replica, and may be moved to the second."""
    Item.create(name="a")
    cluster.sync()
    db.close()
    with Relay(cluster.replicas[0].port) as relay:
        yield relay


def behind(relay: Relay, cluster: Any, kind: Any = None, **options: Any) -> Any:
    listed = [{"name": "moving", "host": "127.0.0.1", "port": relay.port}]
    database = cluster.database(kind, **{"replicas": listed, "consistency": "eventual", **options})
    database.bind([Item])
    return database


def served(cluster: Any) -> list[int]:
    counts = cluster.counts()
    return [counts[node.name].reads for node in cluster.replicas]


def read(database: Any, pooled: bool) -> None:
    with database.connection_context() if pooled else nullcontext():
        assert Item.select().count() == 1


@pytest.mark.usefixtures("form")
def test_a_moved_address_is_found(cluster: Any, moving: Relay) -> None:
    database = behind(moving, cluster, max_connection_age=1)
    read(database, False)
    cluster.reset_counts()
    moving.lead_to(cluster.replicas[1].port)
    until(lambda: (read(database, False), served(cluster)[1])[1])
    before = served(cluster)[0]
    for _ in range(5):
        read(database, False)
    assert served(cluster)[0] == before
    database.close()


def test_a_moved_address_is_found_by_a_pool(cluster: Any, moving: Relay) -> None:
    database = behind(moving, cluster, PooledReplicatedDatabase, max_connection_age=AT_ONCE)
    read(database, True)
    cluster.reset_counts()
    moving.lead_to(cluster.replicas[1].port)
    read(database, True)
    assert served(cluster) == [0, 1]


def test_the_prober_finds_it_too(cluster: Any, moving: Relay) -> None:
    database = behind(moving, cluster, max_connection_age=1, probe_interval=0.5)
    read(database, False)
    until(lambda: database.replicas[0].lag is not None)
    cluster.reset_counts()
    moving.lead_to(cluster.replicas[1].port)
    until(lambda: database.health().probed and cluster.counts()["replica-2"].connections)
    database.close()
    database.dispose()


@pytest.mark.usefixtures("form")
def test_connections_live_on_without_it(cluster: Any, moving: Relay) -> None:
    database = behind(moving, cluster)
    read(database, False)
    moving.lead_to(cluster.replicas[1].port)
    cluster.reset_counts()
    for _ in range(5):
        read(database, False)
    assert served(cluster) == [5, 0]
    database.close()


def session(database: Any) -> int:
    return int(database.execute_sql("SELECT CONNECTION_ID()").fetchone()[0])


@pytest.mark.usefixtures("form")
def test_the_primarys_connection_is_replaced_only_while_it_is_idle(pair: Any) -> None:
    with bound(pair, max_connection_age=AT_ONCE) as db:

        def write() -> None:
            db.execute_sql("UPDATE slot SET n = n + 1")

        write()
        before = session(db)
        write()
        assert session(db) != before
        with db.atomic():
            inside = session(db)
            write()
            assert session(db) == inside
            with db.atomic():
                write()
            assert session(db) == inside
        with db.atomic():
            assert session(db) != inside  # begins on a new one
        db.execute_sql("CREATE TEMPORARY TABLE basket (id INT)")
        kept = session(db)
        for _ in range(3):
            write()
            db.execute_sql("SELECT * FROM basket")
        assert session(db) == kept


def test_what_belongs_to_the_session_finds_it(pair: Any) -> None:
    with bound(pair, max_connection_age=AT_ONCE) as db:
        for number in range(3):
            key = db.execute_sql("INSERT INTO mark (name) VALUES (%s)", (f"m{number}",)).lastrowid
            db.execute_sql("UPDATE slot SET n = n + 1")
            with db.atomic():
                db.execute_sql("UPDATE slot SET n = n + 1")
            assert db.execute_sql("SELECT LAST_INSERT_ID()").fetchone() == (key,)
            db.execute_sql("INSERT INTO mark (name) VALUES (CONCAT('after-', LAST_INSERT_ID()))")
            named = db.execute_sql("SELECT COUNT(*) FROM mark WHERE name = %s", (f"after-{key}",))
            assert named.fetchone() == (1,)
        kept = session(db)
        db.close()
        assert session(db) != kept


@pytest.mark.parametrize(
    ("form", "snapshot"),
    # The asyncio form takes a connection from the pool for each read, unless it is a snapshot's.
    [("threads", False), ("threads", True), ("asyncio", True)],
    indirect=["form"],
)
def test_a_scope_keeps_its_connection(pair: Any, form: str, snapshot: bool) -> None:
    with bound(pair, max_connection_age=AT_ONCE, consistency="eventual") as db:
        db.close()
        pair.reset_counts()
        with db.readonly(snapshot=snapshot):
            for _ in range(5):
                db.execute_sql("SELECT n FROM slot").fetchall()
        in_scope = pair.counts()["replica-1"].connections
        for _ in range(5):
            db.execute_sql("SELECT n FROM slot").fetchall()
        assert in_scope <= 2  # a snapshot has one of its own
        assert pair.counts()["replica-1"].connections >= in_scope + 4


def test_sqlite_refuses_it(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_connection_age: SQLite"):
        ReplicatedSqliteDatabase(tmp_path / "a.db", max_connection_age=5)  # type: ignore[call-arg]
