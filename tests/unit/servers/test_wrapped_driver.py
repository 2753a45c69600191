"""Every way in which a tool may have replaced ``pymysql.connect`` when a connection is opened.

The members were found in the sources of the tools that do it: a function around it that returns a proxy
(OpenTelemetry, Datadog, Elastic), several of them, an object that is called (New Relic). Beside them stand
replacements that are no tracing tools: a test's mock, a function that returns what the driver made, one that
returns something of its own. A class of the driver's may be wrapped before this library is imported.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import Any
from unittest.mock import MagicMock

import pymysql
import pytest

from peewee_replicas.servers.wire.connection import Connection

DRIVERS = pymysql.connect


class Proxy:
    """As wrapt's ``ObjectProxy``: everything but `reported` is the wrapped object's."""

    def __init__(self, wrapped: Any, seen: list[str]) -> None:
        self.__dict__.update(__wrapped__=wrapped, seen=seen)

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        return self.__wrapped__.__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["__wrapped__"], name)


class ConnectionProxy(Proxy):
    def cursor(self, *args: Any) -> Any:
        self.seen.append("cursor")
        return CursorProxy(self.__wrapped__.cursor(*args), self.seen)


class CursorProxy(Proxy):
    def mogrify(self, *args: Any) -> Any:
        self.seen.append("mogrify")
        return self.__wrapped__.mogrify(*args)


def tool(seen: list[str], connect: Any) -> Any:
    return lambda **arguments: ConnectionProxy(connect(**arguments), seen)


class Factory:
    def __init__(self, connect: Any, seen: list[str]) -> None:
        self.__wrapped__, self.seen = connect, seen

    def __call__(self, **arguments: Any) -> Any:
        return ConnectionProxy(self.__wrapped__(**arguments), self.seen)


def unopened() -> Connection:
    return Connection(host="db.example", user="app", database="shop", defer_connect=True, ssl_disabled=True)


def opened() -> Connection:
    conn = unopened()
    conn.report_to_tools()
    return conn


def use(conn: Connection) -> Any:
    cursor = conn.cursor()
    assert cursor.mogrify("SELECT 1") == "SELECT 1"
    assert cursor.connection is conn
    return cursor


@pytest.mark.parametrize(
    ("wrap", "times"),
    [
        (tool, 1),
        (lambda seen, connect: tool(seen, tool(seen, connect)), 2),
        (lambda seen, connect: Factory(connect, seen), 1),
    ],
    ids=["function", "two tools", "object"],
)
def test_a_tool_that_wraps_connect_sees_what_cursors_do(
    monkeypatch: pytest.MonkeyPatch, wrap: Any, times: int
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(pymysql, "connect", wrap(seen, DRIVERS))
    use(opened())
    assert seen == ["cursor"] * times + ["mogrify"] * times


def test_the_tool_is_told_where_the_connection_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []

    def connect(**arguments: Any) -> Any:
        conn = DRIVERS(**arguments)
        places.append((conn.host, conn.port, conn.user, conn.db, conn.open))
        return ConnectionProxy(conn, [])

    monkeypatch.setattr(pymysql, "connect", connect)
    opened()
    assert places == [("db.example", 3306, "app", b"shop", False)] or places == [
        ("db.example", 3306, "app", "shop", False)
    ]


@pytest.mark.parametrize(
    "connect",
    [DRIVERS, MagicMock(), lambda **arguments: DRIVERS(**arguments), lambda **_: None],
    ids=["the driver's", "a mock", "the driver's result", "nothing"],
)
def test_what_is_no_tool_changes_nothing(monkeypatch: pytest.MonkeyPatch, connect: Any) -> None:
    monkeypatch.setattr(pymysql, "connect", connect)
    conn = opened()
    assert type(use(conn)) is pymysql.cursors.Cursor
    assert not {"cursor", "commit", "rollback"} & set(vars(conn))


def needs_a_session(**arguments: Any) -> Any:
    conn = DRIVERS(**arguments)
    conn.cursor().execute("SET time_zone = '+00:00'")
    return conn


def has_its_own_signature(host: str, user: str, password: str) -> Any:
    return DRIVERS(host=host, user=user, password=password)


@pytest.mark.parametrize("connect", [needs_a_session, has_its_own_signature])
def test_a_wrapper_that_needs_an_open_connection_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, connect: Any
) -> None:
    monkeypatch.setattr(pymysql, "connect", connect)
    use(opened())


def test_a_connection_can_be_freed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pymysql, "connect", tool([], DRIVERS))
    conn = opened()
    freed = weakref.ref(conn)
    gc.disable()
    try:
        del conn
        assert freed() is None
    finally:
        gc.enable()


def test_a_class_that_was_wrapped_before_the_import_is_no_obstacle() -> None:
    pytest.importorskip("wrapt", reason="OpenTelemetry's and Datadog's tools bring it")
    program = """
import pymysql, wrapt

def around(wrapped, instance, args, kwargs):
    return wrapped(*args, **kwargs)

for module, name in ((pymysql.connections, "Connection"), (pymysql, "Connection"), (pymysql, "connect")):
    wrapt.wrap_function_wrapper(module, name, around)
from peewee_replicas.servers.wire.connection import Connection
conn = Connection(host="db.example", defer_connect=True, ssl_disabled=True)
conn.report_to_tools()
assert conn.cursor().mogrify("SELECT 1") == "SELECT 1"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
