"""`spread="unit"`: what a unit of work has seen stays seen, because its reads keep to one replica.

What keeps to a node, found by a walk over all users of `scopes.frames.pinning()`: the choice of a node, of
another one after a failure, the position that the next one must have reached, connect(), raw cursors, scopes
entered inside, and `explain_route()`. Each has a test here or is asked in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.clusters import one_for_each
from support.clusters.repaired import repaired
from support.forms.threads import in_thread

from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.usefixtures("form")

NEWEST = "SELECT id, parent FROM child ORDER BY id DESC LIMIT 1"
PARENT = "SELECT id FROM parent WHERE id = %s"


@contextmanager
def with_tables(server: str) -> Iterator[LocalCluster]:
    with repaired(server, 2, []) as cluster:
        for table in ("parent (id INT PRIMARY KEY)", "child (id INT PRIMARY KEY, parent INT)"):
            cluster.primary.execute(f"CREATE TABLE {cluster.database_name}.{table}")
        yield cluster


@pytest.fixture(scope="module")
def clusters() -> Iterator[Any]:
    with one_for_each(with_tables) as cluster:
        yield cluster


@pytest.fixture
def late(server: str, clusters: Any) -> Iterator[Any]:
    """The second of two replicas is frozen, and lacks the newest parent and child, 2, that another wrote."""
    cluster = clusters(server)
    schema = cluster.database_name
    for table in ("parent", "child"):
        cluster.primary.execute(f"DELETE FROM {schema}.{table}")
    cluster.primary.execute(f"INSERT INTO {schema}.parent VALUES (1)")
    cluster.primary.execute(f"INSERT INTO {schema}.child VALUES (1, 1)")
    cluster.sync()
    cluster.replicas[1].freeze()
    cluster.primary.execute(f"INSERT INTO {schema}.parent VALUES (2)")
    cluster.primary.execute(f"INSERT INTO {schema}.child VALUES (2, 2)")
    cluster.sync()
    yield cluster
    cluster.replicas[1].thaw()
    cluster.sync()


def parent_of_newest(database: Any) -> tuple[Any, Any]:
    """The newest child's parent as it says, and as the parents say."""
    _, wanted = database.execute_sql(NEWEST).fetchone()
    return wanted, (database.execute_sql(PARENT, (wanted,)).fetchone() or [None])[0]


@pytest.mark.parametrize(("spread", "lost"), [("unit", 0), ("statement", 20)])
def test_what_is_listed_can_be_followed(late: Any, spread: str, lost: int) -> None:
    database = late.database(spread=spread, probe_interval=None)
    missing = 0
    for _ in range(20):
        wanted, found = parent_of_newest(database)
        missing += wanted != found
        if spread == "statement":
            database.execute_sql("SELECT 1")  # so that each pair begins on the same replica
            database.execute_sql("SELECT 1")
        database.close()
    assert missing == lost


def test_each_unit_of_work_takes_one_turn_of_the_policy(cluster: Any) -> None:
    database = cluster.database(spread="unit", probe_interval=None)
    cluster.reset_counts()
    for expected in ([5, 0], [5, 5], [10, 5], [10, 10]):
        for _ in range(5):
            database.execute_sql("SELECT 1").fetchall()
        database.close()
        counts = cluster.counts()
        assert [counts[node.name].reads for node in cluster.replicas] == expected
        assert counts["primary"].reads == 0


def test_a_unit_that_loses_its_node_sees_no_less_than_before(late: Any) -> None:
    database = late.database(spread="unit", probe_interval=None, catch_up_timeout=0.05)
    assert parent_of_newest(database) == (2, 2)
    database.replicas[0].eject("for the test")
    assert parent_of_newest(database) == (2, 2)  # the frozen one would show 1
    assert database.stats()["fallbacks"] > 0
    database.replicas[0].restore()
    database.close()


def test_scopes_inside_a_unit_keep_to_its_node(late: Any) -> None:
    database = late.database(spread="unit", probe_interval=None)
    for newest in (2, 1, 2, 1):
        assert database.execute_sql(NEWEST).fetchone()[0] == newest
        with database.readonly():
            assert database.execute_sql(NEWEST).fetchone()[0] == newest
        with database.causal_session():
            assert database.execute_sql(NEWEST).fetchone()[0] == newest
        assert database.explain_route(NEWEST).node == database.replicas[2 - newest].name
        assert database.execute_sql(NEWEST).fetchone()[0] == newest
        database.close()


def test_a_scope_that_begins_a_unit_leaves_it_its_node(late: Any) -> None:
    database = late.database(spread="unit", probe_interval=None)
    for newest in (2, 1):
        with database.readonly():
            assert database.execute_sql(NEWEST).fetchone()[0] == newest
        assert parent_of_newest(database) == (newest, newest)
        database.close()


def test_a_thread_is_a_unit_of_its_own(late: Any) -> None:
    database = late.database(spread="unit", probe_interval=None)

    def newest() -> int:
        found: int = database.execute_sql(NEWEST).fetchone()[0]
        database.close()
        return found

    assert database.execute_sql(NEWEST).fetchone()[0] == 2
    assert in_thread(newest) == 1
    assert database.execute_sql(NEWEST).fetchone()[0] == 2
    database.close()


def test_a_write_is_seen_on_the_primary_when_the_node_is_late(late: Any) -> None:
    database = late.database(spread="unit", probe_interval=None, catch_up_timeout=0.05)
    database.execute_sql("SELECT 1")
    database.close()
    assert database.execute_sql(NEWEST).fetchone()[0] == 1  # on the late one
    database.execute_sql("INSERT INTO parent VALUES (3)")
    database.execute_sql("INSERT INTO child VALUES (3, 3)")
    assert parent_of_newest(database) == (3, 3)
    database.close()
