"""A bookmark of a history that the primary does not have: read on the primary, and no burden afterwards."""

from __future__ import annotations

import logging
import time
from typing import Any

import peewee
import pytest
from support.clusters.lagging import waits_asked_for
from support.databases.models import Item

from peewee_replicas import bookmarks
from peewee_replicas.positions import MariaDBPosition, MySQLPosition


@pytest.fixture
def lost(server: str) -> str:
    """A bookmark that names writes which never were."""
    position: Any = (
        MariaDBPosition.parse("0-1-4000000000")
        if server == "mariadb"
        else MySQLPosition.parse("11111111-2222-3333-4444-555555555555:7")
    )
    return bookmarks.encode(position, "app", time.time())


def test_its_first_read_waits_and_is_on_the_primary_and_the_next_are_on_replicas(
    cluster: Any, db: Any, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = cluster.database(catch_up_timeout=0.2)
    database.execute_sql("SELECT 1")
    events: list[Any] = []
    database.route_hooks.append(events.append)
    with (
        caplog.at_level(logging.WARNING, "peewee.replicas"),
        database.causal_session(lost),
        waits_asked_for() as asked,
    ):
        for _ in range(4):
            database.execute_sql("SELECT COUNT(*) FROM item")
    assert [event.role for event in events] == ["primary", *["replica"] * 3]
    assert asked[0] == 0.2
    assert events[0].duration > 0.15
    assert len([record for record in caplog.records if "history" in record.getMessage()]) == 1
    assert database.stats()["positions_lost"] == 1
    database.close()


def test_another_that_is_lost_with_it_is_not_waited_for(
    cluster: Any, db: Any, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The primary is asked at once, and on replicas nothing is waited for in vain."""
    database = cluster.database(catch_up_timeout=0.2)
    events: list[Any] = []
    with (
        caplog.at_level(logging.WARNING, "peewee.replicas"),
        waits_asked_for("4000000000") as of_mariadb,
        waits_asked_for("555555555555") as of_mysql,
    ):
        for _ in range(4):
            with database.causal_session(lost):
                database.execute_sql("SELECT COUNT(*) FROM item")
            database.route_hooks[:] = [events.append]
    assert len(of_mariadb) + len(of_mysql) <= 2  # by the first, on each of two replicas
    assert {event.role for event in events} == {"replica"}
    assert len([record for record in caplog.records if "history" in record.getMessage()]) == 1
    database.close()


def test_with_no_fallback_the_read_itself_is_served_by_a_replica(cluster: Any, db: Any, lost: str) -> None:
    database = cluster.database(catch_up_timeout=0.2, fallback="error")
    events: list[Any] = []
    database.route_hooks.append(events.append)
    with database.causal_session(lost), database.readonly():
        database.execute_sql("SELECT COUNT(*) FROM item")
    assert [event.role for event in events] == ["replica"]
    database.close()


def test_in_a_snapshot_a_lost_position_is_given_up_too(cluster: Any, db: Any, lost: str) -> None:
    database = cluster.database(catch_up_timeout=0.2, fallback="error")
    events: list[Any] = []
    database.route_hooks.append(events.append)
    with database.causal_session(lost), database.readonly(snapshot=True):
        database.execute_sql("SELECT COUNT(*) FROM item")
    assert [event.role for event in events] == ["replica"]
    database.close()


def test_a_primary_that_cannot_say_what_it_has_fails_no_read(
    cluster: Any, db: Any, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = cluster.database(catch_up_timeout=0.05)

    def refuse(_: object) -> Any:
        raise peewee.OperationalError(1227, "access denied")

    monkeypatch.setattr(database._parts.consistency.primary, "missing", refuse)
    with database.causal_session(lost):
        for _ in range(3):
            database.execute_sql("SELECT COUNT(*) FROM item")
    assert database.stats()["fallbacks"] == 3
    assert database.stats()["positions_lost"] == 0
    database.close()


def test_the_thread_around_it_is_soon_free_of_it(cluster: Any, db: Any, lost: str) -> None:
    database = cluster.database(catch_up_timeout=0.2)
    with database.bind_ctx([Item]):
        with database.causal_session(lost):
            Item.create(name="inside")
        events: list[Any] = []
        database.route_hooks.append(events.append)
        for _ in range(4):
            assert Item.get(name="inside").name == "inside"  # what was written inside still counts
        assert [event.role for event in events] == ["primary", *["replica"] * 3]
    database.close()
