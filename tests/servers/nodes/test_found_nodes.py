"""Nodes that fail at odd moments, and what is known of them afterwards."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import pytest
from support.clusters import own_cluster
from support.proxies.relay import Relay
from support.waiting import until

from peewee_replicas import NoReplicaAvailable, PooledReplicatedDatabase

pytestmark = pytest.mark.once

LONG = (
    "WITH RECURSIVE n AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM n WHERE a < 200) "
    "SELECT COUNT(*) FROM n AS x, n AS y, n AS z"
)
RUNNING = "SELECT id FROM information_schema.processlist WHERE user = 'app' AND info LIKE 'WITH RECURSIVE%'"


@contextmanager
def killing(node: Any, database: Any, times: int = 1) -> Iterator[None]:
    """Kill the connections of the next long queries there."""
    database.execute_sql("SELECT 1")
    while database._replication.settings.policy.peek(database.replicas).name != node.name:
        database.execute_sql("SELECT 1")

    def kill() -> None:
        killed: set[int] = set()

        def kills() -> bool:
            for (key,) in node.execute(RUNNING):
                if key not in killed:
                    node.execute(f"KILL {key}")
                    killed.add(key)
            return len(killed) >= times

        until(kills)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()


def test_a_read_whose_connection_was_killed_returns_where_no_other_serves_it(server: str) -> None:
    with own_cluster(server) as cluster:
        database = cluster.database(consistency="eventual")
        events: list[Any] = []
        with killing(cluster.replicas[0], database):
            cluster.replicas[1].kill()
            database.route_hooks.append(events.append)
            assert database.execute_sql(LONG).fetchone() == (200**3,)
        assert [(event.node, event.attempts) for event in events] == [("replica-1", 2)]
        assert database.stats()["primary"] == 0
        with (
            killing(cluster.replicas[0], database, times=2),
            pytest.raises(peewee.OperationalError, match="Lost connection"),
        ):
            database.execute_sql(LONG)  # not a third time, and not on the primary
        assert events[-1].attempts == 2
        assert database.stats()["primary"] == 0
        database.close()


def test_a_full_pool_is_no_reason_to_lose_a_read(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database = cluster.database(PooledReplicatedDatabase, consistency="eventual", max_connections=3)
    original = PooledReplicatedDatabase._drop

    def drop(self: Any, conn: Any) -> None:
        original(self, conn)
        if self._node is database.replicas[0]:
            self._max_connections = -1  # others have taken them all

    with killing(cluster.replicas[0], database):
        monkeypatch.setattr(PooledReplicatedDatabase, "_drop", drop)
        assert database.execute_sql(LONG).fetchone() == (200**3,)
    assert database.stats()["primary"] == 0
    database.close_all()


def test_where_nothing_answers_a_snapshot_names_every_node(server: str) -> None:
    with own_cluster(server, replicas=1) as cluster:
        database = cluster.database(connect_timeout=2)
        for node in cluster.nodes:
            node.kill()
        with (
            pytest.raises(NoReplicaAvailable, match=r"replica-1.*the primary") as caught,
            database.readonly(snapshot=True),
        ):
            database.execute_sql("SELECT 1")
        assert isinstance(caught.value.__cause__, peewee.OperationalError)


def test_a_primary_that_hangs_is_named_when_it_is_asked(server: str) -> None:
    with own_cluster(server, replicas=1) as cluster:
        database = cluster.database(connect_timeout=1)
        with database.readonly(consistency="strong"):
            database.execute_sql("SELECT 1")
            cluster.primary.pause()
            try:
                with pytest.raises(peewee.OperationalError, match=rf"the primary.*{cluster.primary.port}"):
                    database.execute_sql("SELECT 1")
            finally:
                cluster.primary.resume()
        database.close()


def test_a_demoted_primary_that_lives_on_is_left_without_a_write(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Lesson 27; its address leads elsewhere, but the connections to it stay."""
    with own_cluster(server, replicas=1) as cluster, Relay(cluster.primary.port) as relay:
        database = cluster.database(port=relay.port, probe_interval=0.1)
        database.execute_sql("CREATE TABLE mark (n INT)")
        cluster.sync()
        database.execute_sql("SELECT 1")
        assert database._replication.prober.looked.wait(30)
        with database.primary(), caplog.at_level(logging.WARNING, "peewee.replicas"):
            database.execute_sql("SELECT 1")
            new = cluster.replicas[0]
            old = database.connection().thread_id()
            cluster.primary.execute("SET GLOBAL read_only = ON")
            until(lambda: database.connection().thread_id() != old)
            words = "SLAVE" if server == "mariadb" else "REPLICA"
            new.execute(f"STOP {words}")
            new.execute(f"RESET {words} ALL")
            if server == "mysql":
                new.execute("SET GLOBAL super_read_only = OFF")
            new.execute("SET GLOBAL read_only = OFF")
            relay.lead_to(new.port)
            until(lambda: database.execute_sql("SELECT @@port").fetchone() == (new.port,))
            database.execute_sql("INSERT INTO mark VALUES (1)")  # and nothing was refused
        assert "is read-only now" in caplog.text
        assert "is another server now" in caplog.text
        database.close()


@pytest.mark.parametrize("server", ["mysql"])  # the other is set up without TLS
def test_a_connection_that_the_prober_is_opening_when_it_ends_is_closed(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is exchanged while TLS begins, so that nobody else can close it then."""
    original = ssl.SSLContext.wrap_socket
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wrap(self: Any, *args: Any, **kwargs: Any) -> Any:
        wrapped = original(self, *args, **kwargs)
        if threading.current_thread().name.startswith("prober of"):
            begun.release()
            go_on.wait(30)
        return wrapped

    database = cluster.database(probe_interval=0.1)
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap)
    database._attend()
    assert begun.acquire(timeout=20)
    openers = [thread for thread in threading.enumerate() if thread.name.startswith("prober of")]
    lines = list(database._replication.prober._run._lines)
    database.dispose()  # waits for them, though not for ever
    go_on.set()
    for thread in openers:
        thread.join(30)
    assert lines
    assert not any(line.open for line in lines)
    database.close()
