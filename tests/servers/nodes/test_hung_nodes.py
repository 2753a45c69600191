"""A node that hangs costs many callers one timeout, and is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import peewee
import pytest
from support.clusters.repaired import repaired
from support.databases.nodes import nodes_of
from support.forms.threads import in_threads
from support.load.faults import FAULTS

from peewee_replicas import (
    PooledReplicatedDatabase,
)
from peewee_replicas.connections import opening, replica_connections
from peewee_replicas.connections.replica_connections import ReplicaConnections
from peewee_replicas.nodes import breaker as health
from peewee_replicas.nodes import probe_rounds


@pytest.fixture
def nodes(server: str) -> Iterator[Any]:
    """A primary and one replica, which a test may pause."""
    with repaired(server, 1, []) as cluster:
        yield cluster


@pytest.mark.lesson(21, 23)
@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_a_hung_replica_costs_many_threads_one_timeout(
    nodes: Any, cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FIRST_PAUSE", 600.0)  # no thread that comes late tries it again
    # So long that on a busy machine, too, all threads come while the first one waits.
    database = nodes.database(cls, connect_timeout=3, consistency="eventual", probe_interval=None)
    database.on_primary.execute_sql("SELECT 1")
    nodes.replicas[0].pause()

    def work() -> int:
        with database.connection_context():
            return int(database.execute_sql("SELECT 1").fetchone()[0])

    assert in_threads(8, work) == [1] * 8
    nodes.replicas[0].resume()
    assert nodes_of(database)[0].unreached == 1  # one after the other they would have waited 8 times


def test_a_thread_that_was_turned_away_does_not_try_the_node_next(
    nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_ON_THE_WAY_SECONDS", 600.0)
    monkeypatch.setattr(health, "FIRST_PAUSE", 600.0)
    act, other_is_done = ReplicaConnections._not_opened, threading.Event()

    def late(self: ReplicaConnections, node: Any, exc: BaseException) -> None:
        if not replica_connections._turned_away(exc):
            other_is_done.wait(10)
        act(self, node, exc)

    monkeypatch.setattr(ReplicaConnections, "_not_opened", late)
    database = nodes.database(connect_timeout=1, consistency="eventual", probe_interval=None)
    database.on_primary.execute_sql("SELECT 1")
    nodes.replicas[0].pause()

    def work() -> None:
        for _ in range(2):
            with database.connection_context():
                database.execute_sql("SELECT 1").fetchone()
        other_is_done.set()

    in_threads(2, work)
    nodes.replicas[0].resume()
    (node,) = nodes_of(database)
    assert (node.unreached, node.ejections) == (1, 1)
    assert database.stats()["replica-1.ejections"] == 1


@pytest.mark.lesson(21, 26, 36)
@pytest.mark.parametrize("probe_interval", [0.5, None])
def test_a_hung_primary_does_not_hold_up_reads_that_would_ask_it(
    nodes: Any, probe_interval: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(health, name, 600.0)  # no read finds out whether it is back
    monkeypatch.setattr(probe_rounds, "LONGEST_PAUSE", 600.0)
    database = nodes.database(probe_interval=probe_interval, connect_timeout=2)
    database.execute_sql("CREATE TABLE item (id INT PRIMARY KEY, n INT)")
    database.execute_sql("INSERT INTO item VALUES (1, 1)")
    nodes.sync()
    read = "SELECT n FROM item WHERE id = 1"
    assert database.execute_sql(read).fetchone() == (1,)
    database.execute_sql("UPDATE item SET n = 1 WHERE id = 1")  # tells no position: to be asked for
    with FAULTS["paused"](nodes, nodes.primary):
        asked = database.stats()["asked"]
        for _ in range(4):
            assert database.execute_sql(read).fetchone() == (1,)
        stats = database.stats()
    assert stats["asked"] - asked == stats["unasked"] == 1  # and not each of them pays
    database.close()


def test_a_primary_that_hangs_is_named_when_it_is_asked(nodes: Any) -> None:
    database = nodes.database(connect_timeout=1)
    with database.readonly(consistency="strong"):
        database.execute_sql("SELECT 1")
        nodes.primary.pause()
        try:
            with pytest.raises(peewee.OperationalError, match=rf"the primary.*{nodes.primary.port}"):
                database.execute_sql("SELECT 1")
        finally:
            nodes.primary.resume()
    database.close()
