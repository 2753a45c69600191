"""Why the primary served what it served: `stats()` and the events count each statement under one cause.

The kind is all of `events.CAUSES`. Here each is brought about on a real server, except "sticky" (servers
without GTIDs: `consistency/test_without_gtids.py`), "behind" (late replicas:
`consistency/test_short_waits.py`) and "position_unknown" (a refused question:
`unit/consistency/test_levels.py`). The last test compares this list with the one in the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.clusters import administrator
from support.clusters.lagging import watched
from support.databases.models import Item

from peewee_replicas.events import CAUSES
from peewee_replicas.testing import LocalCluster

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("form")]

READ = "SELECT COUNT(*) FROM item"


def in_transaction(db: Any) -> None:
    with db.atomic():
        db.execute_sql(READ)


def with_session_state(db: Any) -> None:
    db.execute_sql("SET @colour = 1")
    db.execute_sql(READ)


def in_scope(db: Any) -> None:
    with db.primary():
        db.execute_sql(READ)


def bound(db: Any) -> None:
    db.on_primary.execute_sql(READ)
    with db.readonly():  # on a guarded connection
        db.on_primary.execute_sql(READ)


def without_replicas(db: Any) -> None:
    for replica in db.replicas:
        replica.eject("for the test")
    db.execute_sql(READ)
    with db.readonly():  # the first decides, the second follows it
        db.execute_sql(READ)
        db.execute_sql(READ)
    with db.readonly(snapshot=True):
        db.execute_sql(READ)
        db.execute_sql(READ)
    db.execute_sql("SHOW TABLES")
    for replica in db.replicas:
        replica.restore()


def rerun(db: Any) -> None:
    db.execute_sql("SELECT COUNT(*) FROM only_here")


# What is done, and how often each cause is counted for it.
CASES: dict[Callable[[Any], Any], dict[str, int]] = {
    lambda db: db.execute_sql(READ): {},
    lambda db: db.execute_sql("UPDATE item SET n = 1"): {"write": 1},
    lambda db: db.execute_sql(f"{READ} FOR UPDATE"): {"locking": 1},
    lambda db: db.execute_sql("SHOW TABLES"): {"unproven": 1},
    lambda db: db.execute_sql("SET NAMES utf8mb4"): {"session": 1},
    lambda db: db.execute_sql("COMMIT"): {"transaction": 1},
    in_transaction: {"transaction": 1},
    with_session_state: {"session": 1, "session_state": 1},
    in_scope: {"scope": 1},
    bound: {"on_primary": 2},
    without_replicas: {"fallback": 5, "unproven": 1},
    rerun: {"rerun": 1},
}


def counted(db: Any) -> dict[str, int]:
    stats = db.stats()
    found = {cause: stats[f"primary.because.{cause}"] for cause in CAUSES}
    assert sum(found.values()) == stats["primary"] + stats["primary.reads"]
    return found


@pytest.fixture
def only_on_the_primary(db: Any, cluster: LocalCluster) -> Iterator[None]:
    """A table that the replicas do not have."""
    conn = administrator(cluster, cluster.primary)
    conn.query("CREATE TABLE only_here (n INT)")
    yield
    conn.query("DROP TABLE only_here")
    conn.close()


def test_each_statement_on_the_primary_is_counted_under_one_cause(db: Any, only_on_the_primary: None) -> None:
    for work, expected in CASES.items():
        before = counted(db)
        with watched(db) as events:
            work(db)
        after = counted(db)
        grown = {cause: after[cause] - before[cause] for cause in CAUSES if after[cause] != before[cause]}
        assert grown == expected, expected
        if any(event.sql == "BEGIN" for event in events):  # atomic() sends these, and is not counted
            events = [event for event in events if event.sql not in ("BEGIN", "COMMIT")]
        told = [event.cause for event in events if event.role == "primary"]
        assert sorted(told) == sorted(cause for cause, times in expected.items() for _ in range(times))
        assert {event.cause for event in events if event.role == "replica"} <= {""}
        db.close()  # a session's state ends


def test_reads_that_a_setting_keeps_on_the_primary(db: Any, cluster: LocalCluster) -> None:
    for reads in ("primary", "observe"):
        other = cluster.database(reads=reads, consistency="eventual")
        other.execute_sql(READ)
        assert other.explain_route(READ).cause == "setting"
        assert counted(other)["setting"] == 1
        other.close()


def test_without_replicas_there_is_no_fallback(db: Any, cluster: LocalCluster) -> None:
    other = cluster.database(replicas=(), consistency="eventual")
    other.execute_sql(READ)
    with other.readonly():
        other.execute_sql(READ)
        other.execute_sql(READ)
    assert counted(other)["no_replicas"] == 3
    assert other.explain_route(READ).cause == "no_replicas"
    other.close()


def test_a_primary_that_is_listed_serves_as_a_replica(db: Any, cluster: LocalCluster) -> None:
    listed = [{**cluster.parameters("primary"), "name": "listed"}]
    other = cluster.database(replicas=listed, consistency="eventual")
    with watched(other) as events, other.bind_ctx([Item]):
        assert Item.select().count() == 0
    assert [(event.role, event.node, event.cause) for event in events] == [("primary", "listed", "")]
    assert not any(other.stats()[f"primary.because.{cause}"] for cause in CAUSES)
    other.close()


def test_no_cause_is_left_out() -> None:
    shown = {cause for expected in CASES.values() for cause in expected}
    assert shown | {"setting", "no_replicas", "sticky", "position_unknown", "behind"} == set(CAUSES)
