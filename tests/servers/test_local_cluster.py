"""LocalCluster: real servers, and none of them left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import peewee
import pymysql
import pytest

from peewee_replicas.testing import (
    Counts,
    LocalCluster,
    MissingServer,
    available,
    installations,
    janitor,
)
from peewee_replicas.testing.guard import guard

pytestmark = pytest.mark.once

SERVERS = ("mariadb", "mysql")
PATIENCE = 30.0


def require(server: str) -> None:
    missing = available(server)
    if missing and os.environ.get("PEEWEE_REPLICAS_REQUIRE_SERVERS") == "1":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture(params=SERVERS, scope="module")
def server(request: pytest.FixtureRequest) -> str:
    require(request.param)
    return request.param


@pytest.fixture(scope="module")
def running(server: str) -> Iterator[LocalCluster]:
    with LocalCluster(2, server) as cluster:
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


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "not within the time allowed"
        threading.Event().wait(0.01)


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
    off = "SET sql_log_bin = 0"
    with client(cluster, "replica-2", user=cluster.admin_user, init_command=off) as cursor:
        cursor.execute("INSERT INTO item VALUES (7, 'here first')")
    insert(cluster, 7)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"(?s)replica-2.*(uplicate entry|HA_ERR_FOUND_DUPP_KEY)"):
        cluster.sync(PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    with client(cluster, "replica-2", user=cluster.admin_user, init_command=off) as cursor:
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


def test_a_server_that_dies_by_itself_is_seen_to_be_down(cluster: LocalCluster) -> None:
    node = cluster.replicas[0]
    with client(cluster, "replica-1", user=cluster.admin_user) as cursor:
        cursor.execute("SHUTDOWN")
    wait_until(lambda: node.pid is None)
    assert node.state == "stopped"
    node.start()
    insert(cluster, 1)
    cluster.sync(PATIENCE)
    assert ids(cluster, "replica-1") == [1]


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
    assert ids(cluster, "replica-1") == []
    cluster.sync(PATIENCE)
    # The servers count in whole seconds of their clocks.
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


# The cluster


class FakeReplicated(peewee.MySQLDatabase):
    """Takes what LocalCluster hands to a database class."""

    def __init__(self, name: str, replicas: list[dict[str, object]], **options: Any) -> None:
        self.given = replicas
        self.options = options
        super().__init__(name, **options)


def test_database_knows_every_node_and_is_closed_with_the_cluster() -> None:
    require("mariadb")
    with LocalCluster(1, "mariadb", database="my_shop") as cluster:
        node = cluster.replicas[0]
        database: Any = cluster.database(FakeReplicated, connect_timeout=3)
        assert database.given == [{"name": "replica-1", "host": node.host, "port": node.port}]
        assert database.options["connect_timeout"] == 3
        assert database.execute_sql("SELECT DATABASE(), CURRENT_USER()").fetchall() == (("my_shop", "app@%"),)
        admin: Any = cluster.database(FakeReplicated, user="admin")
        assert admin.execute_sql("SELECT CURRENT_USER()").fetchall() == (("admin@%",),)
        assert not database.is_closed()
    assert database.is_closed()
    assert admin.is_closed()


def test_a_privilege_on_one_database_is_none_on_its_likes() -> None:
    require("mariadb")
    with LocalCluster(0, "mariadb", database="my_shop") as cluster:
        cluster.primary.execute("CREATE DATABASE myxshop")
        with client(cluster, "primary") as cursor, pytest.raises(pymysql.MySQLError):
            cursor.execute("USE myxshop")


def test_server_options_go_to_the_nodes_they_are_for(server: str) -> None:
    options = {
        "*": {"max_connections": 33, "wait_timeout": 100},
        "primary": {"wait_timeout": 200},
        "replica-1": {"read-only": False},
    }
    if server == "mysql":
        options["replica-2"] = {"super_read_only": True}
    with LocalCluster(2, server, options=options) as cluster:
        asked = "SELECT @@max_connections, @@GLOBAL.wait_timeout, @@read_only"
        assert [node.execute(asked)[0] for node in cluster.nodes] == [
            (33, 200, 0),
            (33, 100, 0),
            (33, 100, 1),
        ]
        if server == "mysql":
            assert cluster.replicas[1].execute("SELECT @@super_read_only")[0] == (1,)


def test_a_server_that_does_not_start_says_why(server: str) -> None:
    cluster = LocalCluster(0, server, options={"primary": {"no_such_option": 1}})
    with pytest.raises(RuntimeError, match=r"(?s)primary.*no-such-option"):
        cluster.start()
    with pytest.raises(RuntimeError, match="not running"):
        cluster.primary  # noqa: B018


def test_a_cluster_can_be_used_again_and_is_empty_then() -> None:
    require("mariadb")
    cluster = LocalCluster(0, "mariadb")
    passwords = set()
    for _ in range(2):
        with cluster:
            passwords.add(cluster.password)
            cluster.primary.execute("CREATE TABLE app.t (id INT)")
            folder = cluster.primary.datadir
            with pytest.raises(RuntimeError, match="already running"):
                cluster.start()
        assert not folder.exists()
        cluster.stop()
    assert len(passwords) == 2


def test_clusters_start_side_by_side() -> None:
    require("mariadb")
    clusters = [LocalCluster(1, "mariadb") for _ in range(3)]
    threads = [threading.Thread(target=cluster.start) for cluster in clusters]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ports = [node.port for cluster in clusters for node in cluster.nodes]
        assert len(set(ports)) == 6
        for cluster in clusters:
            cluster.sync()
    finally:
        for cluster in clusters:
            cluster.stop()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"server": "postgres"}, "'mariadb' or 'mysql'"),
        ({"replicas": -1}, "replicas must be 0 or more"),
        ({"database": "a`b"}, "database must be letters"),
        ({"options": {"replica-9": {}}}, "options are for primary, replica-1, replica-2 or"),
        ({"options": {"*": {"server-id": 3}}}, "may not set server_id"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalCluster(**arguments)


def test_a_node_that_does_not_exist_is_named(cluster: LocalCluster) -> None:
    with pytest.raises(KeyError, match=r"replica-7.*primary, replica-1, replica-2"):
        cluster.parameters("replica-7")


# A missing server


def test_a_missing_mysql_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEEWEE_REPLICAS_MYSQL", str(tmp_path))
    message = available("mysql")
    assert message is not None
    assert str(tmp_path) in message
    with pytest.raises(MissingServer, match="PEEWEE_REPLICAS_MYSQL"):
        LocalCluster(server="mysql").start()


@pytest.mark.parametrize("server", SERVERS)
def test_a_missing_server_says_how_to_get_it(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PEEWEE_REPLICAS_MYSQL", raising=False)
    monkeypatch.setenv("PEEWEE_REPLICAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(installations, "_SYSTEM_FOLDERS", ())
    (tmp_path / "apt-get").write_text("#!/bin/sh\n")
    (tmp_path / "apt-get").chmod(0o755)
    message = available(server)
    assert message is not None
    wanted = "apt-get install mariadb-server" if server == "mariadb" else "install-servers mysql"
    assert wanted in message
    assert "PATH" in message
    with pytest.raises(MissingServer):
        LocalCluster(server=server).start()


def test_another_servers_program_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEEWEE_REPLICAS_MYSQL", raising=False)
    monkeypatch.setenv("PEEWEE_REPLICAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(installations, "_SYSTEM_FOLDERS", ())
    program = tmp_path / "mysqld"
    program.write_text("#!/bin/sh\necho mysqld Ver 10.11.6-MariaDB for Linux\n")
    program.chmod(0o755)
    message = available("mysql")
    assert message is not None
    assert "MariaDB's" in message
    program.write_text("#!/bin/sh\necho mysqld Ver 8.4.2 for Linux\n")
    installations._version.cache_clear()
    assert available("mysql") is None
    installations._version.cache_clear()


# Nothing is left behind

CHILD = """
import ctypes, json, os, sys
from peewee_replicas.testing import LocalCluster
from peewee_replicas.testing.guard import guard

server, how = sys.argv[1:]
if how == "unregistered":
    guard.watch_process = lambda pid: None
cluster = LocalCluster(1, server)
cluster.start()
if how == "paused":
    cluster.primary.pause()
    cluster.replicas[0].pause()
if how == "second janitor":
    guard._process.kill()
    guard._process.wait()
    other = LocalCluster(0, server)
    other.start()
if how == "fork":
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
if how == "fork unseen by Python":
    if ctypes.PyDLL(None).fork() == 0:
        sys.stdin.read()
        os._exit(0)
if how == "fork ends":
    pid = os.fork()
    if pid == 0:
        assert cluster.primary.pid is not None
        try:
            cluster.primary.kill()
        except RuntimeError:
            cluster.stop()
            sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    cluster.sync()
told = {
    "servers": [node.pid for node in cluster.nodes],
    "janitor": guard._process.pid,
    "folder": str(cluster.primary.datadir.parent.parent),
}
print(json.dumps(told), flush=True)
sys.stdin.readline()
if how == "raise":
    raise RuntimeError("on purpose")
if how == "_exit":
    os._exit(0)
if how == "stop":
    cluster.stop()
if how == "abandon":
    del cluster
"""


class Ended:
    """Waits for processes that are not our children to be gone."""

    def __init__(self, pids: list[int]) -> None:
        self.handles = [os.pidfd_open(pid) for pid in pids]

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.handles:
            ready = select.select(self.handles, [], [], deadline - time.monotonic())[0]
            assert ready, f"{len(self.handles)} processes still run"
            for handle in ready:
                os.close(handle)
                self.handles.remove(handle)


@contextmanager
def child(server: str, how: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A program with a running cluster, waiting for a line, and what it told of itself."""
    command = [sys.executable, "-W", "error", "-c", CHILD, server, how]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.kill()


@pytest.mark.parametrize("how", ["return", "stop", "abandon", "raise", "_exit", "fork ends"])
def test_nothing_is_left_when_the_program_ends(server: str, how: str) -> None:
    with child(server, how) as (process, told):
        ended = Ended([*told["servers"], told["janitor"]])
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(PATIENCE)
        assert process.returncode == (1 if how == "raise" else 0)
        said = process.stderr.read()
        assert ("on purpose" in said) if how == "raise" else (said == "")
        ended.wait()
    assert not Path(told["folder"]).exists()


@pytest.mark.parametrize(
    "how", ["kill", "paused", "fork", "fork unseen by Python", "unregistered", "second janitor"]
)
def test_nothing_is_left_when_the_program_is_killed(server: str, how: str) -> None:
    with child(server, how) as (process, told):
        ended = Ended([*told["servers"], told["janitor"]])
        process.kill()
        # With either fork a child of the program lives on, and holds what it inherited.
        ended.wait()
    assert not Path(told["folder"]).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_program_gets_a_signal(server: str, number: int) -> None:
    with child(server, "signal") as (process, told):
        ended = Ended([*told["servers"], told["janitor"]])
        os.kill(told["janitor"], number)  # as from a terminal or a careless hand: it stays
        process.send_signal(number)
        ended.wait()
    assert not Path(told["folder"]).exists()


def test_the_janitor_spares_a_process_that_only_has_the_same_number(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as bystander:
        folder = tmp_path / "folder"
        folder.mkdir()
        janitor.sweep({bystander.pid: "1"}, {os.fsencode(folder)})
        assert bystander.poll() is None
        assert not folder.exists()
        janitor.sweep({bystander.pid: janitor.start_time(bystander.pid)}, set())
        assert bystander.wait(PATIENCE) == -signal.SIGKILL


def test_nothing_is_kept_for_clusters_that_have_stopped() -> None:
    require("mariadb")
    before = set(guard._orders)
    with LocalCluster(0, "mariadb"):
        assert len(set(guard._orders) - before) == 2  # its folder and its server
    assert set(guard._orders) == before
