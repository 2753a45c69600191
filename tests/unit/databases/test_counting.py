"""`counting()` counts what its own context executes, each thing once, and nothing else.

The members of the kind are the ways in which something is executed (a read, a write, a transaction's own
statements, a fallback, an error, a read that waited) and the contexts that may be concerned (the same one, a
copy of it, another thread, a nested block, a block that has ended, another database). They were listed from
`events.CAUSES`, from the callers of `ExecutionReports._report_route()` and from what is tested of scopes.
"""

from __future__ import annotations

import contextvars
import threading
from pathlib import Path
from typing import Any

import pytest
from support.databases.sqlite import Row, a_path, one_row, opened  # noqa: F401  # the fixtures `path` and `db`

from peewee_replicas import NoReplicaAvailable, ReplicatedDatabaseProxy
from peewee_replicas.databases.counting import Counts
from peewee_replicas.events import RouteEvent
from peewee_replicas.execution.execution import Execution


def read(db: Any) -> None:
    db.execute_sql("SELECT 1").fetchall()


def total(counts: Counts) -> int:
    return sum(counts.reads.values()) + sum(counts.primary.values())


def test_reads_by_node_and_the_rest_by_cause(db: Any) -> None:
    with db.counting() as counts:
        for _ in range(4):
            read(db)
        Row.create(name="second")
        with db.primary():
            read(db)
        with db.atomic():
            read(db)
    assert sum(counts.reads.values()) == 4
    assert len(counts.reads) == len(db.replicas) == 2
    # BEGIN and COMMIT are statements of a transaction, too.
    assert counts.primary == {"write": 1, "scope": 1, "transaction": 3}
    assert counts.replica_seconds > 0
    assert counts.primary_seconds > 0
    assert counts.seconds == counts.replica_seconds + counts.primary_seconds
    assert (counts.errors, counts.retries, counts.waits, counts.fallbacks) == (0, 0, 0, 0)
    assert f"reads={counts.reads!r}" in repr(counts)


def test_fallbacks_and_errors(db: Any) -> None:
    for replica in db.replicas:
        replica.eject("a test")
    with db.counting() as counts:
        read(db)
        with pytest.raises(Exception, match="nowhere"):
            db.execute_sql("SELECT * FROM nowhere")
    assert counts.primary == {"fallback": 2}
    assert (counts.fallbacks, counts.errors) == (2, 1)


def test_what_reaches_no_node_is_an_error_and_no_statement(path: str) -> None:
    db = opened(path, fallback="error")
    for replica in db.replicas:
        replica.eject("a test")
    with db.counting() as counts, pytest.raises(NoReplicaAvailable):
        read(db)
    assert (total(counts), counts.errors) == (0, 1)
    db.close()


def test_a_wait_and_further_attempts() -> None:
    event = RouteEvent(
        "app", "SELECT 1", "replica", "r", "read", "why", attempts=3, observed=None, duration=0.5, error=None,
        waited=0.25,
    )  # fmt: skip
    counts = Counts()
    counts.add(event)
    counts.add(event._replace(attempts=1, waited=0.0))
    assert (counts.reads, counts.retries, counts.waits, counts.waited) == ({"r": 2}, 2, 1, 0.25)
    assert counts.server_timing() == (
        'db-replicas;dur=1000.0;desc="2 reads", db-primary;dur=0.0;desc="nothing", '
        'db-waited;dur=250.0;desc="1 waits"'
    )


def test_a_header_names_causes_and_no_nodes(db: Any) -> None:
    with db.counting() as counts:
        read(db)
        Row.create(name="second")
    text = counts.server_timing("db-shop")
    assert '"1 reads"' in text
    assert 'desc="write 1"' in text
    assert text.startswith("db-shop-replicas;dur=")
    assert not any(replica.name in text for replica in db.replicas)


def test_nested_blocks_each_count_and_an_ended_one_does_not(db: Any) -> None:
    with db.counting() as outer:
        read(db)
        with db.counting() as inner:
            read(db)
        read(db)
    read(db)
    assert (total(outer), total(inner)) == (3, 1)


def test_other_contexts_count_only_if_they_copy_this_one(db: Any) -> None:
    def work() -> None:
        read(db)
        db.close()

    def run(target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments)
        thread.start()
        thread.join()

    with db.counting() as counts:
        run(work)
        assert total(counts) == 0
        copied = contextvars.copy_context()
        run(copied.run, work)
        assert total(counts) == 1
    with db.counting():
        run(copied.run, work)  # the block has ended there, too
    assert total(counts) == 1


def test_two_databases_are_counted_apart(db: Any, tmp_path: Path) -> None:
    other = opened(str(tmp_path / "other.db"))
    with db.counting() as counts, other.counting() as others:
        read(db)
        read(db)
        read(other)
    assert (total(counts), total(others)) == (2, 1)
    other.close()


def test_on_primary_and_a_proxy_are_the_same_database(db: Any) -> None:
    proxy = ReplicatedDatabaseProxy()
    proxy.initialize(db)
    with proxy.counting() as counts, db.on_primary.counting() as same:
        read(db)
        read(db.on_primary)
    assert counts.primary == same.primary == {"on_primary": 1}
    assert sum(counts.reads.values()) == sum(same.reads.values()) == 1


def test_statements_of_hooks_count_as_well(db: Any) -> None:
    db.route_hooks.append(lambda event: read(db))
    with db.counting() as counts:
        read(db)
    assert total(counts) == 2


def test_a_block_that_ends_by_an_error_or_in_another_context(db: Any) -> None:
    with pytest.raises(ValueError, match="of the program"), db.counting() as counts:
        read(db)
        raise ValueError("of the program")
    assert total(counts) == 1

    def generator() -> Any:
        with db.counting() as inside:
            yield inside

    begun = generator()
    abandoned = contextvars.copy_context().run(next, begun)
    begun.close()
    read(db)
    assert total(abandoned) == 0
    assert db._members.reports.counting.in_use == 0


def test_outside_of_all_blocks_no_event_is_made(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with db.counting():
        read(db)
    made: list[object] = []
    monkeypatch.setattr(Execution, "event", lambda *arguments: made.append(arguments))
    read(db)
    with db.atomic():
        read(db)
    assert made == []
