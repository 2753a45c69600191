"""`raise_on_next` lets one statement fail on one node; the library treats the error as a server's.

The members are the ways on which a statement reaches a node: a replica and the primary, in each form (plain,
pooled, asyncio), and inside `one_server`, with and without a transaction of its own. They were found by
listing the callers of `PlainDatabase.send()`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymysql.err
import pytest
from peewee import OperationalError
from support.databases.models import Item

from peewee_replicas import OutcomeUnknown, PooledReplicatedDatabase
from peewee_replicas.testing import LocalCluster, assert_routes, one_server, raise_on_next

LOST = OperationalError(2013)
UNREACHABLE = pymysql.err.OperationalError(2003, "no route to host")


@pytest.fixture
def server() -> str:
    """Nothing here differs between the servers."""
    return "mariadb"


def count() -> int:
    return int(Item.select().count())


def names(db: Any) -> list[str]:
    with db.primary():
        return [item.name for item in Item.select()]


@pytest.mark.usefixtures("form")
def test_a_read_that_loses_its_connection_is_served_by_another_replica(db: Any) -> None:
    with assert_routes(db, "replica-2"), raise_on_next(db, "replica-1", LOST):
        assert count() == 0
    assert db.stats()["retries"] == 1
    assert [replica.state for replica in db.replicas] == ["up", "up"]
    with assert_routes(db, "replica", "replica") as events:
        assert [count(), count()] == [0, 0]
    assert {event.node for event in events} == {"replica-1", "replica-2"}


@pytest.mark.usefixtures("form")
def test_a_replica_that_cannot_be_reached_is_out_of_rotation_until_the_end(db: Any) -> None:
    with raise_on_next(db, "replica-1", UNREACHABLE):
        assert [count(), count()] == [0, 0]
        assert [replica.state for replica in db.replicas] == ["ejected", "up"]
        assert "no route to host" in db.replicas[0].cause
    assert [replica.state for replica in db.replicas] == ["up", "up"]


@pytest.mark.usefixtures("form")
def test_a_write_that_loses_its_connection_has_an_unknown_outcome(db: Any) -> None:
    with raise_on_next(db, "primary", LOST), pytest.raises(OutcomeUnknown, match="raise_on_next"):
        Item.create(name="a")
    assert names(db) == []
    Item.create(name="b")
    assert names(db) == ["b"]


def test_it_works_with_pools(db: Any, cluster: LocalCluster) -> None:
    pooled: Any = cluster.database(PooledReplicatedDatabase, consistency="eventual")
    with pooled.bind_ctx([Item]):
        for step in (
            test_a_read_that_loses_its_connection_is_served_by_another_replica,
            test_a_replica_that_cannot_be_reached_is_out_of_rotation_until_the_end,
            test_a_write_that_loses_its_connection_has_an_unknown_outcome,
        ):
            step(pooled)
        pooled.close()


@pytest.mark.usefixtures("form")
def test_inside_a_transaction_the_connection_is_lost_and_nothing_is_kept(db: Any) -> None:
    with pytest.raises(OperationalError, match="raise_on_next"), db.atomic():
        Item.create(name="a")
        with raise_on_next(db, "primary", LOST):
            Item.create(name="b")
    assert names(db) == []


@pytest.mark.parametrize("transaction", [False, True])
def test_inside_one_server_the_fault_is_the_named_nodes_alone(db: Any, transaction: bool) -> None:
    with one_server(db, transaction=transaction):
        Item.create(name="a")
        with assert_routes(db, "replica-2"), raise_on_next(db, "replica-1", LOST):
            assert count() == 1
        # To the server, the test's own transaction is one.
        expected = OperationalError if transaction else OutcomeUnknown
        with raise_on_next(db, "primary", LOST), pytest.raises(expected, match="raise_on_next"):
            Item.create(name="b")
        assert count() == 1
    assert names(db) == ([] if transaction else ["a"])


def test_a_read_on_the_primarys_guarded_connection_fails_as_well(db: Any) -> None:
    for replica in db.replicas:
        replica.eject("by hand")
    with raise_on_next(db, "primary", OperationalError(1205, "lock wait")), db.readonly():
        with pytest.raises(OperationalError, match="lock wait"):
            count()
        assert count() == 0


def test_of_many_threads_one_meets_the_fault(db: Any) -> None:
    def read(_number: int) -> int:
        with db.connection_context():
            return count()

    with raise_on_next(db, "replica-1", LOST), ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, range(40))) == [0] * 40
    assert db.stats()["retries"] == 1


def test_several_faults_strike_one_after_the_other(db: Any) -> None:
    faults = [raise_on_next(db, f"replica-{number}", UNREACHABLE) for number in (1, 2)]
    with assert_routes(db, "primary"):
        assert count() == 0
    for fault in faults:
        fault.end()
    assert [replica.state for replica in db.replicas] == ["up", "up"]


@pytest.mark.parametrize("raised", [OperationalError(1205, "lock wait"), pymysql.err.OperationalError(1205)])
def test_an_error_of_the_statement_reaches_the_program(db: Any, raised: Exception) -> None:
    with raise_on_next(db, "replica-1", raised), pytest.raises(OperationalError) as caught:
        count()
    assert caught.value.args[0] == 1205
    assert [replica.state for replica in db.replicas] == ["up", "up"]


def test_a_fault_that_nothing_meets_is_an_error_and_is_gone_afterwards(db: Any) -> None:
    never_met = raise_on_next(db, "replica-1", LOST)
    with pytest.raises(AssertionError, match="no statement was sent to replica-1"), never_met:
        pass
    with assert_routes(db, "replica-1"):
        assert count() == 0
