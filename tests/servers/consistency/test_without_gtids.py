"""What reads see on servers that keep no GTIDs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.clusters import SERVERS, as_in_another_process, own_cluster
from support.clusters.lagging import MODELS, Slot, bound, n_of, watched
from support.databases.nodes import nodes_of
from support.forms import threads_only
from support.forms.threads import in_thread
from support.waiting import until

pytestmark = pytest.mark.usefixtures("form")

WITHOUT = {
    "mariadb": {"skip_log_bin": None},
    "mysql": {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"},
}


@pytest.fixture(scope="module", params=SERVERS)
def without(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A primary that keeps no GTIDs; what serves as its replica never receives anything."""
    server = request.param
    with (
        own_cluster(server, 0, options={"*": WITHOUT[server]}) as primary,
        own_cluster(server, 0, options={"*": WITHOUT[server]}) as replica,
    ):
        for each, n in ((primary, 2), (replica, 1)):
            database = each.database(consistency="eventual")
            with database.bind_ctx(MODELS):
                database.create_tables(MODELS)
                Slot.create(name="a", n=n)
            database.close()
        parameters = {**replica.parameters(replica.primary), "name": "replica-1"}
        primary.stale = [parameters]
        yield primary


def test_without_gtids_reads_stay_on_the_primary_for_a_while(
    without: Any, caplog: pytest.LogCaptureFixture
) -> None:
    window = 0.5
    with (
        caplog.at_level(logging.WARNING, "peewee.replicas"),
        bound(without, replicas=without.stale, sticky_seconds=window) as db,
        watched(db) as events,
    ):
        assert n_of() == 1  # it has written nothing
        for _ in range(2):
            Slot.update(n=2).execute()
            began = time.monotonic()
            del events[:]
            until(lambda: n_of() == 1)  # however often it reads meanwhile
            assert time.monotonic() - began >= window * 0.9
            primary = [event for event in events if event.role == "primary"]
            assert primary
            for event in primary:
                assert event.cause == ("sticky" if event.kind == "read" else event.kind)
                assert "GTID" in event.reason
                assert str(window) in event.reason
        said = [record for record in caplog.records if "GTID" in record.message]
        assert len(said) == 1


@threads_only("a task is a unit of work of its own; `tests/servers/aio/test_programs.py` has that")
@pytest.mark.parametrize(("level", "seen"), [("session", 1), ("process", 2)])
def test_without_gtids_another_thread_sees_a_write_from_its_next_unit_of_work_on(
    without: Any, level: str, seen: int
) -> None:
    with (
        as_in_another_process(),
        bound(without, replicas=without.stale, sticky_seconds=60.0, consistency=level) as db,
        ThreadPoolExecutor(1) as pool,
    ):
        assert pool.submit(n_of).result() == 1  # its unit of work begins
        Slot.update(n=2).execute()
        assert n_of() == 2
        assert pool.submit(n_of).result() == seen
        pool.submit(db.close).result()
        assert pool.submit(lambda: (n_of(), db.close())[0]).result() == 2
        assert in_thread(lambda: (n_of(), db.close())[0]) == 2


def test_without_gtids_scopes_are_served_by_the_guarded_primary(without: Any) -> None:
    with bound(without, replicas=without.stale, sticky_seconds=60.0) as db, watched(db) as events:
        with db.atomic():
            Slot.update(n=2).execute()
        with db.readonly():
            assert n_of() == 2
        assert events[-1].role == "primary"
        assert "GTID" in events[-1].reason
        assert db.bookmark() is None


def test_without_gtids_strong_means_the_primary(without: Any) -> None:
    with bound(without, replicas=without.stale, consistency="strong") as db, watched(db) as events:
        assert n_of() == 2
        assert events[-1].role == "primary"
        assert "GTID" in events[-1].reason


@threads_only("the prober is the same in both forms")
@pytest.mark.parametrize("max_lag", [10.0, None])
def test_a_lag_bound_without_effect_is_said_once(
    without: Any, max_lag: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    with bound(without, replicas=without.stale, max_lag=max_lag, probe_interval=0.05) as db:
        (node,) = nodes_of(db)
        rounds: list[Any] = []
        probed = node.probed
        node.probed = lambda *found: (probed(*found), rounds.append(found))
        until(lambda: n_of() is not None and len(rounds) >= 4)
        assert db.replicas[0].state == "up"
        assert db.replicas[0].lag is None
    said = [text for text in caplog.messages if "unknown lag" in text]
    assert len(said) == (max_lag is not None)
    for text in said:
        assert "max_lag=10.0" in text
        assert "REPLICATION CLIENT" in text
