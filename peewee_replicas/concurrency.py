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
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects that are known for as long as they live.

    Unlike a `weakref.WeakSet` it may be added to while it is read, by another thread or by a signal handler.
    """

    def __init__(self) -> None:
        # In a dict, because a copy of one is made in a single step.
        self._references: dict[weakref.ref[T], None] = {}

    def add(self, thing: T) -> None:
        """Know this object too."""
        self._references[weakref.ref(thing, self._forget)] = None

    def _forget(self, reference: weakref.ref[T]) -> None:
        self._references.pop(reference, None)

    def all(self) -> list[T]:
        """Those that live."""
        return [thing for known in list(self._references) if (thing := known()) is not None]


class ParentsConnection(Protocol):
    """A connection that a forked child has inherited, and that stays the parent's."""

    def leave_to_parent(self) -> None:
        """Close the socket, and tell nobody."""


class Inherited(Protocol):
    """What a forked child has inherited, and has to prepare for its own use."""

    def after_fork(self) -> None:
        """Let go of what is the parent's."""


_locks: Registry[threading.RLock] = Registry()
_connections: Registry[ParentsConnection] = Registry()
_databases: Registry[Inherited] = Registry()

# What must not even be collected in a child: SQLite may then remove the parent's log.
_abandoned: list[object] = []


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


class Local(Protocol):
    """An object whose attributes each thread, or task, has apart; they may have any names."""

    # This is the one that `threading.local` declares, and not `__getattr__`.
    def __getattribute__(self, name: str, /) -> Any: ...
    def __setattr__(self, name: str, value: object, /) -> None: ...


class Here(Protocol):
    """How a form of the library tells those apart that run at the same time.

    Attributes:
        word: what one of them is called in messages.
    """

    word: str

    def current(self) -> Hashable:
        """Who runs now."""

    def local(self) -> Local:
        """An object whose attributes each of them has apart, as `threading.local` gives it."""


class Threads:
    """Each thread is somebody of its own."""

    word = "thread"
    current = staticmethod(threading.get_ident)
    local = staticmethod(threading.local)


THREADS: Here = Threads()


def current_task() -> asyncio.Task[object] | None:
    """The asyncio task that runs now; None outside of any."""
    # A program that has not imported asyncio runs no tasks, and need not pay for importing it.
    imported = sys.modules.get("asyncio")
    if imported is None or imported._get_running_loop() is None:
        return None
    return imported.current_task()  # type: ignore[no-any-return]  # it was not imported here


def new_lock() -> threading.RLock:
    """A lock that is free in a forked child, whatever thread of the parent held it.

    Hooks, logging handlers and policies of the user's are never called while one is held: they may wait for
    another thread that needs it. Signal handlers and ``__del__`` methods are called by Python at any moment,
    in a thread that may hold it, and may use the database as well. So a thread can take a lock again that it
    holds, and what is done under it stays right if the same is done once more in the midst of it: values
    that belong together are assigned with no call in between, since only there Python looks for signals.
    """
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def free(*locks: object) -> None:
    """Make locks free that another thread of the parent may have held."""
    for lock in locks:
        # What this thread holds it will release: a signal handler may have forked in the midst of it.
        if hasattr(lock, "_at_fork_reinit") and not (hasattr(lock, "_is_owned") and lock._is_owned()):
            lock._at_fork_reinit()


def track_connection(connection: ParentsConnection) -> None:
    """Have ``leave_to_parent()`` of this connection called in a forked child."""
    _connections.add(connection)


def track_database(database: Inherited) -> None:
    """Have ``after_fork()`` of this database called in a forked child."""
    _databases.add(database)


def abandon(*things: object) -> None:
    """Keep what belongs to the parent for as long as this process lives."""
    _abandoned.extend(thing for thing in things if thing is not None)


def _in_child() -> None:
    free(*_locks.all())
    for database in _databases.all():
        database.after_fork()
    for connection in _connections.all():
        connection.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
