"""`instrument()` reports each execution once, under labels from closed sets, and node states as gauges.

The members of the kind are the metrics of `Metrics`, and what may be done to an instrumented database: two in
a process, the same one twice, another registry, taking it off, a proxy, nodes that change. They were listed
from the attributes of `Metrics` and the arguments of `instrument()`. The gauges are those attributes that are
a `Gauge`; what refreshes them are the three hooks of `_Reporter`, and taking them off, with and without
``PROMETHEUS_MULTIPROC_DIR``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import peewee
import pytest
from prometheus_client import CollectorRegistry
from support.databases.sqlite import Row, a_path, one_row, opened  # noqa: F401  # the fixtures `path` and `db`

from peewee_replicas import ConfigurationError, NoReplicaAvailable, ReplicatedDatabaseProxy
from peewee_replicas.events import CAUSES, NodeEvent, RouteEvent
from peewee_replicas.ext.prometheus import instrument, uninstrument


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def values(registry: CollectorRegistry, name: str, *wanted: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric, summed up over all labels but the wanted ones."""
    found: dict[tuple[str, ...], float] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == f"peewee_replicas_{name}":
                key = tuple(sample.labels[label] for label in wanted)
                found[key] = found.get(key, 0) + sample.value
    return found


def read(db: Any, times: int = 1) -> None:
    for _ in range(times):
        db.execute_sql("SELECT 1").fetchall()


def test_statements_by_node_role_kind_and_cause(db: Any, registry: CollectorRegistry) -> None:
    instrument(db, registry=registry)
    read(db, 4)
    Row.create(name="second")
    with db.atomic():
        read(db)
    one, other = (replica.name for replica in db.replicas)
    assert values(registry, "statements_total", "node", "role", "kind", "cause") == {
        (one, "replica", "read", ""): 2,
        (other, "replica", "read", ""): 2,
        ("primary", "primary", "write", "write"): 1,
        ("primary", "primary", "transaction", "transaction"): 2,
        ("primary", "primary", "read", "transaction"): 1,
    }
    assert values(registry, "statement_seconds_count", "node", "role") == {
        (one, "replica"): 2,
        (other, "replica"): 2,
        ("primary", "primary"): 4,
    }
    assert values(registry, "statement_seconds_sum")[()] > 0
    assert values(registry, "errors_total") == values(registry, "wait_seconds_count") == {}


def test_errors_with_and_without_a_node(path: str, registry: CollectorRegistry) -> None:
    db = opened(path, fallback="error")
    instrument(db, registry=registry)
    with pytest.raises(peewee.OperationalError):
        db.execute_sql("INSERT INTO nowhere VALUES (1)")
    for replica in db.replicas:
        replica.eject("a test")
    with pytest.raises(NoReplicaAvailable):
        read(db)
    assert values(registry, "errors_total", "node", "kind") == {("primary", "write"): 1, ("", "read"): 1}
    assert values(registry, "statements_total", "node") == {("primary",): 1}
    db.close()


def test_waits_and_retries(db: Any, registry: CollectorRegistry) -> None:
    instrument(db, registry=registry)
    event = RouteEvent(
        "app", "SELECT 1", "replica", "r", "read", "why", attempts=3, observed=None, duration=0.5, error=None,
        waited=0.25,
    )  # fmt: skip
    for hook in db.route_hooks:
        hook(event)
        hook(event._replace(attempts=1, waited=0.0))
    assert values(registry, "retries_total", "database", "node") == {("app", "r"): 2}
    assert values(registry, "wait_seconds_count", "node") == {("r",): 1}
    assert values(registry, "wait_seconds_sum", "node") == {("r",): 0.25}


def test_the_causes_are_a_closed_set(db: Any, registry: CollectorRegistry) -> None:
    instrument(db, registry=registry)
    for reads in ("replica", "primary", "observe"):
        with db.readonly():
            read(db)
        db.init(db.database, reads=reads)
        read(db)
    causes = {cause for (cause,) in values(registry, "statements_total", "cause")}
    assert causes <= {"", *CAUSES}
    assert {"", "setting"} <= causes


def up(registry: CollectorRegistry) -> dict[str, str]:
    states = values(registry, "node_state", "node", "state")
    return {node: state for (node, state), value in states.items() if value}


def test_states_and_lag_follow_the_nodes(db: Any, registry: CollectorRegistry) -> None:
    instrument(db, registry=registry)
    assert up(registry) == {}  # a process that serves nothing, such as gunicorn's parent, is not counted
    read(db)
    one, other = (replica.name for replica in db.replicas)
    assert up(registry) == {one: "up", other: "up"}
    db.replicas[0].eject("a test")
    assert up(registry) == {one: "ejected", other: "up"}
    db.replicas[0].restore()
    assert up(registry) == {one: "up", other: "up"}
    assert set(values(registry, "node_lag_seconds", "node")) == {(one,), (other,)}


def test_the_prober_refreshes_the_gauges_without_a_statement(db: Any, registry: CollectorRegistry) -> None:
    instrument(db, registry=registry)
    db.init(db.database)
    cluster = db._parts.cluster
    node = cluster.replicas.all[0]
    for lag in (3.5, 4.5, None):
        node.lag = lag
        cluster.news.tell_of_round()
        assert values(registry, "node_lag_seconds", "node")[(node.name,)] == (-1 if lag is None else lag)


def test_uninstrument_leaves_no_gauge_behind(db: Any, registry: CollectorRegistry) -> None:
    instrument(db, registry=registry)
    read(db)
    cluster = db._parts.cluster
    cluster.news.tell(cluster.reader, "down", "a test")
    db.init(db.database, readers=1)  # the second is removed, and shown as that
    cluster = db._parts.cluster
    cluster.news.tell_of_round()
    assert set(up(registry).values()) == {"up", "down", "removed"}
    (late,) = cluster.news.round_hooks
    uninstrument(db, registry=registry)
    assert cluster.news.round_hooks == []
    late(db.database)  # the prober was inside it
    assert values(registry, "node_state") == values(registry, "node_lag_seconds") == {}
    assert values(registry, "statements_total") == {(): 1}


_PROCESS = """
import sys, warnings
from prometheus_client import CollectorRegistry, multiprocess
from peewee_replicas import ReplicatedSqliteDatabase
from peewee_replicas.ext.prometheus import instrument, uninstrument

warnings.simplefilter("error")
def shown():
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return {
        (s.name, s.labels.get("state")): s.value
        for family in registry.collect() for s in family.samples if "node" in s.name
    }
db = ReplicatedSqliteDatabase(sys.argv[1], readers=1)
db.execute_sql("CREATE TABLE t (n)")
instrument(db, name="app")
db.execute_sql("SELECT 1").fetchall()
before = shown()
assert before["peewee_replicas_node_state", "up"] == 1, before
uninstrument(db)
assert before != (after := shown())
assert {value for (name, state), value in after.items() if state} == {0}, after
assert after["peewee_replicas_node_lag_seconds", None] == -1, after
"""


def test_processes_that_share_files_are_taken_out_of_the_sums(tmp_path: Path, path: str) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS, path],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(shared)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_states_of_the_primary(db: Any, registry: CollectorRegistry) -> None:
    instrument(db, registry=registry)
    for state in ("down", "read_only", "up"):
        db._parts.cluster.news.tell(db._parts.cluster.reader, state, "a test")
        assert up(registry)["primary"] == state
    assert db.node_hooks[0](NodeEvent("app", "primary", "something new", "")) is None


def test_two_databases_have_labels_of_their_own(db: Any, tmp_path: Path, registry: CollectorRegistry) -> None:
    other = opened(str(tmp_path / "other.db"))
    instrument(db, registry=registry, name="shop")
    instrument(other, registry=registry)
    read(db, 2)
    read(other)
    assert values(registry, "statements_total", "database") == {("shop",): 2, (other.database,): 1}
    assert {database for (database,) in values(registry, "node_state", "database")} == {
        "shop", other.database,
    }  # fmt: skip
    other.close()


def test_twice_counts_once_and_uninstrument_ends_it(db: Any, registry: CollectorRegistry) -> None:
    proxy = ReplicatedDatabaseProxy()
    proxy.initialize(db)
    second = CollectorRegistry()
    for database in (db, db.on_primary, proxy):
        instrument(database, registry=registry)
    instrument(db, registry=second)
    read(db)
    assert values(registry, "statements_total") == values(second, "statements_total") == {(): 1}
    uninstrument(db, registry=registry)
    uninstrument(db, registry=registry)
    read(db)
    assert values(registry, "statements_total") == {(): 1}  # a counter never falls
    assert values(second, "statements_total") == {(): 2}
    uninstrument(proxy, registry=second)
    assert (db.route_hooks, db.node_hooks) == ([], [])
    instrument(db, registry=registry)
    read(db)
    assert values(registry, "statements_total") == {(): 2}


@pytest.mark.parametrize(
    ("database", "name", "words"),
    [
        (peewee.SqliteDatabase(None), None, "a SqliteDatabase is none of peewee_replicas' databases"),
        (ReplicatedDatabaseProxy(), None, "initialize"),
        (None, "", "name=''"),
        (None, 3, "name=3"),
    ],
)
def test_wrong_arguments_are_refused(database: Any, name: Any, words: str, db: Any) -> None:
    with pytest.raises(ConfigurationError, match=words):
        instrument(database or db, registry=CollectorRegistry(), name=name)
