"""A Galera cluster of three: reads on its members see what was written, and go on without the primary.

The members of the kind are what a Galera member knows of positions: nothing (no binary log), its own clients'
writes (a binary log without `log_slave_updates`), and everybody's (`wsrep_gtid_mode` with it). None of them
shows how far it has come, so each of its reads waits for the cluster instead (`wsrep_sync_wait`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import peewee
import pymysql
import pytest
from support.clusters.galera import SETUPS, Galera, galera, needs_galera
from support.clusters.lagging import watched
from support.databases.nodes import nodes_of
from support.waiting import until

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.discover import galera as members_of_galera
from peewee_replicas.nodes import member_delays

pytestmark = [pytest.mark.once, needs_galera]

PAIRS = 150


@contextmanager
def opened(cluster: Galera, **options: Any) -> Iterator[Any]:
    parameters = cluster.parameters(0)
    replicas = [{"name": f"member-{n + 1}", "port": cluster.nodes[n].port} for n in (1, 2)]
    db = ReplicatedDatabase(
        parameters.pop("database"), **parameters, replicas=replicas, **{"probe_interval": 0.1, **options}
    )
    try:
        yield db
    finally:
        db.dispose()


def n_of(db: Any) -> Any:
    return db.execute_sql("SELECT n FROM t").fetchone()[0]


def write(db: Any, n: int) -> None:
    db.execute_sql("UPDATE t SET n = %s", (n,))


@pytest.mark.parametrize("setup", SETUPS)
def test_reads_on_members_see_what_was_written(setup: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "peewee.replicas")
    with galera(setup) as cluster, opened(cluster) as db, watched(db) as events:
        db.execute_sql("CREATE TABLE t (n INT)")
        db.execute_sql("INSERT INTO t VALUES (0)")
        until(lambda: n_of(db) == 0 and events[-1].role == "replica")
        others = [{"host": "127.0.0.1", "port": node.port} for node in cluster.nodes[1:]]
        assert sorted(members_of_galera(seconds=60)(db), key=lambda each: each["port"]) == sorted(
            others, key=lambda each: each["port"]
        )
        del events[:]
        for n in range(1, PAIRS + 1):
            write(db, n)
            assert n_of(db) == n
        assert sum(event.role == "replica" for event in events) == PAIRS
        with db.readonly(snapshot=True):
            assert n_of(db) == PAIRS
        with db.readonly(consistency="strong"):
            assert n_of(db) == PAIRS
        assert events[-1].role == "replica"
        assert [replica.state for replica in db.replicas] == ["up", "up"]
        assert caplog.text.count("wsrep_sync_wait") == 1
        assert caplog.text.count("unknown lag") == 2  # once for each member
        _goes_elsewhere_while_a_member_is_behind(db, cluster, events, caplog)
        _goes_on_without_the_primary(db, cluster)


def test_show_waits_and_dirty_reads_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the servers and of `init_command`, and each sort of question that a member answers."""
    monkeypatch.setattr(member_delays, "LONGEST_ABSENCE", 0.2)
    dirty = "SET SESSION wsrep_dirty_reads = ON, SESSION wsrep_sync_wait = 0"
    with galera("own GTIDs") as cluster, opened(cluster, init_command=dirty) as db:
        db.execute_sql("CREATE TABLE t (n INT)")
        db.execute_sql("INSERT INTO t VALUES (0)")
        for node in cluster.nodes[1:]:
            node.execute("SET GLOBAL wsrep_provider_options = 'repl.causal_read_timeout=PT0.2S'")
        for question in ("SHOW TABLES", "SHOW COLUMNS FROM t", "EXPLAIN SELECT * FROM t", "SELECT n FROM t"):
            until(lambda: [n_of(db), *(one.state for one in db.replicas)] == [0, "up", "up"])
            before = db.stats()["behind"]
            with ExitStack() as stack:
                for number in (1, 2):
                    parameters = cluster.parameters(number, user=cluster.admin_user)
                    holder = stack.enter_context(pymysql.connect(**parameters))
                    holder.query("FLUSH TABLES WITH READ LOCK")  # it applies nothing meanwhile
                db.execute_sql("ALTER TABLE t COMMENT = %s", (question,))
                with db.readonly(), watched(db) as events:
                    db.execute_sql(question)
                assert events[-1].role == "primary", question
            assert db.stats()["behind"] == before + 2


def _goes_elsewhere_while_a_member_is_behind(
    db: Any, cluster: Galera, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    late = cluster.nodes[1]
    late.execute("SET GLOBAL wsrep_provider_options = 'repl.causal_read_timeout=PT0.2S'")
    with pymysql.connect(**cluster.parameters(1, user=cluster.admin_user)) as holder:
        holder.query("FLUSH TABLES WITH READ LOCK")  # it applies nothing meanwhile
        for n in range(1000, 1004):
            write(db, n)
            assert n_of(db) == n
            assert events[-1].node == "member-3"
        assert db.stats()["behind"] == db.stats()["member-2.ejections"] > 0
        assert "(1205)" in caplog.text
        with opened(
            cluster, consistency="eventual"
        ) as other:  # a connection to a member that is behind can be opened
            assert [n_of(other), n_of(other)] == [1003, 1003]
            assert other.stats()["behind"] > 0
        assert "1047" not in caplog.text
        holder.query("UNLOCK TABLES")
    until(lambda: n_of(db) == 1003 and events[-1].node == "member-2")


def _goes_on_without_the_primary(db: Any, cluster: Galera) -> None:
    seen = n_of(db)
    cluster.nodes[0].kill()
    for _ in range(20):
        assert n_of(db) == seen
    cluster.nodes[2].kill()

    def without_quorum() -> bool:
        try:
            n_of(db)
        except peewee.OperationalError:
            return "1047" in nodes_of(db)[0].breaker.cause
        return False

    until(without_quorum, 60.0)
