"""peewee's pool takes connections out by code that sees a stand-in for the database.

The members: everything that `PooledDatabase._connect` of peewee calls on itself and that a subclass may
override (`_is_closed`, `_is_stale`, `_close_raw`), and what it keeps there (idle and lent connections, in the
database's own dictionary). The list was read from that function's text, which a test goes through again.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import time
from collections.abc import Callable

import pytest
from playhouse.pool import PooledDatabase
from support.peewees import has_peewee

from peewee_replicas import PooledReplicatedDatabase
from peewee_replicas.databases import mysql

ASKED = {"_is_closed", "_is_stale", "_close_raw" if has_peewee("4.0") else "_close"}
OWN = {"_connect", "conn_key"}  # `conn_key` is kept on the instance


class Connection(str):
    """A connection, as its name."""


class Asking(PooledReplicatedDatabase):
    """A subclass that decides for itself, and remembers what it was asked."""

    closed = stale = False

    def _is_closed(self, conn: object) -> bool:
        self.asked.append(("_is_closed", conn))
        return self.closed

    def _is_stale(self, timestamp: float) -> bool:
        self.asked.append(("_is_stale", timestamp))
        return self.stale

    def _close_raw(self, conn: object) -> None:
        self.asked.append(("_close_raw", conn))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the connections that were opened, in their order; no server is asked."""
    names: list[str] = []

    def opens(_: object) -> str:
        names.append(Connection(f"opened {len(names)}"))
        return names[-1]

    monkeypatch.setattr(mysql, "_open", opens)
    return names


@pytest.fixture
def make(opened: list[str]) -> Callable[..., Asking]:
    def made(**arguments: object) -> Asking:
        database = Asking("app", host="127.0.0.1", probe_interval=None, **arguments)
        database.asked = []
        return database

    return made


def idle(database: PooledReplicatedDatabase, conn: str, at: float) -> None:
    database._connections.append((at, 1, Connection(conn)))


def test_a_connection_is_opened_where_none_is_idle_and_counts_as_lent(
    make: Callable[..., Asking], opened: list[str]
) -> None:
    database = make()
    first, second = database._connect(), database._connect()
    assert [first, second] == opened
    assert [lent.connection for lent in database._in_use.values()] == opened


def test_an_idle_connection_is_lent_if_the_database_does_not_hold_it_for_closed(
    make: Callable[..., Asking], opened: list[str]
) -> None:
    database = make()
    idle(database, "kept", time.time())
    assert database.on_primary._connect() == "kept"
    assert database.asked == [("_is_closed", "kept")]
    idle(database, "broken", time.time())
    database.closed = True
    assert database._connect() == opened[0]
    assert database._connections == []


def test_a_stale_connection_is_closed_as_the_database_closes_it(
    make: Callable[..., Asking], opened: list[str]
) -> None:
    database = make(stale_timeout=60)
    idle(database, "old", 1.0)
    database.stale = True
    assert database._connect() == opened[0]
    assert database.asked == [("_is_closed", "old"), ("_is_stale", 1.0), ("_close_raw", "old")]


def test_a_subclass_that_opens_by_itself_is_the_only_opener(opened: list[str]) -> None:
    class Opening(PooledReplicatedDatabase):
        def _connect(self) -> str:
            return f"own of {self.database}"

    database = Opening("app", host="127.0.0.1", probe_interval=None)
    assert database._connect() == database.on_primary._connect() == "own of app"
    assert opened == []


def test_a_subclass_that_goes_on_to_the_pool_gets_its_connection(opened: list[str]) -> None:
    class Counting(PooledReplicatedDatabase):
        def _connect(self) -> object:
            return super()._connect(), "counted"

    database = Counting("app", host="127.0.0.1", probe_interval=None)
    assert database._connect() == (opened[0], "counted")


def test_peewees_pool_asks_nothing_else_of_the_database() -> None:
    function = inspect.unwrap(PooledDatabase._connect)
    (defined,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    called = {
        node.func.attr
        for node in ast.walk(defined)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        and (isinstance(node.func.value, ast.Call) or ast.unparse(node.func.value) == "self")
    }  # fmt: skip
    assert called == ASKED | OWN
