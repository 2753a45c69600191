"""Foreign code may use the database whenever it is called: nothing hangs, and nothing is counted wrong.

What runs in the midst of the library without being a part of it was listed in three walks:

* every call of something that the user gave: ``route_hooks``, ``node_hooks``, ``query_hooks``, ``policy``, a
  subclass's ``__init__()``, ``_connect()`` and ``_initialize_connection()``;
* every call of the logger, whose handlers are the user's;
* what Python itself calls at any moment: signal handlers and the ``__del__`` methods of collected garbage.

The first two must run under no lock of the library's, since they may wait for another thread that needs it.
The last may run anywhere, so each line of the package is tried. They are tried on SQLite, where nothing has
to be waited for; what only servers bring about is in the tests of servers.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from peewee import OperationalError
from support.collecting import collect_quietly
from support.peewees import has_peewee, needs_peewee

import peewee_replicas
from peewee_replicas import ReplicatedSqliteDatabase, concurrency
from peewee_replicas.concurrency import Registry, new_lock
from peewee_replicas.consistency.progress import Progress
from peewee_replicas.consistency.sessions import Session
from peewee_replicas.events import Counters
from peewee_replicas.nodes.node import Node
from peewee_replicas.nodes.replica_set import ReplicaSet
from peewee_replicas.nodes.spec import NodeSpec

# Threads that end here leave SQLite connections to the collector, of which Python warns since 3.13.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collects what a test has left, so that no later test is warned of it."""
    yield
    collect_quietly()


_FOLDER = os.path.dirname(peewee_replicas.__file__) + os.sep


class WatchedLock:
    """A lock that knows how many of its kind each thread holds."""

    held: threading.local = threading.local()

    def __init__(self) -> None:
        self._lock = threading.RLock()

    @classmethod
    def count(cls) -> int:
        return getattr(cls.held, "count", 0)

    def __enter__(self) -> None:
        self._lock.acquire()
        self.held.count = self.count() + 1

    def __exit__(self, *_: object) -> None:
        self.held.count -= 1
        self._lock.release()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[WatchedLock]:
    """Every lock made by the library during a test is a `WatchedLock`."""
    own = SimpleNamespace(**{**vars(threading), "RLock": WatchedLock})
    monkeypatch.setattr(concurrency, "threading", own)
    return WatchedLock


class Handler(logging.Handler):
    """Calls a function with each record."""

    def __init__(self, call: Callable[[str], object]) -> None:
        super().__init__()
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        self._call(record.getMessage())


@pytest.fixture
def handling() -> Iterator[Callable[[Callable[[str], object]], None]]:
    """Has a function called for each record of the library's logger."""
    logger = logging.getLogger("peewee.replicas")
    handlers: list[logging.Handler] = []

    def add(call: Callable[[str], object]) -> None:
        handlers.append(Handler(call))
        logger.addHandler(handlers[-1])

    yield add
    for handler in handlers:
        logger.removeHandler(handler)


def work(db: Any) -> None:
    """One of each thing that a program does."""
    db.execute_sql("SELECT n FROM t").fetchall()
    db.execute_sql("INSERT INTO t VALUES (1)")
    with db.readonly():
        db.execute_sql("SELECT n FROM t").fetchall()
        with db.readonly(), db.primary():
            db.execute_sql("SELECT n FROM t").fetchall()
    with db.atomic():
        db.execute_sql("INSERT INTO t VALUES (1)")
    with db.readonly(snapshot=True):
        db.execute_sql("SELECT n FROM t").fetchall()
    with db.causal_session():
        db.execute_sql("INSERT INTO t VALUES (1)")
        db.execute_sql("SELECT n FROM t").fetchall()
    with pytest.raises(OperationalError):
        db.execute_sql("SELECT missing FROM t")
    db.replicas[0].eject("by hand")
    db.execute_sql("SELECT n FROM t").fetchall()
    db.replicas[0].restore()
    db.close()


def database(
    path: Path, cls: type[ReplicatedSqliteDatabase] = ReplicatedSqliteDatabase, **options: Any
) -> Any:
    db = cls(str(path / "file.db"), **options)
    db.execute_sql("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
    return db


# What the user gives


def test_what_the_user_gives_is_called_under_no_lock(
    tmp_path: Path, watched: type[WatchedLock], handling: Callable[..., None]
) -> None:
    called: dict[str, set[int]] = {}

    def note(what: str) -> None:
        called.setdefault(what, set()).add(watched.count())

    class Own(ReplicatedSqliteDatabase):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            note("__init__")
            super().__init__(*args, **kwargs)

        def _connect(self) -> Any:
            note("_connect")
            return super()._connect()

        def _initialize_connection(self, conn: Any) -> None:
            note("_initialize_connection")

    def policy(replicas: Any) -> Any:
        note("policy")
        return replicas[0]

    handling(lambda _: note("log"))
    db = database(tmp_path, Own, policy=policy)
    assert isinstance(db.replicas[0]._node._lock, watched)
    db.route_hooks.append(lambda _: note("route_hooks"))
    db.node_hooks.append(lambda _: note("node_hooks"))
    if has_peewee("4.5"):
        db.query_hooks.append(lambda _: note("query_hooks"))
    else:
        note("query_hooks")
    work(db)
    everything = "__init__ _connect _initialize_connection policy log route_hooks node_hooks query_hooks"
    assert called == {what: {0} for what in everything.split()}


def test_what_the_user_gives_may_write_to_the_same_database(
    tmp_path: Path, handling: Callable[..., None]
) -> None:
    told: list[str] = []

    def write(what: str) -> None:
        if threading.current_thread().name == "works" and what not in told:
            told.append(what)
            db.execute_sql("INSERT INTO said VALUES (?)", (what,))
            db.stats()
            db.explain_route("SELECT 1")

    def policy(replicas: Any) -> Any:
        write("policy")
        return replicas[0]

    db = database(tmp_path, policy=policy)
    db.execute_sql("CREATE TABLE said (what TEXT)")
    db.close()
    handling(lambda message: write("log"))
    db.route_hooks.append(lambda _: write("route_hooks"))
    db.node_hooks.append(lambda _: write("node_hooks"))
    _in_time(lambda: db.execute_sql("SELECT n FROM t").fetchall())
    _in_time(lambda: db.replicas[1].eject("by hand"))
    said = {what for (what,) in db.execute_sql("SELECT what FROM said").fetchall()}
    assert said == {"policy", "log", "route_hooks", "node_hooks"}
    db.close()


def _in_time(call: Callable[[], object]) -> None:
    """Call it in a thread, and fail where it hangs."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=run, name="works", daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it hangs"
    if failed:
        raise failed[0]


@pytest.mark.parametrize("sql", ["SELECT n FROM t", "INSERT INTO t VALUES (1)"])
def test_a_route_hook_that_fails_is_logged_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sql: str
) -> None:
    db = database(tmp_path)
    told: list[Any] = []

    def fail(_: Any) -> None:
        raise ValueError("the hook's own")

    db.route_hooks[:] = [fail, told.append]
    db.execute_sql(sql).fetchall()
    assert [event.sql for event in told] == [sql]
    assert "a callable in route_hooks has failed" in caplog.text
    assert "the hook's own" in caplog.text
    db.close()


def test_a_route_hook_that_fails_does_not_hide_the_databases_error(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.route_hooks.append(lambda _: 1 / 0)
    with pytest.raises(OperationalError, match="no such column"):
        db.execute_sql("SELECT missing FROM t")
    db.close()


@needs_peewee("4.5", "query_hooks")
def test_a_query_hook_of_peewee_that_fails_keeps_no_event_from_ours(tmp_path: Path) -> None:
    db = database(tmp_path)
    told: list[Any] = []
    db.query_hooks.append(lambda _: 1 / 0)
    db.route_hooks.append(told.append)
    with pytest.raises(ZeroDivisionError):
        db.execute_sql("SELECT n FROM t")
    assert len(told) == 1
    db.close()


def test_a_route_hook_is_not_told_of_what_it_executes_itself(tmp_path: Path) -> None:
    db = database(tmp_path)
    db.execute_sql("CREATE TABLE told (text TEXT)")
    db.route_hooks.append(lambda event: db.execute_sql("INSERT INTO told VALUES (?)", (event.sql,)))
    db.execute_sql("SELECT n FROM t").fetchall()
    db.execute_sql("SELECT n FROM t").fetchall()
    db.route_hooks.clear()
    assert db.execute_sql("SELECT text FROM told").fetchall() == [("SELECT n FROM t",)] * 2
    db.close()


def test_a_hook_may_take_itself_off(tmp_path: Path) -> None:
    db = database(tmp_path)
    told: list[str] = []

    def once(_: Any) -> None:
        told.append("once")
        db.route_hooks.remove(once)

    db.route_hooks[:] = [once, lambda _: told.append("always")]
    db.execute_sql("SELECT n FROM t")
    db.execute_sql("SELECT n FROM t")
    assert told == ["once", "always", "always"]
    db.close()


# What Python calls at any moment


def at_each_line(call: Callable[[], object], of: Callable[[], object], every: int) -> int:
    """Run `of`, and at each so-manieth line of the library `call`, as a signal handler would; how often."""
    lines = calls = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines, calls
        if not frame.f_code.co_filename.startswith(_FOLDER):
            return None
        lines += 1
        if lines % every == 0:
            calls += 1
            call()
        return trace

    def run() -> None:
        sys.settrace(trace)
        try:
            of()
        finally:
            sys.settrace(None)

    _in_time(run)
    return calls


def _ask(db: Any, number: list[int]) -> None:
    number[0] += 1
    db.stats()
    db.explain_route(f"SELECT {number[0]}")  # a text that was never seen
    assert all(replica.state for replica in db.replicas)


def _scopes(db: Any, _: list[int]) -> None:
    with db.primary(), db.causal_session(), db.primary():
        pass


def _eject(db: Any, number: list[int]) -> None:
    number[0] += 1
    if number[0] % 2:
        db.replicas[1].eject("by hand")
    else:
        db.replicas[1].restore()


@pytest.mark.parametrize(
    ("call", "every"),
    [(_ask, 1), (_scopes, 1), (_eject, 3), (_eject, 7)],
    ids=["ask", "scopes", "eject", "eject 7"],
)
def test_the_database_may_be_used_at_any_line_of_the_library(
    tmp_path: Path, call: Callable[..., None], every: int
) -> None:
    undisturbed = _counted(database(tmp_path), work)
    db = database(tmp_path)
    number = [0]
    called = 0

    def disturbed(db: Any) -> None:
        nonlocal called
        called = at_each_line(lambda: call(db, number), lambda: work(db), every)

    counted = _counted(db, disturbed)
    assert called > 100
    if call is _eject:  # there may be a moment without any replica
        for counts in (counted, undisturbed):
            counts["replicas"] += counts.pop("fallbacks")
            del counts["primary"]
    assert counted == undisturbed
    db.replicas[1].restore()
    assert [replica.in_flight for replica in db.replicas] == [0, 0]
    assert [replica.state for replica in db.replicas] == ["up", "up"]


def _counted(db: Any, run: Callable[[Any], None]) -> dict[str, int]:
    before = db.stats()
    run(db)
    after = db.stats()
    db.close()
    return {name: after[name] - before[name] for name in ("primary", "replicas", "fallbacks")}


_PROGRAM = """
import random, signal, sys
from peewee_replicas import ReplicatedSqliteDatabase

db = ReplicatedSqliteDatabase(sys.argv[1])
db.execute_sql("CREATE TABLE t (n INTEGER)")
fired = 0

class Garbage:
    def __init__(self):
        self.itself = self  # only the collector of cycles can end it
    def __del__(self):
        db.stats()

def handle(*_):
    global fired
    fired += 1
    db.stats()
    db.explain_route(f"SELECT {fired}")
    [replica.state for replica in db.replicas]
    with db.primary(), db.causal_session():
        Garbage()
    signal.setitimer(signal.ITIMER_REAL, random.random() / 1000)

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001)
before = db.stats()
rounds = 0
while fired < 3000:
    rounds += 1
    db.execute_sql("SELECT n FROM t").fetchall()
    db.execute_sql("INSERT INTO t VALUES (1)")
    with db.readonly():
        db.execute_sql(f"SELECT n + {rounds} FROM t LIMIT 1").fetchall()
    db.replicas[0].eject("x")
    db.replicas[0].restore()
    if rounds % 10 == 0:
        db.close()
signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a handler that is about to run would set the timer again
after = db.stats()
assert after["replicas"] - before["replicas"] == 2 * rounds, (before, after, rounds)
assert after["primary"] - before["primary"] == rounds, (before, after, rounds)
assert [replica.in_flight for replica in db.replicas] == [0, 0]
assert db.execute_sql("SELECT COUNT(*) FROM t").fetchall() == [(rounds,)]
print("counted", rounds)
"""


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="this system has no timers")
def test_a_signal_handler_that_fires_thousands_of_times_hangs_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROGRAM, str(tmp_path / "file.db")],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "counted" in done.stdout


def test_counters_are_exact_when_a_signal_handler_counts_too() -> None:
    counters = Counters("reads")
    folder = os.path.dirname(concurrency.__file__)
    handled = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal handled
        if not frame.f_code.co_filename.startswith(folder):
            return None
        handled += 1
        counters.add("reads")
        return trace

    sys.settrace(trace)
    try:
        for _ in range(1000):
            counters.add("reads")
    finally:
        sys.settrace(None)
    assert handled > 1000
    assert counters.snapshot() == {"reads": 1000 + handled}


# The parts that change something in several steps: what a signal handler does between them is not lost


class Position:
    """A set of writes; `meanwhile` is called once, in the midst of merging."""

    meanwhile: Callable[[], object] | None = None

    def __init__(self, *writes: int) -> None:
        self.writes = frozenset(writes)

    @property
    def size(self) -> int:
        return len(self.writes) + 100

    def _interrupted(self) -> None:
        call, Position.meanwhile = Position.meanwhile, None
        if call is not None:
            call()

    def merge(self, other: Position) -> Position:
        self._interrupted()
        return Position(*self.writes, *other.writes)

    def compact(self, other: Position) -> Position:
        self._interrupted()
        return self

    def covers(self, other: Position) -> bool:
        self._interrupted()
        return self.writes >= other.writes


def _during(call: Callable[[], object]) -> None:
    Position.meanwhile = call


def test_what_a_signal_handler_writes_while_a_write_is_noted_must_be_seen() -> None:
    session: Any = Session()
    session.saw(Position(1))
    _during(lambda: session.saw(Position(2)))
    session.saw(Position(3))
    assert session.seen.writes == {1, 2, 3}


def test_what_a_signal_handler_writes_while_a_position_is_shortened_must_be_seen() -> None:
    session: Any = Session()
    session.saw(Position(1))
    _during(lambda: session.saw(Position(2)))
    session.shorten([Position(1)])
    assert session.seen.writes == {1, 2}


def test_what_a_signal_handler_learns_of_a_node_is_not_mixed_with_what_was_known() -> None:
    progress: Any = Progress()
    progress.learn("server", Position(1, 2, 3), fresh=True)
    _during(lambda: progress.learn("another", Position(1), fresh=True))
    progress.learn("server", Position(4), fresh=False)
    assert not progress.covers(Position(2), "another")


def test_a_node_that_fell_back_while_it_was_compared_is_not_taken_for_there() -> None:
    progress: Any = Progress()
    progress.learn("server", Position(1, 2), fresh=True)
    asked = Position(2)
    _during(lambda: progress.learn("server", Position(1), fresh=True))
    progress.covers(asked, "server")
    assert not progress.covers(asked, "server")


class Interrupted(Node):
    """A node; `meanwhile` is called once, while it is looked at."""

    meanwhile: Callable[[], object] | None = None

    @property
    def serves(self) -> bool:
        found = super().serves
        call, self.meanwhile = self.meanwhile, None
        if call is not None:
            call()
        return found


def test_a_node_that_a_signal_handler_ejects_while_nodes_are_sorted_stays_out() -> None:
    nodes = [Interrupted(NodeSpec(name, 1, {}), name, lambda _: None) for name in "ab"]
    replicas = ReplicaSet(nodes)
    nodes[1].meanwhile = lambda: nodes[0].eject("by hand")
    replicas.warm_up(1e12)
    replicas._refresh()
    assert [replica.name for replica in replicas.usable] == ["b"]
    assert [replica.name for replica in replicas.ejected] == ["a"]
    assert replicas.unsettled


def test_a_registry_may_grow_while_it_is_read_and_forgets_what_is_gone() -> None:
    class Thing:
        pass

    registry: Registry[Thing] = Registry()
    things = [Thing() for _ in range(3)]
    for thing in things:
        registry.add(thing)
    for thing in registry.all():
        things.append(type(thing)())
        registry.add(things[-1])
    assert set(registry.all()) == set(things)
    del thing
    things.clear()
    assert registry.all() == []


def test_a_thread_may_take_a_lock_again_and_another_may_not() -> None:
    lock = new_lock()
    with lock, lock:
        taken: list[bool] = []
        thread = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
    assert taken == [False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_lock_that_a_forking_thread_holds_is_still_its_own_in_the_child() -> None:
    program = """
import os, threading
from peewee_replicas.concurrency import new_lock
own, others = new_lock(), new_lock()
held, done = threading.Event(), threading.Event()
def hold():
    with others:
        held.set()
        done.wait()
thread = threading.Thread(target=hold, daemon=True)
thread.start()
held.wait()
own.acquire()
child = os.fork()
if child == 0:
    try:
        assert others.acquire(timeout=5)
        own.release()
        os._exit(0)
    except BaseException:
        os._exit(1)
done.set()
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
