"""`set_replicas()`: weights, warming up, other parameters, the primary as one of the nodes, forks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from pymysql.cursors import SSCursor
from support.clusters.membership import (
    CLASSES,
    database_of_rows,
    gone,
    making,
    nodes_read,
    own_sessions,
    sessions,
    spec,
    specs,
)
from support.databases.nodes import nodes_of
from support.forms.threads import in_thread
from support.waiting import until

from peewee_replicas import ReplicatedDatabaseProxy
from peewee_replicas.nodes.warm_up import WarmUp

make = pytest.fixture(making)


def test_a_weight_of_0_keeps_a_node_out_and_can_be_raised(cluster: Any, make: Callable[..., Any]) -> None:
    database = make(None, 1, 2)
    kept = database.replicas
    database.set_replicas([*specs(cluster, 1), *specs(cluster, 2, weight=0)])
    assert database.replicas == kept
    assert nodes_read(database, 6) == ["replica-1"] * 6
    assert kept[1].state == "up"
    in_thread(
        lambda: (database._parts.replicas.reach(nodes_of(database)[1]), database.close())
    )  # it can be had all the same
    database._parts.cluster.replicas._warm_up = WarmUp(1e6)
    database.set_replicas([*specs(cluster, 1), *specs(cluster, 2, weight=2)])
    assert nodes_read(database, 120).count("replica-2") == 20  # 0.1 of 2 against 1
    later = time.monotonic() + 1e6
    database._parts.cluster.replicas.warm_up(later)
    assert nodes_read(database, 120).count("replica-2") == 80
    database.set_replicas([*specs(cluster, 1, weight=0), *specs(cluster, 2, weight=0)])
    assert nodes_read(database, 2) == ["primary"] * 2
    assert "weight 0" in database.explain_route("SELECT 1").reason


@pytest.mark.parametrize("policy", ["round-robin", "random", "least-busy"])
def test_a_node_that_is_new_or_comes_back_is_warmed_up(
    cluster: Any, make: Callable[..., Any], policy: str
) -> None:
    database = make(policy=policy)
    replicas = database._parts.cluster.replicas
    replicas._warm_up = WarmUp(1e6)
    nodes_read(database, 3)
    database.set_replicas(specs(cluster, 1, 2))
    first, second = nodes_of(database)
    exact = {"round-robin": 0, "random": 18, "least-busy": 9}[policy]

    def share() -> int:
        before = second.reads
        nodes_read(database, 110)
        return int(second.reads - before)

    def serves(expected: int) -> bool:
        return share() == pytest.approx(expected, abs=exact)

    def comes_to_serve(expected: int) -> None:
        if policy == "least-busy":
            # On a busy machine a node can seem slower than the other for a while, and then gets fewer reads.
            until(lambda: serves(expected))
        else:
            assert serves(expected)

    comes_to_serve(10)
    assert replicas.unsettled
    replicas.warm_up(time.monotonic() + 1e6)
    comes_to_serve(55)
    assert not replicas.unsettled
    first.eject("a test")
    assert share() == 110
    first.restore()
    comes_to_serve(100)


def test_the_step_of_a_warm_up_is_taken_by_whoever_reads(cluster: Any, make: Callable[..., Any]) -> None:
    database = make(None, 1, 2)
    second = database.replicas[1]
    replicas = database._parts.cluster.replicas
    replicas._warm_up = WarmUp(0.2)
    second.eject("a test")
    second.restore()
    assert second.current_weight == 0.1
    until(lambda: database.execute_sql("SELECT 1") and second.current_weight == 1.0, 5.0)
    assert not replicas.unsettled
    assert nodes_read(database, 4).count("replica-2") == 2


def test_the_primary_can_begin_and_cease_to_take_part(cluster: Any, make: Callable[..., Any]) -> None:
    database = make()
    too = {"name": "too", "host": cluster.primary.host, "port": cluster.primary.port}
    database.set_replicas([*specs(cluster, 1, weight=0), too])
    assert nodes_read(database, 2) == ["too"] * 2
    assert database._parts.cluster.reader is nodes_of(database)[1]
    mine = own_sessions(database.replicas[1])
    database.set_replicas(specs(cluster, 1))
    assert nodes_read(database, 2) == ["replica-1"] * 2
    until(gone(cluster.primary, mine))
    with database.readonly():
        database.replicas[0].eject("a test")
        assert nodes_read(database, 2) == ["primary"] * 2
        mine = own_sessions(database._parts.cluster.reader)
        database.set_replicas([*specs(cluster, 1), too])
        assert nodes_read(database, 2) == ["too"] * 2  # the scope stays on the primary
    until(gone(cluster.primary, mine))


def test_reads_of_a_primary_that_ceases_to_take_part_are_counted_once(
    cluster: Any, make: Callable[..., Any]
) -> None:
    database = make()
    too = {"name": "too", "host": cluster.primary.host, "port": cluster.primary.port}
    with database.readonly():  # by the primary as a reader, which is no replica
        database.replicas[0].eject("a test")
        nodes_read(database, 3)
    database.close()
    database.set_replicas([too])
    assert database.stats()["replicas"] == 0
    nodes_read(database, 5)
    rows = nodes_of(database)[0]
    held = database._parts.replicas.reach(rows).conn.cursor(SSCursor)
    held.execute("SELECT 1 UNION SELECT 2")  # keeps its connection open
    database.set_replicas(specs(cluster, 1))
    assert database.stats()["replicas"] == 5
    held.close()
    nodes_read(database, 2)
    assert not rows.has_connections()
    assert database.stats()["replicas"] == 7


def test_other_parameters_make_another_node_and_the_same_in_other_words_do_not(
    cluster: Any, make: Callable[..., Any]
) -> None:
    database = make()
    first = database.replicas[0]
    node = cluster.replicas[0]
    nodes_read(database, 1)
    mine = own_sessions(first)
    url = f"mysql://{cluster.user}:{cluster.password}@{node.host}:{node.port}/{cluster.database_name}"
    database.set_replicas([{**spec(node), "password": cluster.password}])
    assert database.replicas[0] is first
    database.set_replicas([{**spec(node), "host": "localhost"}])  # loopback by another name
    assert database.replicas[0] is first
    database.set_replicas([url])
    assert database.replicas[0] is not first
    assert database.replicas[0].name == f"{node.host}:{node.port}"
    second = database.replicas[0]
    database.set_replicas([{"name": second.name, "host": node.host, "port": node.port, "charset": "utf8mb3"}])
    assert database.replicas[0] is not second
    assert database.execute_sql("SELECT @@character_set_client").fetchone()[0].startswith("utf8")
    until(gone(node, mine))


def test_the_twin_the_proxy_and_a_later_init_see_the_change(cluster: Any, make: Callable[..., Any]) -> None:
    database = make()
    twin = database.on_primary
    proxy = ReplicatedDatabaseProxy()
    with pytest.raises(AttributeError, match="uninitialized"):
        proxy.set_replicas(specs(cluster, 2))
    proxy.initialize(database)
    proxy.set_replicas(specs(cluster, 2))
    assert [replica.name for replica in twin.replicas] == ["replica-2"]
    twin.set_replicas(specs(cluster, 1, 2))
    assert len(database.replicas) == 2
    assert set(nodes_read(database, 12)) == {"replica-1", "replica-2"}
    with database.readonly():
        assert twin.execute_sql("SELECT @@port").fetchone()[0] == cluster.primary.port
    database.close()
    database.init(database.database)
    assert [replica.name for replica in database.replicas] == ["replica-1", "replica-2"]


def test_a_database_that_began_without_replicas_can_be_given_some(cluster: Any, db: Any) -> None:
    database = cluster.database(consistency="eventual", replicas=(), probe_interval=None)
    assert nodes_read(database, 2) == ["primary"] * 2
    database.set_replicas(specs(cluster, 1, 2))
    assert nodes_read(database, 4) == ["replica-1", "replica-2"] * 2  # none is warm, so both count in full
    database.close()


@CLASSES
def test_a_forked_child_leaves_the_connections_to_removed_nodes_to_its_parent(
    cluster: Any, make: Callable[..., Any], cls: Any
) -> None:
    with database_of_rows(cluster, 400):
        database = make(cls, cursorclass=SSCursor)
        database.connect()
        cursor = database.execute_sql("SELECT id, REPEAT('x', 5000) FROM item ORDER BY id")
        rows = [cursor.fetchone()]
        mine = own_sessions(database.replicas[0])
        total = database.stats()["replicas"]
        database.set_replicas(specs(cluster, 2))
        child = os.fork()
        if child == 0:
            try:
                well = nodes_read(database, 2) == ["replica-2"] * 2
                well = well and database.stats()["replicas"] == total + 2
                database.set_replicas(specs(cluster, 1))
                well = well and nodes_read(database, 1) == ["replica-1"]
                os._exit(0 if well else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert sessions(cluster.replicas[0], mine) == mine
        rows.extend(cursor)
        assert len(rows) == 400
        cursor.close()
