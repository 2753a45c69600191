"""Connections and nodes that fail at odd moments."""

from __future__ import annotations

import threading
import time
from typing import Any

import peewee
import pytest
from support.clusters import own_cluster

from peewee_replicas import (
    NoReplicaAvailable,
    PooledReplicatedDatabase,
    ReadOnlyViolation,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
)

READ = "SELECT COUNT(*) FROM item"
PORT = "SELECT @@port"


@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_a_hung_replica_costs_many_threads_one_timeout(server: str, cls: Any) -> None:
    with own_cluster(server, replicas=1) as cluster:
        database = cluster.database(cls, connect_timeout=1, consistency="eventual")
        database.on_primary.execute_sql("SELECT 1")
        cluster.replicas[0].pause()
        took, answers = [], []

        def work() -> None:
            began = time.monotonic()
            answers.append(database.execute_sql("SELECT 1").fetchone()[0])
            took.append(time.monotonic() - began)
            database.close()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cluster.replicas[0].resume()
        assert answers == [1] * 8
        assert max(took) < 4.0  # one after the other they would take 8
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


def test_a_replica_that_refuses_the_user_is_named(cluster: Any) -> None:
    parameters = cluster.parameters("primary")
    replica = {"name": "locked", "port": cluster.replicas[0].port, "password": "wrong"}
    database = ReplicatedDatabase(parameters.pop("database"), **parameters, replicas=[replica])
    with pytest.raises(peewee.OperationalError, match=r"locked.*Access denied"):
        database.execute_sql("SELECT 1")


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
