"""`readonly(snapshot=True)`: one state for all reads of a scope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import peewee
import pytest
from lagging import (
    LONG,
    MODELS,
    SHORT,
    Mark,
    Slot,
    clear,
    elsewhere,
    frozen,
    held_back,
    n_of,
    soon,
    watched,
)


@pytest.fixture(scope="module")
def clusters() -> Iterator[Callable[[str], Any]]:
    """A cluster of this module's own per server, started when first asked for."""
    made: dict[str, Any] = {}
    with ExitStack() as stack:

        def cluster(server: str) -> Any:
            if server not in made:
                made[server] = stack.enter_context(held_back(server))
            return made[server]

        yield cluster


@pytest.fixture
def cluster(server: str, clusters: Any) -> Any:
    found = clusters(server)
    clear(found, ("a", 1))
    return found


@contextmanager
def bound(cluster: Any, **options: Any) -> Iterator[Any]:
    db = cluster.database(**options)
    with db.bind_ctx(MODELS):
        yield db
    db.close()


def test_all_reads_see_one_state(cluster: Any) -> None:
    with bound(cluster) as db, watched(db) as events:
        with db.readonly(snapshot=True):
            assert n_of() == 1
            elsewhere(cluster, "UPDATE slot SET n = 2")
            elsewhere(cluster, "INSERT INTO mark (name) VALUES ('m')")
            cluster.sync()
            assert n_of() == 1
            assert Mark.select().count() == 0  # a table that was not read before
        assert {event.node for event in events} == {"replica-1"}
        assert n_of() == 2


def test_it_begins_where_this_context_has_come_to(cluster: Any) -> None:
    with bound(cluster, catch_up_timeout=LONG) as db, frozen(cluster):
        Slot.update(n=2).execute()
        with db.readonly(snapshot=True), watched(db) as events, soon(cluster.replicas[0].thaw):
            assert n_of() == 2
        assert events[-1].role == "replica"
    with bound(cluster, catch_up_timeout=SHORT) as db, frozen(cluster):
        Slot.update(n=3).execute()
        with db.readonly(snapshot=True), watched(db) as events:
            assert n_of() == 3
            elsewhere(cluster, "UPDATE slot SET n = 4")
            assert n_of() == 3  # on the primary it is a snapshot as well
        assert {event.role for event in events} == {"primary"}


def test_a_strong_snapshot(cluster: Any) -> None:
    with bound(cluster, catch_up_timeout=LONG) as db:
        for n in range(2, 6):
            elsewhere(cluster, f"UPDATE slot SET n = {n}")
            with db.readonly(snapshot=True, consistency="strong"):
                assert n_of() == n


def test_a_snapshot_whose_connection_is_lost_does_not_move(cluster: Any) -> None:
    with bound(cluster) as db:
        with db.readonly(snapshot=True):
            assert n_of() == 1
            processes = "SELECT id FROM information_schema.processlist WHERE user = %s"
            for (process,) in cluster.replicas[0].execute(processes, (cluster.user,)):
                cluster.replicas[0].execute("KILL %s", (process,))
            with pytest.raises(peewee.OperationalError, match="snapshot"):
                n_of()
        assert db.stats()["snapshots_lost"] == 1
        assert n_of() == 1


def test_as_a_decorator(cluster: Any) -> None:
    with bound(cluster) as db:

        @db.readonly(snapshot=True)
        def twice() -> list[int | None]:
            found = [n_of()]
            elsewhere(cluster, f"UPDATE slot SET n = {(found[0] or 0) + 1}")
            cluster.sync()
            return [*found, n_of()]

        assert twice() == [1, 1]
        assert twice() == [2, 2]


def test_a_bookmark_and_a_snapshot(cluster: Any) -> None:
    with bound(cluster, catch_up_timeout=LONG) as db, bound(cluster, catch_up_timeout=LONG) as other:
        with db.bind_ctx(MODELS):
            Slot.update(n=2).execute()
        with other.bind_ctx(MODELS), other.causal_session(db.bookmark()), other.readonly(snapshot=True):
            assert n_of() == 2
