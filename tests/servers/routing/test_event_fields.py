"""The fields of a `RouteEvent` that only servers fill in: flavour, address, port, error number, waiting.

Members are all places where a read waits for a replica (``grep -rn 'catch_up.learn'``): the wait sent ahead
of the read, the wait in a round trip of its own (a replica that has stalled), and the wait before a snapshot.
"""

from __future__ import annotations

from typing import Any

import peewee
import pytest
from support.clusters.lagging import LONG, Slot, bound, frozen, impatient, n_of, soon, watched
from support.forms import threads_only
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase

pytestmark = pytest.mark.usefixtures("form")


def test_the_server_its_address_and_its_errors_are_told(pair: Any, server: str) -> None:
    with bound(pair) as db, watched(db) as events:
        n_of()
        with pytest.raises(peewee.IntegrityError):
            Slot.create(name="a")
        with db.atomic():
            Slot.update(n=2).execute()
    by_text = {event.sql.split()[0]: event for event in events}
    assert {event.flavour for event in events} == {server}
    replica = pair.replicas[0]
    assert (by_text["SELECT"].address, by_text["SELECT"].port) == (replica.host, replica.port)
    for text in ("INSERT", "BEGIN", "UPDATE", "COMMIT"):
        assert (by_text[text].address, by_text[text].port) == (pair.primary.host, pair.primary.port)
    failed = by_text["INSERT"]
    assert (failed.error_type, failed.error_number) == ("IntegrityError", 1062)
    assert all(event.waited == 0 for event in events)


@threads_only("the pool of this name")
def test_the_pooled_form_tells_the_same(pair: Any, server: str) -> None:
    with bound(pair, PooledReplicatedDatabase) as db, watched(db) as events, db.atomic():
        Slot.update(n=2).execute()
    assert [event.sql.split()[0] for event in events] == ["BEGIN", "UPDATE", "COMMIT"]
    assert {(event.flavour, event.port, event.node) for event in events} == {
        (server, pair.primary.port, "primary")
    }


def test_time_spent_waiting_for_a_replica_is_told(pair: Any) -> None:
    with bound(pair, catch_up_timeout=LONG) as db, frozen(pair):
        Slot.update(n=2).execute()
        with watched(db) as events, soon(pair.replicas[0].thaw):
            assert n_of() == 2
        [event] = events
        assert event.role == "replica"
        assert 0 < event.waited <= event.duration


def test_time_spent_waiting_in_vain_is_told(pair: Any) -> None:
    with impatient(pair) as db, frozen(pair):
        Slot.update(n=2).execute()
        with watched(db) as events:
            assert n_of() == 2
        [event] = events
        assert event.role == "primary"
        assert 0 < event.waited <= event.duration
        pair.replicas[0].thaw()

        def asked_again() -> bool:
            with watched(db) as events:
                assert n_of() == 2
            return bool(events[0].waited)

        until(asked_again)  # by a question of its own, now that it is known to have stalled


def test_time_spent_waiting_before_a_snapshot_is_told(pair: Any) -> None:
    with bound(pair, catch_up_timeout=LONG) as db, frozen(pair):
        Slot.update(n=2).execute()
        with watched(db) as events, soon(pair.replicas[0].thaw), db.readonly(snapshot=True):
            assert n_of() == 2
            assert n_of() == 2
        first, second = events
        assert 0 < first.waited <= first.duration
        assert second.waited == 0


def test_a_slow_read_is_no_wait(pair: Any) -> None:
    """The wait and the read are sent together; the time of the read itself does not count."""
    with bound(pair, catch_up_timeout=LONG) as db:
        db.execute_sql("INSERT INTO mark (name) VALUES ('slow')")
        with watched(db) as events:
            db.execute_sql("SELECT COUNT(*), SLEEP(0.5) FROM mark").fetchall()
    [event] = events
    assert event.waited < event.duration - 0.4
