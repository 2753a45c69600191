"""What differs between the releases of peewee that this library works with.

The library is written for the newest release. What an older one lacks is added here, in subclasses of its
database classes; from 4.5 on, the names below are peewee's own classes, so nothing gets slower. Releases are
told apart by what they have, once, at import.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import inspect
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import peewee
import playhouse.pool
from peewee import Database, __exception_wrapper__

from ..errors import ConfigurationError
from ..servers.protocols import Cursor, Parameters
from ..servers.wire.connection import Connection
from .peewee_types import ThreadState

if TYPE_CHECKING:
    from peewee import MySQLDatabase, SqliteDatabase
    from playhouse.pool import PooledMySQLDatabase

__all__ = [
    "HAS_HOOKS",
    "IS_PEEWEE_3",
    "MySQLDatabase",
    "PooledMySQLDatabase",
    "QueryLog",
    "SqliteDatabase",
    "cursor_takes_commit",
    "execute_takes_commit",
    "kept_state",
    "lacking",
    "query_log",
    "require_asyncio",
    "takes_commit",
]

_Method = TypeVar("_Method", bound=Callable[..., object])

HAS_HOOKS = hasattr(Database, "_notify_hooks")
"""Whether peewee has ``query_hooks``, ``after_commit()`` and ``dispose()``: since 4.5."""
IS_PEEWEE_3 = not hasattr(playhouse.pool.PooledDatabase, "_close_raw")
"""Whether the release is older than 4.0, or 4.0.0, which still works as these do."""
_THREAD_STATE = tuple(vars(peewee._ConnectionState()).keys() - {"closed", "conn"})


def lacking(what: str, since: str) -> str:
    """Return the message for a feature that this release of peewee lacks.

    Parameters:
        what: the feature.
        since: the first release that has it.
    """
    return f"{what} needs peewee {since} or later; this is peewee {peewee.__version__}"


def require_asyncio() -> None:
    """Raise `ImportError` if this release of peewee is too old for the asyncio form."""
    if not HAS_HOOKS:
        raise ImportError(lacking("peewee_replicas.aio", "4.5"))


class _Lacking:
    """A member that this release lacks: as good as absent, but its error says which release has it."""

    def __init__(self, since: str, instead: str = "") -> None:
        self._since = since
        self._instead = instead

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> object:
        raise AttributeError(lacking(self._name, self._since) + self._instead)

    def __set__(self, instance: object, value: object) -> None:
        self.__get__(instance, type(instance))


class QueryLog(Protocol):
    """What is told of each of the user's statements."""

    @property
    def query_hooks(self) -> Sequence[Callable[..., object]]: ...
    def _log_query(self, sql: str, params: Parameters, /) -> object: ...
    def _notify_hooks(self, sql: str, params: Parameters, started: float, error: object, /) -> object: ...


class _LogAlone:
    """The log of a database without ``query_hooks``."""

    query_hooks: Sequence[Callable[..., object]] = ()

    def __init__(self, db: QueryLog) -> None:
        self._db = db

    def _log_query(self, sql: str, params: Parameters, /) -> None:
        self._db._log_query(sql, params)

    def _notify_hooks(self, sql: str, params: Parameters, started: float, error: object, /) -> None:
        """Do nothing, because there are no hooks."""


def query_log(db: QueryLog) -> QueryLog:
    """Return what a database logs its statements with: the database itself, in the newest peewee."""
    return db if HAS_HOOKS else _LogAlone(db)


def takes_commit(execute: _Method) -> _Method:
    """Let an ``execute_sql()`` accept ``commit`` as peewee 3's does, where it has no effect either.

    Mixins written for peewee 3, which repeat a statement after an error, pass it on.
    """
    if not _takes_commit("execute_sql"):
        return execute

    @functools.wraps(execute)
    def execute_sql(self: object, sql: str, params: object = None, commit: object = None) -> object:
        return execute(self, sql, params)

    return cast(_Method, _own_signature(execute_sql))


def execute_takes_commit(execute: _Method) -> _Method:
    """Do the same for an ``execute()``."""
    if not _takes_commit("execute"):
        return execute

    @functools.wraps(execute)
    def call(self: object, query: object, commit: object = None, **context_options: object) -> object:
        return execute(self, query, **context_options)

    return cast(_Method, _own_signature(call))


def cursor_takes_commit(cursor: _Method) -> _Method:
    """Do the same for a ``cursor()``, whose first parameter it is in peewee 3."""
    if not _takes_commit("cursor"):
        return cursor

    @functools.wraps(cursor)
    def call(self: object, commit: object = None, named_cursor: object = None) -> object:
        return cursor(self, named_cursor)

    return cast(_Method, _own_signature(call))


def _takes_commit(name: str) -> bool:
    return "commit" in inspect.signature(getattr(Database, name)).parameters


def _own_signature(method: Callable[..., object]) -> Callable[..., object]:
    del method.__wrapped__  # type: ignore[attr-defined]  # `inspect` would show its parameters
    return method


def kept_state(state: ThreadState) -> dict[str, object]:
    """Return what peewee forgets when it connects: this thread's contexts, transactions and callbacks."""
    return {name: getattr(state, name) for name in _THREAD_STATE}


class _Older(Database):
    """Adds to a database of an older peewee what this library needs."""

    # peewee's own members, for which it declares no types.
    _lock: AbstractContextManager[object]
    _state: ThreadState

    after_commit = _Lacking("4.5")
    query_hooks = _Lacking("4.5", "; route_hooks works with every release")

    def dispose(self) -> None:
        with self._lock:
            self._state.reset()

    def _log_query(self, sql: str, params: Parameters) -> None:
        peewee.logger.debug((sql, params))

    def _clear_commit_callbacks(self) -> None:
        """Do nothing, because there are none."""

    def execute_sql(self, sql: str, params: Parameters = None, commit: object = None) -> Cursor:
        self._log_query(sql, params)
        with __exception_wrapper__:
            cursor: Cursor = self.cursor()
            cursor.execute(sql, params or ())
        return cursor

    def cursor(self, named_cursor: object = None) -> Cursor:
        cursor: Cursor = super().cursor(named_cursor=named_cursor)  # in peewee 3 another comes first
        return cursor


class _OlderMySQL(_Older, peewee.MySQLDatabase):
    pass


class _OlderSqlite(_Older, peewee.SqliteDatabase):
    def __init__(self, database: object, *args: object, **kwargs: object) -> None:
        since = {"lock_type": "4.5"}
        taken = inspect.signature(peewee.SqliteDatabase).parameters
        since |= {name: "4.0" for name in ("regexp_function", "rank_functions") if name not in taken}
        for name, release in since.items():
            if kwargs.pop(name, None):
                raise ConfigurationError(lacking(name, release))
        kwargs["pragmas"] = kwargs.get("pragmas") or ()
        super().__init__(database, *args, **kwargs)

    # Older releases send these as statements of the user's, or past the cursor.

    def begin(self, lock_type: str | None = None) -> None:
        self._run(f"BEGIN {lock_type}" if lock_type else "BEGIN")

    def commit(self) -> None:
        self._run("COMMIT")

    def rollback(self) -> None:
        self._run("ROLLBACK")

    def _run(self, statement: str) -> None:
        if self.is_closed():
            raise peewee.InterfaceError(f"Cannot {statement.lower()}, database connection not open.")
        with __exception_wrapper__:
            self.cursor().execute(statement, ())


class _Lent(Protocol):
    """A connection that is in use."""

    timestamp: float
    connection: Connection
    checked_out: float


class _OlderPool(playhouse.pool.PooledDatabase):
    """Adds to the pool of an older peewee what this library needs."""

    # peewee's own members, for which it declares no types.
    _pool_lock: threading.RLock
    _stale_timeout: float | None
    _connections: list[tuple[float, int, Connection]]
    _in_use: dict[object, _Lent]
    _is_stale: Callable[[float], bool]

    def _can_reuse(self, conn: Connection) -> bool:
        try:
            if conn.in_transaction:
                conn.rollback()
        except Exception:
            return False
        return True

    def dispose(self) -> None:
        super().dispose()
        with self._pool_lock:
            self._connections = []
            self._in_use = {}


class _PoolOfPeewee3(_OlderPool):
    """Mends peewee 3's pool.

    There a connection closed for good keeps its place in the pool, one that cannot be reused is not closed,
    and `close_all` takes the locks in the opposite order to `connect`.
    """

    def __init__(self, database: object, *args: object, **kwargs: object) -> None:
        super().__init__(database, *args, **kwargs)
        self._order = itertools.count()  # the heap cannot compare connections
        self._pool_available = threading.Condition(self._pool_lock)  # nobody waits on it

    def _close_raw(self, conn: Connection) -> None:
        with contextlib.suppress(Exception):
            super()._close(conn, close_conn=True)

    def _close(self, conn: Connection, close_conn: bool = False) -> None:
        with self._pool_lock:
            place = self._in_use.pop(self.conn_key(conn), None)
            if place is None or close_conn:
                if close_conn:
                    self._close_raw(conn)
                return
            stale = self._stale_timeout and self._is_stale(place.timestamp)
            if stale or not self._can_reuse(conn):
                self._close_raw(conn)
            else:
                heapq.heappush(self._connections, (place.timestamp, next(self._order), conn))

    def close_stale(self, age: float = 600) -> int:
        with self._pool_lock:
            before = time.time() - age
            stale = [place.connection for place in self._in_use.values() if place.checked_out < before]
            for conn in stale:
                self._close(conn, close_conn=True)
            return len(stale)

    def close_all(self) -> None:
        self.close()
        with self._pool_lock:
            self.close_idle()
            for place in list(self._in_use.values()):
                self._close(place.connection, close_conn=True)


class _OlderPooledMySQL(
    _PoolOfPeewee3 if IS_PEEWEE_3 else _OlderPool,  # type: ignore[misc]  # chosen at import
    playhouse.pool.PooledMySQLDatabase,
    _OlderMySQL,
):
    pass


if not TYPE_CHECKING:
    if HAS_HOOKS:
        from peewee import MySQLDatabase, SqliteDatabase
        from playhouse.pool import PooledMySQLDatabase
    else:
        MySQLDatabase, SqliteDatabase, PooledMySQLDatabase = _OlderMySQL, _OlderSqlite, _OlderPooledMySQL
