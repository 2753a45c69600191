"""Whether reads and writes can be served, decided from what is known.

What can differ: each setting that routes reads (``reads``, ``fallback``, ``max_fallback_share``), which
replicas are usable, what is known of the primary (nothing, unreachable, read-only), and whether a prober
keeps the findings fresh. The first table holds these against each other; the rest shows where each finding
comes from and when it ends.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from peewee import OperationalError
from support.databases.nodes import nodes_of

from peewee_replicas import ReplicatedDatabase, ReplicatedSqliteDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.concurrency import Clock
from peewee_replicas.nodes.health import NodeHealth, judge_health
from peewee_replicas.nodes.primary_state import FORGET_SECONDS, UNKNOWN, PrimaryState

DOWN = PrimaryState("2003: nobody listens", found_at=1.0)
READ_ONLY = PrimaryState(read_only=True, found_at=1.0)


def node(name: str, *, usable: bool) -> NodeHealth:
    return NodeHealth(name, "h:1", "up" if usable else "ejected", "replica", 0.0, "gone", usable)


@pytest.mark.parametrize(
    ("replicas", "reads", "falls_back", "primary", "expected"),
    [
        ((True, True), "replica", True, UNKNOWN, (True, True, ("0", "1"))),
        ((True, False), "replica", True, UNKNOWN, (True, True, ("0",))),
        ((True, False), "replica", False, DOWN, (True, False, ("0",))),
        ((True,), "replica", True, READ_ONLY, (True, False, ("0",))),
        ((False, False), "replica", True, UNKNOWN, (True, True, ("primary",))),
        ((False, False), "replica", True, READ_ONLY, (True, False, ("primary",))),
        ((False, False), "replica", False, UNKNOWN, (False, True, ())),
        ((False, False), "replica", True, DOWN, (False, False, ())),
        ((), "replica", True, UNKNOWN, (True, True, ("primary",))),
        ((), "replica", True, DOWN, (False, False, ())),
        ((True,), "primary", True, UNKNOWN, (True, True, ("primary",))),
        ((True,), "primary", False, DOWN, (False, False, ())),
        ((True,), "observe", False, UNKNOWN, (True, True, ("primary",))),
        ((True,), "observe", True, DOWN, (False, False, ())),
    ],
)
def test_who_serves(
    replicas: tuple[bool, ...], reads: str, falls_back: bool, primary: PrimaryState, expected: Any
) -> None:
    nodes = [node(str(number), usable=usable) for number, usable in enumerate(replicas)]
    health = judge_health(nodes, "primary", primary, reads=reads, falls_back=falls_back, probed=True)
    assert (health.reads, health.writes, health.read_by) == expected
    assert health.written_by == ("primary" if health.writes else None)
    assert bool(health.cause) == (not (health.reads and health.writes) or not any((*replicas, not replicas)))
    assert pickle.loads(pickle.dumps(health)) == health


def test_the_cause_names_every_node_and_the_primary() -> None:
    nodes = [node("a", usable=False), node("b", usable=False)]
    health = judge_health(nodes, "primary", DOWN, reads="replica", falls_back=True, probed=True)
    assert health.cause == (
        "no replica can serve reads (a: gone; b: gone); the primary cannot be reached (2003: nobody listens)"
    )


@pytest.mark.parametrize("finding", [DOWN, READ_ONLY])
def test_a_finding_that_nobody_renews_is_forgotten(finding: PrimaryState) -> None:
    late = 1.0 + FORGET_SECONDS
    assert finding.current(late, probed=True) == finding
    assert finding.current(late - 0.1, probed=False) == finding
    assert finding.current(late, probed=False) == UNKNOWN


@pytest.fixture(params=[ReplicatedDatabase, AsyncReplicatedDatabase])
def db(request: pytest.FixtureRequest) -> Any:
    """A database over nodes that nobody serves."""
    return request.param("app", host="127.0.0.1", port=1, replicas=["127.0.0.1:2"], probe_interval=None)


def test_what_is_not_known_counts_as_working(db: Any) -> None:
    health = db.health()
    assert (health.reads, health.writes, health.read_by) == (True, True, ("127.0.0.1:2",))
    assert not health.probed
    assert health.cause == ""


def test_settings_that_keep_reads_off_the_primary_count(db: Any) -> None:
    nodes_of(db)[0].eject("maintenance")
    for changed, reads in (
        ({}, True),
        ({"max_fallback_share": 0}, False),
        ({"max_fallback_share": 0.1}, True),
        ({"max_fallback_share": None, "fallback": "error"}, False),
    ):
        db.init("app", **changed)
        nodes_of(db)[0].eject("maintenance")
        assert db.health().reads is reads, changed
    assert "maintenance" in db.health().cause
    assert db.on_primary.health() == db.health()


def test_an_ejected_node_counts_again_once_a_read_would_try_it(monkeypatch: pytest.MonkeyPatch) -> None:
    db = ReplicatedDatabase("app", replicas=["a:1"], probe_interval=None, fallback="error")
    nodes_of(db)[0].failed("gone")
    assert not db.health().reads
    now = Clock.monotonic()
    monkeypatch.setattr(Clock, "monotonic", lambda: now + 60)
    assert db.health().reads
    nodes_of(db)[0].eject("by hand")
    assert not db.health().reads


def test_a_weight_of_0_serves_no_reads() -> None:
    db = ReplicatedDatabase("app", replicas=[{"host": "a", "weight": 0}], fallback="error")
    health = db.health()
    assert (health.reads, health.read_by, health.nodes[0].cause) == (False, (), "weight 0")


def test_a_failed_connection_to_the_primary_is_known_until_it_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    db = ReplicatedDatabase("app", host="127.0.0.1", port=1, replicas=["127.0.0.1:2"], probe_interval=None)
    with pytest.raises(OperationalError):
        db.execute_sql("INSERT INTO t VALUES (1)")
    health = db.health()
    assert (health.writes, health.written_by) == (False, None)
    assert "the primary cannot be reached (OperationalError: (2003" in health.cause
    now = Clock.monotonic()
    monkeypatch.setattr(Clock, "monotonic", lambda: now + FORGET_SECONDS)
    assert db.health().writes


def test_a_file_is_served_by_its_readers_and_its_writer(tmp_path: Path) -> None:
    db = ReplicatedSqliteDatabase(tmp_path / "f.db")
    health = db.health()
    assert (health.reads, health.writes) == (True, True)
    assert (health.read_by, health.written_by) == (("reader-1", "reader-2"), "primary")
    assert not list(tmp_path.iterdir())  # it looked at nothing
