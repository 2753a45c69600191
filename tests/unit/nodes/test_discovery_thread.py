"""``replicas=callable``: who is asked, when, and what an answer changes. Nobody listens at its nodes.

The kinds of answers: others, the same in another order, none, one that cannot work, an error of each base
class, one that comes too late, and none at all because the callable hangs. They were listed from what
`Discovery.look` and `NodeList._take_discovered` tell apart.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from support.forks import in_child
from support.forms.threads import in_threads
from support.peewees import WITHOUT_ASYNCIO, needs_asyncio
from support.waiting import until

from peewee_replicas import (
    ConfigurationError,
    PooledReplicatedDatabase,
    ReplicatedDatabase,
    ReplicatedSqliteDatabase,
)
from peewee_replicas.nodes import discovery
from peewee_replicas.nodes.callables import takes_database

ONE, TWO = {"name": "one", "host": "r1"}, {"name": "two", "host": "r2"}
CLASSES: list[Any] = [ReplicatedDatabase, PooledReplicatedDatabase]
if not WITHOUT_ASYNCIO:
    from peewee_replicas.aio import AsyncReplicatedDatabase

    CLASSES.append(AsyncReplicatedDatabase)


class Source:
    """Returns or raises what it is told, and counts how often it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> Any:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def build(ask: Any, cls: Any = ReplicatedDatabase, **arguments: Any) -> Any:
        given = {"host": "p", "replicas": ask, "refresh": 0.01, "probe_interval": None, **arguments}
        made.append(cls("app", **given))
        return made[-1]

    yield build
    for database in made:
        database._parts.cluster.stop_threads()


def use(database: Any) -> None:
    """What each statement does first."""
    if database._parts.cluster.replicas.unsettled:
        database._parts.replicas.attend(reads=False)


def names(database: Any) -> list[str]:
    return [replica.name for replica in database.replicas]


def at_work(database: Any) -> bool:
    return bool(database._parts.cluster.discovery.at_work)


def asked_again(source: Source, times: int = 2) -> None:
    before = source.asked
    until(lambda: source.asked >= before + times)


@pytest.mark.parametrize("cls", CLASSES)
def test_it_is_asked_from_the_first_use_on_and_again(make: Callable[..., Any], cls: Any) -> None:
    source = Source([ONE], [ONE], ["r2:3307", ONE])
    database = make(source, cls)
    assert (source.asked, names(database)) == (0, [])
    assert database.explain_route("SELECT 1").role == "primary"
    use(database)
    until(lambda: names(database) == ["r2:3307", "one"])
    assert database.explain_route("SELECT 1").role == "replica"


def test_a_callable_that_needs_an_argument_is_given_the_database(make: Callable[..., Any]) -> None:
    given: list[Any] = []

    def ask(database: Any, port: int = 3306) -> Any:
        given.append(database)
        return [{"host": "r1", "port": port}]

    database = make(ask)
    use(database)
    until(lambda: names(database) == ["r1:3306"])
    assert given[0] is database
    assert [takes_database(each) for each in (ask, Source([]), dict, lambda *a: a, print)] == [
        True, False, False, False, False,
    ]  # fmt: skip


def test_nodes_that_are_named_again_are_kept_in_any_order(make: Callable[..., Any]) -> None:
    source = Source([ONE, TWO], [TWO, ONE])
    database = make(source)
    use(database)
    until(lambda: names(database) == ["one", "two"])
    usable = database._parts.cluster.replicas.usable
    asked_again(source)
    assert database._parts.cluster.replicas.usable is usable


class Unshowable(Exception):
    """An error of a program's own, whose words cannot be had."""

    def __str__(self) -> str:
        raise AttributeError("no words")


class Late(Exception):
    """A resolver's error, which says how long it has waited."""

    def __str__(self) -> str:
        return f"The operation timed out after {time.monotonic():.3f} seconds"


BAD: dict[str, Any] = {
    "an error": (OSError("no such host"), "OSError: no such host"),
    "an exit": (SystemExit("bye"), "SystemExit: bye"),
    "an error that cannot be shown": (Unshowable(), "Unshowable"),
    "a time that differs each time": (Late(), "timed out after"),
    "none": ([], "named none"),
    "no list": (None, "a list is wanted"),
    "a wrong one": ([ONE, {"hots": "r"}], "did you mean 'host'"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_answer_that_is_none_changes_nothing_and_is_logged_once(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    answer, words = BAD[name]
    source = Source([ONE], answer)
    database = make(source)
    with caplog.at_level(logging.INFO, "peewee.replicas"):
        use(database)
        until(lambda: names(database) == ["one"])
        asked_again(source, 4)
        assert names(database) == ["one"]
        source.answers = [[ONE]]
        asked_again(source)
        source.answers = [[TWO]]
        until(lambda: names(database) == ["two"])
        until(lambda: len(caplog.records) == 4)  # the change is logged after it has been made
    told = [(record.event, record.getMessage()) for record in caplog.records]  # type: ignore[attr-defined]
    assert [event for event, _ in told] == [
        "members_changed", "discovery_failed", "discovery_works", "members_changed",
    ]  # fmt: skip
    assert words in told[1][1]


def test_nobody_waits_for_a_callable_that_hangs(make: Callable[..., Any]) -> None:
    begun, go = threading.Event(), threading.Event()

    def ask() -> Any:
        begun.set()
        go.wait(60)
        return [ONE]

    database = make(ask)
    use(database)
    assert begun.wait(60)
    use(database)
    assert database.explain_route("SELECT 1").role == "primary"
    database.set_replicas([TWO])  # the program knows better
    go.set()
    until(lambda: not any("discovery" in thread.name for thread in threading.enumerate()))
    assert names(database) == ["two"]


class Hanging:
    """A callable that answers only once it is let go, and notes how many threads were in it at a time."""

    def __init__(self, *answer: Any) -> None:
        self.answer = list(answer)
        self.begun, self.go = threading.Event(), threading.Event()
        self.inside: list[int] = []
        self.most = self.asked = 0

    def __call__(self) -> Any:
        self.inside.append(1)
        self.most = max(self.most, len(self.inside))
        self.asked += 1
        self.begun.set()
        self.go.wait(60)
        self.inside.pop()
        return self.answer


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """A callable that hangs until the test ends, and little patience with it."""
    monkeypatch.setattr(discovery, "_PATIENCE", 0.05)
    monkeypatch.setattr(discovery, "_LOOK_AGAIN", 0.01)
    monkeypatch.setattr(discovery, "_SLICE", 0.01)
    made = Hanging(ONE)
    yield made
    made.go.set()
    until(lambda: not made.inside)


def discovering() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "discovery" in thread.name]


def test_a_callable_that_hangs_is_said_once_by_its_name_and_so_is_its_answer(
    make: Callable[..., Any],
    hanging: Hanging,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "LATE_SECONDS", 0.1)
    hanging.go.set()
    database = make(hanging)
    use(database)
    until(lambda: names(database) == ["one"])
    with caplog.at_level(logging.INFO, "peewee.replicas"):
        caplog.clear()
        hanging.go.clear()
        until(lambda: caplog.records)
        database.dispose()
        use(database)  # what waits for the call to end says no more of it
        until(lambda: len(discovering()) == 2)
        time.sleep(0.2)  # nothing tells that nothing more is said
        assert names(database) == ["one"]
        hanging.go.set()
        until(lambda: len(caplog.records) > 1)
    words = f"{__name__}.Hanging has not answered for 0 s"
    assert [record.getMessage() for record in caplog.records] == [
        f"the replicas of app stay as they are: {words}",
        "the replicas of app are known again",
    ]


def dispose(database: Any) -> None:
    database.dispose()


def init(database: Any) -> None:
    database.init("app")  # goes on asking the same callable


@pytest.mark.parametrize("end", [dispose, init])
def test_one_thread_at_most_is_in_a_callable_that_hangs_however_often_it_is_ended_and_begun(
    make: Callable[..., Any], hanging: Hanging, end: Callable[[Any], None]
) -> None:
    database = make(hanging)
    use(database)
    assert hanging.begun.wait(60)
    for _ in range(5):
        end(database)
        use(database)
    # The one inside, and the one that waits for it.
    until(lambda: len(discovering()) == 2)
    assert (hanging.most, hanging.asked) == (1, 1)
    hanging.go.set()
    until(lambda: names(database) == ["one"])
    assert hanging.most == 1
    database.dispose()
    until(lambda: not discovering())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_forks_while_a_callable_hangs_add_no_thread_and_the_child_asks(
    make: Callable[..., Any], hanging: Hanging
) -> None:
    database = make(hanging)
    use(database)
    assert hanging.begun.wait(60)

    def work() -> Any:
        hanging.go.set()
        use(database)
        until(lambda: names(database) == ["one"])
        return hanging.asked

    for _ in range(3):
        assert in_child(work) >= 2  # the next question may come before the child has looked
        use(database)
    until(lambda: len(discovering()) == 2)
    assert (hanging.most, hanging.asked) == (1, 1)


def test_two_first_uses_at_once_start_one_thread(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make(Source([ONE]), refresh=1000)
    both, started = threading.Barrier(2), []

    class SlowRun(discovery.Run):
        def begin(self, name: str, target: Any, *arguments: Any) -> Any:
            if target is discovery._work:
                started.append(name)
                with suppress(threading.BrokenBarrierError):
                    both.wait(0.5)  # for the other one, which must not come here
            return super().begin(name, target, *arguments)

    monkeypatch.setattr(discovery, "Run", SlowRun)
    in_threads(2, database._parts.cluster.discovery.use)  # both have found that nobody asks yet
    until(lambda: names(database) == ["one"])
    assert len(started) == 1


def test_the_program_s_own_list_and_a_new_callable_end_it(make: Callable[..., Any]) -> None:
    first, second = Source([ONE]), Source([TWO])
    database = make(first)
    use(database)
    until(lambda: names(database) == ["one"])
    database.init("app", consistency="eventual")  # goes on asking the same one, from what it named last
    assert names(database) == ["one"]
    use(database)
    asked_again(first)
    database.init("app", replicas=second)
    use(database)
    until(lambda: names(database) == ["two"])
    database.set_replicas([ONE, TWO])
    assert not at_work(database)
    use(database)
    assert not at_work(database)
    assert names(database) == ["one", "two"]


def test_dispose_ends_it_until_the_next_use(make: Callable[..., Any]) -> None:
    database = make(Source([ONE]))
    use(database)
    until(lambda: names(database) == ["one"])
    database.dispose()
    assert not any("discovery" in thread.name for thread in threading.enumerate())
    use(database)
    assert at_work(database)


@needs_asyncio
def test_closing_the_pools_ends_it(make: Callable[..., Any]) -> None:
    database = make(Source([ONE]), AsyncReplicatedDatabase)
    use(database)
    until(lambda: names(database) == ["one"])
    asyncio.run(database.close_pool())
    assert not at_work(database)


def test_a_database_that_is_collected_ends_it() -> None:
    kept: list[Any] = []

    def ask(database: Any) -> Any:
        return [{"host": "r1", "name": f"of {database.database}"}]

    database: Any = ReplicatedDatabase("app", host="p", replicas=ask, refresh=1000, probe_interval=None)
    use(database)
    until(lambda: names(database) == ["of app"])
    run = database._parts.cluster.discovery._run
    kept.append(weakref.ref(database))
    database = None
    gc.collect()
    assert kept[0]() is None
    until(lambda: not run.alive())


@pytest.mark.lesson(28)
def test_a_fork_meets_no_thread_and_both_go_on(make: Callable[..., Any]) -> None:
    """Python 3.12 and later warn of threads at a fork; here a warning is an error."""
    database = make(Source([ONE], [TWO]), refresh=1000)
    use(database)
    until(lambda: names(database) == ["one"])

    def work() -> Any:
        before = sum("discovery" in thread.name for thread in threading.enumerate())
        use(database)
        until(lambda: names(database) == ["two"])
        return [before, at_work(database)]

    assert in_child(work) == [0, True]
    assert not at_work(database)
    use(database)
    until(lambda: names(database) == ["two"])


def test_a_thread_that_cannot_start_or_dies_is_said(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make(Source([ONE]))
    monkeypatch.setattr(discovery, "_START_AGAIN", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(discovery.Run, "begin", refuse_thread)
        use(database)
    with monkeypatch.context() as patch:
        patch.setattr(discovery.Discovery, "look", die)
        patch.setattr(threading, "excepthook", lambda _args: None)
        use(database)
        until(lambda: database._parts.cluster.replicas.undiscovered)
        until(lambda: not any("discovery" in thread.name for thread in threading.enumerate()))
    told = [record.getMessage() for record in caplog.records]
    assert [any(words in text for text in told) for words in ("can't start new thread", "has ended")] == [
        True, True,
    ]  # fmt: skip
    use(database)
    until(lambda: names(database) == ["one"])


def refuse_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def die(*_: object) -> None:
    raise MemoryError


async def later() -> Any: ...


class Later:
    async def __call__(self) -> Any: ...


@pytest.mark.parametrize("ask", [later, Later()])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_coroutine_function_is_refused(cls: Any, ask: Any) -> None:
    with pytest.raises(ConfigurationError, match="coroutine function"):
        cls("app", host="p", replicas=ask)


@pytest.mark.parametrize(
    "arguments", [{"replicas": Source([ONE])}, {"refresh": 30.0}], ids=["replicas", "refresh"]
)
def test_sqlite_refuses_it(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="SQLite has one file"):
        ReplicatedSqliteDatabase("app.db", **arguments)
