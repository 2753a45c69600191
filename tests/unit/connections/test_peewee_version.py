"""What older releases of peewee lack is added or named; the newest one's own classes are used as they are.

What differs was found by comparing the source of 3.17, 3.19, 4.0, 4.4 and 4.5: every member of `Database`,
`MySQLDatabase`, `SqliteDatabase`, the pool and the thread's state that this package uses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peewee
import playhouse.pool
import pytest
from support.peewees import has_peewee, needs_peewee

from peewee_replicas import ConfigurationError, PooledReplicatedDatabase, ReplicatedSqliteDatabase
from peewee_replicas.connections import peewee_version
from peewee_replicas.connections.peewee_version import _Older, _OlderSqlite
from peewee_replicas.databases.replicated import Replicated


class OlderSqlite(_OlderSqlite):
    """peewee's database as this package completes it, also with a release that lacks nothing."""


@needs_peewee("4.5", "nothing to add")
def test_nothing_is_added_to_a_release_that_lacks_nothing(tmp_path: Path) -> None:
    assert peewee_version.MySQLDatabase is peewee.MySQLDatabase
    assert peewee_version.SqliteDatabase is peewee.SqliteDatabase
    assert peewee_version.PooledMySQLDatabase is playhouse.pool.PooledMySQLDatabase
    database = ReplicatedSqliteDatabase(tmp_path / "app.db")
    assert database._members.reports.query_log is database
    assert peewee_version.takes_commit(print) is print
    assert Replicated.execute_sql.__code__.co_name == "execute_sql"


def test_the_classes_are_still_peewees() -> None:
    assert issubclass(PooledReplicatedDatabase, playhouse.pool.PooledMySQLDatabase)
    assert issubclass(PooledReplicatedDatabase, peewee.MySQLDatabase)
    assert issubclass(ReplicatedSqliteDatabase, peewee.SqliteDatabase)


@pytest.mark.parametrize("name", ["after_commit", "query_hooks"])
def test_a_lacking_member_is_absent_and_says_what_it_needs(name: str) -> None:
    database = OlderSqlite(":memory:") if not has_peewee("4.5") else object.__new__(OlderSqlite)
    assert not hasattr(database, name)
    with pytest.raises(AttributeError, match=rf"{name} needs peewee 4\.5 or later; this is peewee"):
        getattr(database, name)
    with pytest.raises(AttributeError, match=r"needs peewee 4\.5"):
        setattr(database, name, [print])


def test_an_argument_that_is_lacking_says_what_it_needs() -> None:
    with pytest.raises(ConfigurationError, match=r"lock_type needs peewee 4\.5"):
        OlderSqlite(":memory:", lock_type="immediate")


@pytest.mark.skipif(has_peewee("4.5"), reason="nothing is lacking")
def test_our_own_classes_lack_it_too(tmp_path: Path) -> None:
    database = ReplicatedSqliteDatabase(tmp_path / "app.db")
    for name in ("after_commit", "query_hooks"):
        assert not hasattr(database, name)
    with pytest.raises(ConfigurationError, match="lock_type needs"):
        ReplicatedSqliteDatabase(tmp_path / "app.db", lock_type="immediate")
    with pytest.raises(ImportError, match=r"peewee_replicas\.aio needs peewee 4\.5 or later"):
        import peewee_replicas.aio  # noqa: F401


def test_the_asyncio_form_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peewee_version, "HAS_HOOKS", False)
    with pytest.raises(ImportError, match=r"peewee_replicas\.aio needs peewee 4\.5 or later"):
        peewee_version.require_asyncio()


def test_the_log_of_an_older_release_calls_a_database_own_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peewee_version, "HAS_HOOKS", False)
    logged: list[Any] = []

    class Logging(_Older):
        def _log_query(self, sql: str, params: Any) -> None:
            logged.append((sql, params))

    log = peewee_version.query_log(object.__new__(Logging))
    assert not log.query_hooks
    log._log_query("SELECT 1", None)
    assert logged == [("SELECT 1", None)]


@pytest.mark.skipif(has_peewee("4.0"), reason="peewee's own pool does this since 4.0")
class TestPoolOfPeewee3:
    @pytest.fixture
    def pool(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        class Conn:
            in_transaction = False
            closed = False

            def close(self) -> None:
                self.closed = True

            def rollback(self) -> None:
                raise peewee.OperationalError(2013, "lost")

        monkeypatch.setattr(peewee.MySQLDatabase, "_connect", lambda _: Conn())
        monkeypatch.setattr(peewee.MySQLDatabase, "_set_server_version", lambda *_: None)
        made: Any = peewee_version.PooledMySQLDatabase("app", max_connections=1)
        made._is_closed = lambda _: False
        return made

    def test_a_connection_closed_for_good_frees_its_place(self, pool: Any) -> None:
        conn = pool.connection()
        pool._close(conn, close_conn=True)
        assert conn.closed
        assert pool._in_use == {}

    def test_a_connection_that_cannot_be_reused_is_closed(self, pool: Any) -> None:
        conn = pool.connection()
        conn.in_transaction = True
        pool.close()
        assert conn.closed
        assert (pool._in_use, pool._connections) == ({}, [])

    def test_a_good_one_is_lent_again(self, pool: Any) -> None:
        conn = pool.connection()
        pool.close()
        assert pool.connection() is conn

    @pytest.mark.parametrize("close", [lambda pool: pool.close_all(), lambda pool: pool.close_stale(-1)])
    def test_all_are_closed(self, pool: Any, close: Any) -> None:
        conn = pool.connection()
        close(pool)
        if pool._connections:
            pool.close_idle()
        assert conn.closed
        assert pool._in_use == {}

    def test_dispose_forgets_all(self, pool: Any) -> None:
        conn = pool.connection()
        pool.dispose()
        assert (pool.is_closed(), pool._in_use, conn.closed) == (True, {}, False)
