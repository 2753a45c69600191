"""`set_replicas()`: nodes come and go while a program reads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Item
from pymysql.cursors import SSCursor
from support.waiting import until

from peewee_replicas import (
    ConfigurationError,
    PooledReplicatedDatabase,
    ReplicatedDatabaseProxy,
    ReplicatedSqliteDatabase,
)
from peewee_replicas.warmup import WarmUp

CLASSES = pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase], ids=["plain", "pooled"])


def spec(node: Any, **more: Any) -> dict[str, Any]:
    return {"name": node.name, "host": node.host, "port": node.port, **more}


def specs(cluster: Any, *places: int, **more: Any) -> list[dict[str, Any]]:
    return [spec(cluster.replicas[place - 1], **more) for place in places]


def sessions(node: Any, ids: set[int]) -> set[int]:
    """Those of these connections that the server has."""
    return ids & {row[0] for row in node.execute("SELECT id FROM information_schema.processlist")}


def gone(node: Any, ids: set[int]) -> Callable[[], bool]:
    return lambda: not sessions(node, ids)


def own_sessions(replica: Any) -> set[int]:
    return {conn.thread_id() for conn in list(replica._opened) if conn.open}


def in_thread(work: Callable[[], object]) -> None:
    """Run it in a thread of its own, and wait for it."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


@pytest.fixture
def make(cluster: Any, db: Any) -> Iterator[Callable[..., Any]]:
    """Make a database over the first replica alone, or over those given, and close it at the end."""
    made: list[Any] = []

    def build(cls: Any = None, *places: int, **arguments: Any) -> Any:
        arguments = {"consistency": "eventual", "probe_interval": None, **arguments}
        database = cluster.database(cls, replicas=specs(cluster, *(places or (1,))), **arguments)
        made.append(database)
        return database

    yield build
    for database in made:
        database.close()


def nodes_read(database: Any, reads: int) -> list[str]:
    seen: list[str] = []

    def hook(event: Any) -> None:
        seen.append(event.node)

    database.route_hooks.append(hook)
    for _ in range(reads):
        database.execute_sql("SELECT 1").fetchall()
    database.route_hooks.remove(hook)
    return seen


@CLASSES
def test_the_next_read_goes_by_the_new_list_and_who_stays_keeps_all(
    cluster: Any, make: Callable[..., Any], cls: Any
) -> None:
    database = make(cls)
    first = database.replicas[0]
    assert nodes_read(database, 3) == ["replica-1"] * 3
    mine = own_sessions(first)

    database.set_replicas(specs(cluster, 1, 2))
    assert database.replicas[0] is first
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
    assert database._replication.replicas.leaving == ()
    assert cluster.counts()["primary"].reads == 0


BAD: dict[str, tuple[Any, str]] = {
    "nothing": ([], "weight=0"),
    "nothing that was found": (iter(()), "weight=0"),
    "no list": ("replica", "a list is wanted"),
    "misspelt": ([{"hots": "r"}], "did you mean 'host'"),
    "twice": ([{"host": "r"}, {"host": "R."}], "one endpoint"),
    "the second is wrong": ([{"host": "r"}, {"host": "s", "weight": -1}], "weight"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.once
def test_lesson_31_a_list_that_cannot_work_or_is_empty_changes_nothing(
    make: Callable[..., Any], name: str
) -> None:
    replicas, message = BAD[name]
    database = make(None, 1, 2)
    core = database._replication
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


def database_of_rows(cluster: Any, rows: int) -> Any:
    class Rows:
        def __enter__(self) -> None:
            Item.insert_many([{"name": "x", "n": number} for number in range(rows)]).execute()
            cluster.sync()

        def __exit__(self, *_: object) -> None:
            Item.delete().execute()

    return Rows()


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
        Item.create(name="written elsewhere meanwhile")
        database.set_replicas(specs(cluster, 2))
        assert database.execute_sql("SELECT COUNT(*) FROM item").fetchone()[0] == 1
        assert nodes_read(database, 3) == ["replica-2"] * 3
    assert database.stats()["asked"] == 1
    until(gone(cluster.replicas[0], mine))


@pytest.mark.once
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


@pytest.mark.once
def test_a_pool_closes_its_idle_connections_at_once(cluster: Any, make: Callable[..., Any]) -> None:
    database = make(PooledReplicatedDatabase)
    replica = database.replicas[0]
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
    assert replica.made._connections == []
    assert replica.made._in_use == {}


@CLASSES
def test_a_thread_closes_its_own_connection_when_it_next_uses_or_closes_the_database(
    cluster: Any, make: Callable[..., Any], cls: Any
) -> None:
    database = make(cls)
    replica = database.replicas[0]
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


@CLASSES
def test_changing_the_list_under_8_threads_loses_no_read_and_no_connection(
    cluster: Any, make: Callable[..., Any], cls: Any
) -> None:
    database = make(cls, 1, 2)
    ever = {id(replica): replica for replica in database.replicas}
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
        ever.update((id(replica), replica) for replica in database.replicas)
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


def test_a_weight_of_0_keeps_a_node_out_and_can_be_raised(cluster: Any, make: Callable[..., Any]) -> None:
    database = make(None, 1, 2)
    kept = database.replicas
    database.set_replicas([*specs(cluster, 1), *specs(cluster, 2, weight=0)])
    assert database.replicas == kept
    assert nodes_read(database, 6) == ["replica-1"] * 6
    assert kept[1].state == "up"
    in_thread(lambda: (database._reach(kept[1]), database.close()))  # it can be had all the same
    database._replication.replicas._warm_up = WarmUp(1e6)
    database.set_replicas([*specs(cluster, 1), *specs(cluster, 2, weight=2)])
    assert nodes_read(database, 120).count("replica-2") == 20  # 0.1 of 2 against 1
    later = time.monotonic() + 1e6
    database._replication.replicas.warm_up(later)
    assert nodes_read(database, 120).count("replica-2") == 80
    database.set_replicas([*specs(cluster, 1, weight=0), *specs(cluster, 2, weight=0)])
    assert nodes_read(database, 2) == ["primary"] * 2
    assert "weight 0" in database.explain_route("SELECT 1").reason


@pytest.mark.parametrize("policy", ["round-robin", "random", "least-busy"])
@pytest.mark.once
def test_a_node_that_is_new_or_comes_back_is_warmed_up(
    cluster: Any, make: Callable[..., Any], policy: str
) -> None:
    database = make(policy=policy)
    replicas = database._replication.replicas
    replicas._warm_up = WarmUp(1e6)
    nodes_read(database, 3)
    database.set_replicas(specs(cluster, 1, 2))
    first, second = database.replicas
    exact = 0 if policy == "round-robin" else 18

    def share() -> int:
        before = second.reads
        nodes_read(database, 110)
        return int(second.reads - before)

    assert share() == pytest.approx(10, abs=exact)
    assert replicas.unsettled
    replicas.warm_up(time.monotonic() + 1e6)
    assert share() == pytest.approx(55, abs=exact)
    assert not replicas.unsettled
    first.eject("a test")
    assert share() == 110
    first.restore()
    assert share() == pytest.approx(100, abs=exact)


@pytest.mark.once
def test_the_step_of_a_warm_up_is_taken_by_whoever_reads(cluster: Any, make: Callable[..., Any]) -> None:
    database = make(None, 1, 2)
    second = database.replicas[1]
    replicas = database._replication.replicas
    replicas._warm_up = WarmUp(0.2)
    second.eject("a test")
    second.restore()
    assert second.current_weight == 0.1
    until(lambda: database.execute_sql("SELECT 1") and second.current_weight == 1.0, 5.0)
    assert not replicas.unsettled
    assert nodes_read(database, 4).count("replica-2") == 2


def test_the_primary_can_begin_and_cease_to_take_part(cluster: Any, make: Callable[..., Any]) -> None:
    database = make()
    too = {"name": "too", "host": cluster.primary.host, "port": cluster.primary.port}
    database.set_replicas([*specs(cluster, 1, weight=0), too])
    assert nodes_read(database, 2) == ["too"] * 2
    assert database._replication.reader is database.replicas[1]
    mine = own_sessions(database.replicas[1])
    database.set_replicas(specs(cluster, 1))
    assert nodes_read(database, 2) == ["replica-1"] * 2
    until(gone(cluster.primary, mine))
    with database.readonly():
        database.replicas[0].eject("a test")
        assert nodes_read(database, 2) == ["primary"] * 2
        mine = own_sessions(database._replication.reader)
        database.set_replicas([*specs(cluster, 1), too])
        assert nodes_read(database, 2) == ["too"] * 2  # the scope stays on the primary
    until(gone(cluster.primary, mine))


def test_reads_of_a_primary_that_ceases_to_take_part_are_counted_once(
    cluster: Any, make: Callable[..., Any]
) -> None:
    database = make()
    too = {"name": "too", "host": cluster.primary.host, "port": cluster.primary.port}
    with database.readonly():  # by the primary as a reader, which is no replica
        database.replicas[0].eject("a test")
        nodes_read(database, 3)
    database.close()
    database.set_replicas([too])
    assert database.stats()["replicas"] == 0
    nodes_read(database, 5)
    rows = database.replicas[0]
    held = database._reach(rows)._state.conn.cursor(SSCursor)
    held.execute("SELECT 1 UNION SELECT 2")  # keeps its connection open
    database.set_replicas(specs(cluster, 1))
    assert database.stats()["replicas"] == 5
    held.close()
    nodes_read(database, 2)
    assert not rows.has_connections()
    assert database.stats()["replicas"] == 7


@pytest.mark.once
def test_other_parameters_make_another_node_and_the_same_in_other_words_do_not(
    cluster: Any, make: Callable[..., Any]
) -> None:
    database = make()
    first = database.replicas[0]
    node = cluster.replicas[0]
    nodes_read(database, 1)
    mine = own_sessions(first)
    url = f"mysql://{cluster.user}:{cluster.password}@{node.host}:{node.port}/{cluster.database_name}"
    database.set_replicas([{**spec(node), "password": cluster.password}])
    assert database.replicas[0] is first
    database.set_replicas([{**spec(node), "host": "localhost"}])  # loopback by another name
    assert database.replicas[0] is first
    database.set_replicas([url])
    assert database.replicas[0] is not first
    assert database.replicas[0].name == f"{node.host}:{node.port}"
    second = database.replicas[0]
    database.set_replicas([{"name": second.name, "host": node.host, "port": node.port, "charset": "utf8mb3"}])
    assert database.replicas[0] is not second
    assert database.execute_sql("SELECT @@character_set_client").fetchone()[0].startswith("utf8")
    until(gone(node, mine))


@pytest.mark.once
def test_the_twin_the_proxy_and_a_later_init_see_the_change(cluster: Any, make: Callable[..., Any]) -> None:
    database = make()
    twin = database.on_primary
    proxy = ReplicatedDatabaseProxy()
    with pytest.raises(AttributeError, match="uninitialized"):
        proxy.set_replicas(specs(cluster, 2))
    proxy.initialize(database)
    proxy.set_replicas(specs(cluster, 2))
    assert [replica.name for replica in twin.replicas] == ["replica-2"]
    twin.set_replicas(specs(cluster, 1, 2))
    assert len(database.replicas) == 2
    assert set(nodes_read(database, 12)) == {"replica-1", "replica-2"}
    with database.readonly():
        assert twin.execute_sql("SELECT @@port").fetchone()[0] == cluster.primary.port
    database.close()
    database.init(database.database)
    assert [replica.name for replica in database.replicas] == ["replica-1", "replica-2"]


@pytest.mark.once
def test_a_database_that_began_without_replicas_can_be_given_some(cluster: Any, db: Any) -> None:
    database = cluster.database(consistency="eventual", replicas=(), probe_interval=None)
    assert nodes_read(database, 2) == ["primary"] * 2
    database.set_replicas(specs(cluster, 1, 2))
    assert nodes_read(database, 4) == ["replica-1", "replica-2"] * 2  # none is warm, so both count in full
    database.close()


@pytest.mark.once
@CLASSES
def test_a_forked_child_leaves_the_connections_to_removed_nodes_to_its_parent(
    cluster: Any, make: Callable[..., Any], cls: Any
) -> None:
    with database_of_rows(cluster, 400):
        database = make(cls, cursorclass=SSCursor)
        database.connect()
        cursor = database.execute_sql("SELECT id, REPEAT('x', 5000) FROM item ORDER BY id")
        rows = [cursor.fetchone()]
        mine = own_sessions(database.replicas[0])
        total = database.stats()["replicas"]
        database.set_replicas(specs(cluster, 2))
        child = os.fork()
        if child == 0:
            try:
                well = nodes_read(database, 2) == ["replica-2"] * 2
                well = well and database.stats()["replicas"] == total + 2
                database.set_replicas(specs(cluster, 1))
                well = well and nodes_read(database, 1) == ["replica-1"]
                os._exit(0 if well else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert sessions(cluster.replicas[0], mine) == mine
        rows.extend(cursor)
        assert len(rows) == 400
        cursor.close()
