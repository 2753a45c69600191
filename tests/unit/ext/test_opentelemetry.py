"""`ReplicasInstrumentor` reports each execution once, by the stable conventions, and never a parameter.

The attributes were listed from the conventions' page for client spans of databases and for MySQL, MariaDB and
SQLite; the test of names compares them with the constants of the installed conventions. Databases may be made
before or after the instrumentor is set up, and it may be taken off.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import peewee
import pytest
from support.databases.sqlite import Row, a_path, one_row, opened  # noqa: F401  # the fixtures `path` and `db`

pytest.importorskip("opentelemetry.sdk", reason="the extra `test` has it")

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode
from support.tracing.collected import Collected, instrumented

from peewee_replicas import RouteEvent
from peewee_replicas.databases.common_hooks import add_common_hook, remove_common_hook, take_common_hooks
from peewee_replicas.ext.opentelemetry import ReplicasInstrumentor

SECRET = "4711-secret"


@pytest.fixture
def collected() -> Iterator[Collected]:
    with instrumented() as found:
        yield found


def event(**fields: Any) -> RouteEvent:
    known: dict[str, Any] = {
        "database": "shop", "sql": "SELECT `t1`.`id` FROM `user` AS `t1` WHERE (`t1`.`name` = %s)",
        "role": "replica", "node": "replica-1", "kind": "read", "reason": "a proven read", "attempts": 2,
        "observed": None, "duration": 0.25, "error": None, "flavour": "mariadb", "address": "replica-1.db",
        "port": 3307, "waited": 0.125,
    }  # fmt: skip
    return RouteEvent(**{**known, **fields})


def reported(collected: Collected, **fields: Any) -> Any:
    hooks: list[Any] = []

    class Database:
        route_hooks = hooks

    database = Database()
    take_common_hooks(database)
    (hook,) = hooks
    hook(event(**fields))
    (span,) = collected.spans()
    return span


def test_a_read_on_a_replica_has_the_attributes_of_the_conventions(collected: Collected) -> None:
    span = reported(collected)
    assert span.name == "SELECT shop"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert span.end_time - span.start_time == 250_000_000
    assert dict(span.attributes) == {
        "db.system.name": "mariadb",
        "db.namespace": "shop",
        "db.operation.name": "SELECT",
        "db.query.text": "SELECT `t1`.`id` FROM `user` AS `t1` WHERE (`t1`.`name` = %s)",
        "server.address": "replica-1.db",
        "server.port": 3307,
        "peewee_replicas.role": "replica",
        "peewee_replicas.node": "replica-1",
        "peewee_replicas.kind": "read",
        "peewee_replicas.reason": "a proven read",
        "peewee_replicas.attempts": 2,
        "peewee_replicas.waited": 0.125,
    }
    known = {
        value
        for module in (db_attributes, error_attributes, server_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    assert {name for name in span.attributes if not name.startswith("peewee_replicas.")} <= known


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"error": "OperationalError: 1205 LOCK_WAIT_TIMEOUT", "error_type": "OperationalError",
          "error_number": 1205}, {"error.type": "1205", "db.response.status_code": "1205"}),
        ({"error": "NoReplicaAvailable: none", "error_type": "NoReplicaAvailable"},
         {"error.type": "NoReplicaAvailable"}),
    ],
)  # fmt: skip
def test_an_error_is_told_by_its_number_or_its_class(
    collected: Collected, fields: dict[str, Any], expected: dict[str, str]
) -> None:
    span = reported(collected, **fields)
    assert span.status.status_code is StatusCode.ERROR
    assert expected.items() <= dict(span.attributes).items()
    assert ("db.response.status_code" in span.attributes) is ("error_number" in fields)
    (metric,) = collected.metrics()
    (point,) = metric.data.data_points
    assert expected.items() <= dict(point.attributes).items()


def test_the_metric_is_the_conventions_histogram_in_seconds(collected: Collected) -> None:
    reported(collected)
    (metric,) = collected.metrics()
    assert (metric.name, metric.unit) == ("db.client.operation.duration", "s")
    (point,) = metric.data.data_points
    assert (point.count, point.sum) == (1, 0.25)
    assert tuple(point.explicit_bounds) == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
    # Texts would make a time series of each.
    assert not {"db.query.text", "peewee_replicas.reason"} & set(point.attributes)


def test_values_are_never_reported(collected: Collected, db: Any) -> None:
    collected.spans()
    Row.create(name=SECRET)
    db.execute_sql(f"SELECT * FROM row WHERE name = '{SECRET}'")
    with pytest.raises(peewee.OperationalError):
        db.execute_sql(f"SELECT '{SECRET}' FROM missing")
    spans = collected.spans()
    assert len(spans) == 3
    told = [span.to_json() for span in spans] + [str(collected.metrics())]
    assert not [text for text in told if SECRET in text]


def test_the_programs_span_is_the_parent_and_transactions_have_spans(collected: Collected, db: Any) -> None:
    collected.spans()
    with collected.tracer.start_as_current_span("request") as request, db.atomic():
        Row.create(name="a")
    spans = collected.spans()
    names = [span.attributes["db.operation.name"] for span in spans[:-1]]
    assert names == ["BEGIN", "INSERT", "COMMIT"]
    assert {span.parent.span_id for span in spans[:-1]} == {request.get_span_context().span_id}
    assert {span.attributes["db.system.name"] for span in spans[:-1]} == {"sqlite"}
    assert not any("server.address" in span.attributes for span in spans[:-1])


def test_databases_made_before_and_after_are_reported_until_it_is_taken_off(path: str) -> None:
    before = opened(path)
    with instrumented() as collected:
        after = opened(f"{path}-2")
        for database in (before, after):
            database.execute_sql("SELECT 1")
        assert {span.attributes["db.namespace"] for span in collected.spans()} == {
            str(before.database), str(after.database),
        }  # fmt: skip
        ReplicasInstrumentor().instrument()  # the second time has no effect
        before.execute_sql("SELECT 1")
        assert len(collected.spans()) == 1
        with suppress_instrumentation():
            before.execute_sql("SELECT 1")
        assert not collected.spans()
    later = opened(f"{path}-3")
    assert before.route_hooks == after.route_hooks == later.route_hooks == []
    for database in (before, after, later):
        database.close()


def test_a_common_hook_leaves_a_databases_own_hooks_alone(db: Any) -> None:
    own: list[Any] = []
    db.route_hooks.append(own.append)
    common: list[Any] = []
    add_common_hook(common.append)
    db.execute_sql("SELECT 1")
    remove_common_hook(common.append)
    db.execute_sql("SELECT 1")
    assert (len(own), len(common)) == (2, 1)


def test_a_hook_added_while_a_database_is_made_is_given_once() -> None:
    hook = print
    adding = threading.Thread(target=add_common_hook, args=[hook])

    class Hooks(list[Any]):
        def extend(self, hooks: Any) -> None:
            adding.start()
            adding.join(0.2)  # without a lock, it would end here
            super().extend(hooks)

    class Database:
        route_hooks = Hooks()

    database = Database()
    try:
        take_common_hooks(database)
        adding.join()
        assert database.route_hooks == [hook]
    finally:
        remove_common_hook(hook)
    assert database.route_hooks == []


def test_a_missing_extra_is_named() -> None:
    program = """
import sys
import threading
sys.modules["opentelemetry.instrumentation"] = None
try:
    import peewee_replicas.ext.opentelemetry
except ImportError as exc:
    assert 'pip install "peewee_replicas[opentelemetry]"' in str(exc), exc
else:
    raise AssertionError("imported")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
