"""A read that was sent and lost its connection is sent once more, on the primary only if its node is dead."""

from __future__ import annotations

from typing import Any

import pytest
from peewee import OperationalError

pytestmark = pytest.mark.once


@pytest.mark.parametrize("fallback", ["primary", "error"])
@pytest.mark.parametrize("scope", ["readonly", "none"])
def test_a_query_that_outlasts_its_read_timeout_stays_off_the_primary(
    cluster: Any, fallback: str, scope: str
) -> None:
    database = cluster.database(read_timeout=1, fallback=fallback)
    events: list[Any] = []
    for _ in range(4):
        database.execute_sql("SELECT 1")
    with database.primary():
        database.execute_sql("SELECT 1")  # so that the next read has a position to reach
    database.route_hooks.append(events.append)
    with pytest.raises(OperationalError, match="2013"):
        if scope == "readonly":
            with database.readonly():
                database.execute_sql("SELECT SLEEP(3)")
        else:
            database.execute_sql("SELECT SLEEP(3)")
    assert [(event.role, event.attempts) for event in events] == [("replica", 2)]
    assert [replica.state for replica in database.replicas] == ["up", "up"]
    database.close()
