"""MySQL Router: with connection sharing, which refuses the session trackers (1766), and without.

What a program can notice of that: whether it can connect, what reads see after writes of each sort, whether
the guard holds, and what is logged. `tests/unit/servers/test_refused_settings` has other refusals.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clusters.lagging import Slot, bound, frozen, n_of, watched
from support.databases.nodes import nodes_of
from support.proxies.router import router

pytestmark = [pytest.mark.once, pytest.mark.parametrize("server", ["mysql"], indirect=True)]

READS = 20


def through(ports: dict[str, int]) -> dict[str, Any]:
    """The arguments that lead a database to the nodes through the router."""
    replicas = [{"name": "replica-1", "host": "127.0.0.1", "port": ports["replica-1"]}]
    return {"port": ports["primary"], "replicas": replicas}


@pytest.fixture
def routed(pair: Any, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """These arguments, for a router with connection sharing."""
    with router(pair, tmp_path) as ports:
        yield through(ports)


def test_reads_see_writes_and_replicas_serve(
    pair: Any, routed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with bound(pair, catch_up_timeout=20.0, **routed) as db, watched(db) as events:
        for n in range(READS):
            Slot.update(n=n).execute()
            assert n_of() == n
            assert events[-1].node == "replica-1"
        with db.atomic():
            Slot.update(n=Slot.n + 1).execute()
        assert n_of() == READS
        with db.readonly(snapshot=True):
            assert n_of() == READS
        assert events[-1].node == "replica-1"
        conn = nodes_of(db)[0].database.conn
        conn.executing = "read"
        with pytest.raises(Exception, match=r"1290|1792"):
            conn.query("DELETE FROM slot")
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "1766" in said[0]


def test_no_read_is_stale_while_the_replica_is_late(pair: Any, routed: dict[str, Any]) -> None:
    with bound(pair, catch_up_timeout=0.05, **routed) as db, frozen(pair), watched(db) as events:
        for n in range(2, READS):
            Slot.update(n=n).execute()
            assert n_of() == n
            assert events[-1].role == "primary"
        assert not Slot.get_or_create(name="a")[1]
        assert n_of() == READS - 1
        db.execute_sql("CREATE TEMPORARY TABLE hidden (n INT)")
        assert db.execute_sql("SELECT COUNT(*) FROM hidden").fetchone() == (0,)


def test_without_sharing_nothing_differs(pair: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        router(pair, tmp_path, sharing=False) as ports,
        bound(pair, catch_up_timeout=20.0, **through(ports)) as db,
        watched(db) as events,
    ):
        for n in range(READS):
            Slot.update(n=n).execute()
            asked = db.stats()["asked"]
            assert n_of() == n
            assert events[-1].node == "replica-1"
            assert db.stats()["asked"] == asked  # the write has reported its position
        with frozen(pair):
            db._parts.consistency.catch_up_timeout = 0.05
            Slot.update(n=READS).execute()
            assert n_of() == READS
            assert events[-1].role == "primary"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
