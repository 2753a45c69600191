"""LocalCluster: what it is made with and for, and what it says where there is no server."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import pymysql
import pytest
from support.clusters import SERVERS, own_cluster

from peewee_replicas.testing import LocalCluster, MissingServer, available, installations
from peewee_replicas.testing.launch import copy_template


def holes_are_kept(folder: Path) -> bool:
    with tempfile.TemporaryFile(dir=folder.parent, buffering=0) as file:
        file.truncate(1 << 20)
        return os.fstat(file.fileno()).st_blocks == 0


class FakeReplicated(peewee.MySQLDatabase):
    """Takes what LocalCluster hands to a database class."""

    def __init__(
        self, name: str, replicas: list[dict[str, object]], probe_interval: object, **options: Any
    ) -> None:
        self.given = replicas
        self.options = options
        super().__init__(name, **options)


def test_database_knows_every_node_and_is_closed_with_the_cluster() -> None:
    with own_cluster("mariadb", 1, database="my_shop") as cluster:
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


def test_what_is_empty_in_a_data_directory_takes_no_room(cluster: LocalCluster, server: str) -> None:
    settings = cluster.replicas[0]._settings
    new = cluster.replicas[0].datadir.with_name("new")
    copy_template(settings.installation, settings.folder, new)  # in that of a node there is more by now
    try:
        if not holes_are_kept(new):
            pytest.skip("this file system keeps no holes")
        largest = new / {"mysql": "undo_001", "mariadb": "ibdata1"}[server]
        spare = list(new.glob("#innodb_redo/#ib_redo*_tmp"))
        assert len(spare) == (31 if server == "mysql" else 0)
        for path in (largest, *spare):
            found = path.stat()
            assert found.st_blocks * 512 < 0.6 * found.st_size, path
        assert not [*new.glob("auto.cnf"), *new.glob("*.dblwr")], "each node makes its own"
    finally:
        shutil.rmtree(new)


@pytest.mark.parametrize("server", ["mysql"])  # this MariaDB has no key unless it is given one
def test_a_key_for_tls_is_one_on_an_elliptic_curve(cluster: LocalCluster) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl is installed")
    node = cluster.replicas[0]
    assert len((node.datadir / "server-key.pem").read_bytes()) < 500, "an RSA key would take 1,700 bytes"
    options = {"ca": str(node.datadir / "ca.pem"), "check_hostname": False}
    with closing(pymysql.connect(**cluster.parameters(node), ssl=options)) as connection:
        cursor = connection.cursor()
        cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        assert cursor.fetchall()[0][1]


def test_a_privilege_on_one_database_is_none_on_its_likes() -> None:
    with own_cluster("mariadb", 0, database="my_shop") as cluster:
        cluster.primary.execute("CREATE DATABASE myxshop")
        parameters = cluster.parameters("primary")
        with closing(pymysql.connect(**parameters)) as connection, pytest.raises(pymysql.MySQLError):
            connection.query("USE myxshop")


def test_server_options_go_to_the_nodes_they_are_for(server: str) -> None:
    options = {
        "*": {"max_connections": 33, "wait_timeout": 100},
        "primary": {"wait_timeout": 200},
        "replica-1": {"read-only": False},
    }
    if server == "mysql":
        options["replica-2"] = {"super_read_only": True}
    with own_cluster(server, options=options) as cluster:
        asked = "SELECT @@max_connections, @@GLOBAL.wait_timeout, @@read_only"
        assert [node.execute(asked)[0] for node in cluster.nodes] == [
            (33, 200, 0),
            (33, 100, 0),
            (33, 100, 1),
        ]
        if server == "mysql":
            assert cluster.replicas[1].execute("SELECT @@super_read_only")[0] == (1,)


def test_a_server_that_does_not_start_says_why(server: str) -> None:
    cluster = own_cluster(server, 0, options={"primary": {"no_such_option": 1}})
    with pytest.raises(RuntimeError, match=r"(?s)primary.*no-such-option"):
        cluster.start()
    with pytest.raises(RuntimeError, match="not running"):
        cluster.primary  # noqa: B018


@pytest.mark.parametrize("server", ["mysql"])  # MariaDB tries for more than a day
def test_replicas_do_not_give_up_on_a_primary_that_is_away(cluster: LocalCluster) -> None:
    tries = "SELECT connection_retry_count FROM performance_schema.replication_connection_configuration"
    for node in cluster.replicas:
        assert node.execute(tries) == [(0,)]  # without end; by itself it gives up after ten


def test_a_cluster_can_be_used_again_and_is_empty_then() -> None:
    cluster = own_cluster("mariadb", 0)
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
    clusters = [own_cluster("mariadb", 1) for _ in range(3)]
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
    monkeypatch.delenv("PEEWEE_REPLICAS_MARIADB", raising=False)
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
