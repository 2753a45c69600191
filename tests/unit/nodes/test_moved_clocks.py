"""A test-suite that moves the clock does not move it for the library, neither meanwhile nor afterwards.

Tools such as freezegun replace the functions of `time` in every module that has them as a name. Everything
that keeps a time here is a member of the kind. They were found by searching the package for `time.` and
`loop.time`: pauses of the breaker and of busy nodes, warming up, latencies, rounds and time limits of the
prober, samples of the primary, waits for replicas, sticky times, the budget of fallbacks, the end of
snapshots, recycled connections of the asyncio pool, durations in events, SQLite's retries; and, by the wall
clock, bookmarks and cookies. The first test holds that all of them ask `Clock`, so that a new one cannot be
forgotten; the others show it of each.
"""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from freezegun import freeze_time
from peewee import OperationalError
from support.peewees import has_peewee, needs_asyncio
from support.waiting import until

import peewee_replicas
from peewee_replicas import ReplicatedDatabase, ReplicatedSqliteDatabase, RouteEvent, bookmarks
from peewee_replicas.concurrency import Clock
from peewee_replicas.connections import snapshot
from peewee_replicas.consistency.catch_up import CatchUp
from peewee_replicas.consistency.progress import Progress
from peewee_replicas.ext.cookies import until_of
from peewee_replicas.ext.middleware import Visit
from peewee_replicas.nodes import breaker as pauses
from peewee_replicas.nodes.warm_up import WarmUp
from peewee_replicas.positions import MariaDBPosition
from peewee_replicas.routing import fallback_budget
from peewee_replicas.servers import mariadb

PACKAGE = Path(peewee_replicas.__file__).parent
# A program of its own, which runs beside the user's test-suite and not in it.
_APART = {"testing/janitor.py"}
# What peewee itself reads these functions for: a hook's duration, and how long a pool has lent a connection.
_PEEWEES = {
    "connections/peewee_version.py": ["time.time"],
    "databases/execution_reports.py": ["time.perf_counter"],
}
_CLOCKS = (
    "time",
    "monotonic",
    "perf_counter",
    "process_time",
    "localtime",
    "gmtime",
    "strftime",
    "now",
    "utcnow",
)

Moved = Callable[[], AbstractContextManager[Any]]


@pytest.fixture(
    params=[
        pytest.param(lambda: freeze_time("2012-01-14"), id="stopped"),
        pytest.param(lambda: freeze_time("2062-01-14"), id="stopped-ahead"),
        pytest.param(lambda: freeze_time("2062-01-14", tick=True), id="jumped-ahead"),
        pytest.param(lambda: freeze_time("1970-01-02", tick=True), id="jumped-back"),
    ]
)
def moved(request: pytest.FixtureRequest) -> Moved:
    """A block in which the clock is moved, as a test-suite does it."""
    block: Moved = request.param
    return block


@pytest.fixture
def database() -> Iterator[Any]:
    made = ReplicatedDatabase(
        "app", host="127.0.0.1", port=1, replicas=[{"host": "127.0.0.1", "port": 2}], probe_interval=None
    )
    yield made
    made.dispose()


def rest(seconds: float) -> None:
    """Let real time pass."""
    threading.Event().wait(seconds)


def asked_of_time(path: Path) -> list[str]:
    """The functions of the clock that a module calls by itself."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.removesuffix("_ns") in _CLOCKS:
            owner = ast.unparse(node.value)
            if owner.split(".")[-1] in ("time", "datetime", "date", "loop", "_time"):
                found.append(f"{owner}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [alias.name for alias in node.names if alias.name != "sleep"]
    return found


def test_no_module_has_a_clock_of_its_own() -> None:
    asking = {path.relative_to(PACKAGE).as_posix(): asked_of_time(path) for path in PACKAGE.rglob("*.py")}
    assert asking.pop("concurrency.py")
    assert {name: found for name, found in asking.items() if found and name not in _APART} == _PEEWEES


def test_the_clock_is_not_moved(moved: Moved) -> None:
    before = Clock.monotonic(), Clock.wall()
    with moved():
        assert abs(time.time() - before[1]) > 1e6  # the tool is at work
        within = Clock.monotonic(), Clock.wall()
        rest(0.01)
        assert 0.01 <= Clock.monotonic() - within[0] < 60
    for one, other in zip(before, within, strict=True):
        assert 0 <= other - one < 60


def test_it_is_not_moved_where_the_package_is_first_imported_meanwhile() -> None:
    code = """
from freezegun import freeze_time
with freeze_time("2012-01-14"):
    from peewee_replicas.concurrency import Clock
import time
with freeze_time("2038-01-01"):
    found = Clock.monotonic(), Clock.wall()
print(abs(found[0] - time.monotonic()) < 60, abs(found[1] - time.time()) < 60)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("True True\n", "")


def test_a_node_that_failed_meanwhile_is_tried_again(
    database: Any, moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE", 0.05)
    node = database._parts.cluster.replicas.all[0]
    with moved():
        node.failed("it is gone")
    until(lambda: node.breaker.due(Clock.monotonic()))


def test_a_node_that_failed_before_is_not_tried_too_soon(
    database: Any, moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE", pauses.LONGEST_PAUSE)
    node = database._parts.cluster.replicas.all[0]
    node.failed("it is gone")
    with moved():
        database._parts.replicas.retry_ejected()
        assert node.breaker.open
        assert node.unreached == 0  # nobody has tried to connect


def test_a_node_that_was_busy_meanwhile_gets_new_connections_again(
    database: Any, moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "SHORTEST_BACKOFF", 0.5)
    monkeypatch.setattr(pauses, "LONGEST_BACKOFF", 0.5)
    node = database._parts.cluster.replicas.all[0]
    with moved():
        node.back_off("too many connections")
        assert node.is_resting()
    until(lambda: not node.is_resting())


def test_a_node_that_came_back_meanwhile_warms_up(moved: Moved) -> None:
    database: Any = ReplicatedDatabase("app", host="a", replicas=["b", "c"], probe_interval=None)
    replicas = database._parts.cluster.replicas
    replicas._warm_up = WarmUp(0.8, 4)
    database.replicas[0].eject("for a moment")
    with moved():
        database.replicas[0].restore()
        first = replicas.all[0].current_weight
        assert 0 < first < 1
    until(lambda: replicas.warm_up(Clock.monotonic()) or replicas.all[0].current_weight == 1)


def test_latencies_are_real(database: Any, moved: Moved) -> None:
    node = database._parts.cluster.replicas.all[0]
    node.timed = True
    for read in range(10):
        started = node.start(read)
        with moved():
            rest(0.002)
            node.finish(read, started)
    assert 0.002 <= node.latency < 1


def test_what_a_wait_has_cost_is_charged(moved: Moved) -> None:
    position = MariaDBPosition.parse("0-1-5")
    node: Any = SimpleNamespace(progress=Progress(), is_primary=False, role=None)
    conn: Any = SimpleNamespace(server_identity=None, dialect=mariadb, read_timeout=None)
    wait = CatchUp(position, 1000.0)
    assert wait.query(node, conn)
    with moved():
        rest(0.05)
        wait.learn(node, conn, (-1, "a", "0-1-4"))
    assert 900 < wait._left <= 999.95
    # Late a moment ago, and not for as long as that clock says.
    assert Clock.monotonic() - 60 < node.progress.retry_at < Clock.monotonic() + 60


def test_reads_stick_to_the_primary_for_as_long_as_is_said(database: Any, moved: Moved) -> None:
    settings = database._parts.router.settings
    with moved():
        frame = database._members.scopes.causal_frame([], apart=True)
        frame.session.stick(Clock.monotonic() + 0.05)
        assert frame.session.sticks(Clock.monotonic())
    until(lambda: not frame.session.sticks(Clock.monotonic()))
    assert settings.sticky_seconds == 2.0


def test_a_read_may_fall_back_after_a_quiet_time_and_not_before(
    moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback_budget, "QUIET_SECONDS", 600.0)
    budget = fallback_budget.FallbackBudget(0.001)
    assert budget.may_fall_back(Clock.monotonic(), 0, 0)
    with moved():
        assert not budget.may_fall_back(Clock.monotonic(), 0, 0)
        budget.charge(Clock.monotonic(), 0)
    monkeypatch.setattr(fallback_budget, "QUIET_SECONDS", 0.05)
    until(lambda: budget.may_fall_back(Clock.monotonic(), 0, 0))


def test_a_snapshot_lasts_as_long_as_it_may(
    tmp_path: Path, moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    database: Any = ReplicatedSqliteDatabase(str(tmp_path / "a.db"))
    database.execute_sql("CREATE TABLE t (n INT)")
    with moved():
        scope = database.readonly(snapshot=True)
        scope.__enter__()
        assert database.execute_sql("SELECT COUNT(*) FROM t").fetchall() == [(0,)]
    assert database.execute_sql("SELECT COUNT(*) FROM t").fetchall() == [(0,)]
    scope.__exit__(None, None, None)
    monkeypatch.setattr(snapshot, "SNAPSHOT_SECONDS", 0.05)
    with moved():
        scope = database.readonly(snapshot=True)
        scope.__enter__()
        database.execute_sql("SELECT COUNT(*) FROM t")
    rest(0.06)
    with pytest.raises(OperationalError, match="is over"):
        database.execute_sql("SELECT COUNT(*) FROM t")
    scope.__exit__(None, None, None)
    database.close()


def test_durations_in_events_are_real_and_peewees_own_are_peewees(tmp_path: Path, moved: Moved) -> None:
    database: Any = ReplicatedSqliteDatabase(str(tmp_path / "a.db"))
    blocks: list[Any] = []

    @database.func()
    def move() -> int:
        blocks.append(moved())
        blocks[-1].__enter__()
        return 1

    ours: list[RouteEvent] = []
    database.route_hooks.append(ours.append)
    database.execute_sql("SELECT move()")
    blocks.pop().__exit__(None, None, None)
    assert 0 < ours[0].duration < 60
    theirs: list[Any] = []
    if has_peewee("4.5"):
        database.query_hooks.append(theirs.append)
    with moved():
        database.execute_sql("SELECT 1")
    assert all(0 <= event.duration < 60 for event in theirs)
    assert len(theirs) == has_peewee("4.5")
    database.close()


@needs_asyncio
def test_connections_of_the_asyncio_pool_do_not_age_by_it(moved: Moved) -> None:
    from peewee_replicas.aio.pool import Pool

    class Lent:
        open, dead, last_used, pool = True, False, 0.0, None
        held = False

        def dropped(self) -> bool:
            return False

    async def work() -> None:
        pool = Pool("a node", 2, 30.0, 60.0)
        pool.reserve()
        conn = Lent()
        pool.opened(conn)
        with moved():
            pool.give_back(conn)
        assert pool.take() is conn
        pool.give_back(conn)
        with moved():
            assert pool.take() is conn

    asyncio.run(work())


def test_bookmarks_go_by_the_real_date(database: Any, moved: Moved) -> None:
    """They are read in other processes, whose clocks nobody has moved."""
    mark = bookmarks.encode(MariaDBPosition.parse("0-1-5"), "app", time.time())
    with moved(), database.causal_session(mark):  # else: BookmarkExpired
        mark = database.bookmark()
    with database.causal_session(mark):
        assert database.bookmark()


def test_cookies_go_by_the_real_date(database: Any, moved: Moved) -> None:
    with moved():
        frame = database._members.scopes.causal_frame([], apart=True)
        visit = Visit("app", database, frame)
        frame.session.stick(Clock.monotonic() + 600)
        frame.session.pay(0)  # as when its own write made the reads stick
        cookie = visit.bookmark()
    assert cookie is not None
    until_when = until_of(cookie)
    assert until_when is not None
    assert 0 < until_when - time.time() < 601  # it is rounded to milliseconds
