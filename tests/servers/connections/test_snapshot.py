"""`readonly(snapshot=True)`: one consistent snapshot, on a connection of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from peewee import OperationalError
from support.clusters.repaired import repaired
from support.databases.models import Item, Note
from support.forms.threads import in_thread
from support.waiting import until

from peewee_replicas import ReadOnlyViolation
from peewee_replicas.connections import snapshot as snapshots
from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.usefixtures("form")


@pytest.fixture
def fragile(server: str) -> Iterator[LocalCluster]:
    """A cluster whose nodes may be frozen and killed."""
    with repaired(server, 2, [Item, Note]) as cluster:
        yield cluster


def write_elsewhere(cluster: LocalCluster, db: Any, name: str) -> None:
    """Another thread writes, and every replica applies it."""

    def write() -> None:
        Note.create(item=Item.create(name=name), text=name)
        db.close()

    in_thread(write)
    cluster.sync()


def names() -> list[str]:
    return [row.name for row in Item.select().order_by(Item.id)]


def test_all_reads_see_one_moment_while_the_replica_goes_on(cluster: Any, db: Any) -> None:
    Item.create(name="first")
    cluster.sync()
    with db.readonly(snapshot=True):
        assert names() == ["first"]
        write_elsewhere(cluster, db, "second")
        assert names() == ["first"]
        assert Note.select().count() == 0
        with db.readonly():
            assert names() == ["first"]
        with db.primary():
            assert names() == ["first", "second"]
    assert names() == ["first", "second"]


def test_reads_outside_the_snapshot_do_not_join_it(cluster: Any, db: Any) -> None:
    Item.create(name="first")
    cluster.sync()

    @db.readonly(snapshot=True)
    def snapshots_of_names() -> Iterator[list[str]]:
        for _ in range(3):
            yield names()

    seen = snapshots_of_names()
    assert next(seen) == ["first"]
    write_elsewhere(cluster, db, "second")
    for _ in range(4):  # more than there are replicas
        assert names() == ["first", "second"]
    assert next(seen) == ["first"]
    seen.close()


def test_it_begins_no_earlier_than_what_the_session_must_see(fragile: Any) -> None:
    db = fragile.database()
    with db.bind_ctx([Item, Note]):
        for replica in fragile.replicas:
            replica.freeze()
        Item.create(name="mine")
        with db.readonly(snapshot=True):
            assert names() == ["mine"]
        db.close()


def test_writes_and_transactions_are_refused(db: Any) -> None:
    with db.readonly(snapshot=True):
        names()
        with pytest.raises(ReadOnlyViolation):
            Item.create(name="no")
        with pytest.raises(ReadOnlyViolation), db.atomic():
            pass
    with db.atomic(), pytest.raises(ReadOnlyViolation), db.readonly(snapshot=True):
        pass


def test_its_connection_is_closed_with_the_scope(cluster: Any, db: Any) -> None:
    names()
    cluster.reset_counts()
    for _ in range(3):
        with db.readonly(snapshot=True):
            names()
            number = db.connection().thread_id()
            node = cluster.node(db.explain_route("SELECT 1").node)
            assert number in connections(node)
        # A server drops a closed connection from its list a moment later.
        until(lambda node=node, number=number: number not in connections(node))
    assert sum(counts.connections for counts in cluster.counts().values()) == 3


def connections(node: Any) -> set[int]:
    return {row[0] for row in node.execute("SHOW PROCESSLIST")}


def test_a_snapshot_whose_node_dies_fails_instead_of_moving(fragile: Any) -> None:
    db = fragile.database()
    with db.bind_ctx([Item, Note]):
        with db.readonly(snapshot=True):
            names()
            fragile.node(db.explain_route("SELECT 1").node).kill()
            with pytest.raises(OperationalError, match=r"snapshot on replica-\d .* is lost"):
                names()
        assert names() == []
        db.close()


def test_it_belongs_to_one_thread_and_lasts_for_a_bounded_time(
    db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import contextvars

    with db.readonly(snapshot=True):
        names()
        context = contextvars.copy_context()
        with pytest.raises(OperationalError, match=r"belongs to the (thread|task)"):
            in_thread(lambda: context.run(names))
    monkeypatch.setattr(snapshots, "SNAPSHOT_SECONDS", 0)
    with db.readonly(snapshot=True), pytest.raises(OperationalError, match="lasted longer"):
        names()
        names()
