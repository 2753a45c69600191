"""Every field of a `RouteEvent`, and every statement of peewee's that begins or ends a transaction.

peewee sends statements in three ways (``grep -n 'execute(' peewee.py``): through ``execute_sql``, as for
savepoints; through ``begin()``, ``commit()`` and ``rollback()``, which use a cursor; and through a cursor
of the user's own, which is not routed and has no event.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any

import peewee
import pytest
from peewee import CharField, IntegrityError, Model
from support.peewees import has_peewee, needs_peewee

from peewee_replicas import ReplicatedDatabase, ReplicatedSqliteDatabase, RouteEvent
from peewee_replicas.connections.plain_database import PlainDatabase
from peewee_replicas.nodes.spec import address, host_and_port
from peewee_replicas.testing import one_server


class Word(Model):
    text = CharField(unique=True)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[ReplicatedSqliteDatabase]:
    database = ReplicatedSqliteDatabase(tmp_path / "app.db")
    with database.bind_ctx([Word]):
        database.create_tables([Word])
        yield database
    database.close()


@pytest.fixture
def events(db: ReplicatedSqliteDatabase) -> list[RouteEvent]:
    found: list[RouteEvent] = []
    db.route_hooks.append(found.append)
    return found


def told(events: list[RouteEvent]) -> list[str]:
    return [event.sql.split()[0] for event in events]


def test_what_begins_and_ends_a_transaction_is_told(db: Any, events: list[RouteEvent]) -> None:
    with db.atomic():
        Word.create(text="a")
        with db.atomic() as nested:
            nested.rollback()
    with pytest.raises(ZeroDivisionError), db.transaction():
        1 / 0  # noqa: B018
    with db.manual_commit():
        db.begin()
        db.commit()
    anew = ["SAVEPOINT"] if has_peewee("4.0") else []  # after a rollback inside the block
    assert told(events) == [
        "BEGIN", "INSERT", "SAVEPOINT", "ROLLBACK", *anew, "RELEASE", "COMMIT",
        "BEGIN", "ROLLBACK", "BEGIN", "COMMIT",
    ]  # fmt: skip
    kinds = {
        (event.role, event.node, event.kind, event.cause, event.attempts, event.error) for event in events
    }
    assert kinds == {
        ("primary", "primary", "transaction", "transaction", 1, None),
        ("primary", "primary", "write", "transaction", 1, None),
    }
    assert all(event.duration > 0 for event in events)


def test_what_sends_nothing_is_not_told(db: Any, events: list[RouteEvent]) -> None:
    db.close()
    db.connect()
    db.execute_sql("SELECT 1")
    with db.manual_commit():  # no connection to the primary, so there is nothing to commit
        db.commit()
        db.rollback()
    assert told(events) == ["SELECT"]


@needs_peewee("4.5", "a COMMIT that can be replaced")
def test_a_transaction_that_fails_is_told_with_its_error(
    db: Any, events: list[RouteEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    with db.atomic():
        Word.create(text="a")

    def fail(_self: object) -> None:
        raise peewee.OperationalError("disk I/O error")

    monkeypatch.setattr(peewee.SqliteDatabase, "commit", fail)
    with pytest.raises(peewee.OperationalError), db.atomic():
        Word.create(text="b")
    commit = events[-2]
    assert (commit.sql, commit.error_type, commit.attempts) == ("COMMIT", "OperationalError", 1)
    assert events[-1].sql == "ROLLBACK"


def test_a_transaction_that_cannot_connect_is_told_as_not_sent() -> None:
    database = ReplicatedDatabase("app", host="127.0.0.1", port=1, probe_interval=None)
    events: list[RouteEvent] = []
    database.route_hooks.append(events.append)
    with pytest.raises(peewee.OperationalError), database.atomic():
        pass
    [event] = events
    assert (event.sql, event.attempts, event.error_type, event.error_number) == (
        "BEGIN", 0, "OperationalError", 2003,
    )  # fmt: skip
    assert (event.flavour, event.address, event.port) == ("", "127.0.0.1", 1)


def test_the_testing_mode_tells_the_same_as_production(db: Any, events: list[RouteEvent]) -> None:
    with one_server(db, transaction=True):
        with db.atomic():
            Word.create(text="a")
        with pytest.raises(ZeroDivisionError), db.atomic():
            1 / 0  # noqa: B018
    assert told(events) == ["BEGIN", "INSERT", "COMMIT", "BEGIN", "ROLLBACK"]


def test_the_fields_that_tracers_need(db: Any, events: list[RouteEvent]) -> None:
    Word.create(text="a")
    Word.get(text="a")
    with pytest.raises(IntegrityError):
        Word.create(text="a")
    written, read, failed = events
    for event in events:
        assert (event.flavour, event.address, event.port) == ("sqlite", str(db.database), None)
        assert (event.attempts, event.waited) == (1, 0.0)
        assert pickle.loads(pickle.dumps(event)) == event
        with pytest.raises(AttributeError):
            event.node = "other"  # type: ignore[misc]
    assert (written.error, written.error_type, read.error_type) == (None, None, None)
    assert (failed.error_type, failed.error_number) == ("IntegrityError", None)
    assert read.node.startswith("reader-")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"host": "db.example", "port": 3307}, ("db.example", 3307)),
        ({"host": "db.example"}, ("db.example", 3306)),
        ({}, ("localhost", 3306)),
        ({"host": "::1"}, ("::1", 3306)),
        ({"unix_socket": "/run/mysqld/mysqld.sock"}, ("/run/mysqld/mysqld.sock", None)),
        ({"unix_socket": "/run/my:3306"}, ("/run/my:3306", None)),
        ({"unix_socket": "mysqld.sock"}, ("mysqld.sock", None)),
    ],
)
def test_an_address_is_taken_apart_as_it_was_put_together(
    parameters: dict[str, object], expected: tuple[str, int | None]
) -> None:
    assert host_and_port(address(parameters)) == expected


def test_an_interrupted_statement_is_told(
    db: Any, events: list[RouteEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PlainDatabase, "send", interrupt)
    with db.counting() as counts, pytest.raises(KeyboardInterrupt):
        db.execute_sql("INSERT INTO word (text) VALUES ('a')")
    (event,) = events
    assert (event.error_type, event.kind) == ("KeyboardInterrupt", "write")
    assert counts.errors == 1


def test_what_a_hook_starts_is_told_once_the_hook_has_returned(db: Any, events: list[RouteEvent]) -> None:
    contexts: list[Context] = []

    def start(_event: RouteEvent) -> None:
        db.execute_sql("SELECT 2")  # within the hook: not told
        contexts.append(copy_context())

    db.route_hooks.append(start)
    db.execute_sql("SELECT 1")
    db.route_hooks.remove(start)
    contexts[0].run(db.execute_sql, "SELECT 3")
    assert told(events) == ["SELECT", "SELECT"]
