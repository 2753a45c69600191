"""Databases that share a prober: who takes part, and that a fault of one is its own. Nobody listens there."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.databases.nodes import nodes_of
from support.waiting import until

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.nodes.probe_rounds import ProbeRounds

NOBODY = [{"name": "nobody", "host": "127.0.0.1", "port": 2}]
OTHERS = [{"name": "other", "host": "127.0.0.1", "port": 3}]


@pytest.fixture
def make() -> Iterator[Callable[..., list[Any]]]:
    made: list[Any] = []

    def in_use(number: int, **given: Any) -> list[Any]:
        # Apart from databases that another test has left behind.
        arguments = {"host": "127.0.0.1", "port": 1, "user": "sharer", "replicas": NOBODY, **given}
        new = [
            ReplicatedDatabase(f"tenant_{n}", **{"probe_interval": 0.05, **arguments}) for n in range(number)
        ]
        made.extend(new)
        for database in new:
            use(database)
        return new

    yield in_use
    for database in made:
        database.dispose()


def use(database: Any) -> None:
    database._parts.replicas.attend()


def sharers(database: Any) -> Any:
    return database._parts.cluster.prober.seat.sharers


def tried(database: Any) -> float:
    """When it was last told that its replica cannot be reached."""
    (node,) = nodes_of(database)
    found: float = database._parts.cluster.prober.records.findings[node].failed_at
    return found


def goes_on(database: Any) -> None:
    before = tried(database)
    until(lambda: tried(database) > before)


def test_many_have_one_thread_and_each_ejects_its_node(make: Any) -> None:
    databases = make(50)
    until(lambda: all(database.replicas[0].state == "ejected" for database in databases))
    assert len({sharers(database) for database in databases}) == 1
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("prober of tenant_0") == 1
    assert [database.stats()["nobody.ejections"] for database in databases] == [1] * 50


def test_the_last_one_that_goes_ends_it(make: Any) -> None:
    first, second = make(2)
    run = sharers(first).run
    first.dispose()
    assert run.alive()
    assert not first._parts.cluster.prober.at_work
    goes_on(second)
    second.dispose()
    assert not run.alive()


def test_one_that_comes_back_is_not_there_twice(make: Any) -> None:
    first, second = make(2)
    for _ in range(3):
        first.dispose()
        use(first)
    assert sharers(first) is sharers(second)
    assert len(sharers(first).present()) == 2


def test_one_alone_keeps_its_thread_when_it_gets_other_nodes(make: Any) -> None:
    (database,) = make(1)
    before = sharers(database)
    kept = before.lines[0]
    database.set_replicas(OTHERS)
    until(lambda: database.replicas[0].state == "ejected")
    assert sharers(database) is before
    assert before.lines[0] is kept
    assert make(1, replicas=OTHERS)[0]._parts.cluster.prober.seat.sharers is before


def test_one_of_several_takes_its_leave_when_it_gets_other_nodes(make: Any) -> None:
    first, second = make(2)
    before = sharers(first)
    first.set_replicas(OTHERS)
    until(lambda: first.replicas[0].state == "ejected")
    assert sharers(first) is not before
    assert [member for member, _, _ in before.present()] == [second._parts.cluster.prober]
    goes_on(second)


def test_one_that_gets_no_thread_of_its_own_says_so_and_rests(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make(2)
    begin = threading.Thread.start

    def some(self: Any) -> None:
        if "to " not in self.name:
            raise RuntimeError("can't start new thread")
        begin(self)

    monkeypatch.setattr(threading.Thread, "start", some)
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        first.set_replicas(OTHERS)
        until(lambda: not first._parts.cluster.prober.at_work)
    assert "can't start new thread" in caplog.text
    goes_on(second)
    monkeypatch.undo()
    use(first)
    until(lambda: first.replicas[0].state == "ejected")


def test_a_fault_in_the_findings_of_one_is_said_once_and_is_nothing_to_the_others(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make(2)
    failures: list[int] = []

    def broken(*_: Any, **__: Any) -> None:
        failures.append(1)
        raise ValueError("a bug")

    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        monkeypatch.setattr(first._parts.cluster.prober, "_judge_failure", broken)
        until(lambda: len(failures) > 3)
        goes_on(second)
    assert [text for text in caplog.messages if "a bug" in text] == [
        "the prober of tenant_0 failed in this round and goes on: ValueError: a bug"
    ]


def test_all_together_do_not_keep_it_from_resting(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    databases = make(20, probe_interval=100.0)
    until(lambda: all(database.replicas[0].state == "ejected" for database in databases))
    shared = sharers(databases[0])
    until(lambda: shared.dozes)
    rung: list[int] = []
    ring = shared.run.wake
    monkeypatch.setattr(shared.run, "wake", lambda: (rung.append(1), ring()))
    for database in databases:
        use(database)
    assert len(rung) <= 2  # one ends its pause; another one may if it has had time to look already


def test_those_that_are_collected_leave_nothing_behind(make: Any) -> None:
    (kept,) = make(1)
    for number in range(20):
        gone = ReplicatedDatabase(
            f"short_lived_{number}", host="127.0.0.1", port=1, user="sharer", replicas=NOBODY,
            probe_interval=0.05,
        )  # fmt: skip
        use(gone)
        assert sharers(gone) is sharers(kept)
        del gone
    until(lambda: gc.collect() >= 0 and len(sharers(kept)._seated) == 1)
    goes_on(kept)


def test_one_is_new_only_once_it_has_its_seat(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the prober would look for it in vain, and tell it nothing until the next round."""
    (first,) = make(1, probe_interval=100.0)
    shared = sharers(first)
    until(lambda: not shared.newcomers() and shared.dozes)
    seat, new = shared._seat, []

    def slowly(*given: Any) -> None:
        new.append(shared.newcomers())
        seat(*given)

    monkeypatch.setattr(shared, "_seat", slowly)
    (second,) = make(1, probe_interval=100.0)
    assert new == [set()]
    assert sharers(second) is shared


def test_those_that_come_ring_no_bell_for_each_of_them(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = make(1, probe_interval=100.0)
    shared = sharers(first)
    until(lambda: first.replicas[0].state == "ejected" and shared.dozes)
    rung: list[int] = []
    ring = shared.run.wake
    monkeypatch.setattr(shared.run, "wake", lambda: (rung.append(1), ring()))
    make(20, probe_interval=100.0)
    assert len(rung) <= 5


def test_one_that_joins_after_a_failure_is_told_before_the_next_round(make: Any) -> None:
    (first,) = make(1, probe_interval=100.0)
    until(lambda: first.replicas[0].state == "ejected")
    (second,) = make(1, probe_interval=100.0)
    until(lambda: second.replicas[0].state == "ejected")
    assert second._parts.cluster.prober.looked.wait(30)
    assert sharers(first) is sharers(second)


def test_a_round_that_is_wanted_during_another_one_follows(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[float] = []

    def look(rounds: Any, started: float) -> None:
        began.append(started)
        if len(began) == 1:
            rounds.run.due = started  # as for a database that joins meanwhile

    monkeypatch.setattr(ProbeRounds, "_look", look)
    make(1, probe_interval=100.0)
    until(lambda: len(began) == 2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_hook_that_ends_the_thread_ends_it_until_the_next_use_of_any(make: Any) -> None:
    first, second = make(2)
    before = sharers(first)

    def leave(database: Any) -> None:
        for used in (first, second):  # since the round has begun, so that nobody would start another prober
            use(used)
        sys.exit()

    hooks = first._parts.cluster.news.round_hooks
    hooks.append(leave)
    until(lambda: not before.run.alive())
    hooks.clear()
    for database in (first, second):
        assert not database._parts.cluster.prober.at_work
        assert database._parts.cluster.replicas.unwatched
        use(database)
        goes_on(database)
    assert sharers(first) is sharers(second) is not before
