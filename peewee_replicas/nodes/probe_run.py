"""The prober's threads and connections, and one probe of a server."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from ..concurrency import Clock, new_lock
from ..positions import Position
from ..servers.protocols import Record, ServerConnection, Socket
from . import interview
from .interview import Answers, Questionnaire


class Run:
    """The threads and connections from one start of the prober to its stop.

    It holds no reference to the database, so that an unused database can be collected.

    Attributes:
        ended: set when the threads have to end.
        due: when the next round begins, by a monotonic clock.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.due = float("-inf")
        # Unlike an event, it may be used by a signal handler that has interrupted its use.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lines: set[ServerConnection] = set()
        self._openers: dict[ServerConnection, int] = {}
        self._closing: set[ServerConnection] = set()
        self._lock = new_lock()

    def begin(self, name: str, target: Callable[..., object], *arguments: object) -> threading.Thread:
        """Start a thread, unless the run has ended, and return it."""
        thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
        with self._lock:  # `end` must not see a thread that has not started
            if not self.ended.is_set():
                thread.start()
                for other in self._threads:
                    _await_exit(other)
                self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        return thread

    def rest(self, seconds: float) -> None:
        """Wait so many seconds, or until `wake` is called."""
        with suppress(queue.Empty):
            self._bell.get(timeout=seconds)

    def wake(self) -> None:
        """End the pause of the thread that is in `rest`, or its next one."""
        self._bell.put(None)

    def alive(self) -> bool:
        """Return whether any thread of this run is alive."""
        return any(thread.is_alive() for thread in self._threads)

    def watch(self, conn: ServerConnection) -> None:
        """Note that this thread is opening a connection, which only it may close until `hand_over`."""
        with self._lock:
            self._lines.add(conn)
            self._openers[conn] = threading.get_ident()
        if self.ended.is_set():
            raise OSError("the prober is stopping")

    def hand_over(self, kept: ServerConnection | None) -> None:
        """Let any thread use `kept` from now on, and close all others that this thread has opened."""
        me = threading.get_ident()
        with self._lock:
            opened = [conn for conn, opener in self._openers.items() if opener == me]
            for conn in opened:
                del self._openers[conn]
        for conn in opened:
            if conn is not kept:
                self.close(conn, in_order=False)

    def opened_by(self, thread: threading.Thread) -> list[ServerConnection]:
        """Return the connections that a thread is opening."""
        with self._lock:
            return [conn for conn, opener in self._openers.items() if opener == thread.ident]

    def close(self, conn: ServerConnection, *, in_order: bool = True) -> None:
        """Close a connection, unless another thread is still opening it and may be reading from it."""
        me = threading.get_ident()
        with self._lock:
            if self._openers.get(conn, me) != me:
                if self.ended.is_set():
                    conn.hang_up()  # the opening thread wakes up and closes it
                return
            self._lines.discard(conn)
            if not conn.open or conn in self._closing:
                return  # the driver raises when closed twice, and two threads may try at once
            self._closing.add(conn)
        try:
            (conn.close if in_order else conn.abort)()
        finally:
            with self._lock:
                self._closing.discard(conn)

    def close_all(self) -> None:
        """Close every connection."""
        with self._lock:
            lines = list(self._lines)
        for conn in lines:
            self.close(conn)

    def end(self, seconds: float) -> None:
        """End all threads. Wait at most this many seconds, as a user's `_connect()` cannot be interrupted."""
        self.ended.set()
        self.wake()
        deadline = Clock.monotonic() + seconds
        # The first pass waits for threads that are between rounds, the second for those woken by hang_up().
        for patience in (0.05, seconds):
            with self._lock:
                threads = [thread for thread in self._threads if thread is not threading.current_thread()]
            for thread in threads:
                thread.join(max(0.0, min(patience, deadline - Clock.monotonic())))
                _await_exit(thread)
            if not any(thread.is_alive() for thread in threads):
                break
            with self._lock:
                lines = list(self._lines)
            for conn in lines:
                conn.hang_up()
        self.close_all()


def _await_exit(thread: threading.Thread) -> None:
    # Before Python 3.13 a joined thread may still exist in the system, and a fork would then warn of it.
    if thread.native_id == threading.get_native_id():
        return  # a greenlet
    path = f"/proc/self/task/{thread.native_id}"
    for _ in range(50):
        if thread.is_alive() or not os.path.exists(path):
            return
        time.sleep(0.0005)  # nothing signals this end, so poll


class Question(Protocol):
    """A question to a node whose answer has not arrived yet."""

    conn: ServerConnection

    @property
    def socket(self) -> Socket:
        """The socket on which the answer arrives."""

    def receive(self) -> bool:
        """Read what has arrived; return whether that was all."""


class Look:
    """One question that any server answers at once, to see whether this one still does."""

    def __init__(
        self, conn: ServerConnection, fails: Callable[[Exception], bool], question: str = "DO 0"
    ) -> None:
        self.conn = conn
        self._fails = fails
        conn.start_query(question)

    @property
    def socket(self) -> Socket:
        """The socket on which the answer arrives."""
        sock = self.conn.socket
        assert sock is not None  # it is open: a question was sent
        return sock

    def receive(self) -> bool:
        """Read the answer; an error is one too, unless it means that the connection is gone."""
        self._answer()
        return True

    def _answer(self) -> list[Record] | Exception:
        answer = self.conn.finish_query()
        if isinstance(answer, Exception) and self._fails(answer):
            raise answer  # the node is shutting down, or the connection is gone
        return answer


class Probe(Look):
    """One probe of one node. It sends each question after the answer to the one before."""

    def __init__(
        self, conn: ServerConnection, questionnaire: Questionnaire, goal: Position | None, seconds: float,
        fails: Callable[[Exception], bool],
    ) -> None:  # fmt: skip
        self.answers: Answers | None = None
        self._interview = interview.interview(conn.dialect, questionnaire, goal, seconds)
        self.asked_at = self.answered_at = Clock.monotonic()
        super().__init__(conn, fails, next(self._interview))

    def receive(self) -> bool:
        """Read one answer and send the next question; return True after the last answer."""
        answer = self._answer()
        try:
            self.conn.start_query(self._interview.send(answer))
        except StopIteration as last:
            self.answers = last.value
            self.answered_at = Clock.monotonic()
            return True
        return False


def timed_out(exc: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is a timeout."""
    while exc is not None:
        if isinstance(exc, TimeoutError) or isinstance(
            getattr(exc, "original_exception", None), TimeoutError
        ):
            return True
        exc = exc.__cause__ or exc.__context__
    return False
