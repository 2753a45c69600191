"""A bookmark of a history that the primary does not have: read on the primary, and no burden afterwards."""

from __future__ import annotations

import logging
import time
from typing import Any

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


def test_its_reads_wait_once_and_then_go_to_the_primary(
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
    assert [event.role for event in events] == ["primary"] * 4
    assert asked[0] == 0.2
    assert sum(asked) <= 0.2 * 1.1  # a server's clock is not the client's
    assert events[0].duration > 0.15
    assert all("history" in event.reason for event in events[1:])
    assert len([record for record in caplog.records if "history" in record.getMessage()]) == 1
    database.close()


def test_the_thread_is_free_of_it_afterwards(cluster: Any, db: Any, lost: str) -> None:
    database = cluster.database(catch_up_timeout=0.2)
    with database.bind_ctx([Item]):
        with database.causal_session(lost):
            Item.create(name="inside")
        events: list[Any] = []
        database.route_hooks.append(events.append)
        for _ in range(4):
            assert Item.get(name="inside").name == "inside"  # what was written inside still counts
        assert [event.role for event in events] == ["replica"] * 4
    database.close()
