"""The checker of session guarantees catches what it is there to catch, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from support.guarantees.checker import (
    FOLLOWS,
    MONOTONIC,
    OWN_WRITES,
    PREFIX,
    PRIMARY,
    STRONG,
    TRUE,
    Event,
    Inherits,
    Report,
    Write,
    check,
)

X, Y = ("row", "x"), ("row", "y")


def write(began: int, session: str, *made: Any, **rest: Any) -> Event:
    """A write that took two ticks; of each key the version and the token."""
    writes = tuple(Write(key, version, token) for key, version, token in made)
    return Event("g", session, "write", began, began + 1, writes=writes, **rest)


def read(began: int, session: str, reads: Any, **rest: Any) -> Event:
    """A read that took two ticks."""
    return Event("g", session, "read", began, began + 1, reads, **rest)


def found(*history: Any) -> dict[str, int]:
    """Violations by guarantee."""
    report = check(history, {"row"})
    return {guarantee: number for (_, guarantee), number in report.violations.items()}


def checks(*history: Any) -> dict[str, int]:
    report = check(history, {"row"})
    assert not report.violations, report.examples
    return {guarantee: number for (_, guarantee), number in report.checks.items()}


FIRST = write(1, "a", (X, 1, "t1"))
SECOND = write(3, "a", (X, 2, "t2"))


def test_own_writes() -> None:
    assert found(FIRST, SECOND, read(5, "a", {X: (1, "t1")})) == {OWN_WRITES: 1}
    assert found(FIRST, read(5, "a", {X: (0, None)})) == {OWN_WRITES: 1}
    assert checks(FIRST, SECOND, read(5, "a", {X: (2, "t2")})) == {OWN_WRITES: 1, TRUE: 1}
    assert checks(FIRST, SECOND, read(5, "b", {X: (1, "t1")})) == {TRUE: 1}, "another session"
    assert checks(FIRST, read(5, "a", {Y: (0, None)})) == {TRUE: 1}, "nothing to fail on is no check"


def test_a_read_that_overlaps_the_write_may_miss_it() -> None:
    overlapping = write(3, "a", (X, 2, "t2"))._replace(ended=9)
    assert checks(FIRST, overlapping, read(5, "a", {X: (1, "t1")})) == {OWN_WRITES: 1, TRUE: 1}


@pytest.mark.parametrize("outcome", ["unknown", "failed"])
def test_a_write_without_success_obliges_nothing(outcome: Any) -> None:
    lost = write(3, "a", (X, None, "t2"), outcome=outcome)
    assert found(FIRST, lost, read(5, "a", {X: (1, "t1")})) == {}
    assert found(lost, read(5, "a", {X: (0, None)}), read(7, "b", {X: (0, None)})) == {}


def test_an_unknown_write_may_be_seen_and_a_failed_one_not() -> None:
    seen = read(5, "b", {X: (2, "t2")})
    assert found(FIRST, write(3, "a", (X, None, "t2"), outcome="unknown"), seen) == {}
    assert found(FIRST, write(3, "a", (X, None, "t2"), outcome="failed"), seen) == {TRUE: 1}


def test_a_write_that_was_applied_twice() -> None:
    lost = write(3, "a", (X, None, "t2"), outcome="unknown")
    assert found(FIRST, lost, read(5, "b", {X: (2, "t2")}), read(7, "b", {X: (3, "t2")})) == {TRUE: 1}


def test_a_number_that_was_used_twice() -> None:
    other = write(5, "b", (X, 2, "t3"))
    assert found(FIRST, SECOND, other) == {TRUE: 1}
    assert found(FIRST, SECOND, read(5, "b", {X: (2, "t1")})) == {TRUE: 1}
    assert found(FIRST, read(5, "b", {X: (2, "never")})) == {TRUE: 1}, "nobody wrote that"


def test_after_a_statement_on_the_primary_that_reported_nothing() -> None:
    met = Event("g", "b", "failed insert", 5, 6, {}, obliges=True)
    assert found(FIRST, SECOND, met, read(7, "b", {X: (1, "t1")})) == {PRIMARY: 1}
    assert checks(FIRST, SECOND, met, read(7, "b", {X: (2, "t2")})) == {PRIMARY: 1, TRUE: 1}
    early = met._replace(began=3, ended=4)
    late = SECOND._replace(began=5, ended=6)
    assert found(FIRST, early, late, read(7, "b", {X: (1, "t1")})) == {}
    unknown = met._replace(outcome="unknown")
    assert found(FIRST, SECOND, unknown, read(7, "b", {X: (1, "t1")})) == {}


def test_what_a_locking_read_met_has_to_be_seen() -> None:
    unacknowledged = write(2, "a", (X, 2, "t2"))._replace(ended=99)
    met = Event("g", "b", "locking read", 5, 6, {X: (2, "t2")}, obliges=True)
    assert found(unacknowledged, met, read(7, "b", {X: (1, None)})) == {PRIMARY: 1}


def test_monotonic_reads_in_a_scope_only() -> None:
    history = FIRST, SECOND, read(5, "b", {X: (2, "t2")}), read(7, "b", {X: (1, "t1")})
    assert found(*history) == {}
    scoped = [event._replace(scope="s") if event.reads else event for event in history]
    assert found(*scoped) == {MONOTONIC: 1}
    eventual = [event._replace(promise="eventual") for event in scoped]
    assert found(*eventual) == {MONOTONIC: 1}
    assert found(*[event._replace(scope=event.what + str(event.began)) for event in history]) == {}


def test_writes_follow_reads() -> None:
    # b reads what a writes, before a's acknowledgement, and answers with y: who sees y must see x.
    unacknowledged = write(1, "a", (X, 1, "t1"))._replace(ended=99)
    answer = [read(2, "b", {X: (1, "t1")}), write(5, "b", (Y, 1, "t2"))]
    assert found(unacknowledged, *answer, read(7, "c", {Y: (1, "t2"), X: (0, None)})) == {FOLLOWS: 1}
    assert found(unacknowledged, *answer, read(7, "c", {Y: (0, None), X: (0, None)})) == {}
    assert found(unacknowledged, *answer, read(7, "c", {Y: (1, "t2"), X: (1, "t1")})) == {}


def test_writes_follow_reads_from_one_read_of_a_scope_to_the_next() -> None:
    unacknowledged = write(1, "a", (X, 1, "t1"))._replace(ended=99)
    answer = [read(2, "b", {X: (1, "t1")}), write(5, "b", (Y, 1, "t2"))]
    reads = [read(7, "c", {Y: (1, "t2")}, scope="s"), read(9, "c", {X: (0, None)}, scope="s")]
    assert found(unacknowledged, *answer, *reads) == {MONOTONIC: 1}


def test_consistent_prefix() -> None:
    history = FIRST, write(3, "b", (Y, 1, "t2"))
    assert found(*history, read(5, "c", {X: (0, None), Y: (1, "t2")})) == {PREFIX: 1}
    assert found(*history, read(5, "c", {X: (1, "t1"), Y: (0, None)})) == {}
    overlapping = write(1, "b", (Y, 1, "t2"))
    assert found(FIRST, overlapping, read(5, "c", {X: (0, None), Y: (1, "t2")})) == {}


def test_strong_sees_every_acknowledged_write() -> None:
    stale = read(5, "b", {X: (1, "t1")}, promise="strong")
    assert found(FIRST, SECOND, stale) == {STRONG: 1}
    assert found(FIRST, SECOND._replace(ended=6), stale) == {}, "not acknowledged when the read began"
    assert found(FIRST, SECOND, stale._replace(promise="session")) == {}


def test_eventual_promises_nothing_outside_scopes() -> None:
    assert found(FIRST, SECOND, read(5, "a", {X: (1, "t1")}, promise="eventual")) == {}


def test_a_deleted_row_stays_away() -> None:
    row = ("entry", 1)
    made, gone = write(1, "a", (row, 1, "t1")), write(3, "a", (row, 2, None))
    there, away = {row: (1, "t1")}, {row: (0, None)}
    assert found(made, gone, read(5, "a", there)) == {OWN_WRITES: 1}
    assert found(made, gone, read(5, "a", away)) == {}
    assert found(made, read(5, "a", away)) == {OWN_WRITES: 1}
    assert found(made, gone._replace(began=9, ended=10), read(5, "a", away)) == {OWN_WRITES: 1}


def test_obligations_are_handed_on() -> None:
    stale = read(9, "b", {X: (1, "t1")})
    assert found(FIRST, SECOND, stale) == {}
    assert found(FIRST, SECOND, Inherits("mark", "a", 5), Inherits("b", "mark", 7), stale) == {OWN_WRITES: 1}
    assert found(FIRST, Inherits("mark", "a", 2), SECOND, Inherits("b", "mark", 7), stale) == {}


def test_the_order_in_which_events_are_given_does_not_matter() -> None:
    history = [FIRST, SECOND, read(5, "a", {X: (1, "t1")})]
    assert found(*reversed(history)) == found(*history) == {OWN_WRITES: 1}


def test_reports_add_up() -> None:
    history = FIRST, SECOND, read(5, "a", {X: (1, "t1")})
    total = Report()
    for _ in range(5):
        total.add(check(history, {"row"}))
    assert total.reads["g"] == 5
    assert total.total(total.violations, "g") == 5
    assert total.total(total.checks, "g") == 10
    assert len(total.examples["g", OWN_WRITES]) == 3
    assert "saw version 1 of ('row', 'x'), must see 2" in str(total.examples["g", OWN_WRITES][0])
