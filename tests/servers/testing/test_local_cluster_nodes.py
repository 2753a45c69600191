"""LocalCluster at work: replication, and what can be done to a node and asked of it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pymysql
import pytest
from support.clusters import SERVERS, administrator, own_cluster
from support.waiting import until

from peewee_replicas.testing import Counts, LocalCluster

PATIENCE = 30.0


@pytest.fixture(scope="module", params=SERVERS)
def running(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with own_cluster(request.param) as cluster:
        cluster.primary.execute("CREATE TABLE app.item (id INT PRIMARY KEY, name VARCHAR(20))")
        cluster.sync()
        yield cluster


@pytest.fixture
def cluster(running: LocalCluster) -> Iterator[LocalCluster]:
    """The module's cluster, empty and with every node as it should be."""
    running.primary.execute("DELETE FROM app.item")
    running.sync()
    running.reset_counts()
    yield running
    for node in running.nodes:
        node.resume()
        node.start()
    for node in running.replicas:
        node.thaw()
        node.delay(0)
    running.sync(PATIENCE)


@contextmanager
def client(cluster: LocalCluster, name: str, **options: Any) -> Iterator[pymysql.cursors.Cursor]:
    parameters = {**cluster.parameters(name), "autocommit": True, **options}
    with closing(pymysql.connect(**parameters)) as connection, connection.cursor() as cursor:
        yield cursor


def insert(cluster: LocalCluster, *ids: int) -> None:
    with client(cluster, "primary") as cursor:
        for number in ids:
            cursor.execute("INSERT INTO item VALUES (%s, 'x')", (number,))


def ids(cluster: LocalCluster, name: str) -> list[int]:
    return [row[0] for row in cluster.node(name).execute("SELECT id FROM app.item ORDER BY id")]


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# Replication


def test_replicas_get_what_the_primary_writes(cluster: LocalCluster) -> None:
    insert(cluster, 1, 2, 3)
    cluster.sync()
    assert ids(cluster, "replica-1") == ids(cluster, "replica-2") == [1, 2, 3]
    roles = [node.role for node in cluster.nodes]
    assert roles == ["primary", "replica", "replica"]
    assert cluster.nodes == (cluster.primary, *cluster.replicas)
    assert cluster.version in cluster.primary.execute("SELECT VERSION()")[0][0]
    assert len({node.port for node in cluster.nodes}) == 3


def test_nodes_are_servers_of_their_own(cluster: LocalCluster) -> None:
    variable = "@@server_uuid" if cluster.server == "mysql" else "@@server_id"
    assert len({node.execute(f"SELECT {variable}")[0][0] for node in cluster.nodes}) == 3


def test_servers_listen_on_loopback_alone(cluster: LocalCluster) -> None:
    for node in cluster.nodes:
        assert node.execute("SELECT @@bind_address")[0][0] == "127.0.0.1"


def test_the_application_user_is_not_an_administrator(cluster: LocalCluster) -> None:
    with client(cluster, "replica-1") as cursor:
        with pytest.raises(pymysql.MySQLError) as caught:
            cursor.execute("INSERT INTO item VALUES (1, 'x')")
        assert caught.value.args[0] == 1290
    with client(cluster, "primary") as cursor, pytest.raises(pymysql.MySQLError):
        cursor.execute("CREATE DATABASE other")


def test_the_administrator_logs_in_over_tcp(cluster: LocalCluster) -> None:
    with client(cluster, "replica-2", user=cluster.admin_user) as cursor:
        cursor.execute("SHOW GRANTS")
        assert "GRANT OPTION" in str(cursor.fetchall())


def test_logging_in_needs_neither_tls_nor_cryptography(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pymysql._auth._have_cryptography", False)
    cluster.replicas[0].kill()
    cluster.replicas[0].start()
    for user in (cluster.user, cluster.admin_user):
        with client(cluster, "replica-1", user=user, ssl_disabled=True) as cursor:
            assert cursor.execute("SELECT 1") == 1


@pytest.mark.parametrize("user", ["root", ""])
def test_nobody_gets_in_without_the_password(cluster: LocalCluster, user: str) -> None:
    for node in cluster.nodes:
        with pytest.raises(pymysql.MySQLError) as caught:
            pymysql.connect(host=node.host, port=node.port, user=user, password="")
        assert caught.value.args[0] == 1045


def test_a_node_that_does_not_exist_is_named(cluster: LocalCluster) -> None:
    with pytest.raises(KeyError, match=r"replica-7.*primary, replica-1, replica-2"):
        cluster.parameters("replica-7")


# sync()


def test_sync_names_the_replica_that_is_late_and_why(cluster: LocalCluster) -> None:
    cluster.replicas[0].delay(60)
    insert(cluster, 1)
    with pytest.raises(TimeoutError, match=r"replica-1.*delay 60 s") as caught:
        cluster.sync(0.5)
    assert "replica-2" not in str(caught.value)


def test_sync_tells_of_a_broken_replica_without_waiting(cluster: LocalCluster) -> None:
    replica = cluster.replicas[1]
    replica.execute("SET GLOBAL read_only = OFF")
    with closing(administrator(cluster, "replica-2")) as own, own.cursor() as cursor:
        cursor.execute("INSERT INTO item VALUES (7, 'here first')")
    insert(cluster, 7)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"(?s)replica-2.*(uplicate entry|HA_ERR_FOUND_DUPP_KEY)"):
        cluster.sync(PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    with closing(administrator(cluster, "replica-2")) as own, own.cursor() as cursor:
        cursor.execute("DELETE FROM item WHERE id = 7")
    replica.execute("SET GLOBAL read_only = ON")
    replica.freeze()
    replica.thaw()
    cluster.sync(PATIENCE)
    assert ids(cluster, "replica-2") == [7]


def test_sync_passes_over_nodes_that_cannot_follow(cluster: LocalCluster) -> None:
    cluster.replicas[0].freeze()
    cluster.replicas[1].pause()
    insert(cluster, 1)
    cluster.sync(5)
    assert ids(cluster, "replica-1") == []


def test_sync_needs_the_primary(cluster: LocalCluster) -> None:
    cluster.primary.kill()
    with pytest.raises(RuntimeError, match="primary is down"):
        cluster.sync()


# One node's life


@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("name", ["primary", "replica-1"])
def test_a_node_that_went_down_comes_back_as_it_was(cluster: LocalCluster, name: str, how: str) -> None:
    node = cluster.node(name)
    insert(cluster, 1)
    cluster.sync()
    port, pid = node.port, node.pid
    getattr(node, how)()
    assert (node.pid, node.state) == (None, "stopped")
    assert refused(port)
    with pytest.raises(RuntimeError, match=f"{name} is down"):
        node.execute("SELECT 1")
    node.start()
    assert node.port == port
    assert node.pid not in (None, pid)
    insert(cluster, 2)
    cluster.sync(PATIENCE)
    assert ids(cluster, "replica-1") == [1, 2]


def test_a_node_that_is_down_keeps_its_port(cluster: LocalCluster) -> None:
    node = cluster.replicas[0]
    node.kill()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((node.host, node.port))
    assert refused(node.port)


def test_a_node_waits_for_its_port_while_another_program_has_it(server: str) -> None:
    with own_cluster(server, 0) as cluster, ThreadPoolExecutor(1) as thread:
        node = cluster.primary
        node.kill()
        node._free_port()  # or nobody could take it
        with socket.socket() as other:
            other.bind((node.host, node.port))
            other.listen()
            starting = thread.submit(node.start)
            until(lambda: "ddress already in use" in node.log_tail(), PATIENCE)
        starting.result()
        assert node.execute("SELECT 1") == [(1,)]


def test_a_server_that_dies_by_itself_is_seen_to_be_down(cluster: LocalCluster) -> None:
    node = cluster.replicas[0]
    with client(cluster, "replica-1", user=cluster.admin_user) as cursor:
        cursor.execute("SHUTDOWN")
    until(lambda: node.pid is None, PATIENCE)
    assert node.state == "stopped"
    with pytest.raises(RuntimeError, match=r"(?s)replica-1 has ended by itself with code 0 .*\n.*hutdown"):
        node.execute("SELECT 1")
    node.start()
    insert(cluster, 1)
    cluster.sync(PATIENCE)
    assert ids(cluster, "replica-1") == [1]


def test_a_server_that_somebody_killed_is_not_said_to_have_been_stopped(cluster: LocalCluster) -> None:
    node = cluster.replicas[0]
    assert node.pid is not None
    os.kill(node.pid, signal.SIGKILL)
    until(lambda: node.pid is None, PATIENCE)
    with pytest.raises(RuntimeError, match=r"replica-1 was not stopped by its cluster, but killed"):
        node.execute("SELECT 1")
    node.start()
    assert node.execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_node_that_its_cluster_ends_is_never_said_to_have_ended_by_itself(
    cluster: LocalCluster, how: str
) -> None:
    node, found = cluster.replicas[0], set()

    def ask() -> None:
        while node.pid is not None:
            pass  # faster than the one that waits for its end
        with pytest.raises(RuntimeError) as caught:
            node.execute("SELECT 1")
        found.add(str(caught.value))

    for _ in range(3):
        asking = threading.Thread(target=ask)
        asking.start()
        getattr(node, how)()
        asking.join(PATIENCE)
        node.start()
    assert found == {"replica-1 is down and cannot answer: start() it first"}


def test_a_paused_node_says_nothing_until_it_is_resumed(cluster: LocalCluster) -> None:
    node = cluster.replicas[0]
    node.pause()
    assert node.state == "paused"
    assert node.pid is not None
    with pytest.raises(pymysql.MySQLError):
        pymysql.connect(**cluster.parameters(node), read_timeout=0.2)
    with pytest.raises(RuntimeError, match="replica-1 is paused"):
        node.execute("SELECT 1")
    insert(cluster, 1)
    node.resume()
    cluster.sync(PATIENCE)
    assert ids(cluster, "replica-1") == [1]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_paused_node_can_be_ended(cluster: LocalCluster, how: str) -> None:
    node = cluster.replicas[0]
    node.pause()
    getattr(node, how)()
    assert node.state == "stopped"
    node.start()
    assert node.state == "running"
    assert node.execute("SELECT 1") == [(1,)]


def test_a_frozen_replica_stands_still_also_over_a_restart(cluster: LocalCluster) -> None:
    node = cluster.replicas[0]
    node.freeze()
    insert(cluster, 1)
    cluster.sync()
    assert ids(cluster, "replica-2") == [1]
    assert ids(cluster, "replica-1") == []
    node.kill()
    node.start()
    insert(cluster, 2)
    cluster.sync()
    assert ids(cluster, "replica-1") == []
    node.thaw()
    cluster.sync()
    assert ids(cluster, "replica-1") == [1, 2]


def test_a_delayed_replica_is_that_late(cluster: LocalCluster) -> None:
    node = cluster.replicas[0]
    node.delay(2)
    began = time.monotonic()
    insert(cluster, 1)
    at_once = ids(cluster, "replica-1")
    # The servers count in whole seconds of their clocks.
    assert at_once == [] or time.monotonic() - began > 0.9
    cluster.sync(PATIENCE)
    assert time.monotonic() - began > 0.9
    assert ids(cluster, "replica-1") == [1]
    assert node.replication_status()["SQL_Delay"] == 2
    node.delay(0)
    assert node.replication_status()["SQL_Delay"] == 0
    insert(cluster, 2)
    cluster.sync(PATIENCE)
    assert ids(cluster, "replica-1") == [1, 2]


@pytest.mark.parametrize("seconds", [-1, 0.5])
def test_delay_takes_whole_seconds(cluster: LocalCluster, seconds: float) -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        cluster.replicas[0].delay(seconds)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["freeze", "thaw"])
def test_the_primary_has_nothing_to_apply(cluster: LocalCluster, what: str) -> None:
    with pytest.raises(RuntimeError, match="is for replicas"):
        getattr(cluster.primary, what)()


# counts()


def test_counts_are_what_clients_did(cluster: LocalCluster) -> None:
    with client(cluster, "primary") as cursor:
        cursor.execute("INSERT INTO item VALUES (1, 'x'), (2, 'x')")
        cursor.execute("REPLACE INTO item VALUES (2, 'y')")
        cursor.execute("UPDATE item SET name = 'z' WHERE id = 1")
        cursor.execute("BEGIN")
        cursor.execute("DELETE FROM item WHERE id = 1")
        cursor.execute("COMMIT")
        cursor.execute("SELECT 1")
    for _ in range(3):
        with client(cluster, "replica-1") as cursor:
            cursor.execute("SELECT * FROM item")
            cursor.execute("SELECT 1")
    cluster.sync()
    assert cluster.replicas[0].execute("SELECT * FROM app.item") == [(2, "y")]
    assert cluster.replicas[0].execute("DO 1") == []
    counts = cluster.counts()
    primary = counts["primary"]
    assert (primary.reads, primary.writes, primary.begins, primary.commits) == (1, 4, 1, 1)
    assert primary.connections == 1
    assert primary.raw["Com_replace"] == 1
    replica = counts["replica-1"]
    assert (replica.reads, replica.writes, replica.connections) == (6, 0, 3)
    assert counts["replica-2"] == Counts()
    cluster.reset_counts()
    assert list(cluster.counts().values()) == [Counts()] * 3


def test_counts_do_not_miss_the_last_read(cluster: LocalCluster) -> None:
    for number in range(1, 41):
        with client(cluster, "replica-1") as cursor:
            cursor.execute("SELECT 1")
        assert cluster.replicas[0].counts().reads == number


def test_killing_the_clusters_own_session_changes_nothing(cluster: LocalCluster) -> None:
    cluster.sync()
    cluster.reset_counts()
    others = "SELECT id FROM information_schema.processlist WHERE user = 'cluster' AND id <> CONNECTION_ID()"
    for node in cluster.nodes:
        sessions = node.execute(others)
        assert len(sessions) == 1  # that of the questions above
        node.execute("KILL %s", sessions[0])
    cluster.sync()
    assert all(counts == Counts() for counts in cluster.counts().values())


def test_threads_that_ask_at_once_leave_one_session(cluster: LocalCluster) -> None:
    ready = threading.Barrier(4)

    def ask() -> None:
        for _ in range(20):
            ready.wait(30)
            cluster.primary.position()

    with ThreadPoolExecutor(4) as pool:
        for asking in [pool.submit(ask) for _ in range(4)]:
            asking.result(60)
    others = "SELECT id FROM information_schema.processlist WHERE user = 'cluster' AND id <> CONNECTION_ID()"
    until(lambda: len(cluster.primary.execute(others)) == 1)


def test_refused_writes_are_counted_where_they_went(cluster: LocalCluster) -> None:
    with client(cluster, "replica-1") as cursor:
        for _ in range(2):
            with pytest.raises(pymysql.MySQLError):
                cursor.execute("INSERT INTO item VALUES (1, 'x')")
    assert cluster.replicas[0].counts().writes == 2
    assert cluster.primary.counts().writes == 0


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_counts_go_on_over_a_restart(cluster: LocalCluster, how: str) -> None:
    def read(name: str) -> None:
        with client(cluster, name) as cursor:
            cursor.execute("SELECT 1")

    for name in ("primary", "replica-1"):
        read(name)
        node = cluster.node(name)
        getattr(node, how)()
        assert node.counts().reads == 1
        node.start()
        read(name)
    cluster.sync(PATIENCE)
    counts = cluster.counts()
    for name in ("primary", "replica-1"):
        assert (counts[name].reads, counts[name].writes, counts[name].connections) == (2, 0, 2)


def test_a_paused_node_keeps_its_counts(cluster: LocalCluster) -> None:
    with client(cluster, "replica-1") as cursor:
        cursor.execute("SELECT 1")
    cluster.replicas[0].pause()
    assert cluster.counts()["replica-1"].reads == 1
    cluster.reset_counts()
    assert cluster.counts()["replica-1"].reads == 0
    cluster.replicas[0].resume()
    assert cluster.counts()["replica-1"].reads == 0
    with client(cluster, "replica-1") as cursor:
        cursor.execute("SELECT 1")
    assert cluster.counts()["replica-1"].reads == 1


def test_counts_include_users_for_whose_accounts_there_is_no_place(cluster: LocalCluster) -> None:
    names = [f"user_{number}" for number in range(15)]
    parameters = {**cluster.parameters("primary"), "database": None, "password": "x"}
    try:
        for name in names:
            cluster.primary.execute(f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'x'")
            with closing(pymysql.connect(**{**parameters, "user": name})) as connection:
                connection.cursor().execute("SELECT 1")
                connection.cursor().execute("DO 1")
        counts = cluster.counts()["primary"]
        assert (counts.reads, counts.connections) == (15, 15)
        until(lambda: cluster.counts()["primary"].raw["Com_do"] == 15)  # by user, which takes a moment
        lost = cluster.primary.execute("SHOW GLOBAL STATUS LIKE 'Performance_schema_accounts_lost'")
        assert int(lost[0][1]) > 5
    finally:
        for name in names:
            cluster.primary.execute(f"DROP USER IF EXISTS {name}@'127.0.0.1'")
