"""Mixins that retry, as applications write them over peewee's classes.

Each is a shape that was found in published programs. They end on any error after `ATTEMPTS` attempts.
"""

from __future__ import annotations

import functools
from typing import Any

from peewee import InterfaceError, OperationalError, __exception_wrapper__
from playhouse.shortcuts import ReconnectMixin

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase

ATTEMPTS = 4
LOST = (2006, 2013)


class RetryOnCursor:
    """Retries on a raw cursor, as the mixin did that peewee had before `ReconnectMixin`."""

    def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
        try:
            return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin
        except OperationalError:
            if not self.is_closed():
                self.close()
            with __exception_wrapper__:
                cursor = self.cursor()
                cursor.execute(sql, params or ())
            return cursor


class RetryByNumber:
    """Retries by the error's number, each time over a new connection."""

    def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
        return self._retry(super().execute_sql, sql, params)  # type: ignore[misc]  # a mixin

    def begin(self: Any, *args: Any) -> Any:
        return self._retry(super().begin, *args)  # type: ignore[misc]  # a mixin

    def commit(self: Any) -> Any:
        return self._retry(super().commit)  # type: ignore[misc]  # a mixin

    def _retry(self: Any, work: Any, *args: Any) -> Any:
        for left in reversed(range(ATTEMPTS)):
            try:
                return work(*args)
            except (OperationalError, InterfaceError) as exc:
                lost = isinstance(exc, InterfaceError) or exc.args[0] in LOST
                if not (lost and left) or self.in_transaction():
                    raise
                self.close()
                self.connect()
        raise AssertionError("not reached")


class RetryWithoutConnecting:
    """Retries whatever fails, and leaves connecting to peewee."""

    def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
        try:
            return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin
        except Exception:
            return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin


class RetryQuery:
    """Retries above the statement, where peewee has built none yet."""

    def execute(self: Any, query: Any, **options: Any) -> Any:
        try:
            return super().execute(query, **options)  # type: ignore[misc]  # a mixin
        except OperationalError:
            self.close()
            return super().execute(query, **options)  # type: ignore[misc]  # a mixin


class NumberAttempts:
    """Tells its attempts apart in a comment, which makes each text another."""

    def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
        try:
            return super().execute_sql(f"/* 1 */ {sql} /* try 1 */", params)  # type: ignore[misc]  # a mixin
        except OperationalError:
            self.close()
            return super().execute_sql(f"{sql} -- try 2", params)  # type: ignore[misc]  # a mixin


class CopyOfPeewees:
    """Holds what peewee's own method does, in a loop."""

    take = "cursor"

    def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
        for left in reversed(range(ATTEMPTS)):
            try:
                with __exception_wrapper__:
                    cursor = self.cursor() if self.take == "cursor" else self.connection().cursor()
                    cursor.execute(sql, params or ())
                return cursor
            except OperationalError:
                if not left:
                    raise
                self.close()
        raise AssertionError("not reached")


class RetryOnConnection(CopyOfPeewees):
    """Retries on the driver's connection, whether the first attempt was there or not."""

    take = "connection"


class RoutedAfterCursor:
    """Uses a raw cursor first, and peewee's method afterwards."""

    def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
        try:
            with __exception_wrapper__:
                cursor = self.cursor()
                cursor.execute(sql, params or ())
            return cursor
        except OperationalError:
            self.close()
            return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin


class RetryElsewhere:
    """Calls `init()` before it repeats, as programs do that know several hosts."""

    def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
        try:
            return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin
        except OperationalError:
            self.close()
            self.init(self.database)
            return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin


class Watching:
    """Overrides the method, and does not retry."""

    def execute_sql(self: Any, sql: str, params: Any = None) -> Any:
        return super().execute_sql(sql, params)  # type: ignore[misc]  # a mixin


def retried(method: Any) -> Any:
    """Decorate a method as packages for retrying do, which copy its attributes."""

    @functools.wraps(method)
    def call(self: Any, *args: Any) -> Any:
        try:
            return method(self, *args)
        except OperationalError:
            self.close()
            return method(self, *args)

    return call


class Decorated(Watching, ReplicatedDatabase):
    """Its method is decorated once more in `DecoratedTwice`."""


class DecoratedTwice(Decorated):
    execute_sql = retried(Decorated.execute_sql)


MIXINS = (ReconnectMixin, RetryOnCursor, RetryByNumber, RetryWithoutConnecting)
# Ways to repeat a write that do not send the same text through `super().execute_sql()`.
WAYS_AROUND = (
    RetryQuery,
    NumberAttempts,
    CopyOfPeewees,
    RetryOnConnection,
    RoutedAfterCursor,
    RetryElsewhere,
    DecoratedTwice,
)
CLASSES = (ReplicatedDatabase, PooledReplicatedDatabase)


def mixed(mixin: type, cls: type) -> Any:
    """A database class with the mixin before it, which is the order that peewee's documentation shows."""
    if issubclass(mixin, cls):
        return mixin
    return type(f"{mixin.__name__}{cls.__name__}", (mixin, cls), {})
