"""`set_replicas()`: nodes come and go while a program reads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pymysql.cursors import SSCursor
from support.clusters.membership import (
    CLASSES,
    database_of_rows,
    gone,
    making,
    nodes_read,
    own_sessions,
    sessions,
    specs,
)
from support.databases.models import Item
from support.databases.nodes import nodes_of
from support.waiting import until

from peewee_replicas import ConfigurationError, PooledReplicatedDatabase, ReplicatedSqliteDatabase

make = pytest.fixture(making)


@CLASSES
def test_the_next_read_goes_by_the_new_list_and_who_stays_keeps_all(
    cluster: Any, make: Callable[..., Any], cls: Any
) -> None:
    database = make(cls)
    first = nodes_of(database)[0]
    assert nodes_read(database, 3) == ["replica-1"] * 3
    mine = own_sessions(first)

    database.set_replicas(specs(cluster, 1, 2))
    assert database.replicas[0] is first.handle
    assert set(nodes_read(database, 30)) == {"replica-1", "replica-2"}
    assert own_sessions(first) == mine
    assert first.connections == 1
    assert first.reads > 3

    database.set_replicas(specs(cluster, 2))
    assert [replica.name for replica in database.replicas] == ["replica-2"]
    assert first.state == "removed"
    assert nodes_read(database, 5) == ["replica-2"] * 5
    until(gone(cluster.replicas[0], mine))
    stats = database.stats()
    assert stats["replicas"] == 38
    assert "replica-1.reads" not in stats
    assert database._parts.cluster.replicas.leaving == ()
    assert cluster.counts()["primary"].reads == 0


BAD: dict[str, tuple[Any, str]] = {
    "nothing": ([], "weight=0"),
    "nothing that was found": (iter(()), "weight=0"),
    "no list": ("replica", "a list is wanted"),
    "misspelt": ([{"hots": "r"}], "did you mean 'host'"),
    "twice": ([{"host": "r"}, {"host": "R."}], "one endpoint"),
    "the second is wrong": ([{"host": "r"}, {"host": "s", "weight": -1}], "weight"),
}


@pytest.mark.lesson(31)
@pytest.mark.parametrize("name", BAD)
def test_a_list_that_cannot_work_or_is_empty_changes_nothing(make: Callable[..., Any], name: str) -> None:
    replicas, message = BAD[name]
    database = make(None, 1, 2)
    core = database._parts.cluster
    before = (core.replicas.all, core.replicas.usable, core.reader)
    with pytest.raises(ConfigurationError, match=message):
        database.set_replicas(replicas)
    assert all(
        now is then
        for now, then in zip((core.replicas.all, core.replicas.usable, core.reader), before, strict=True)
    )
    assert nodes_read(database, 4) == ["replica-1", "replica-2"] * 2


def test_sqlite_has_no_replicas_to_change(tmp_path: Any) -> None:
    database = ReplicatedSqliteDatabase(tmp_path / "file.db")
    with pytest.raises(ConfigurationError, match="SQLite"):
        database.set_replicas([{"host": "r"}])


@CLASSES
def test_rows_that_are_being_streamed_are_streamed_to_the_end(
    cluster: Any, make: Callable[..., Any], cls: Any
) -> None:
    with database_of_rows(cluster, 400):
        database = make(cls, cursorclass=SSCursor)
        database.connect()
        cursor = database.execute_sql("SELECT id, REPEAT('x', 5000) FROM item ORDER BY id")
        rows = [cursor.fetchone()]
        replica = database.replicas[0]
        mine = own_sessions(replica)
        database.set_replicas(specs(cluster, 2))
        assert nodes_read(database, 3) == ["replica-2"] * 3
        assert sessions(cluster.replicas[0], mine) == mine
        rows.extend(cursor)
        assert len(rows) == 400
        cursor.close()
        assert nodes_read(database, 1) == ["replica-2"]
        until(gone(cluster.replicas[0], mine))


@CLASSES
def test_an_open_snapshot_is_read_to_its_end(cluster: Any, make: Callable[..., Any], cls: Any) -> None:
    database = make(cls)
    replica = database.replicas[0]
    count = "SELECT COUNT(*) FROM item"
    with database.readonly(snapshot=True):
        assert database.execute_sql(count).fetchone()[0] == 0
        mine = own_sessions(replica)
        Item.create(name="later")
        cluster.sync()
        database.set_replicas(specs(cluster, 2))
        for _ in range(3):
            assert database.execute_sql(count).fetchone()[0] == 0
        assert sessions(cluster.replicas[0], mine)
    assert database.execute_sql(count).fetchone()[0] == 1
    until(gone(cluster.replicas[0], mine))


@CLASSES
def test_a_scope_whose_node_left_goes_on_at_one_that_shows_what_the_primary_has(
    cluster: Any, make: Callable[..., Any], cls: Any
) -> None:
    database = make(cls, consistency="session")
    with database.readonly():
        assert nodes_read(database, 2) == ["replica-1"] * 2
        mine = own_sessions(database.replicas[0])
        asked = database.stats()["asked"]
        Item.create(name="written elsewhere meanwhile")
        database.set_replicas(specs(cluster, 2))
        assert database.execute_sql("SELECT COUNT(*) FROM item").fetchone()[0] == 1
        assert nodes_read(database, 3) == ["replica-2"] * 3
    assert database.stats()["asked"] == asked + 1
    until(gone(cluster.replicas[0], mine))


def test_a_read_that_was_under_way_ends_well_and_its_connection_is_closed(
    cluster: Any, make: Callable[..., Any]
) -> None:
    database = make()
    replica = database.replicas[0]
    answers: list[Any] = []

    def long_read() -> None:
        answers.append(database.execute_sql("SELECT SLEEP(0.7), 'well'").fetchone()[1])
        database.close()

    thread = threading.Thread(target=long_read)
    thread.start()
    until(lambda: replica.in_flight == 1)
    mine = own_sessions(replica)
    database.set_replicas(specs(cluster, 2))
    assert nodes_read(database, 5) == ["replica-2"] * 5
    assert thread.is_alive()
    thread.join()
    assert answers == ["well"]
    until(gone(cluster.replicas[0], mine))
    assert database.stats()["replicas"] == 6


def test_a_pool_closes_its_idle_connections_at_once(cluster: Any, make: Callable[..., Any]) -> None:
    database = make(PooledReplicatedDatabase)
    replica = nodes_of(database)[0]
    barrier = threading.Barrier(4)

    def read_and_return() -> None:
        database.execute_sql("SELECT 1")
        barrier.wait(10)
        database.close()

    threads = [threading.Thread(target=read_and_return) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mine = own_sessions(replica)
    assert len(mine) == 4
    database.set_replicas(specs(cluster, 2))
    until(gone(cluster.replicas[0], mine))
    assert replica.made.db._connections == []
    assert replica.made.db._in_use == {}


@CLASSES
def test_a_thread_closes_its_own_connection_when_it_next_uses_or_closes_the_database(
    cluster: Any, make: Callable[..., Any], cls: Any
) -> None:
    database = make(cls)
    replica = nodes_of(database)[0]
    changed, read = threading.Event(), threading.Barrier(4)
    uses: list[Callable[[], object]] = [
        database.close,
        lambda: database.execute_sql("SELECT 1"),
        lambda: database.execute_sql("DELETE FROM item"),
    ]
    failures: list[BaseException] = []

    def work(use: Callable[[], object]) -> None:
        try:
            database.execute_sql("SELECT 1")
            read.wait(10)
            assert changed.wait(10)
            use()
            read.wait(10)
            database.close()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(use,)) for use in uses]
    for thread in threads:
        thread.start()
    read.wait(10)
    mine = own_sessions(replica)
    assert len(mine) == 3
    database.set_replicas(specs(cluster, 2))
    assert sessions(cluster.replicas[0], mine) == mine  # no thread touches what another may be using
    changed.set()
    read.wait(10)
    until(gone(cluster.replicas[0], mine))
    for thread in threads:
        thread.join()
    assert not failures
    assert not replica.has_connections()


@pytest.mark.lesson(31)
@CLASSES
def test_changing_the_list_under_8_threads_loses_no_read_and_no_connection(
    cluster: Any, make: Callable[..., Any], cls: Any
) -> None:
    database = make(cls, 1, 2)
    ever = {id(replica): replica for replica in nodes_of(database)}
    stop = threading.Event()
    done, failures = [0] * 8, []

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                database.execute_sql("SELECT 1").fetchall()
                done[number] += 1
                if done[number] % 50 == number:
                    database.close()
            database.close()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    totals = []
    for turn in range(24):
        seen = list(done)
        until(lambda seen=seen: bool(failures) or all(n > m for n, m in zip(done, seen, strict=True)))
        database.set_replicas(specs(cluster, *[(1,), (2,), (1, 2)][turn % 3]))
        ever.update((id(replica), replica) for replica in nodes_of(database))
        totals.append(database.stats()["replicas"])
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert totals == sorted(totals)
    stats = database.stats()
    assert stats["replicas"] == sum(done)
    assert stats["fallbacks"] == stats["retries"] == 0
    counts = cluster.counts()
    assert sum(counts[node.name].reads for node in cluster.replicas) == sum(done)
    database.execute_sql("SELECT 1")
    until(lambda: not any(replica.has_connections() for replica in ever.values() if replica.removed))
    for replica in ever.values():
        if not replica.removed and not isinstance(database, PooledReplicatedDatabase):
            assert len(own_sessions(replica)) <= 1
