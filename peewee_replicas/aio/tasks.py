"""What each task has of its own: its connections, and what is kept for it."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeAlias

from ..concurrency import Here, current_task
from ..servers.protocols import ServerConnection

Task: TypeAlias = "asyncio.Task[object]"


class _Local:
    """An object whose attributes each task has apart; outside of tasks, each thread."""

    # Kept in the instance's dictionary, past `__setattr__`, which would put them into a task's.
    _by_task: weakref.WeakKeyDictionary[Task, dict[str, object]]
    _by_thread: threading.local

    def __init__(self) -> None:
        self.__dict__["_by_task"] = weakref.WeakKeyDictionary()
        self.__dict__["_by_thread"] = threading.local()

    def _values(self) -> dict[str, object]:
        task = current_task()
        if task is None:
            values: dict[str, object] = self._by_thread.__dict__
            return values
        found = self._by_task.get(task)
        if found is None:
            found = self._by_task[task] = {}
        return found

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values()[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        self._values()[name] = value


class _Tasks:
    """Each task is somebody of its own, and so is each thread outside of tasks."""

    word = "task"
    local = _Local

    @staticmethod
    def current() -> Hashable:
        task = current_task()
        return threading.get_ident() if task is None else task


TASKS: Here = _Tasks()


class Lease(Protocol):
    """A node whose connection a task has taken."""

    @property
    def state(self) -> TaskState:
        """What is kept for this task."""

    @property
    def conn(self) -> ServerConnection | None:
        """The connection that was taken."""

    @property
    def is_open(self) -> bool:
        """Whether there is one."""

    def close_connection(self, conn: ServerConnection) -> None:
        """Give it back."""

    def forget_task(self) -> TaskState | None:
        """Forget what this task has here; returns it."""


class TaskState:
    """One task's connection to one node, in the form in which peewee keeps a thread's.

    Attributes:
        leases: nodes whose connections the task has taken; only the database's own state has any.
        kept: whether its connection was handed to the user, and stays until the database is closed.
        holds: how many connections to nodes were handed to the user.
        streams: how many are taken for results that are still streamed.
        streaming: whether the statement that is run now is to be streamed.
        unreached: as `Nodes` uses it.
    """

    __slots__ = (
        "closed", "commit_callbacks", "conn", "ctx", "holds", "kept", "leases", "streaming", "streams",
        "transactions", "unreached",
    )  # fmt: skip

    def __init__(self) -> None:
        self.leases: list[Lease] = []
        self.holds = self.streams = self.unreached = 0
        self.streaming = False
        self.reset()

    @property
    def keeps(self) -> bool:
        """Whether it keeps a connection beyond a statement, for which others may be waiting."""
        return self.conn is not None or self.holds > 0 or self.streams > 0

    def reset(self) -> None:
        """Have no connection, and nothing in progress."""
        self.conn: Any = None  # a `Connection` of this form, or what a subclass opens in its place
        self.closed = True
        self.kept = False
        self.transactions: list[object] = []
        self.ctx: list[object] = []
        self.commit_callbacks: list[object] = []

    def set_connection(self, conn: ServerConnection) -> None:
        """Have this connection."""
        self.conn = conn
        self.closed = False


def _tell(on_end: Callable[[], Callable[[Task], None] | None], task: Task) -> None:
    tell = on_end()
    if tell is not None:
        tell(task)


class TaskStates:
    """The states of one database, by task.

    Parameters:
        on_end: called with each task that had a state, once it has ended; None: nobody is told.
    """

    def __init__(self, on_end: Callable[[Task], None] | None = None) -> None:
        self._states: dict[Task, TaskState] = {}
        self._outside = threading.local()
        # Weakly, so that a task that lives long keeps no database that nobody uses.
        self._on_end = None if on_end is None else weakref.WeakMethod(on_end)

    def here(self) -> TaskState:
        """The state of the task that runs now; outside of tasks, the thread's."""
        task = current_task()
        if task is None:
            if not hasattr(self._outside, "state"):
                self._outside.state = TaskState()
            return self._outside.state  # type: ignore[no-any-return]  # a thread-local has no types
        state = self._states.get(task)
        if state is None:
            state = self._states[task] = TaskState()
            if self._on_end is not None:
                task.add_done_callback(functools.partial(_tell, self._on_end))
        return state

    def forget(self, task: Task | None = None) -> TaskState | None:
        """Take the state of a task, or of the one that runs now, out."""
        task = task or current_task()
        return None if task is None else self._states.pop(task, None)

    def clear(self) -> list[TaskState]:
        """Take all out."""
        states, self._states = list(self._states.values()), {}
        return states
