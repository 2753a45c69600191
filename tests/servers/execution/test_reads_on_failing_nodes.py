"""Reads on nodes that are busy, leave, or are not ready, and what is told where no node serves them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from typing import Any

import peewee
import pymysql
import pytest
from support.clusters import administrator, one_for_each, own_cluster
from support.clusters.failing import LOGGER, opened, prepare, read
from support.clusters.galera import LIBRARY, needs_galera
from support.clusters.lagging import frozen
from support.clusters.repaired import repaired
from support.databases.models import Item
from support.databases.nodes import nodes_of
from support.load.faults import FAULTS
from support.waiting import until

from peewee_replicas import (
    NoReplicaAvailable,
    PooledReplicatedDatabase,
    ReplicatedDatabase,
)
from peewee_replicas.nodes import breaker as health


@pytest.fixture
def breakable(server: str) -> Iterator[Any]:
    """A cluster with one row in `item`, whose nodes a test may disturb."""
    with repaired(server, 2, [Item]) as cluster:
        prepare(cluster)
        yield cluster


@pytest.fixture(scope="module")
def clusters_to_kill() -> Iterator[Any]:
    with one_for_each(own_cluster) as cluster:
        yield cluster


@pytest.fixture
def dead(server: str, clusters_to_kill: Any) -> Any:
    """A cluster of this module's own whose nodes have all been killed, and are not needed alive again."""
    cluster = clusters_to_kill(server)
    for node in cluster.nodes:
        node.kill()
    return cluster


@contextmanager
def setting(node: Any, name: str, value: object) -> Iterator[None]:
    """Give a setting of a server another value during the block."""
    ((before,),) = node.execute(f"SELECT @@GLOBAL.{name}")
    node.execute(f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        node.execute(f"SET GLOBAL {name} = {before}")


@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_a_node_without_room_for_a_connection_is_left_alone_for_a_moment(
    breakable: Any, cls: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "SHORTEST_BACKOFF", 60.0)
    monkeypatch.setattr(health, "LONGEST_BACKOFF", 60.0)
    one, two = breakable.replicas
    held: list[Any] = []

    def fill(number: int) -> None:
        with pytest.raises(pymysql.err.OperationalError) as full:
            while True:
                held.append(pymysql.connect(**breakable.parameters(one)))
        assert full.value.args[0] == number

    with opened(breakable, cls) as database, opened(breakable, cls) as late, ExitStack() as busy:
        assert read(database) == "one"
        busy.enter_context(setting(one, "max_connections", 12))
        fill(1040)
        with caplog.at_level(logging.WARNING, LOGGER):
            for _ in range(5):
                assert read(late) == "one"
                assert late.events[-1].node == "replica-2"
        assert late.replicas[0].state == "up"
        assert nodes_of(late)[0].unreached == 0
        assert len([record for record in caplog.records if "no new connections" in record.message]) == 1
        assert read(database) == "one"  # what is connected goes on
        assert database.events[-1].node == "replica-1"
        # All are busy: the primary serves, and says why.
        busy.enter_context(setting(two, "max_connections", 12))
        late.close()
        if cls is not None:
            late.close_idle()
        crowd = []
        with pytest.raises(pymysql.err.OperationalError):
            while True:
                crowd.append(pymysql.connect(**breakable.parameters(two)))
        assert read(late) == "one"
        assert late.events[-1].node == "primary"
        assert "1040" in late.events[-1].reason
        assert "max_connections" in late.events[-1].reason  # what to do
        for conn in (*held, *crowd):
            conn.close()
        for replica in nodes_of(late):
            replica.backoff._until = 0.0  # the moment is over
        until(lambda: (late.close(), read(late), late.events[-1].node)[-1] == "replica-1")
        assert not nodes_of(late)[0].backoff.cause


def test_a_user_without_room_for_a_connection(breakable: Any) -> None:
    one = breakable.replicas[0]
    limits = {
        1226: ("ALTER USER app WITH MAX_USER_CONNECTIONS 1", "ALTER USER app WITH MAX_USER_CONNECTIONS 0")
    }
    if breakable.server == "mysql":
        limits[1203] = ("SET GLOBAL max_user_connections = 1", "SET GLOBAL max_user_connections = 0")
    with closing(administrator(breakable, one)) as admin:
        for number, (limit, unlimit) in limits.items():
            admin.query(limit)
            try:
                with opened(breakable) as database, pymysql.connect(**breakable.parameters(one)):
                    assert read(database) == "one"
                    assert database.events[-1].node == "replica-2"
                    assert str(number) in nodes_of(database)[0].backoff.cause
                    assert database.replicas[0].state == "up"
            finally:
                admin.query(unlimit)


@pytest.mark.parametrize("server", ["mysql"])
def test_a_mysql_server_that_goes_offline_is_ejected_and_comes_back(
    breakable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(health, "LONGEST_PAUSE", 0.1)
    with opened(breakable) as database:
        assert read(database) == "one"
        with setting(breakable.replicas[0], "offline_mode", "ON"):
            for _ in range(3):
                assert read(database) == "one"
                assert database.events[-1].node == "replica-2"
            assert database.replicas[0].state == "ejected"
            assert "3032" in nodes_of(database)[0].breaker.cause
            assert "offline_mode" in nodes_of(database)[0].breaker.cause
        until(lambda: read(database) and database.events[-1].node == "replica-1")


@pytest.fixture(scope="module")
def with_galera() -> Iterator[Any]:
    """A cluster of MariaDB whose first replica is a node of Galera, with one row in `item`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {
        "wsrep_on": True,
        "wsrep_provider": str(LIBRARY),
        "wsrep_cluster_address": "gcomm://",
        "wsrep_provider_options": f"base_port={port};gmcast.listen_addr=tcp://127.0.0.1:{port}",
        "wsrep_node_address": "127.0.0.1",
    }
    with own_cluster("mariadb", options={"replica-1": options}) as cluster:
        prepare(cluster)
        yield cluster


@needs_galera
@pytest.mark.parametrize("probe_interval", [None, 0.1])
def test_a_galera_node_that_is_not_ready_is_ejected_until_it_is(
    with_galera: Any, monkeypatch: pytest.MonkeyPatch, probe_interval: Any
) -> None:
    monkeypatch.setattr(health, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(health, "LONGEST_PAUSE", 0.05)
    with opened(with_galera, probe_interval=probe_interval) as database:
        # A node that has just started may not be ready yet, and is ejected for it.
        until(lambda: read(database) and database.events[-1].node == "replica-1")
        with setting(with_galera.replicas[0], "wsrep_reject_queries", "ALL"):
            for _ in range(20):
                assert read(database) == "one"
                assert database.events[-1].node == "replica-2"
            assert "1047" in nodes_of(database)[0].breaker.cause
            until(lambda: read(database) and "still not ready" in nodes_of(database)[0].breaker.cause)
            before = database.stats()["replica-1.restorations"]
            for _ in range(20):
                assert read(database) == "one"
                assert database.events[-1].node == "replica-2"
            assert database.stats()["replica-1.restorations"] == before
        until(lambda: read(database) and database.events[-1].node == "replica-1")


# Nothing answers


@pytest.mark.lesson(25)
def test_every_node_that_was_tried_is_named_with_its_reason(dead: Any) -> None:
    for attempt in ("connect", "read", "write"):
        with opened(dead, connect_timeout=5) as database:
            with pytest.raises(peewee.OperationalError) as caught:
                if attempt == "connect":
                    database.connect()
                elif attempt == "read":
                    read(database)
                else:
                    database.execute_sql("DELETE FROM item")
            assert caught.value.args[0] == 2003
            text = str(caught.value)
            assert f"the primary (127.0.0.1:{dead.primary.port})" in text
            assert "check that it is running" in text
            if attempt != "write":
                assert isinstance(caught.value, NoReplicaAvailable) == (attempt == "read")
                assert isinstance(caught.value.__cause__, peewee.OperationalError)
                for node in dead.replicas:
                    assert f"{node.name} (127.0.0.1:{node.port})" in text
            assert database.is_closed()
            with (
                pytest.raises(peewee.OperationalError, match=r"the primary \(127"),
                database.readonly(consistency="strong"),
            ):
                read(database)


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


def test_the_error_names_all_nodes_also_when_the_replicas_were_ejected_before(dead: Any) -> None:
    database = dead.database(connect_timeout=1)
    for _ in range(2):
        with pytest.raises(NoReplicaAvailable, match=r"replica-1.*the primary") as caught:
            database.execute_sql("SELECT 1")
        assert isinstance(caught.value.__cause__, peewee.OperationalError)


def test_a_replica_that_is_only_behind_is_not_said_to_be_silent(own_pair: Any) -> None:
    database = own_pair.database(catch_up_timeout=0.05, connect_timeout=2)
    database.execute_sql("SELECT 1")
    with frozen(own_pair):
        database.execute_sql("UPDATE slot SET n = 2")
        own_pair.primary.kill()
        for attempt in ("read", "snapshot"):
            with (
                pytest.raises(NoReplicaAvailable) as caught,
                database.readonly(snapshot=True) if attempt == "snapshot" else nullcontext(),
            ):
                database.execute_sql("SELECT n FROM slot")
            text = str(caught.value)
            assert "no node can serve a read: replica-1" in text, text
            assert "has not caught up" in text or "has applied nothing" in text, text
            assert "no node answers" not in text
        own_pair.primary.start()
    database.close()


def test_where_nothing_answers_a_snapshot_names_every_node(dead: Any) -> None:
    database = dead.database(connect_timeout=2)
    with (
        pytest.raises(NoReplicaAvailable, match=r"replica-1.*the primary") as caught,
        database.readonly(snapshot=True),
    ):
        database.execute_sql("SELECT 1")
    assert isinstance(caught.value.__cause__, peewee.OperationalError)


@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_messages_about_a_busy_node_do_not_grow(breakable: Any, cls: Any, caplog: Any) -> None:
    database = breakable.database(cls)
    database.execute_sql("SELECT 1")
    with FAULTS["refusing"](breakable, breakable.replicas[0]):
        for _ in range(60):
            database.close()
            assert database.execute_sql("SELECT 1").fetchone() == (1,)
        said = [record.getMessage() for record in caplog.records]
        assert any("1040" in text for text in said)
        assert max(map(len, said)) < 600
        assert sum("no new connections" in text for text in said) == 1
    database.close()
