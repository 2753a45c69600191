"""ReplicatedSqliteDatabase: the file, its WAL mode, and the arguments."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import peewee
import pytest
from playhouse.db_url import connect as connect_url
from support.databases.sqlite import Row, Traced, a_path, nodes, one_row, opened  # noqa: F401  # the fixtures `path` and `db`
from support.forms.threads import in_threads

from peewee_replicas import ConfigurationError, NoReplicaAvailable, ReplicatedSqliteDatabase
from peewee_replicas.servers import sqlite

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
    plain = sqlite3.connect(path)
    assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    plain.close()
    assert db.journal_mode == "wal"
    db.close()


def test_switching_to_wal_is_tried_again_when_another_connection_is_in_the_way(path: str) -> None:
    class Refused(sqlite.Connection):
        refusals = 2

        def ask(self, sql: str) -> tuple[Any, ...]:
            if sql == "PRAGMA journal_mode = WAL" and Refused.refusals:
                Refused.refusals -= 1
                raise sqlite3.OperationalError("database is locked")
            return super().ask(sql)

    db = ReplicatedSqliteDatabase(path, factory=Refused)
    db.execute_sql("CREATE TABLE t (x)")
    assert (db.journal_mode, Refused.refusals) == ("wal", 0)
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


def test_a_path_that_cannot_be_opened_raises_peewees_error(tmp_path: Path) -> None:
    db = ReplicatedSqliteDatabase(tmp_path / "missing" / "x.db")
    with pytest.raises(peewee.OperationalError, match="unable to open database file"):
        db.connect()
    assert db.is_closed()
    with pytest.raises(peewee.OperationalError, match="unable to open database file"):
        db.execute_sql("SELECT 1")


def test_many_threads_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for attempt in range(10):
        db = ReplicatedSqliteDatabase(tmp_path / f"{attempt}.db")

        def work(db: Any = db) -> None:
            db.execute_sql("CREATE TABLE IF NOT EXISTS t (x)")
            assert db.execute_sql("SELECT * FROM t").fetchall() == []
            db.close()

        in_threads(6, work)


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
def test_the_path_of_a_file_or_uri(database: str, uri: bool, path: str, writing: str, reading: str) -> None:
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
        ({"replicas": [{"host": "x"}]}, "pass readers"),
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
            if self.opening.node is not None and self.opening.node.name == "reader-1":
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
