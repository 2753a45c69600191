"""Reads after writes go where they need not wait long: to the primary at once if every replica is late.

The kind is the ways in which a read can treat a replica that is late (`consistency.catch_up.Late`), in each
place that may serve it: outside scopes, in a session with a bookmark, in `readonly()`, with and without leave
to run on the primary. What each decision depends on is tested in `unit/consistency/test_delay.py`; here
replicas are frozen, and the estimate is set, so that no test depends on the time that anything takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from support.clusters.lagging import (
    LONG,
    Slot,
    bound,
    frozen,
    n_of,
    soon,
    waits_asked_for,
    watched,
)
from support.databases.nodes import nodes_of
from support.proxies.relay import Relay
from support.waiting import until

from peewee_replicas.concurrency import Clock
from peewee_replicas.consistency.delay import WORTH_WAITING

pytestmark = [pytest.mark.judges, pytest.mark.usefixtures("form")]


def known_to_be_late(db: Any, *, check: bool = False) -> None:
    """Let the replicas be known to need an hour; whether a read is due to check that."""
    for node in nodes_of(db):
        node.progress.delay.missed(3600.0, Clock.monotonic())
        node.progress.delay._check_at = 0.0 if check else float("inf")


@contextmanager
def late(pair: Any, **options: Any) -> Iterator[Any]:
    """A database whose replica is frozen, known to be late, and lacks a write of this context."""
    with bound(pair, **{"catch_up_timeout": LONG, **options}) as db, frozen(pair):
        n_of()  # opens the connection
        Slot.update(n=2).execute()
        known_to_be_late(db)
        yield db


@pytest.mark.parametrize("timeout", [LONG, 0])
def test_the_primary_serves_at_once_what_would_have_to_wait_long(pair: Any, timeout: float) -> None:
    with late(pair, catch_up_timeout=timeout) as db, watched(db) as events, waits_asked_for() as asked:
        before = db.stats()
        for _ in range(3):
            assert n_of() == 2
        after = db.stats()
        assert asked == []
        assert [(event.role, event.cause, event.waited) for event in events] == [
            ("primary", "behind", 0.0)
        ] * 3
        assert "too long" in events[0].reason
        assert db.explain_route("SELECT n FROM slot").cause == "behind"
        grown = {name for name in after if after[name] != before[name]}
        # Not asked for its position either: the next read may use a replica as if the primary had not served.
        assert grown == {"primary", "primary.because.behind", "fallbacks"}


def test_a_replica_that_is_there_again_is_found_and_used(pair: Any) -> None:
    with late(pair) as db:
        pair.replicas[0].thaw()
        pair.sync()
        known_to_be_late(db, check=True)

        def served() -> bool:
            with watched(db) as events:
                assert n_of() == 2
            return events[-1].role == "replica"

        assert db.explain_route("SELECT n FROM slot").role == "primary"
        until(served)
        assert db.explain_route("SELECT n FROM slot").role == "replica"


def test_a_check_sends_no_read_and_waits_briefly(pair: Any) -> None:
    with late(pair) as db, waits_asked_for() as asked:
        known_to_be_late(db, check=True)
        before = db.stats()
        assert n_of() == 2
        assert asked == [WORTH_WAITING]
        after = db.stats()
        assert after["replicas"] == before["replicas"]
        assert after["discarded"] == before["discarded"] == 0
        assert after["primary.because.behind"] == before["primary.because.behind"] + 1
        nodes_of(db)[0].progress.delay._check_at = float("inf")
        assert n_of() == 2
        assert len(asked) == 1


def test_what_was_read_in_vain_is_counted_as_such(pair: Any) -> None:
    with bound(pair, catch_up_timeout=0) as db, frozen(pair):
        n_of()
        Slot.update(n=2).execute()
        before = db.stats()
        assert n_of() == 2  # nothing is known of the replica yet, so the read is sent to it
        after = db.stats()
        assert after["discarded"] == before["discarded"] + 1
        assert after["replicas"] == before["replicas"]
        assert after["replica-1.reads"] == before["replica-1.reads"]
        assert after["primary.because.behind"] == 1


@pytest.mark.parametrize("check", [False, True], ids=["not-asked", "checked"])
def test_while_the_primary_is_down_a_read_waits(pair: Any, check: bool) -> None:
    with ExitStack() as running:
        relay = running.enter_context(Relay(pair.primary.port))
        through = {"host": "127.0.0.1", "port": relay.port, "probe_interval": None}
        with late(pair, **through) as db, watched(db) as events:
            known_to_be_late(db, check=check)
            running.close()
            for _ in range(2):  # found out by the first, known to the second
                with soon(pair.replicas[0].thaw):
                    assert n_of() == 2
            assert {event.role for event in events} == {"replica"}
            assert not any("no replica" in event.reason for event in events)


@pytest.mark.parametrize("options", [{"fallback": "error"}, {"max_fallback_share": 0.0}], ids=str)
def test_a_read_that_may_not_run_on_the_primary_waits(pair: Any, options: dict[str, Any]) -> None:
    with late(pair, **options) as db, watched(db) as events, soon(pair.replicas[0].thaw):
        assert n_of() == 2
        assert events[-1].role == "replica"


def test_the_first_read_of_readonly_waits_and_the_scope_stays_on_its_replica(pair: Any) -> None:
    with late(pair) as db, watched(db) as events, db.readonly(), soon(pair.replicas[0].thaw):
        assert n_of() == 2
        assert n_of() == 2
        assert [event.role for event in events] == ["replica"] * 2


def test_beyond_its_share_a_read_waits_and_does_not_fail(pair: Any) -> None:
    with late(pair, max_fallback_share=0.01) as db, watched(db) as events:
        assert n_of() == 2
        with soon(pair.replicas[0].thaw):
            assert n_of() == 2
        assert [event.role for event in events] == ["primary", "replica"]
        assert db.stats()["fallbacks_refused"] == 0


def test_a_check_that_finds_the_replica_there_spends_no_share(pair: Any) -> None:
    with late(pair, max_fallback_share=0.01, probe_interval=None) as db, watched(db) as events:
        pair.replicas[0].thaw()
        pair.sync()
        known_to_be_late(db, check=True)
        assert n_of() == 2
        pair.replicas[0].freeze()
        Slot.update(n=3).execute()
        known_to_be_late(db)
        with soon(pair.replicas[0].thaw):
            assert n_of() == 3
        reads = [event for event in events if event.kind == "read"]
        assert [event.role for event in reads] == ["replica", "primary"]


def test_a_bookmark_is_asked_for_briefly_and_only_once(pair: Any) -> None:
    with late(pair) as db:
        mark = db.bookmark()
        with bound(pair, apart=True, catch_up_timeout=LONG) as other:
            known_to_be_late(other)
            with other.causal_session(mark), waits_asked_for() as asked, watched(other) as events:
                for _ in range(3):
                    assert n_of() == 2
            assert asked == [WORTH_WAITING]
            assert {(event.role, event.cause) for event in events} == {("primary", "behind")}
        pair.replicas[0].thaw()
        pair.sync()
        with bound(pair, apart=True, catch_up_timeout=LONG) as third:
            known_to_be_late(third)
            with third.causal_session(mark), watched(third) as events:  # an old one, as far as is known
                assert n_of() == 2
            assert events[-1].role == "replica"
