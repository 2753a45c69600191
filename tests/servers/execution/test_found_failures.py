"""Connections and nodes that fail at odd moments."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from graphlib import CycleError, TopologicalSorter
from typing import Any

import peewee
import pytest
from playhouse.pool import PooledDatabase
from support.clusters import own_cluster
from support.forms.threads import in_threads

from peewee_replicas import (
    NoReplicaAvailable,
    PooledReplicatedDatabase,
    ReadOnlyViolation,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
)
from peewee_replicas.nodes import breaker as health

pytestmark = pytest.mark.once

READ = "SELECT COUNT(*) FROM item"
LONG = (
    "WITH RECURSIVE n AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM n WHERE a < 300) "
    "SELECT COUNT(*) FROM n AS x, n AS y, n AS z"
)
PORT = "SELECT @@port"


@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_a_hung_replica_costs_many_threads_one_timeout(
    server: str, cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FIRST_PAUSE", 600.0)  # no thread that comes late tries it again
    with own_cluster(server, replicas=1) as cluster:
        database = cluster.database(cls, connect_timeout=1, consistency="eventual", probe_interval=None)
        database.on_primary.execute_sql("SELECT 1")
        cluster.replicas[0].pause()

        def work() -> int:
            with database.connection_context():
                return int(database.execute_sql("SELECT 1").fetchone()[0])

        assert in_threads(8, work) == [1] * 8
        cluster.replicas[0].resume()
        assert database.replicas[0].unreached == 1  # one after the other they would have waited 8 times
        assert database.stats()["replica-1.ejections"] == 1


def test_a_connection_that_the_user_closed_is_replaced(db: Any) -> None:
    with db.readonly():
        db.execute_sql(READ)
        db.connection().close()
        assert db.execute_sql(READ).fetchone() == (0,)


def test_reads_go_on_after_the_primarys_connection_died_in_a_transaction(db: Any, cluster: Any) -> None:
    db.execute_sql("BEGIN")
    number = db.connection().thread_id()
    cluster.primary.execute(f"KILL {number}")
    with pytest.raises(peewee.PeeweeException):
        while True:  # until the kill has arrived
            db.execute_sql(READ)
    assert db.explain_route(READ).role == "replica"
    assert db.execute_sql(READ).fetchone() == (0,)
    with pytest.raises(peewee.InterfaceError):  # as peewee's own, a write says so until close()
        db.execute_sql("DELETE FROM item")


def test_a_raw_cursor_in_readonly_sees_what_was_written(server: str) -> None:
    with own_cluster(server, replicas=1) as cluster:
        database = cluster.database(catch_up_timeout=0.05)
        database.execute_sql("CREATE TABLE item (n INT)")
        cluster.sync()
        cluster.replicas[0].freeze()
        database.execute_sql("INSERT INTO item VALUES (1)")
        with database.readonly():
            for cursor in (database.cursor(), database.connection().cursor()):
                cursor.execute(READ)
                assert cursor.fetchone() == (1,)


def test_a_raw_cursor_of_on_primary_in_readonly_is_on_the_primary(db: Any, cluster: Any) -> None:
    with db.readonly():
        for cursor in (db.on_primary.cursor(), db.on_primary.connection().cursor()):
            cursor.execute(PORT)
            assert cursor.fetchone() == (cluster.primary.port,)
            with pytest.raises(ReadOnlyViolation):
                cursor.execute("DELETE FROM item")


def test_a_raw_cursor_in_readonly_is_refused_where_the_primary_carries_a_temporary_table(db: Any) -> None:
    db.execute_sql("CREATE TEMPORARY TABLE aside (n INT)")
    with db.readonly(), pytest.raises(ReadOnlyViolation, match="temporary table"):
        db.cursor()


def test_a_schema_that_has_not_arrived_is_read_on_the_primary(server: str) -> None:
    with own_cluster(server, replicas=1) as cluster:
        cluster.replicas[0].freeze()
        cluster.primary.execute("CREATE DATABASE late")
        cluster.primary.execute("CREATE TABLE late.item (n INT)")
        database = cluster.database(database="late", user=cluster.admin_user)
        assert database.execute_sql(READ).fetchone() == (0,)
        assert database.replicas[0].state == "up"


def test_a_replica_that_refuses_the_user_is_named(cluster: Any, caplog: pytest.LogCaptureFixture) -> None:
    parameters = cluster.parameters("primary")
    replica = {"name": "locked", "port": cluster.replicas[0].port, "password": "wrong"}
    name = parameters.pop("database")
    database = ReplicatedDatabase(
        name, **parameters, replicas=[replica], fallback="error", probe_interval=None
    )
    with pytest.raises(NoReplicaAvailable, match=r"locked.*denied.*configuration: check user"):
        database.execute_sql("SELECT 1")
    assert "configuration" in caplog.text


def test_the_error_names_all_nodes_also_when_the_replicas_were_ejected_before(server: str) -> None:
    with own_cluster(server, replicas=1) as cluster:
        database = cluster.database(connect_timeout=1)
        for node in cluster.nodes:
            node.kill()
        for _ in range(2):
            with pytest.raises(NoReplicaAvailable, match=r"replica-1.*the primary") as caught:
                database.execute_sql("SELECT 1")
            assert isinstance(caught.value.__cause__, peewee.OperationalError)


def test_a_read_longer_than_a_packet_waits_too(server: str) -> None:
    with own_cluster(server, replicas=1, options={"*": {"max_allowed_packet": "64M"}}) as cluster:
        database = cluster.database(catch_up_timeout=5.0)
        database.execute_sql("CREATE TABLE item (n INT)")
        for length in (2**24 - 30, 2**24, 2**25):
            database.execute_sql("INSERT INTO item VALUES (1)")
            sql = f"SELECT /*{'x' * length}*/ 1"
            assert database.execute_sql(sql).fetchone() == (1,)
            assert database.execute_sql("SELECT 2").fetchone() == (2,)
        assert database.stats()["replica-1.reads"] == 6


def test_a_proxys_decorator_refuses_the_write_of_a_decorated_object(db: Any) -> None:
    proxy = ReplicatedDatabaseProxy()

    class Writer:
        def __call__(self) -> Any:
            yield db.execute_sql("DELETE FROM item")

    decorated = proxy.readonly()(Writer())
    proxy.initialize(db)
    with pytest.raises(ReadOnlyViolation):
        list(decorated())


def test_what_is_explained_is_what_happens_where_servers_keep_no_gtids(cluster: Any) -> None:
    database = cluster.database()
    events: list[Any] = []
    database.route_hooks.append(events.append)
    database._replication.consistency.own_session().stick(time.monotonic() + 60)
    for scoped in (False, True):
        with database.readonly() if scoped else contextlib.nullcontext():
            route = database.explain_route("SELECT 1")
            database.execute_sql("SELECT 1")
        assert route.role == "primary"
        assert (route.node, route.reason) == (events[-1].node, events[-1].reason)
    database.close()


def test_a_read_without_replicas_asks_the_primary_nothing_else(cluster: Any) -> None:
    database = cluster.database()
    for replica in database.replicas:
        replica.eject("away")
    database.on_primary.execute_sql("SELECT 1")  # leaves it owing the primary's position
    database.execute_sql("SELECT 1")
    database.execute_sql("SELECT 1")
    assert database.stats()["asked"] == 0
    assert database.stats()["fallbacks"] == 2
    database.close()


def test_no_read_is_lost_when_a_replica_is_stopped_in_order(server: str) -> None:
    with own_cluster(server, replicas=1) as cluster:
        database = cluster.database(consistency="eventual")
        database.execute_sql("SELECT 1")
        going, answers = threading.Event(), []

        def work() -> None:
            database.execute_sql("SELECT 1")
            going.set()
            answers.append(database.execute_sql(LONG).fetchone()[0])
            database.close()

        thread = threading.Thread(target=work)
        thread.start()
        assert going.wait(20)
        running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'WITH RECURSIVE%'"
        while not cluster.replicas[0].execute(running)[0][0]:
            pass
        cluster.replicas[0].stop()
        thread.join()
        assert answers == [300**3]
        assert database.stats()["primary"] == 1


class Interrupted(BaseException):
    """What a timeout of gevent's or a signal raises in mid-query."""


@pytest.mark.parametrize("place", ["replica", "primary"])
def test_an_interrupted_statement_leaves_no_answer_for_the_next(db: Any, place: str) -> None:
    database = db if place == "replica" else db.on_primary

    def interrupt(*_: object) -> None:
        raise Interrupted

    database.execute_sql("SELECT 1")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            database.execute_sql("SELECT 'late', SLEEP(3)")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert database.execute_sql("SELECT 'next'").fetchone() == ("next",)


def pool_waits(database: Any, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Filled with what threads hold whenever they may wait for a pool's connection, and that pool's node."""
    connect = PooledDatabase.connect
    found: set[tuple[str, str]] = set()

    def noted(pool: Any, reuse_if_open: bool = False) -> Any:
        held = [node._node.label for node in database._open_nodes()]
        held += ["the primary"] if database._state.conn is not None else []
        found.update((one, "the primary" if pool is database else pool._node.label) for one in held)
        return connect(pool, reuse_if_open)

    monkeypatch.setattr(PooledDatabase, "connect", noted)
    return found


def have_one_order(waits: set[tuple[str, str]]) -> bool:
    """Whether no threads can ever wait for each other in a circle."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for held, wanted in waits:
        sorter.add(wanted, held)
    try:
        sorter.prepare()
    except CycleError:
        return False
    return True


def test_small_pools_do_not_wait_for_each_other(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # A wait that runs into this timeout raises.
    database = cluster.database(PooledReplicatedDatabase, max_connections=2, timeout=60)
    waits = pool_waits(database, monkeypatch)
    database.execute_sql("DROP TABLE IF EXISTS pooled")
    database.execute_sql("CREATE TABLE pooled (n INT)")
    database.close()

    def work() -> None:
        for _ in range(15):
            with database.connection_context():
                for _ in range(2):
                    database.execute_sql("SELECT COUNT(*) FROM pooled").fetchone()
                    database.execute_sql("INSERT INTO pooled VALUES (1)")
                    with database.readonly():
                        database.execute_sql("SELECT COUNT(*) FROM pooled").fetchone()

    in_threads(6, work)
    assert {wanted for _, wanted in waits} >= {"the primary"}
    assert have_one_order(waits), waits
    # What other threads have written, a replica need not show to this one yet.
    assert database.on_primary.execute_sql("SELECT COUNT(*) FROM pooled").fetchone() == (6 * 15 * 2,)
    database.execute_sql("DROP TABLE pooled")
    database.close_all()


def test_small_pools_of_the_primary_do_not_wait_for_each_other(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = cluster.database(PooledReplicatedDatabase, replicas=(), max_connections=1, timeout=60)
    waits = pool_waits(database, monkeypatch)
    database.execute_sql("SELECT 1")
    ready, go = threading.Event(), threading.Event()
    answers: list[Any] = []

    def other() -> None:
        with database.readonly():
            answers.append(database.execute_sql("SELECT 2").fetchone())
            ready.set()
            go.wait(60)
        answers.append(database.execute_sql("SELECT GET_LOCK('none', 0) + 2").fetchone())
        database.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert ready.wait(60)
    with database.readonly():  # the other one has the connection for reading, this one the primary's own
        assert database.execute_sql("SELECT 3").fetchone() == (3,)
        with pytest.raises(ReadOnlyViolation):
            database.execute_sql("DELETE FROM item")
    go.set()
    database.close()
    thread.join()
    assert answers == [(2,), (3,)]
    # Only the other one, which had nothing that this one needed.
    assert waits == {(database._replication.reader.label, "the primary")}
    database.close_all()
