"""Discovery: a thread per database that asks a callable who the replicas are, again and again.

The callable is the program's own, or one of `peewee_replicas.discover`. It may take long, fail, or find
nothing; no statement waits for it, and the nodes stay as they are until it names others.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
import weakref
from collections.abc import Callable

from ..concurrency import Clock, Registry, chance, new_lock
from ..events import NodeNews
from ..log import EventName, log_event
from ..servers.error_meanings import in_words
from .callables import takes_database
from .probe_run import Run
from .replica_set import ReplicaSet

# Seconds to wait for a callable that is at work when the thread is stopped; it cannot be interrupted.
_PATIENCE = 0.5
# Seconds between two tries to start the thread.
_START_AGAIN = 1.0
# Seconds after which a callable that has not answered is said. By default, the system's resolver gives up
# after 30 s (three name servers, each asked twice for 5 s), and what asks servers does so sooner. Twice that
# is a hang.
LATE_SECONDS = 60.0
_SLICE = 1.0
# Seconds between two looks whether the thread of an earlier run has left the callable.
_LOOK_AGAIN = 0.1
# A resolver says how long it has waited, which is never the same twice.
_DURATION = re.compile(r"\d+(\.\d+)? ?s(econds?)?\b")

_discoveries: Registry[Discovery] = Registry()
_forking = threading.Event()


class Source:
    """The callable that names the replicas of one database.

    Parameters:
        ask: the callable; it is given the database if it must be given an argument.
        database: the user's database.

    Attributes:
        ask: as given.
        turn: held by the thread that is inside the callable, so that there is only one, even if it hangs.
    """

    def __init__(self, ask: Callable[..., object], database: object) -> None:
        self.ask = ask
        self.turn = new_lock()
        self._arguments = (database,) if takes_database(ask) else ()
        self._asked_at: float | None = None

    def __call__(self) -> object:
        """Return what the callable names."""
        self._asked_at = Clock.monotonic()
        try:
            return self.ask(*self._arguments)
        finally:
            self._asked_at = None

    @property
    def is_late(self) -> bool:
        """Whether the thread that is inside has waited too long for an answer."""
        asked_at = self._asked_at
        return asked_at is not None and Clock.monotonic() - asked_at >= LATE_SECONDS

    @property
    def name(self) -> str:
        """What the callable is called, for messages."""
        own = getattr(self.ask, "__qualname__", "") or type(self.ask).__qualname__
        return f"{getattr(self.ask, '__module__', '')}.{own}".replace(".<locals>", "")


class Discovery:
    """Asks who the replicas of one database are, from its first statement on.

    Parameters:
        source: names the replicas, like the argument ``replicas``.
        apply: replaces the replicas by those of an answer. It raises an error if the answer is empty or
            cannot work; then nothing was changed.
        refresh: seconds between two questions.
        replicas: the nodes that serve reads.
        news: knows the database's name.

    Attributes:
        source: as given.
        retired: whether it asks no more, because the program has named the replicas itself.
        failure: what was wrong with the last answer, in words; ``""`` if nothing was.
    """

    def __init__(
        self,
        source: Source,
        apply: Callable[[object], None],
        refresh: float,
        replicas: ReplicaSet,
        news: NodeNews,
    ) -> None:
        self.source = source
        self.refresh = refresh
        self.retired = False
        self.failure = ""
        self._apply = apply
        self._replicas = replicas
        self._news = news
        self._lock = new_lock()
        self._run: Run | None = None
        self._start_at = float("-inf")
        replicas.wait_for_discovery(True)
        _discoveries.add(self)

    @property
    def at_work(self) -> bool:
        """Whether the thread is running."""
        run = self._run
        return run is not None and not run.ended.is_set() and run.alive()

    def use(self) -> None:
        """Start asking unless it has begun, because somebody uses the database. Never waits."""
        failure = self._start()
        if failure:
            self._fail("cannot be asked for", failure)

    def _start(self) -> str:
        with self._lock:
            if _forking.is_set() or Clock.monotonic() < self._start_at:
                return ""
            self._replicas.wait_for_discovery(False)
            if self.retired or self.at_work:
                return ""
            run = Run()
            try:
                # The thread must not keep the database alive, which this object may refer to.
                run.begin(f"discovery of {self._news.database}", _work, weakref.ref(self), run)
            except RuntimeError as exc:  # no more threads, or the interpreter is ending
                self._start_at = Clock.monotonic() + _START_AGAIN
                self._replicas.wait_for_discovery(True)
                return str(exc)
            self._run = run
            return ""

    def stop(self) -> None:
        """Stop until the next use. An answer that is still awaited then changes nothing."""
        with self._lock:
            run, self._run = self._run, None
        if run is not None:
            run.end(_PATIENCE)
        if not self.retired:
            self._replicas.wait_for_discovery(True)

    def retire(self) -> None:
        """Stop for good; does not wait for the thread."""
        with self._lock:
            self.retired = True
            run, self._run = self._run, None
            self._replicas.wait_for_discovery(False)
        if run is not None:
            run.ended.set()

    def look(self, run: Run | None = None) -> bool:
        """Ask once and take the answer; log what is wrong with it, once until that changes.

        Parameters:
            run: the thread's run, which may end before the answer is there; None: the caller waits for it.

        Returns:
            False if nothing was asked, because the thread of an earlier run is still inside the callable.
        """
        if not self.source.turn.acquire(blocking=run is None):
            self.tell_if_late()
            return False
        try:
            answer = self._answer(run)
            if run is None or not run.ended.is_set():
                self._apply(answer)
                self._succeed()
        except BaseException as exc:  # a callable that raises SystemExit must not end the thread unsaid
            if run is None or not run.ended.is_set():
                self._fail("stay as they are", in_words(exc))
            if run is None and not isinstance(exc, Exception):
                raise
        return True

    def _answer(self, run: Run | None) -> object:
        """Return what the callable names, and let another thread have its turn."""
        answered = threading.Event()
        try:
            if run is not None:
                name = f"discovery of {self._news.database}, watched"
                run.begin(name, _watch, weakref.ref(self), answered, run)
            return self.source()
        finally:
            answered.set()
            self.source.turn.release()

    def tell_if_late(self) -> bool:
        """Log once that the callable has not answered for too long; return whether it has not."""
        late = self.source.is_late
        if late:
            self._fail("stay as they are", f"{self.source.name} has not answered for {LATE_SECONDS:.0f} s")
        return late

    def died(self) -> None:
        """Log that the thread has ended by an error; the next statement starts it again."""
        self._fail("stay as they are", "the thread that asks for them has ended")
        self._start_at = Clock.monotonic() + _START_AGAIN
        if not self.retired:
            self._replicas.wait_for_discovery(True)

    def _fail(self, consequence: str, failure: str) -> None:
        before, self.failure = self.failure, failure
        if _DURATION.sub("", failure) != _DURATION.sub("", before) or not before:
            self._log("discovery_failed", f"{consequence}: {failure}")

    def _succeed(self) -> None:
        before, self.failure = self.failure, ""
        if before:
            self._log("discovery_works", "are known again")

    def _log(self, event: EventName, words: str) -> None:
        log_event(event, "the replicas of %s %s", self._news.database, words, cause=words)


def _work(reference: Callable[[], Discovery | None], run: Run) -> None:
    """Ask until this run ends. Between questions, hold no reference to the database."""
    pause = 0.0
    try:
        while not run.ended.wait(min(pause, _SLICE)):
            pause -= min(pause, _SLICE)
            discovery = reference()
            if discovery is None:
                break
            if not pause:
                usual = discovery.refresh * (0.9 + chance() / 5)  # so that processes do not all ask at once
                pause = usual if discovery.look(run) else _LOOK_AGAIN
            del discovery
    finally:
        failed = not run.ended.is_set()
        run.ended.set()
        discovery = reference()
        if failed and discovery is not None:
            discovery.died()


def _watch(reference: Callable[[], Discovery | None], answered: threading.Event, run: Run) -> None:
    """Tell of a call that takes too long, which nothing can interrupt."""
    while not answered.wait(_SLICE) and not run.ended.is_set():
        discovery = reference()
        if discovery is None or discovery.tell_if_late():
            break
        del discovery


def _stop_all() -> None:
    for discovery in _discoveries.all():
        discovery.stop()


def _before_fork() -> None:
    _forking.set()
    _stop_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_forking.clear, after_in_child=_forking.clear)
atexit.register(_stop_all)
