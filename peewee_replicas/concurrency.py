"""Threads, tasks, forked processes and the clock, for all rooms.

If a forked child used an inherited socket, it would read the answers meant for the parent; if it closed the
connection properly, it would end the parent's session. So a child abandons all inherited connections, and
opens its own when it needs them.
"""

from __future__ import annotations

import os
import random
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
    """A set of objects that does not keep them alive.

    Unlike a `weakref.WeakSet`, it may be changed by another thread or a signal handler while it is read.
    """

    def __init__(self) -> None:
        # A dict, because list() copies it in a single step.
        self._references: dict[weakref.ref[T], None] = {}

    def add(self, thing: T) -> None:
        """Add an object."""
        self._references[weakref.ref(thing, self._forget)] = None

    def _forget(self, reference: weakref.ref[T]) -> None:
        self._references.pop(reference, None)

    def all(self) -> list[T]:
        """Return the objects that are still alive."""
        return [thing for known in list(self._references) if (thing := known()) is not None]


class ParentsConnection(Protocol):
    """A connection that a forked child has inherited, and that still belongs to the parent."""

    def leave_to_parent(self) -> None:
        """Close the socket without telling the server."""


class Inherited(Protocol):
    """A database that a forked child has inherited, and must prepare for its own use."""

    def after_fork(self) -> None:
        """Abandon everything that belongs to the parent."""


_locks: Registry[threading.RLock] = Registry()
_connections: Registry[ParentsConnection] = Registry()
_databases: Registry[Inherited] = Registry()

# Objects that a child must not even free: when a connection is freed, SQLite may remove the parent's log.
_abandoned: list[object] = []


def _genuine(function: Callable[[], float], clock: str) -> Callable[[], float]:
    """Return `function`, or the real clock if a tool had replaced it before this module was imported."""
    number = getattr(time, clock, None)
    if isinstance(function, BuiltinFunctionType) or number is None:
        return function
    return partial(time.clock_gettime, number)


class Clock:
    """The clock for everything in this package that measures or compares times.

    Test suites stop and move the clock with tools such as freezegun, which replace ``time.monotonic`` and
    ``time.time`` in every *module* that has them as attributes. Pauses, lag and time limits must follow real
    time even then: otherwise, after a frozen test, good replicas would stay out of use, or late ones in use.
    These tools do not look into classes, so a class holds the functions. No other module may call `time`.
    """

    monotonic = staticmethod(_genuine(time.monotonic, "CLOCK_MONOTONIC"))
    """Seconds from an arbitrary start; never goes back. For all times that stay in this process."""

    wall = staticmethod(_genuine(time.time, "CLOCK_REALTIME"))
    """Seconds since 1970; may jump. Only for times that leave the process, such as those in bookmarks."""


generator = random.Random()
"""The generator for all chance in this package.

The functions of `random` would use up numbers of a sequence that the program has seeded.
"""

# Otherwise all forked workers would get the same jitter, and choose the same replicas at the same time.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=generator.seed)

chance = generator.random
"""A number from 0 to 1, for jitter."""


class Local(Protocol):
    """An object whose attributes are separate for each thread or task; they may have any names."""

    # `threading.local` declares this method, not `__getattr__`.
    def __getattribute__(self, name: str, /) -> Any: ...
    def __setattr__(self, name: str, value: object, /) -> None: ...


class Here(Protocol):
    """Identifies threads (in the synchronous form of the library) or tasks (in the asyncio form).

    Attributes:
        word: the word for a thread or task in messages.
    """

    word: str

    def current(self) -> Hashable:
        """Return the identity of the current thread or task."""

    def local(self) -> Local:
        """Return an object whose attributes are separate for each thread or task, like `threading.local`."""


class Threads:
    """Identifies threads."""

    word = "thread"
    current = staticmethod(threading.get_ident)
    local = staticmethod(threading.local)


THREADS: Here = Threads()


def current_task() -> asyncio.Task[object] | None:
    """Return the current asyncio task; None outside of any."""
    # A program that has not imported asyncio runs no tasks, and should not pay for the import.
    imported = sys.modules.get("asyncio")
    if imported is None or imported._get_running_loop() is None:
        return None
    return imported.current_task()  # type: ignore[no-any-return]  # it was not imported here


HAS_GIL = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
"""Whether only one thread at a time runs Python code, as in all but CPython's free-threaded builds.

Then CPython goes on to another thread, or runs a signal handler, only at calls and jumps. A few assignments
without either in between need no lock, which costs as much as dozens of them.
"""


def new_lock() -> threading.RLock:
    """Return a new lock that is free in a forked child, even if a thread of the parent held it.

    The user's hooks, logging handlers and policies are never called while such a lock is held: they may wait
    for another thread that needs the lock. Python may call signal handlers and ``__del__`` methods at any
    moment, in a thread that holds the lock, and they may use the database too. So the lock is reentrant, and
    code under it must stay correct if it is interrupted by itself: it assigns values that belong together
    without a call in between, because Python runs signal handlers only at calls.
    """
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def free(*locks: object) -> None:
    """Release locks that another thread of the parent may have held."""
    for lock in locks:
        # A signal handler may have forked while this thread held the lock. The thread will release it then.
        if hasattr(lock, "_at_fork_reinit") and not (hasattr(lock, "_is_owned") and lock._is_owned()):
            lock._at_fork_reinit()


def track_connection(connection: ParentsConnection) -> None:
    """Call ``leave_to_parent()`` of this connection in every forked child."""
    _connections.add(connection)


def track_database(database: Inherited) -> None:
    """Call ``after_fork()`` of this database in every forked child."""
    _databases.add(database)


def abandon(*things: object) -> None:
    """Keep things that belong to the parent alive until this process ends."""
    _abandoned.extend(thing for thing in things if thing is not None)


def _in_child() -> None:
    free(*_locks.all())
    for database in _databases.all():
        database.after_fork()
    for connection in _connections.all():
        connection.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
