"""ReplicatedSqliteDatabase: one writer and its readers on one file. SQLite itself says who ran what."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest
from peewee import CharField, IntegerField, Model
from playhouse.db_url import connect as connect_url

from peewee_replicas import (
    ConfigurationError,
    NoReplicaAvailable,
    ReadOnlyViolation,
    ReplicatedDatabaseProxy,
    ReplicatedSqliteDatabase,
)
from peewee_replicas.servers import sqlite


class Row(Model):
    name = CharField()
    n = IntegerField(default=0)


class Traced(ReplicatedSqliteDatabase):
    """Keeps what SQLite's own trace reports of each connection, by node."""

    def _initialize_connection(self, conn: Any) -> None:
        trace: list[tuple[str, str]] = self.__dict__.setdefault("trace", [])
        name = "primary" if self._node is None else self._node.name
        if self._node is not None and self._node.is_primary:
            name = "reading primary"
        conn.set_trace_callback(lambda sql: trace.append((name, sql)))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a b#?%.db")


def opened(path: str, **options: Any) -> Any:
    db = Traced(path, **options)
    db.trace = []
    db.bind([Row])
    db.create_tables([Row])
    return db


@pytest.fixture
def db(path: str) -> Iterator[Any]:
    database = opened(path)
    Row.create(name="first")
    database.trace.clear()
    yield database
    if not database.is_closed():
        database.close()


def nodes(db: Any, word: str = "SELECT") -> list[str]:
    """The nodes whose connections ran statements that begin with `word`."""
    return [name for name, sql in db.trace if sql.startswith(word)]


# Routing


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


def test_scopes_and_places(db: Any) -> None:
    with db.readonly():
        assert [Row.select().count() for _ in range(4)] == [1] * 4
    assert len(set(nodes(db))) == 1
    assert set(nodes(db)) < {"reader-1", "reader-2"}
    db.trace.clear()
    with db.primary():
        Row.select().count()
    Row.select().count(db.on_primary)
    assert nodes(db) == ["primary", "primary"]


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
        conn.tell("PRAGMA query_only = OFF")
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


def test_connections_set_aside_are_few_and_closed_with_the_rest(db: Any) -> None:
    cursors = [db.execute_sql("SELECT 1 UNION SELECT 2") for _ in range(8)]
    for cursor in cursors[:-2]:
        cursor.fetchall()
    aside = []
    for replica in db.replicas:
        for _ in range(3):
            db._reach(replica)
        aside.append(len(replica.database._state.conn._aside))
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
    conn = db.replicas[0].database._state.conn
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


# The file


def test_the_file_is_put_into_wal_mode(path: str) -> None:
    plain = sqlite3.connect(path)
    plain.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, name, n)")
    plain.execute("INSERT INTO row VALUES (1, 'old', 0)")
    plain.commit()
    assert plain.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    plain.close()
    db = ReplicatedSqliteDatabase(path)
    assert db.execute_sql("SELECT name FROM row").fetchall() == [("old",)]
    assert db.journal_mode == "wal"
    db.close()


def test_a_program_that_only_reads_never_opens_the_writer(db: Any, path: str) -> None:
    db.close()
    again = ReplicatedSqliteDatabase(path)
    again.connect()
    assert again.execute_sql("SELECT name FROM row").fetchall() == [("first",)]
    assert again._state.conn is None
    again.close()


@pytest.mark.parametrize("connect_first", [True, False])
def test_a_missing_file_is_created_by_the_writer_and_then_read(path: str, connect_first: bool) -> None:
    db = Traced(path)
    db.trace = []
    if connect_first:
        db.connect()
        assert os.path.exists(path)
    assert db.get_tables() == []
    with db.bind_ctx([Row]):
        db.create_tables([Row])
        assert Row.select().count() == 0
    assert nodes(db)[-1].startswith("reader")
    assert all(replica.state == "up" for replica in db.replicas)
    assert db.stats()["fallbacks"] == 0
    db.close()


def test_a_place_that_cannot_be_is_peewees_error(tmp_path: Path) -> None:
    db = ReplicatedSqliteDatabase(tmp_path / "missing" / "x.db")
    with pytest.raises(peewee.OperationalError, match="unable to open database file"):
        db.connect()
    assert db.is_closed()
    with pytest.raises(peewee.OperationalError, match="unable to open database file"):
        db.execute_sql("SELECT 1")


def test_many_threads_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    for attempt in range(10):
        db = ReplicatedSqliteDatabase(tmp_path / f"{attempt}.db")
        together = threading.Barrier(6)

        def work(db: Any = db, together: Any = together) -> None:
            together.wait()
            try:
                db.execute_sql("CREATE TABLE IF NOT EXISTS t (x)")
                assert db.execute_sql("SELECT * FROM t").fetchall() == []
                db.close()
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_file_in_exclusive_use_says_so(path: str) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (x)")
    other.execute("BEGIN EXCLUSIVE")
    db = ReplicatedSqliteDatabase(path, timeout=0.05)
    with pytest.raises(peewee.OperationalError, match="WAL mode: database is locked; readers"):
        db.execute_sql("INSERT INTO t VALUES (1)")
    other.execute("ROLLBACK")
    other.close()
    db.execute_sql("INSERT INTO t VALUES (1)")
    assert db.execute_sql("SELECT x FROM t").fetchall() == [(1,)]
    db.close()


def test_a_relative_path_is_one_file_however_the_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    db = ReplicatedSqliteDatabase("here.db")
    db.execute_sql("CREATE TABLE t (x)")
    db.close()
    assert db.execute_sql("SELECT count(*) FROM t").fetchone() == (0,)  # opens a reader alone
    monkeypatch.chdir(tmp_path / "other")
    db.execute_sql("INSERT INTO t VALUES (1)")
    assert db.execute_sql("SELECT count(*) FROM t").fetchone() == (1,)
    assert db.database == "here.db"
    db.close()
    db.connect()  # as peewee's would, this looks in the directory of now
    assert (tmp_path / "other" / "here.db").exists()
    db.close()


@pytest.mark.parametrize(
    "database",
    [
        "", ":memory:", b":memory:", "file::memory:", "file::memory:?cache=shared", "file:",
        "file:?cache=shared", "file:x?mode=memory", "file:x?cache=shared&mode=memory", "file:/x?vfs=memdb",
    ],
)  # fmt: skip
def test_a_database_without_a_file_is_refused_with_the_reason(database: Any) -> None:
    with pytest.raises(ConfigurationError, match="in memory belongs to one connection"):
        ReplicatedSqliteDatabase(database, uri=True)
    db = ReplicatedSqliteDatabase(None)
    with pytest.raises(ConfigurationError, match="in memory belongs to one connection"):
        db.init(database)
    assert db.deferred


def test_a_uri_keeps_its_parameters(tmp_path: Path) -> None:
    uri = f"file:{tmp_path}/with%20space.db?mode=rwc&cache=shared"
    db = opened(uri, uri=True)
    Row.create(name="x")
    assert Row.select().count() == 1
    assert (tmp_path / "with space.db").exists()
    assert set(nodes(db)) == {"reader-1"}
    db.close()
    existing = ReplicatedSqliteDatabase(f"file://localhost{tmp_path}/none.db?mode=rw", uri=True)
    with pytest.raises(peewee.OperationalError, match="unable to open database file"):
        existing.connect()


@pytest.mark.parametrize(
    ("database", "uri", "path", "writing", "reading"),
    [
        ("/a/b.db", False, "/a/b.db", "/a/b.db", "file:///a/b.db?mode=ro"),
        ("/a/b?mode=rw", False, "/a/b?mode=rw", "/a/b?mode=rw", "file:///a/b%3Fmode%3Drw?mode=ro"),
        ("/a/b", True, "/a/b", "file:///a/b", "file:///a/b?mode=ro"),
        ("file:/a/b?vfs=unix", True, "/a/b", "file:///a/b?vfs=unix", "file:///a/b?vfs=unix&mode=ro"),
        ("file:///a/b%20c#d", True, "/a/b c", "file:///a/b%20c", "file:///a/b%20c?mode=ro"),
        (
            "file:///a?mode=rwc&cache=shared",
            True,
            "/a",
            "file:///a?mode=rwc&cache=shared",
            "file:///a?mode=ro",
        ),
    ],
)
def test_where_a_file_is(database: str, uri: bool, path: str, writing: str, reading: str) -> None:
    file = sqlite.File(database, uri)
    assert (file.path, file.writing, file.reading) == (path, writing, reading)


# Arguments


def test_a_deferred_database_is_initialised_later(path: str) -> None:
    db = ReplicatedSqliteDatabase(None, {"cache_size": -100}, readers=3)
    with pytest.raises(peewee.InterfaceError):
        db.connect()
    db.init(path, pragmas={"foreign_keys": 1}, timeout=2)
    db.execute_sql("CREATE TABLE t (x)")
    with db.readonly():
        assert db.execute_sql("SELECT * FROM pragma_foreign_keys").fetchone() == (1,)
    assert (len(db.replicas), db.foreign_keys, db.timeout) == (3, 1, 2)
    db.close()


def test_a_url_names_it(path: str, tmp_path: Path) -> None:
    db = connect_url(f"sqlite+replicas:///{tmp_path}/url.db?readers=3&policy=random")
    assert isinstance(db, ReplicatedSqliteDatabase)
    assert [replica.name for replica in db.replicas] == ["reader-1", "reader-2", "reader-3"]
    db.execute_sql("CREATE TABLE t (x)")
    assert (tmp_path / "url.db").exists()
    db.close()
    with pytest.raises(ConfigurationError, match="in memory"):
        connect_url("sqlite+replicas:///:memory:")


@pytest.mark.parametrize("readers", [-1, 101, 1.5, "2", True, None])
def test_readers_is_checked(path: str, readers: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"readers=.*0 to 100"):
        ReplicatedSqliteDatabase(path, readers=readers)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"replicas": [{"host": "x"}]}, "give readers"),
        ({"pragmas": {"journal_mode": "delete"}}, "journal_mode='delete'"),
        ({"pragmas": [("main.journal_mode", "memory")]}, "only WAL"),
        ({"pragmas": {"LOCKING_MODE": "exclusive"}}, "shut the readers out"),
        ({"policy": "fastest"}, "policy='fastest'"),
        ({"reads": "both"}, "reads='both'"),
    ],
)
def test_what_cannot_work_is_refused(path: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ReplicatedSqliteDatabase(path, **options)
    assert not os.path.exists(path)


def test_policies_choose_among_the_readers(path: str) -> None:
    db = opened(path, readers=3, policy=lambda usable: usable[-1])
    for _ in range(3):
        Row.select().count()
    assert nodes(db) == ["reader-3"] * 3
    db.close()


@pytest.mark.parametrize(("reads", "where"), [("primary", "primary"), ("observe", "primary")])
def test_reads_can_be_kept_on_the_writer(path: str, reads: str, where: str) -> None:
    db = opened(path, reads=reads)
    Row.select().count()
    assert nodes(db) == [where]
    db.close()


def test_without_a_usable_reader_the_writer_serves(db: Any, path: str) -> None:
    for replica in db.replicas:
        replica.eject("for a test")
    assert Row.select().count() == 1
    assert nodes(db) == ["primary"]
    assert db.stats()["fallbacks"] == 1
    strict = ReplicatedSqliteDatabase(path, fallback="error")
    for replica in strict.replicas:
        replica.eject("for a test")
    with pytest.raises(NoReplicaAvailable, match="for a test"):
        strict.execute_sql("SELECT 1")


def test_a_reader_that_cannot_open_the_file_is_passed_over(path: str) -> None:
    class Broken(Traced):
        def _connect(self) -> Any:
            if self._node is not None and self._node.name == "reader-1":
                self.database = "file:///does/not/exist?mode=ro"
            return super()._connect()

    db = Broken(path)
    db.trace = []
    with db.bind_ctx([Row]):
        db.create_tables([Row])
        for _ in range(4):
            assert Row.select().count() == 0
    assert set(nodes(db)) == {"reader-2"}
    assert [replica.state for replica in db.replicas] == ["ejected", "up"]
    db.close()


# peewee's own members


def test_pragmas_hold_on_every_connection_and_write_to_the_file_once(path: str) -> None:
    db = opened(
        path, pragmas={"page_size": 8192, "user_version": 7, "foreign_keys": 1, "journal_mode": "wal"}
    )
    with db.readonly():
        assert db.execute_sql("SELECT * FROM pragma_foreign_keys").fetchone() == (1,)
        assert db.execute_sql("SELECT * FROM pragma_page_size").fetchone() == (8192,)
    assert (db.user_version, db.foreign_keys, db.page_size) == (7, 1, 8192)
    db.cache_size = -123
    assert db.cache_size == -123
    db.pragma("recursive_triggers", 1, permanent=True)
    with pytest.raises(ConfigurationError, match="only WAL"):
        db.journal_mode = "delete"
    db.close()
    with db.readonly():
        assert db.execute_sql("SELECT * FROM pragma_recursive_triggers").fetchone() == (1,)
    db.close()


def shout(text: str) -> str:
    return text.upper() + "!"


@pytest.mark.parametrize("opening", ["nothing", "a reader", "both"])
def test_functions_registered_at_any_time_work_everywhere(path: str, opening: str) -> None:
    db = Traced(path, pure_functions=["shout"])
    db.trace = []
    if opening != "nothing":
        db.execute_sql("CREATE TABLE t (x)")
        if opening == "a reader":
            db.close()
        db.execute_sql("SELECT x FROM t").fetchall()
    opened_before = db._state.conn is not None
    with db.readonly():  # registering sends nothing, so it is no write
        db.register_function(shout)
    assert (db._state.conn is not None) == opened_before
    for _ in range(4):
        assert db.execute_sql("SELECT shout('a')").fetchone() == ("A!",)
    assert nodes(db)[-2:] == ["reader-2", "reader-1"] or nodes(db)[-2:] == ["reader-1", "reader-2"]
    with db.primary():
        assert db.execute_sql("SELECT shout('a')").fetchone() == ("A!",)
    db.close()


def test_unvouched_functions_run_on_the_writer_but_in_readonly(db: Any) -> None:
    db.register_function(shout)
    assert db.execute_sql("SELECT shout('a')").fetchone() == ("A!",)
    assert nodes(db) == ["primary"]
    with db.readonly():
        assert db.execute_sql("SELECT shout('a')").fetchone() == ("A!",)
    assert nodes(db)[1:] in (["reader-1"], ["reader-2"])


def test_a_function_another_threads_reader_lacks_runs_on_the_writer(path: str) -> None:
    db = opened(path, readers=1, pure_functions=["shout"])
    Row.select().count()
    registered = threading.Thread(target=db.register_function, args=(shout,))
    db.close()
    Row.select().count()  # a reader that is open before, and no writer
    registered.start()
    registered.join()
    assert db.execute_sql("SELECT shout('a')").fetchone() == ("A!",)
    assert nodes(db)[-1] == "primary"
    assert db.stats()["reruns"] == 1
    db.close()


class Product:
    def __init__(self) -> None:
        self.value = 1

    def step(self, value: int) -> None:
        self.value *= value

    def inverse(self, value: int) -> None:
        self.value //= value

    def finalize(self) -> int:
        return self.value

    value_ = finalize


class WindowProduct(Product):
    def value(self) -> int:  # type: ignore[override]  # sqlite3's name for it
        return self.total

    def __init__(self) -> None:
        self.total = 1

    def step(self, value: int) -> None:
        self.total *= value

    def inverse(self, value: int) -> None:
        self.total //= value

    def finalize(self) -> int:
        return self.total


def test_aggregates_collations_and_the_rest_reach_every_connection(db: Any) -> None:
    Row.select().count()
    Row.select().count()

    @db.aggregate("product")
    class _Product(Product):
        pass

    @db.collation("backwards")
    def backwards(left: str, right: str) -> int:
        return (left < right) - (left > right)

    if sys.version_info >= (3, 11):
        db.register_window_function(WindowProduct, "running", 1)
    values = "(SELECT 2 AS x UNION ALL SELECT 3)"
    for scope in (db.readonly, db.primary):
        for _ in range(2):
            with scope():
                assert db.execute_sql(f"SELECT product(x) FROM {values}").fetchone() == (6,)
                rows = db.execute_sql("SELECT 'a' AS x UNION SELECT 'b' ORDER BY x COLLATE backwards")
                assert rows.fetchall() == [("b",), ("a",)]
                if sys.version_info >= (3, 11):
                    rows = db.execute_sql(f"SELECT running(x) OVER (ORDER BY x) FROM {values}")
                    assert rows.fetchall() == [(2,), (6,)]
    assert Row.select().order_by(backwards.collation(Row.name)).count() == 1


def test_peewees_own_functions_are_on_the_readers(path: str) -> None:
    db = opened(path, regexp_function=True, rank_functions=True)
    Row.create(name="x1")
    assert Row.select().where(Row.name.regexp(r"x\d")).count() == 1
    assert db.execute_sql("SELECT date_part('year', '2020-01-02')").fetchone() == (2020,)
    assert set(nodes(db)) == {"reader-1", "reader-2"}
    db.close()


@pytest.mark.parametrize("opening", ["nothing", "a reader", "both"])
def test_reads_stay_on_the_writer_while_a_database_is_attached(db: Any, tmp_path: Path, opening: str) -> None:
    if opening != "both":
        db.close()
    if opening != "nothing":
        Row.select().count()
    assert db.attach(str(tmp_path / "other.db"), "other")
    assert not db.attach(str(tmp_path / "other.db"), "other")
    db.execute_sql("CREATE TABLE other.t (x)")
    db.trace.clear()
    assert db.explain_route("SELECT 1").reason == "the primary's connection carries an attached database"
    assert db.execute_sql("SELECT count(*) FROM other.t").fetchone() == (0,)
    with db.readonly():
        assert db.execute_sql("SELECT count(*) FROM other.t").fetchone() == (0,)
    assert set(nodes(db)) == {"primary"}
    db.close()
    assert db.get_tables(schema="other") == ["t"]
    assert db.detach("other")
    assert not db.detach("other")
    db.close()
    Row.select().count()
    assert nodes(db)[-1].startswith("reader")


def test_an_attach_that_fails_leaves_nothing_behind(db: Any, tmp_path: Path) -> None:
    Row.create(name="x")
    with pytest.raises(peewee.OperationalError):
        db.attach(str(tmp_path / "missing" / "other.db"), "other")
    with db.readonly(), pytest.raises(ReadOnlyViolation):
        db.attach(str(tmp_path / "other.db"), "other")
    Row.select().count()
    assert nodes(db)[-1].startswith("reader")


def test_timeout_reaches_every_connection(db: Any) -> None:
    Row.create(name="x")
    for _ in range(2):
        Row.select().count()
    db.timeout = 1.5
    with db.readonly():
        assert db.connection().ask("PRAGMA busy_timeout") == ((1500,),)
    assert db.connection().ask("PRAGMA busy_timeout") == ((1500,),)
    assert db.timeout == 1.5


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "load_extension"), reason="sqlite3 was built without it")
def test_an_extension_that_cannot_be_loaded_is_an_error(db: Any) -> None:
    Row.select().count()
    with pytest.raises(peewee.OperationalError):
        db.load_extension("/does/not/exist")
    db.unload_extension("/does/not/exist")


def test_introspection_works_as_peewees(db: Any, path: str) -> None:
    plain = peewee.SqliteDatabase(path)
    assert db.get_tables() == plain.get_tables() == ["row"]
    assert db.get_columns("row") == plain.get_columns("row")
    assert db.get_indexes("row") == plain.get_indexes("row")
    assert db.get_primary_keys("row") == ["id"]
    assert db.table_exists("row")
    plain.close()


def test_opening_and_closing_tell_the_truth(db: Any) -> None:
    Row.create(name="x")
    for _ in range(2):
        Row.select().count()
    assert db.is_connection_usable()
    with pytest.raises(peewee.OperationalError, match="already opened"):
        db.connect()
    assert db.connect(reuse_if_open=True) is False
    assert db.close() is True
    assert db.close() is False
    assert db.is_closed()
    assert not db.is_connection_usable()
    with db.connection_context():
        assert Row.select().count() == 2
    assert db.is_closed()
    with db:
        Row.create(name="y")
        with pytest.raises(peewee.OperationalError, match="transaction is open"):
            db.close()
    assert db.is_closed()
    strict = Traced(db.database, autoconnect=False)
    with pytest.raises(peewee.InterfaceError, match="not opened"):
        strict.execute_sql("SELECT 1")


def test_a_row_factory_of_the_users_own_does_not_disturb(db: Any) -> None:
    db.connection().row_factory = sqlite3.Row
    assert db.is_connection_usable()
    assert db.execute_sql("PRAGMA user_version").fetchone()["user_version"] == 0


def test_a_factory_of_the_users_own(path: str) -> None:
    class Own(sqlite.Connection):
        pass

    db = ReplicatedSqliteDatabase(path, factory=Own)
    db.execute_sql("CREATE TABLE t (x)")
    assert db.execute_sql("SELECT * FROM t").fetchall() == []
    assert isinstance(db.connection(), Own)
    db.close()
    foreign = ReplicatedSqliteDatabase(path, factory=sqlite3.Connection)
    with pytest.raises(ConfigurationError, match="must make a subclass"):
        foreign.connect()


def test_threads_share_no_connection(db: Any) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(20):
                Row.create(name=f"{threading.get_ident()}-{number}")
                assert Row.select().where(Row.name == f"{threading.get_ident()}-{number}").count() == 1
            db.close()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Row.select().count() == 81
    assert {name for name in nodes(db) if name != "primary"} == {"reader-1", "reader-2"}


def test_one_state_for_all_threads(path: str) -> None:
    db = opened(path, thread_safe=False, check_same_thread=False)
    thread = threading.Thread(target=Row.create, kwargs={"name": "x"})
    thread.start()
    thread.join()
    assert Row.select().count() == 1
    assert nodes(db) == ["reader-1"]
    db.close()


def test_a_proxy_and_a_bound_model_use_it(path: str) -> None:
    proxy = ReplicatedDatabaseProxy()

    @proxy.readonly()  # type: ignore[untyped-decorator,unused-ignore]  # the proxy gives Any
    def count() -> int:
        found: int = proxy.obj.execute_sql("SELECT count(*) FROM t").fetchone()[0]
        return found

    db = ReplicatedSqliteDatabase(path)
    proxy.initialize(db)
    proxy.on_primary.execute_sql("CREATE TABLE t (x)")
    assert count() == 0
    assert db.stats()["replicas"] == 1
    db.close()


def test_one_query_is_one_query_in_peewees_log(db: Any, caplog: pytest.LogCaptureFixture) -> None:
    db.close()
    caplog.set_level("DEBUG", "peewee")
    hooked: list[Any] = []
    db.query_hooks.append(hooked.append)
    Row.select().count()
    Row.create(name="x")
    assert [record.name for record in caplog.records] == ["peewee"] * 2
    assert len(hooked) == 2


def test_nothing_is_left_open(path: str) -> None:
    program = """
import gc, sys
from peewee_replicas import ReplicatedSqliteDatabase
db = ReplicatedSqliteDatabase(sys.argv[1])
db.execute_sql("CREATE TABLE t (x)")
rows = db.execute_sql("SELECT 1 UNION SELECT 2")
for _ in range(4):
    db.execute_sql("SELECT 3 UNION SELECT 4").fetchone()
db.close()
del db
gc.collect()
"""
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", program, path]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""


# Errors


def driver_error(path: str, sql: str, mode: str = "ro") -> sqlite3.Error:
    conn = None
    try:
        conn = sqlite3.connect(f"file:{path}?mode={mode}", uri=True)
        conn.execute(sql)
    except sqlite3.Error as exc:
        return exc
    finally:
        if conn is not None:
            conn.close()
    raise AssertionError(f"{sql} worked")


@pytest.mark.parametrize(
    ("sql", "meaning"),
    [
        ("CREATE TABLE t (x)", "refused"),
        ("SELECT * FROM absent", "missing"),
        ("SELECT absent", "missing"),
        ("SELECT absent(1)", "missing"),
        ("SELECT 1 AS x ORDER BY x COLLATE absent", "missing"),
        ("SELECT", "statement"),
        ("SELECT abs(-9223372036854775808)", "statement"),
    ],
)
def test_what_an_error_means(tmp_path: Path, sql: str, meaning: str) -> None:
    path = str(tmp_path / "x.db")
    sqlite3.connect(path).close()
    exc = driver_error(path, sql)
    assert sqlite.meaning(exc) == meaning
    # As before Python 3.11, when the driver told no code.
    assert sqlite.meaning(type(exc)(*exc.args)) == meaning


def test_a_file_that_cannot_be_opened_is_unreachable(tmp_path: Path) -> None:
    exc = driver_error(str(tmp_path / "missing.db"), "SELECT 1")
    assert sqlite.meaning(exc) == sqlite.meaning(type(exc)(*exc.args)) == "unreachable"
