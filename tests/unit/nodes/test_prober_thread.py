"""The prober's thread: when it runs, and that it leaves nothing behind. Nobody listens at its nodes."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from peewee import OperationalError
from support.databases.nodes import nodes_of
from support.forks import in_child
from support.waiting import until

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.errors import ConfigurationError
from peewee_replicas.events import NodeNews
from peewee_replicas.nodes import prober
from peewee_replicas.nodes.fitness import Fitness
from peewee_replicas.nodes.probe_rounds import ProbeRounds
from peewee_replicas.nodes.probe_run import Run

NOBODY = [{"name": "nobody", "host": "127.0.0.1", "port": 2}]


def make(**arguments: Any) -> Any:
    given = {"host": "127.0.0.1", "port": 1, "replicas": NOBODY, "probe_interval": 0.05, **arguments}
    return ReplicatedDatabase("app", **given)


@pytest.fixture
def database() -> Iterator[Any]:
    made = make()
    yield made
    made.dispose()


def use(database: Any) -> None:
    database._parts.replicas.attend()


def await_refusal(database: Any) -> None:
    until(lambda: database.replicas[0].state == "ejected")


def probed(database: Any) -> set[str]:
    """The nodes that it remembers."""
    return {node.name for node in database._parts.cluster.prober.records.findings}


def run_of(database: Any) -> Run:
    """The threads that probe its nodes."""
    run: Run = database._parts.cluster.prober.seat.sharers.run
    return run


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "prober of" in thread.name]


def test_it_starts_with_the_first_use_and_not_twice(database: Any) -> None:
    assert not database._parts.cluster.prober.at_work
    assert database._parts.cluster.replicas.unsettled
    use(database)
    assert database._parts.cluster.prober.at_work
    run = run_of(database)
    use(database)
    assert run_of(database) is run
    until(lambda: database.replicas[0].state == "ejected")


@pytest.mark.parametrize(
    "arguments", [{"probe_interval": None}, {"replicas": []}, {"reads": "observe"}], ids=str
)
def test_it_runs_only_where_it_is_needed(arguments: dict[str, Any]) -> None:
    idle = make(**arguments)
    use(idle)
    found = idle._parts.cluster.prober
    assert found is None or not found.at_work


def test_replicas_that_come_later_are_probed_too() -> None:
    database = make(replicas=[])
    use(database)
    database.set_replicas(NOBODY)
    use(database)
    assert database._parts.cluster.prober.at_work
    until(lambda: database.replicas[0].state == "ejected")
    database.set_replicas([{"name": "other", "host": "127.0.0.1", "port": 3}])
    until(lambda: database.replicas[0].state == "ejected")
    assert probed(database) >= {"other"}
    until(lambda: "nobody" not in probed(database))
    database.dispose()


def test_dispose_ends_it_until_the_next_use(database: Any) -> None:
    use(database)
    run = run_of(database)
    database.dispose()
    assert not run.alive()
    assert not database._parts.cluster.prober.at_work
    use(database)
    assert database._parts.cluster.prober.at_work


def test_a_life_that_began_while_another_ended_is_left_alone(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(database)
    found = database._parts.cluster.prober
    end = run_of(database).end

    def used_meanwhile(seconds: float) -> None:
        end(seconds)
        use(database)
        assert found.looked.wait(30)

    monkeypatch.setattr(run_of(database), "end", used_meanwhile)
    found.stop()
    assert found.at_work
    assert found.looked.is_set()


def test_a_node_that_was_not_probed_yet_is_waited_for(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = database._parts.cluster.prober
    said: list[bool] = []

    def at_once(rounds: Any, line: Any) -> None:
        said.append(found.looked.is_set())
        rounds._open(line, rounds._opener(line))

    monkeypatch.setattr(ProbeRounds, "_open_aside", at_once)
    use(database)
    assert found.looked.wait(30)
    assert said[:2] == [False, False]  # of the primary, and of the replica


def test_a_primary_that_said_nothing_did_not_answer(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lag stands still then, or every replica would soon be too far behind."""
    monkeypatch.setattr(ProbeRounds, "_open_aside", lambda *_: None)
    monkeypatch.setattr(ProbeRounds, "_look", lambda *_: None)
    use(database)
    found = database._parts.cluster.prober
    rounds = ProbeRounds(found.seat.sharers, found.interval)
    primary, replica = rounds.sharers.lines
    for line, answers in [(replica, True), (primary, False)]:
        found.records.samples.answers = True
        rounds._lose(line, None, silent=True)
        assert found.records.samples.answers == answers


def test_init_anew_ends_the_old_one(database: Any) -> None:
    use(database)
    old = database._parts.cluster.prober
    hooks = database.node_hooks
    hooks.append(print)
    database.init("app", probe_interval=0.1)
    assert not old.at_work
    assert database.node_hooks is hooks
    assert database._parts.cluster.prober is not old


def test_connections_that_could_not_be_opened_are_not_kept(database: Any) -> None:
    use(database)
    run = run_of(database)
    await_refusal(database)
    until(lambda: not run._lines)


class Line:
    """A connection that is opened, and then found to be of no use."""

    socket = None

    def __init__(self) -> None:
        self.open = self._ready = True

    def abort(self) -> None:
        self.open = False

    close = abort


def test_a_connection_that_is_opened_to_a_node_that_is_not_ready_is_closed(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Line] = []

    def open_probe(replica: Any, seconds: float, watch: Any, with_schema: bool) -> Any:
        opened.append(Line())
        watch(opened[-1])
        raise OperationalError(1047, "still not ready")

    monkeypatch.setattr(database._parts.replicas, "open_probe", open_probe)
    use(database)
    run = run_of(database)
    until(lambda: len(opened) >= 2)
    until(lambda: not any(line.open for line in opened) and not run._lines)


def test_a_database_that_is_collected_ends_it() -> None:
    database = make()
    use(database)
    run = run_of(database)
    await_refusal(database)
    gone = weakref.ref(database)
    del database
    until(lambda: gc.collect() >= 0 and not run.alive())  # a round may have held it at the first try
    gc.collect()
    assert gone() is None


def test_without_use_it_ends(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober, "IDLE_SECONDS", 0.1)
    use(database)
    run = run_of(database)
    until(lambda: not run.alive())
    assert not database._parts.cluster.prober.at_work
    assert database.replicas[0].lag is None
    use(database)
    assert database._parts.cluster.prober.at_work


def test_an_error_in_a_round_is_said_once_and_ends_nothing(
    database: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    turns: list[int] = []

    def broken(*_: Any) -> None:
        turns.append(1)
        raise ValueError("a bug")

    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        monkeypatch.setattr(ProbeRounds, "_look", broken)
        use(database)
        until(lambda: len(turns) > 3)
    assert [text for text in caplog.messages if "a bug" in text] == [
        "the prober of app failed in this round and goes on: ValueError: a bug"
    ]
    monkeypatch.undo()
    until(lambda: database.replicas[0].state == "ejected")


def test_a_hook_that_fails_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    news, heard = NodeNews(), []

    def fail(event: Any) -> None:
        raise ValueError(event.cause)

    news.database = "app"
    news.hooks += [fail, heard.append]
    with caplog.at_level(logging.ERROR, "peewee.replicas"):
        news.tell(make(probe_interval=None).replicas[0], "ejected", "why")
    assert [tuple(event) for event in heard] == [("app", "nobody", "ejected", "why")]
    assert "node_hooks" in caplog.text


@pytest.mark.parametrize("max_lag", [0, -1, "soon", True])
def test_a_bound_that_cannot_be_is_refused(database: Any, max_lag: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_lag"):
        database.readonly(max_lag=max_lag)


@pytest.mark.lesson(28)
def test_a_fork_meets_no_thread_and_both_go_on(database: Any) -> None:
    """Python 3.12 and later warn of threads at a fork; here a warning is an error."""
    use(database)
    until(lambda: database.replicas[0].state == "ejected")
    other = make()
    use(other)

    def work() -> Any:
        before = len(threads())
        use(database)
        until(lambda: database._parts.cluster.prober.at_work)
        return [before, len(threads()) > 0]

    assert in_child(work) == [0, True]
    assert not database._parts.cluster.prober.at_work
    assert database._parts.cluster.replicas.unwatched
    use(database)
    assert database._parts.cluster.prober.at_work
    other.dispose()


def test_while_a_process_forks_none_is_started(database: Any) -> None:
    prober._before_fork()
    try:
        use(database)
        assert not database._parts.cluster.prober.at_work
    finally:
        prober._forking.clear()
    use(database)
    assert database._parts.cluster.prober.at_work


EXIT = """
import time
from peewee_replicas import ReplicatedDatabase
database = ReplicatedDatabase(
    "app", host="127.0.0.1", port=1, replicas=[{"host": "127.0.0.1", "port": 2}], probe_interval=interval
)
database._parts.replicas.attend()
time.sleep(0.3)
print(database._parts.cluster.prober.at_work, flush=True)
"""


@pytest.mark.parametrize("interval", [0.001, 1000.0])
def test_the_interpreter_ends_at_once_and_in_silence(interval: float) -> None:
    code = f"interval = {interval}\nimport logging\nlogging.disable()\n{EXIT}"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_the_thread_is_not_started_where_there_can_be_none(
    database: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        use(database)
    assert "can't start new thread" in caplog.text
    assert not database._parts.cluster.prober.at_work


def test_after_an_interrupt_the_next_use_starts_it(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        use(database)
    monkeypatch.undo()
    use(database)
    await_refusal(database)


def test_what_a_probe_finds_is_reported_once(database: Any, caplog: pytest.LogCaptureFixture) -> None:
    replica = nodes_of(database)[0]
    events: list[Any] = []
    database.node_hooks.append(events.append)
    late = Fitness("lagging", "12.0 s behind", "replica", 12.0)
    well = Fitness("up", "", "replica", 0.0, "has read_only=OFF")
    with caplog.at_level(logging.INFO, "peewee.replicas"):
        for fitness in (late, late._replace(lag=13.0, cause="13.0 s behind"), well, well):
            replica.probed(fitness, "0-1-5")
    assert [(event.state, event.cause) for event in events] == [("lagging", "12.0 s behind"), ("up", "")]
    assert len(caplog.messages) == 3
    assert (replica.lag, replica.role, replica.position) == (0.0, "replica", "0-1-5")
    replica.eject("by hand")
    replica.probed(late, None)
    assert replica.state == "ejected"
    assert database._parts.cluster.replicas.usable == ()
    replica.restore()
    assert replica.state == "lagging"
    assert [event.state for event in events[2:]] == ["ejected", "lagging"]
