"""A node that hangs costs many callers one timeout, and is named."""

from __future__ import annotations

from typing import Any

import peewee
import pytest
from support.clusters import own_cluster
from support.databases.nodes import nodes_of
from support.forms.threads import in_threads
from support.load.faults import FAULTS

from peewee_replicas import (
    PooledReplicatedDatabase,
)
from peewee_replicas.nodes import breaker as health
from peewee_replicas.nodes import probe_rounds


@pytest.mark.lesson(21, 23)
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
        assert nodes_of(database)[0].unreached == 1  # one after the other they would have waited 8 times
        assert database.stats()["replica-1.ejections"] == 1


@pytest.mark.lesson(21, 26, 36)
@pytest.mark.parametrize("probe_interval", [0.5, None])
def test_a_hung_primary_does_not_hold_up_reads_that_would_ask_it(
    server: str, probe_interval: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(health, name, 600.0)  # no read finds out whether it is back
    monkeypatch.setattr(probe_rounds, "LONGEST_PAUSE", 600.0)
    with own_cluster(server, replicas=1) as cluster:
        database = cluster.database(probe_interval=probe_interval, connect_timeout=2)
        database.execute_sql("CREATE TABLE item (id INT PRIMARY KEY, n INT)")
        database.execute_sql("INSERT INTO item VALUES (1, 1)")
        cluster.sync()
        read = "SELECT n FROM item WHERE id = 1"
        assert database.execute_sql(read).fetchone() == (1,)
        database.execute_sql("UPDATE item SET n = 1 WHERE id = 1")  # tells no position: to be asked for
        with FAULTS["paused"](cluster, cluster.primary):
            asked = database.stats()["asked"]
            for _ in range(4):
                assert database.execute_sql(read).fetchone() == (1,)
            stats = database.stats()
        assert stats["asked"] - asked == stats["unasked"] == 1  # and not each of them pays
        database.close()


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
