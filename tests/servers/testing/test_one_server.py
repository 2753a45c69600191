"""The testing mode: one server plays all roles, routes and refusals stay as in production."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.databases.models import Item
from support.peewees import needs_peewee

from peewee_replicas import ReadOnlyViolation, ReplicatedDatabase
from peewee_replicas.connections.replica_connections import ReplicaConnections
from peewee_replicas.testing import LocalCluster, one_server


@pytest.fixture
def alone(cluster: LocalCluster) -> Iterator[Any]:
    """A database whose replicas do not exist, over the primary of the cluster."""
    primary = cluster.parameters(cluster.primary)
    database = ReplicatedDatabase(
        primary.pop("database"),
        replicas=[{"host": "replica-1.invalid", "name": "one"}, {"host": "replica-2.invalid", "name": "two"}],
        **primary,
    )
    with database.bind_ctx([Item]):
        database.execute_sql("DROP TABLE IF EXISTS `note`")
        database.drop_tables([Item], safe=True)
        database.create_tables([Item])
        database.close()
        yield database
        database.close()


@pytest.mark.lesson(35)
@pytest.mark.parametrize("transaction", [False, True])
def test_reads_are_routed_as_in_production_and_see_what_the_test_wrote(alone: Any, transaction: bool) -> None:
    events: list[Any] = []
    alone.route_hooks.append(events.append)
    with one_server(alone, transaction=transaction):
        Item.create(name="a")
        assert Item.get(name="a").name == "a"
        assert [row.name for row in Item.select()] == ["a"]
        assert alone.explain_route("SELECT 1").role == "replica"
    routes = [(event.kind, event.role, event.node) for event in events]
    assert routes == [("write", "primary", "primary"), ("read", "replica", "one"), ("read", "replica", "two")]
    assert alone.stats()["replicas"] == 2


@pytest.mark.lesson(35)
@pytest.mark.parametrize("transaction", [False, True])
def test_a_write_inside_readonly_is_refused(alone: Any, transaction: bool) -> None:
    with one_server(alone, transaction=transaction):
        with alone.readonly(), pytest.raises(ReadOnlyViolation, match="write"):
            Item.create(name="b")
        with alone.readonly(), pytest.raises(ReadOnlyViolation, match="transaction"), alone.atomic():
            pass
        assert Item.select().count() == 0


@pytest.mark.parametrize("transaction", [False, True])
def test_a_transaction_of_the_program_keeps_its_reads_on_the_primary(alone: Any, transaction: bool) -> None:
    events: list[Any] = []
    with one_server(alone, transaction=transaction):
        with alone.atomic():
            alone.route_hooks.append(events.append)
            list(Item.select())
            alone.route_hooks.clear()
            with pytest.raises(ReadOnlyViolation), alone.readonly():
                pass
        with alone.readonly():
            assert alone.explain_route("SELECT 1").role == "replica"
    assert [event.role for event in events] == ["primary"]


def test_the_transaction_around_a_test_is_rolled_back(alone: Any) -> None:
    with one_server(alone, transaction=True):
        with alone.atomic():
            Item.create(name="gone")
        assert Item.select().count() == 1
    with alone.primary():
        assert Item.select().count() == 0
    assert not alone.in_transaction()


@needs_peewee("4.5", "after_commit()")
def test_the_program_may_open_and_close_as_it_likes(alone: Any) -> None:
    committed: list[int] = []
    with one_server(alone, transaction=True):
        for name in ("a", "b"):
            alone.connect(reuse_if_open=True)
            with alone.atomic():
                Item.create(name=name)
                alone.after_commit(lambda: committed.append(Item.select().count()))
                with alone.atomic() as nested:
                    Item.create(name="never")
                    nested.rollback()
            with pytest.raises(ZeroDivisionError), alone.atomic():
                Item.create(name="never")
                1 / 0  # noqa: B018  # the failure
            alone.close()
            assert alone.is_closed()
        assert [row.name for row in Item.select()] == ["a", "b"]
    assert committed == [1, 2]
    assert alone.is_closed()
    with alone.primary():
        assert Item.select().count() == 0


def test_the_servers_refusal_stays(alone: Any, cluster: LocalCluster) -> None:
    cluster.primary.execute("DROP FUNCTION IF EXISTS app.sneaky")
    cluster.primary.execute(
        "CREATE FUNCTION app.sneaky() RETURNS INT DETERMINISTIC MODIFIES SQL DATA "
        "BEGIN INSERT INTO app.item (name, n) VALUES ('x', 1); RETURN 1; END"
    )
    with one_server(alone):
        with alone.readonly(), pytest.raises(ReadOnlyViolation, match="refused"):
            alone.execute_sql("SELECT sneaky()")
        assert Item.select().count() == 0
        alone.execute_sql("SELECT sneaky()")
        assert Item.select().count() == 1


def test_it_ends_also_when_the_test_fails(alone: Any) -> None:
    with pytest.raises(ZeroDivisionError), one_server(alone, transaction=True):
        Item.create(name="c")
        1 / 0  # noqa: B018  # the failure
    assert type(alone._parts.replicas) is ReplicaConnections
    assert not alone.in_transaction()
    with one_server(alone), pytest.raises(RuntimeError, match="already"), one_server(alone):
        pass
