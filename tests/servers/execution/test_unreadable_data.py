"""A node that answers, and cannot read its own data, sends a read to one other node and then gets no reads.

The members of the kind are the numbers of the storage, the disk and the memory in both servers' catalogues
(`test_error_catalogue`), which a server passes on from the operating system (1 to 34), from a storage engine
(126 to 176), or raises itself. Done here on real servers: a discarded tablespace (1814), a table's file that
is gone (1812, or 1030 on MariaDB; 29 and 1017 of MyISAM), files that are cut off or overwritten (126, 130,
1194; 1033 of a view, 1034 and 175 of Aria), a directory for temporary files that is gone (1), and too little
memory for sorting (1038). All numbers of the table are given by what stands before the server.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest
from support.clusters import administrator, own_cluster
from support.clusters.failing import LOGGER, opened, read
from support.proxies.saboteur import Saboteur

from peewee_replicas import NoReplicaAvailable
from peewee_replicas.nodes import read_faults
from peewee_replicas.servers.error_table import TABLE

READ = "SELECT COUNT(s) FROM {table} WHERE id > 0"


@pytest.fixture(scope="module")
def clusters() -> Iterator[dict[str, Any]]:
    """One cluster for each server; each test has tables of its own."""
    found: dict[str, Any] = {}
    yield found
    for cluster in found.values():
        cluster.stop()


@pytest.fixture
def ready(server: str, clusters: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    if server not in clusters:
        folder = tmp_path_factory.mktemp("temporary")
        options = {"tmpdir": str(folder), "sort_buffer_size": 32768, "tmp_table_size": 1024}
        cluster = own_cluster(server, options={"replica-1": options})
        cluster.start()
        cluster.temporary = folder
        clusters[server] = cluster
    return clusters[server]


def made(cluster: Any, table: str, engine: str) -> Path:
    """A table with two rows on all nodes; where the first replica keeps its files, without their ending."""
    schema = cluster.database_name
    cluster.primary.execute(
        f"CREATE TABLE {schema}.{table} (id INT PRIMARY KEY AUTO_INCREMENT, s TEXT) ENGINE = {engine}"
    )
    cluster.primary.execute(f"INSERT INTO {schema}.{table} (s) VALUES ('a'), ('b')")
    cluster.sync()
    path: Path = cluster.replicas[0].datadir / schema / table
    return path


def on_first(cluster: Any, sql: str) -> None:
    with administrator(cluster, cluster.replicas[0]) as admin:
        admin.cursor().execute(sql)


def file_of(ending: str, do: Callable[[Path], None]) -> Callable[[Any, str, Path], None]:
    def harm(cluster: Any, table: str, path: Path) -> None:
        on_first(cluster, "FLUSH TABLES")
        do(path.with_suffix(f".{ending}"))

    return harm


def cut_to(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


def discard(cluster: Any, table: str, path: Path) -> None:
    on_first(cluster, f"ALTER TABLE {table} DISCARD TABLESPACE")


def lose_tablespace(cluster: Any, table: str, path: Path) -> None:
    cluster.replicas[0].stop()
    path.with_suffix(".ibd").unlink()
    cluster.replicas[0].start()


HARM: dict[str, tuple[str, Callable[[Any, str, Path], None], dict[str, int]]] = {
    "discarded": ("InnoDB", discard, {"mariadb": 1814, "mysql": 1814}),
    "lost": ("InnoDB", lose_tablespace, {"mariadb": 1030, "mysql": 1812}),
    "index_lost": ("MyISAM", file_of("MYI", Path.unlink), {"mariadb": 1017, "mysql": 1017}),
    "index_empty": ("MyISAM", file_of("MYI", cut_to(0)), {"mariadb": 130, "mysql": 130}),
    "index_cut": ("MyISAM", file_of("MYI", cut_to(30)), {"mariadb": 126, "mysql": 126}),
    "rows_lost": ("MyISAM", file_of("MYD", Path.unlink), {"mariadb": 29, "mysql": 29}),
    "rows_cut": ("MyISAM", file_of("MYD", cut_to(3)), {"mariadb": 1194, "mysql": 1194}),
    "aria_rows_cut": ("Aria", file_of("MAD", cut_to(8192)), {"mariadb": 1030}),
    "aria_index_lost": ("Aria", file_of("MAI", Path.unlink), {"mariadb": 1017}),
}


@pytest.mark.parametrize("what", HARM)
def test_a_read_that_its_node_cannot_serve_goes_to_another(
    ready: Any, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine, harm, numbers = HARM[what]
    if ready.server not in numbers:
        pytest.skip("this server has no such engine")
    number = numbers[ready.server]
    harm(ready, what, made(ready, what, engine))
    text = READ.format(table=what)
    with opened(ready) as database, caplog.at_level(logging.WARNING, LOGGER):
        for already in (0, 1):
            assert database.replicas[0].state == "up"
            assert database.execute_sql(text).fetchone() == (2,)
            assert (database.events[-1].node, database.events[-1].attempts) == ("replica-2", 2)
            said = [record.message for record in caplog.records if str(number) in record.message]
            assert len(said) == 1 + already
        assert "could not serve a read that another node could serve" in said[0]
        assert "ejected" in said[1]
        # The second time it is to blame, and answers as it may, it gets no reads.
        assert database.replicas[0].state == "ejected"
        assert str(number) in database.replicas[0].cause
        assert database.execute_sql(text).fetchone() == (2,)
        assert (database.events[-1].node, database.events[-1].attempts) == ("replica-2", 1)
        assert database.stats()["replica-1.ejections"] == 1
        assert database.stats()["fallbacks"] == 0


def test_temporary_files_that_cannot_be_made(ready: Any) -> None:
    made(ready, "sorted", "InnoDB")
    table = f"{ready.database_name}.sorted"
    for _ in range(11):
        ready.primary.execute(f"INSERT INTO {table} (s) SELECT REPEAT(UUID(), 5) FROM {table}")
    ready.sync()
    text = "SELECT s FROM sorted ORDER BY s, id"
    kept = ready.temporary.with_name("kept")
    with opened(ready) as database:
        shutil.move(ready.temporary, kept)
        try:
            assert len(database.execute_sql(text).fetchall()) == 4096
            assert (database.events[-1].node, database.events[-1].attempts) == ("replica-2", 2)
        finally:
            shutil.move(kept, ready.temporary)
        assert database.replicas[0].state == "up"  # once may happen
        assert len(database.execute_sql(text).fetchall()) == 4096
        assert database.events[-1].node == "replica-1"


def test_what_no_node_can_serve_is_the_statements_own(
    db: Any, cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = sorted(row.number for row in TABLE["unreadable"] if row.server in (None, cluster.server))
    one, two = cluster.replicas
    db.execute_sql("INSERT INTO item (id, name, n) VALUES (1, 'one', 0)")
    cluster.sync()
    with (
        Saboteur(one.port) as at_one,
        Saboteur(two.port) as at_two,
        caplog.at_level(logging.WARNING, LOGGER),
    ):
        replicas = [
            {"name": node.name, "host": node.host, "port": gate.port}
            for node, gate in ((one, at_one), (two, at_two))
        ]
        with opened(cluster, replicas=replicas, ssl_disabled=True) as database:
            assert read(database) == "one"
            for number in numbers:
                at_one.answer("FROM item", number)
                at_two.answer("FROM item", number)
                with pytest.raises(peewee.PeeweeException) as raised:
                    read(database)
                assert raised.value.args[0] == number
                assert raised.value.__cause__ is not None  # what the first node said
                assert database.events[-1].attempts == 2
            assert [replica.state for replica in database.replicas] == ["up", "up"]
            assert read(database) == "one"
            assert database.stats()["fallbacks"] == 0
    assert not caplog.records


def test_every_number_goes_to_one_other_node(db: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_faults, "FORGOTTEN_AFTER", 0.0)  # each is a first one
    numbers = sorted(row.number for row in TABLE["unreadable"] if row.server in (None, cluster.server))
    db.execute_sql("INSERT INTO item (id, name, n) VALUES (1, 'one', 0)")
    cluster.sync()
    with (
        Saboteur(cluster.replicas[0].port) as gate,
        opened(cluster, of_first={"port": gate.port}, ssl_disabled=True) as database,
    ):
        for number in numbers:
            gate.answer("FROM item", number)
            assert read(database) == "one"
            event = database.events[-1]
            assert (number, event.node, event.attempts) == (number, "replica-2", 2)
        assert database.replicas[0].state == "up"
        assert gate.spoiled == len(numbers)


@pytest.mark.parametrize("fallback", ["primary", "error"])
def test_where_there_is_no_other_replica(db: Any, cluster: Any, fallback: str) -> None:
    """The primary serves it where it may; else what the node said is the answer."""
    db.execute_sql("INSERT INTO item (id, name, n) VALUES (1, 'one', 0)")
    cluster.sync()
    only = cluster.replicas[0]
    with Saboteur(only.port) as gate:
        replicas = [{"name": only.name, "host": only.host, "port": gate.port}]
        with opened(cluster, replicas=replicas, ssl_disabled=True, fallback=fallback) as database:
            assert read(database) == "one"
            gate.answer("FROM item", 1814)
            if fallback == "primary":
                assert read(database) == "one"
                assert database.events[-1].node == "primary"
            else:
                with pytest.raises(peewee.OperationalError) as raised:
                    read(database)
                assert raised.value.args[0] == 1814
                assert isinstance(raised.value.__cause__, NoReplicaAvailable)
            assert database.replicas[0].state == "up"
            assert read(database) == "one"


def test_a_scope_moves_and_a_snapshot_raises(db: Any, cluster: Any) -> None:
    db.execute_sql("INSERT INTO item (id, name, n) VALUES (1, 'one', 0)")
    cluster.sync()
    with (
        Saboteur(cluster.replicas[0].port) as gate,
        opened(cluster, of_first={"port": gate.port}, ssl_disabled=True) as database,
    ):
        with database.readonly():
            assert read(database) == "one"
            gate.answer("FROM item", 1034)
            assert read(database) == "one"
            assert database.events[-1].node == "replica-2"
            assert read(database) == "one"
            assert database.events[-1].node == "replica-2"
        with database.readonly(snapshot=True):
            assert read(database) == "one"
            gate.answer("FROM item", 1034)
            with pytest.raises(peewee.PeeweeException) as raised:
                read(database)
            assert raised.value.args[0] == 1034
