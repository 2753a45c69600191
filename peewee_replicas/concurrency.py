"""Threads, tasks and forked processes, and the clock: what all rooms need to run beside other code.

A forked child that used an inherited socket would take the parent's answers for its own, and one that
closed it properly would end the parent's session. So a child abandons them all, and opens its own when it
needs them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from types import BuiltinFunctionType
from typing import Any, Protocol

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_connections: weakref.WeakSet[Any] = weakref.WeakSet()
_databases: weakref.WeakSet[Any] = weakref.WeakSet()

# What must not even be collected in a child: SQLite may then remove the parent's log.
_abandoned: list[Any] = []


def _genuine(function: Callable[[], float], clock: str) -> Callable[[], float]:
    """The function itself, unless a tool had already replaced it when this module was imported."""
    number = getattr(time, clock, None)
    if isinstance(function, BuiltinFunctionType) or number is None:
        return function
    return partial(time.clock_gettime, number)


class Clock:
    """The time, for everything in this package that measures or compares times.

    Test-suites stop and move the clock with tools such as freezegun, which replace ``time.monotonic`` and
    ``time.time`` wherever a *module* has them as a name. Pauses, lag and time limits must go by real time
    even then, or a frozen test leaves replicas out of use, or late ones in use, after it has ended. These
    tools do not look into classes, so the functions are kept in one. No other module may call `time` itself.
    """

    monotonic = staticmethod(_genuine(time.monotonic, "CLOCK_MONOTONIC"))
    """Seconds that only ever grow, from an arbitrary start: for everything that stays in this process."""

    wall = staticmethod(_genuine(time.time, "CLOCK_REALTIME"))
    """Seconds since 1970: only for what leaves the process, as bookmarks and cookies do. It may jump."""


class Here(Protocol):
    """How a form of the library tells those apart that run at the same time.

    Attributes:
        word: what one of them is called in messages.
    """

    word: str

    def current(self) -> Hashable:
        """Who runs now."""

    def local(self) -> Any:
        """An object whose attributes each of them has apart, as `threading.local` gives it."""


class Threads:
    """Each thread is somebody of its own."""

    word = "thread"
    current = staticmethod(threading.get_ident)
    local = staticmethod(threading.local)


THREADS: Here = Threads()


def current_task() -> Any:
    """The asyncio task that runs now; None outside of any."""
    # A program that has not imported asyncio runs no tasks, and need not pay for importing it.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task()


def new_lock() -> Any:
    """A lock that is free in a forked child, whatever thread of the parent held it."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def free(*locks: Any) -> None:
    """Make locks free that a thread of the parent may have held."""
    for lock in locks:
        if hasattr(lock, "_at_fork_reinit"):
            lock._at_fork_reinit()


def track_connection(connection: Any) -> None:
    """Close the socket of this PyMySQL connection in a forked child, and tell nobody."""
    _connections.add(connection)


def track_database(database: Any) -> None:
    """Have ``_after_fork()`` of this database called in a forked child."""
    _databases.add(database)


def abandon(*things: Any) -> None:
    """Keep what belongs to the parent for as long as this process lives."""
    _abandoned.extend(thing for thing in things if thing is not None)


def _in_child() -> None:
    free(*_locks)
    for database in list(_databases):
        database._after_fork()
    for connection in list(_connections):
        # A thread or greenlet of the parent may be reading from it, so that it cannot be closed in order.
        sock, connection._sock, connection._rfile = connection._sock, None, None
        if sock is not None:
            sock.close()
        connection._force_close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
