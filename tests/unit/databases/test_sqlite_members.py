"""ReplicatedSqliteDatabase: what peewee's own members mean on it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import peewee
import pytest
from support.databases.sqlite import Row, Traced, a_path, nodes, one_row, opened  # noqa: F401  # the fixtures `path` and `db`
from support.forms.threads import in_thread, in_threads
from support.peewees import has_peewee, needs_peewee

from peewee_replicas import (
    ConfigurationError,
    ReadOnlyViolation,
    ReplicatedDatabaseProxy,
    ReplicatedSqliteDatabase,
)
from peewee_replicas.servers import sqlite


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


def test_a_function_that_another_threads_reader_lacks_runs_on_the_writer(path: str) -> None:
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
    """An aggregate, and a window function too."""

    def __init__(self) -> None:
        self.total = 1

    def step(self, value: int) -> None:
        self.total *= value

    def inverse(self, value: int) -> None:
        self.total //= value

    def value(self) -> int:
        return self.total

    finalize = value


def test_aggregates_collations_and_the_rest_reach_every_connection(db: Any) -> None:
    Row.select().count()
    Row.select().count()

    db.register_aggregate(Product, "product")

    @db.collation("backwards")
    def backwards(left: str, right: str) -> int:
        return (left < right) - (left > right)

    if sys.version_info >= (3, 11):
        db.register_window_function(Product, "running", 1)
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


@needs_peewee("4.0", "regexp_function")
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


def test_a_row_factory_of_the_users_own_does_not_disturb(path: str) -> None:
    class Named(ReplicatedSqliteDatabase):
        def _initialize_connection(self, conn: Any) -> None:
            conn.row_factory = lambda cursor, row: {
                column[0]: value for column, value in zip(cursor.description, row, strict=True)
            }

    db = Named(path)
    db.execute_sql("CREATE TABLE t (x)")
    assert db.execute_sql("SELECT count(*) AS n FROM t").fetchone() == {"n": 0}
    assert db.is_connection_usable()
    assert db.stats()["replicas"] == 1
    db.close()


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
    def work() -> None:
        worker = threading.get_ident()
        for number in range(20):
            Row.create(name=f"{worker}-{number}")
            assert Row.select().where(Row.name == f"{worker}-{number}").count() == 1
        db.close()

    in_threads(4, work)
    assert Row.select().count() == 81
    assert {name for name in nodes(db) if name != "primary"} == {"reader-1", "reader-2"}


def test_without_thread_safety_all_threads_share_one_state(path: str) -> None:
    db = opened(path, thread_safe=False, check_same_thread=False)
    in_thread(lambda: Row.create(name="x"))
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
    if has_peewee("4.5"):
        db.query_hooks.append(hooked.append)
    Row.select().count()
    Row.create(name="x")
    assert [record.name for record in caplog.records] == ["peewee"] * 2
    assert len(hooked) == (2 if has_peewee("4.5") else 0)


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
