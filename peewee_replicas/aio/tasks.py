"""Keeps each task's own connections and state."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeAlias

from ..concurrency import Here
from ..servers.protocols import ServerConnection

Task: TypeAlias = "asyncio.Task[object]"


def current_task() -> Task | None:
    """Return the running task; None outside of any."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None


class _Local:
    """An object whose attributes are separate for each task; outside tasks, for each thread."""

    # Set in the instance's dictionary, because `__setattr__` would store them for one task only.
    _by_task: dict[weakref.ref[Task], dict[str, object]]
    _by_thread: threading.local

    def __init__(self) -> None:
        # Not a `WeakKeyDictionary`, whose methods are Python code: each read looks something up here.
        self.__dict__["_by_task"] = {}
        self.__dict__["_by_thread"] = threading.local()

    def _values(self) -> dict[str, object]:
        task = current_task()
        if task is None:
            values: dict[str, object] = self._by_thread.__dict__
            return values
        found = self._by_task.get(weakref.ref(task))
        if found is None:
            by_task = self._by_task
            # The callback must not keep this object alive, and needs only its dictionary.
            found = by_task[weakref.ref(task, functools.partial(_forget_in, by_task))] = {}
        return found

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values()[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        self._values()[name] = value


def _forget_in(by_task: dict[weakref.ref[Task], dict[str, object]], ended: weakref.ref[Task]) -> None:
    by_task.pop(ended, None)


class _Tasks:
    """Identifies callers by task; outside tasks, by thread."""

    word = "task"
    local = _Local

    @staticmethod
    def current() -> Hashable:
        task = current_task()
        return threading.get_ident() if task is None else task


TASKS: Here = _Tasks()


class Lender(Protocol):
    """A node from whose pool a task has taken a connection."""

    def close_connection(self, conn: ServerConnection) -> None:
        """Return the connection to its pool."""


class TaskState:
    """One task's connection to one node, with the attributes that peewee keeps for a thread.

    Attributes:
        leases: the task's states at the nodes whose connections it has taken; only its state at the primary
            has any.
        lender: the node whose connection this is, while it is among the `leases`.
        kept: whether the connection was handed to the user, and stays until the database is closed.
        holds: how many connections to nodes were handed to the user.
        streams: how many connections are in use for results that are still streamed.
        streaming: whether to stream the statement that is being run.
        unreached: the node's `unreached` count when this task began to connect.
    """

    __slots__ = (
        "closed", "commit_callbacks", "conn", "ctx", "holds", "kept", "leases", "lender", "streaming",
        "streams", "transactions", "unreached",
    )  # fmt: skip

    def __init__(self) -> None:
        self.leases: list[TaskState] = []
        self.lender: Lender | None = None
        self.holds = self.streams = self.unreached = 0
        self.streaming = False
        self.reset()

    @property
    def keeps(self) -> bool:
        """Whether the task keeps a connection beyond a statement; other tasks may be waiting for it."""
        return self.conn is not None or self.holds > 0 or self.streams > 0

    def reset(self) -> None:
        """Forget the connection and everything in progress."""
        self.conn: Any = None  # a `Connection`, or one that a subclass opens instead
        self.closed = True
        self.kept = False
        self.transactions: list[object] = []
        self.ctx: list[object] = []
        self.commit_callbacks: list[object] = []

    def set_connection(self, conn: ServerConnection) -> None:
        """Use this connection."""
        self.conn = conn
        self.closed = False

    def let_go(self) -> Any:
        """Forget the connection and return it, or None."""
        conn, self.conn = self.conn, None
        self.closed, self.kept = True, False
        return conn


def _notify(on_end: Callable[[], Callable[[Task], None] | None], task: Task) -> None:
    notify = on_end()
    if notify is not None:
        notify(task)


class TaskStates:
    """The states of one database, by task.

    Parameters:
        on_end: called with each task that had a state, once the task has ended; None: not called.
    """

    def __init__(self, on_end: Callable[[Task], None] | None = None) -> None:
        self._states: dict[Task, TaskState] = {}
        self._outside = threading.local()
        # A weak reference, so that a long-lived task does not keep an unused database alive.
        self._on_end = None if on_end is None else weakref.WeakMethod(on_end)

    def here(self) -> TaskState:
        """Return the state of the running task; outside tasks, of the thread."""
        try:
            task = asyncio.current_task()  # as `current_task` does, without another call
        except RuntimeError:
            task = None
        if task is None:
            if not hasattr(self._outside, "state"):
                self._outside.state = TaskState()
            return self._outside.state  # type: ignore[no-any-return]  # a thread-local has no types
        state = self._states.get(task)
        if state is None:
            state = self._states[task] = TaskState()
            if self._on_end is not None:
                task.add_done_callback(functools.partial(_notify, self._on_end))
        return state

    def forget(self, task: Task | None = None) -> TaskState | None:
        """Remove and return the state of a task; of the running one if `task` is None."""
        task = task or current_task()
        return None if task is None else self._states.pop(task, None)

    def clear(self) -> list[TaskState]:
        """Remove and return all states."""
        states, self._states = list(self._states.values()), {}
        return states
