"""Set-ups of hosting services, as far as plain servers can be made like theirs; and semi-synchronous ones.

The members were listed from the manuals of Amazon RDS and Aurora: a read replica keeps no binary log unless
it is backed up; the user has no right to write on it, and only `read_only` is on; MySQL keeps no GTIDs unless
a parameter says so (`gtid_mode=OFF_PERMISSIVE`), and replicates by file and offset; a reader of Aurora shares
the writer's storage, has `innodb_read_only=ON`, and follows nobody. RDS for MariaDB keeps GTIDs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.clusters import one_for_each, own_cluster
from support.clusters.lagging import MODELS, Slot, bound, frozen, held_back, n_of, watched
from support.databases.nodes import nodes_of
from support.waiting import until

from peewee_replicas.testing.control import REPLICATION

PAIRS = 30
PATIENCE = 90.0

WITHOUT_BINARY_LOG: dict[str, dict[str, Any]] = {
    "mariadb": {"skip_log_bin": None, "log_slave_updates": False},
    "mysql": {"skip_log_bin": None, "log_replica_updates": False},
}


@contextmanager
def hosted(server: str) -> Iterator[Any]:
    with held_back(server, options={"replica-1": WITHOUT_BINARY_LOG[server]}) as cluster:
        assert cluster.replicas[0].execute("SELECT @@log_bin") == [(0,)]
        yield cluster


@pytest.fixture(scope="module")
def clusters() -> Iterator[Callable[[str], Any]]:
    with one_for_each(hosted) as found:
        yield found


@pytest.fixture
def cluster(clusters: Any, server: str) -> Any:
    return clusters(server)


def write_and_read(cluster: Any, **options: Any) -> int:
    """Write and read again and again; nothing read is stale. Return how many reads a replica served."""
    with (
        bound(cluster, catch_up_timeout=PATIENCE, probe_interval=0.1, **options) as db,
        watched(db) as events,
    ):
        until(lambda: n_of() and events[-1].role == "replica", PATIENCE)
        del events[:]
        for n in range(1000, 1000 + PAIRS):
            Slot.update(n=n).execute()
            assert n_of() == n
        assert [one.state for one in db.replicas] == ["up"]
        return sum(event.role == "replica" for event in events if event.kind == "read")


def read_while_the_replica_stands_still(cluster: Any, n: int) -> str:
    """Who serves a read that must see a write that the replica does not apply."""
    with (
        bound(cluster, probe_interval=None, catch_up_timeout=0.05) as db,
        frozen(cluster),
        watched(db) as events,
    ):
        Slot.update(n=n).execute()
        assert n_of() == n
        return str(events[-1].role)


def test_a_replica_without_a_binary_log_shows_what_was_written(cluster: Any) -> None:
    assert write_and_read(cluster) == PAIRS
    assert read_while_the_replica_stands_still(cluster, 77) == "primary"


SEMI_SYNCHRONOUS = {
    "mariadb": ("rpl_semi_sync_master", "rpl_semi_sync_slave", "Rpl_semi_sync_master_yes_tx"),
    "mysql": ("rpl_semi_sync_source", "rpl_semi_sync_replica", "Rpl_semi_sync_source_yes_tx"),
}


@contextmanager
def semi_synchronous(cluster: Any) -> Iterator[Callable[[], int]]:
    """Let the primary wait for the replica at each commit; give how often it did."""
    source, replica, counter = SEMI_SYNCHRONOUS[cluster.server]
    primary, node = cluster.primary, cluster.replicas[0]
    if cluster.server == "mysql":
        primary.execute("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
        node.execute("INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'")
    primary.execute(f"SET GLOBAL {source}_timeout = 600000")
    primary.execute(f"SET GLOBAL {source}_enabled = ON")
    node.execute(f"SET GLOBAL {replica}_enabled = ON")
    node.execute("STOP REPLICA IO_THREAD")
    node.execute("START REPLICA IO_THREAD")
    until(lambda: primary.execute("SHOW STATUS LIKE 'Rpl_semi_sync%clients'")[0][1] == "1", PATIENCE)
    try:
        yield lambda: int(primary.execute(f"SHOW STATUS LIKE '{counter}'")[0][1])
    finally:
        primary.execute(f"SET GLOBAL {source}_enabled = OFF")
        node.execute(f"SET GLOBAL {replica}_enabled = OFF")
        node.execute("STOP REPLICA IO_THREAD")
        node.execute("START REPLICA IO_THREAD")


def test_semi_synchronous_replication_changes_nothing(cluster: Any) -> None:
    """A replica has received a transaction when the commit returns; it need not have applied it."""
    with semi_synchronous(cluster) as waits:
        before = waits()
        assert write_and_read(cluster) == PAIRS
        assert waits() >= before + PAIRS
        assert read_while_the_replica_stands_still(cluster, 78) == "primary"


def test_without_gtids_on_rds_reads_stay_on_the_primary_and_come_back() -> None:
    with held_back("mysql") as cluster:
        primary, replica = cluster.nodes
        replica.execute("STOP REPLICA")
        for mode in ("ON_PERMISSIVE", "OFF_PERMISSIVE"):
            for node in cluster.nodes:
                node.execute(f"SET GLOBAL gtid_mode = {mode}")
        log, offset = primary.execute("SHOW BINARY LOG STATUS")[0][:2]
        replica.execute(
            f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={primary.port}, "
            f"SOURCE_USER='{REPLICATION}', SOURCE_PASSWORD='{cluster.password}', SOURCE_LOG_FILE='{log}', "
            f"SOURCE_LOG_POS={offset}, SOURCE_AUTO_POSITION=0, GET_SOURCE_PUBLIC_KEY=1"
        )
        replica.execute("START REPLICA")
        with bound(cluster, sticky_seconds=60.0, probe_interval=0.1, apart=True) as db, watched(db) as events:
            for n in range(2, 6):
                Slot.update(n=n).execute()
                assert n_of() == n
                assert events[-1].role == "primary"
                assert "GTID" in events[-1].reason
        # Apart, because reads stay on the primary for the longest time that a write has asked for.
        with bound(cluster, sticky_seconds=0.1, probe_interval=0.1, apart=True) as db, watched(db) as events:
            Slot.update(n=6).execute()
            # It serves again after that time, and what it shows then is what was written.
            until(lambda: n_of() == 6 and events[-1].role == "replica", PATIENCE)


def test_a_reader_like_those_of_aurora_serves_reads() -> None:
    """It follows nobody, and shows rows of its own here, as a plain server cannot share storage."""
    without = {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF", "skip_log_bin": None}
    with (
        own_cluster("mysql", 0, options={"*": without}) as writer,
        own_cluster("mysql", 0, options={"*": without}) as reader,
    ):
        for cluster, n in ((writer, 2), (reader, 1)):
            database = cluster.database(consistency="eventual")
            with database.bind_ctx(MODELS):
                database.create_tables(MODELS)
                Slot.create(name="a", n=n)
            database.close()
        node = reader.primary
        node.stop()
        node._options = {**node._options, "innodb_read_only": True, "read_only": True}
        node.start()
        replicas = [{**reader.parameters(node), "name": "app-instance-2"}]
        options: dict[str, Any] = {"replicas": replicas, "probe_interval": 0.1, "apart": True}
        with bound(writer, sticky_seconds=60.0, **options) as db, watched(db) as events:
            until(lambda: n_of() == 1 and db.replicas[0].role == "member", PATIENCE)
            assert db.replicas[0].state == "up"
            Slot.update(n=3).execute()
            assert n_of() == 3
            assert events[-1].role == "primary"
        # Apart, because reads stay on the primary for the longest time that a write has asked for.
        with bound(writer, sticky_seconds=0.1, **options) as db:
            Slot.update(n=4).execute()
            until(lambda: n_of() == 1, PATIENCE)  # from the reader again
            conn = nodes_of(db)[0].database.conn
            conn.executing = "read"
            with pytest.raises(Exception, match=r"1290|1792|1836|1874"):
                conn.query("DELETE FROM slot")
