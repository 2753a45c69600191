"""ReplicatedSqliteDatabase: where statements go. SQLite's own trace says who ran what."""

from __future__ import annotations

import gc
import os
import sqlite3
from typing import Any

import pytest
from support.databases.nodes import nodes_of
from support.databases.sqlite import Row, a_path, nodes, one_row, opened  # noqa: F401  # the fixtures `path` and `db`

from peewee_replicas import ReadOnlyViolation, ReplicatedSqliteDatabase


def test_reads_go_to_the_readers_in_turn_and_writes_to_the_writer(db: Any) -> None:
    for _ in range(4):
        assert Row.select().count() == 1
    Row.create(name="second")
    assert Row.update(n=1).execute() == 2
    assert nodes(db) == ["reader-1", "reader-2", "reader-1", "reader-2"]
    assert nodes(db, "INSERT") == nodes(db, "UPDATE") == ["primary"]


def test_a_read_sees_every_write_before_it(db: Any) -> None:
    for number in range(50):
        Row.create(name=str(number))
        assert Row.get(Row.name == str(number))
        assert Row.select().count() == number + 2
    assert set(nodes(db)) == {"reader-1", "reader-2"}


@pytest.mark.parametrize("sql", ["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT s"])
def test_reads_stay_in_a_raw_transaction(db: Any, sql: str) -> None:
    for run in (db.execute_sql, db.cursor().execute):
        db.trace.clear()
        run(sql)
        Row.create(name="uncommitted")
        assert Row.select().count() == 2
        run("ROLLBACK")
        assert nodes(db) == ["primary"]
        assert Row.select().count() == 1
        assert nodes(db)[1:] in (["reader-1"], ["reader-2"])


def test_reads_stay_in_peewees_transactions(db: Any) -> None:
    with db.atomic() as transaction:
        Row.create(name="uncommitted")
        assert Row.select().count() == 2
        with db.savepoint():
            assert Row.select().count() == 2
        transaction.rollback()
    with db.manual_commit():
        db.begin("IMMEDIATE")
        assert Row.select().count() == 1
        db.commit()
    assert set(nodes(db)) == {"primary"}


def test_where_reads_go_in_scopes_and_on_primary(db: Any) -> None:
    with db.readonly():
        assert [Row.select().count() for _ in range(4)] == [1] * 4
    assert len(set(nodes(db))) == 1
    assert set(nodes(db)) < {"reader-1", "reader-2"}
    db.trace.clear()
    with db.primary():
        Row.select().count()
    Row.select().count(db.on_primary)
    assert nodes(db) == ["primary", "primary"]


def test_a_scope_goes_on_after_its_connection_was_closed(db: Any) -> None:
    with db.readonly():
        assert Row.select().count() == 1
        db.connection().close()
        assert Row.select().count() == 1
    assert nodes(db) in (["reader-1"] * 2, ["reader-2"] * 2)
    assert db.stats()["asked"] == 0


def test_a_scope_goes_on_after_its_reader_was_ejected(db: Any) -> None:
    with db.readonly():
        assert Row.select().count() == 1
        for reader in db.replicas:
            reader.eject("by hand")
            assert Row.select().count() == 1


def test_readonly_refuses_writes_and_transactions(db: Any) -> None:
    with db.readonly():
        for sql in ("INSERT INTO row (name, n) VALUES ('x', 1)", "PRAGMA user_version = 3", "VACUUM"):
            with pytest.raises(ReadOnlyViolation):
                db.execute_sql(sql)
            with pytest.raises(ReadOnlyViolation):
                db.cursor().execute(sql)
        with pytest.raises(ReadOnlyViolation), db.atomic():
            pass
        with db.primary():
            Row.create(name="allowed")
    assert Row.select().count() == 2


def test_the_file_itself_refuses_writes_on_a_reader(db: Any) -> None:
    with db.readonly():
        conn = db.connection()
        for sql in ("DELETE FROM row", "CREATE TEMPORARY TABLE t (x)", "PRAGMA application_id = 1"):
            with pytest.raises(sqlite3.OperationalError, match="readonly database"):
                conn.ask(sql)
        conn.run_setting("PRAGMA query_only = OFF")
        with pytest.raises(sqlite3.OperationalError, match="readonly database"):
            conn.ask("DELETE FROM row")  # opened with mode=ro as well


def test_the_primary_reads_on_a_guarded_connection_of_its_own(path: str) -> None:
    db = opened(path, readers=0)
    with db.readonly():
        assert Row.select().count() == 0
        assert db.execute_sql("SELECT * FROM pragma_query_only").fetchall() == [(1,)]
    assert nodes(db) == ["reading primary"] * 2
    assert db.replicas == ()
    db.close()


def test_what_a_connection_alone_has_keeps_reads_on_it(db: Any) -> None:
    db.execute_sql("CREATE TEMPORARY TABLE row AS SELECT 9 AS id, 'mine' AS name, 9 AS n")
    assert Row.get().name == "mine"
    assert nodes(db)[-1] == "primary"
    db.close()
    assert Row.get().name == "first"
    assert nodes(db)[-1].startswith("reader")


def test_a_raw_cursor_is_heard(db: Any) -> None:
    db.cursor().execute("CREATE TEMP TABLE row AS SELECT 9 AS id, 'mine' AS name, 9 AS n")
    assert Row.get().name == "mine"
    db.close()
    db.cursor().executescript("PRAGMA case_sensitive_like = 1; SELECT 1")
    assert db.execute_sql("SELECT 'a' LIKE 'A'").fetchone() == (0,)
    db.close()
    db.cursor().execute("PRAGMA foreign_keys = 1")  # changes no read
    Row.select().count()
    assert nodes(db)[-1].startswith("reader")


def test_routes_are_explained_before_anything_is_connected(path: str) -> None:
    db = ReplicatedSqliteDatabase(path)
    assert db.explain_route("SELECT datetime('now')").role == "replica"
    assert db.explain_route("SELECT last_insert_rowid()").role == "primary"
    assert db.explain_route("INSERT INTO t VALUES (?)").kind == "write"
    assert db.is_closed()
    assert not os.path.exists(path)


def test_hooks_and_stats_tell_what_happened(db: Any) -> None:
    events: list[Any] = []
    db.route_hooks.append(events.append)
    Row.select().count()
    Row.create(name="x")
    assert [(event.role, event.kind) for event in events] == [("replica", "read"), ("primary", "write")]
    assert db.stats()["replicas"] == 1


# Rows still being read


def test_writes_are_seen_while_the_rows_of_a_read_are_still_being_read(db: Any) -> None:
    Row.insert_many([{"name": str(number)} for number in range(20)]).execute()
    seen = 0
    for row in Row.select().order_by(Row.id).iterator():
        seen += 1
        Row.create(name=f"copy of {row.name}")
        for _ in range(2):  # both readers
            assert Row.select().count() == 21 + seen
    assert seen == 21


def test_few_connections_are_set_aside_and_all_are_closed(db: Any) -> None:
    cursors = [db.execute_sql("SELECT 1 UNION SELECT 2") for _ in range(8)]
    for cursor in cursors[:-2]:
        cursor.fetchall()
    aside = []
    for replica in nodes_of(db):
        for _ in range(3):
            db._parts.replicas.reach(replica)
        aside.append(len(replica.database.conn._aside))
    assert aside == [1, 1]
    db.close()
    with pytest.raises(sqlite3.ProgrammingError):
        cursors[-1].fetchall()


def read_whole(cursor: Any) -> None:
    assert len(cursor.fetchall()) == 3


def read_in_parts(cursor: Any) -> None:
    assert len(cursor.fetchmany(2)) == 2
    assert len(cursor.fetchmany(2)) == 1


def read_by_one(cursor: Any) -> None:
    while cursor.fetchone() is not None:
        pass


def read_by_loop(cursor: Any) -> None:
    assert len([*cursor]) == 3


def read_no_more(cursor: Any) -> None:
    cursor.close()


@pytest.mark.parametrize("finish", [read_whole, read_in_parts, read_by_one, read_by_loop, read_no_more])
def test_a_cursor_read_to_its_end_keeps_nothing_busy(path: str, finish: Any) -> None:
    db = opened(path, readers=1)
    cursor = db.execute_sql("SELECT 1 UNION SELECT 2 UNION SELECT 3")
    conn = nodes_of(db)[0].database.conn
    assert conn.busy
    finish(cursor)
    assert not conn.busy
    forgotten = db.execute_sql("SELECT 1 UNION SELECT 2")
    assert conn.busy
    del forgotten
    gc.collect()
    assert not conn.busy
    db.close()


def test_a_write_whose_rows_are_not_read_yet_counts_as_a_transaction(db: Any) -> None:
    cursor = db.execute_sql("INSERT INTO row (name, n) VALUES ('a', 1), ('b', 2) RETURNING id")
    cursor.fetchone()
    assert Row.select().count() == 3  # not committed: SQLite commits when the rows have been read
    assert nodes(db)[-1] == "primary"
    cursor.fetchall()
    assert Row.select().count() == 3
    assert nodes(db)[-1].startswith("reader")


def test_returning_clauses_work_as_peewees(path: str) -> None:
    db = opened(path, returning_clause=True)
    row = Row.create(name="x")
    assert row.id == 1
    assert list(Row.insert_many([{"name": "y"}, {"name": "z"}]).returning(Row.id).tuples()) == [(2,), (3,)]
    assert Row.select().count() == 3
    assert nodes(db)[-1].startswith("reader")
    db.close()
