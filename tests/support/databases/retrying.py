"""Mixins that retry, as applications write them over peewee's classes.

Each is a shape that was found in published programs. They end on any error after `ATTEMPTS` attempts.
"""

from __future__ import annotations

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


MIXINS = (ReconnectMixin, RetryOnCursor, RetryByNumber, RetryWithoutConnecting)
CLASSES = (ReplicatedDatabase, PooledReplicatedDatabase)


def mixed(mixin: type, cls: type) -> Any:
    """A database class with the mixin before it, which is the order that peewee's documentation shows."""
    return type(f"{mixin.__name__}{cls.__name__}", (mixin, cls), {})
