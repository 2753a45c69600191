"""`readonly(snapshot=True)`: one state for all reads of a scope."""

from __future__ import annotations

from typing import Any

import peewee
import pytest
from support.clusters.lagging import (
    LONG,
    MODELS,
    SHORT,
    Mark,
    Slot,
    bound,
    elsewhere,
    frozen,
    n_of,
    soon,
    watched,
)


def test_all_reads_see_one_state(pair: Any) -> None:
    with bound(pair) as db, watched(db) as events:
        with db.readonly(snapshot=True):
            assert n_of() == 1
            elsewhere(pair, "UPDATE slot SET n = 2")
            elsewhere(pair, "INSERT INTO mark (name) VALUES ('m')")
            pair.sync()
            assert n_of() == 1
            assert Mark.select().count() == 0  # a table that was not read before
        assert {event.node for event in events} == {"replica-1"}
        assert n_of() == 2


def test_it_begins_where_this_context_has_come_to(pair: Any) -> None:
    with bound(pair, catch_up_timeout=LONG) as db, frozen(pair):
        Slot.update(n=2).execute()
        with db.readonly(snapshot=True), watched(db) as events, soon(pair.replicas[0].thaw):
            assert n_of() == 2
        assert events[-1].role == "replica"
    with bound(pair, catch_up_timeout=SHORT) as db, frozen(pair):
        Slot.update(n=3).execute()
        with db.readonly(snapshot=True), watched(db) as events:
            assert n_of() == 3
            elsewhere(pair, "UPDATE slot SET n = 4")
            assert n_of() == 3  # on the primary it is a snapshot as well
        assert {event.role for event in events} == {"primary"}


def test_a_strong_snapshot(pair: Any) -> None:
    with bound(pair, catch_up_timeout=LONG) as db:
        for n in range(2, 6):
            elsewhere(pair, f"UPDATE slot SET n = {n}")
            with db.readonly(snapshot=True, consistency="strong"):
                assert n_of() == n


def test_a_snapshot_whose_connection_is_lost_does_not_move(pair: Any) -> None:
    with bound(pair) as db:
        with db.readonly(snapshot=True):
            assert n_of() == 1
            processes = "SELECT id FROM information_schema.processlist WHERE user = %s"
            for (process,) in pair.replicas[0].execute(processes, (pair.user,)):
                pair.replicas[0].execute("KILL %s", (process,))
            with pytest.raises(peewee.OperationalError, match="snapshot"):
                n_of()
        assert db.stats()["snapshots_lost"] == 1
        assert n_of() == 1


def test_as_a_decorator(pair: Any) -> None:
    with bound(pair) as db:

        @db.readonly(snapshot=True)
        def twice() -> list[int | None]:
            found = [n_of()]
            elsewhere(pair, f"UPDATE slot SET n = {(found[0] or 0) + 1}")
            pair.sync()
            return [*found, n_of()]

        assert twice() == [1, 1]
        assert twice() == [2, 2]


def test_a_bookmark_and_a_snapshot(pair: Any) -> None:
    with bound(pair, catch_up_timeout=LONG) as db, bound(pair, catch_up_timeout=LONG) as other:
        with db.bind_ctx(MODELS):
            Slot.update(n=2).execute()
        with other.bind_ctx(MODELS), other.causal_session(db.bookmark()), other.readonly(snapshot=True):
            assert n_of() == 2
