"""A configured replica that is none, or not as it should be, is noticed and said."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import waiting
from support.clusters import SERVERS
from support.clusters.repaired import repaired

READ = "SELECT COUNT(*) FROM mark"


until = functools.partial(waiting.until, seconds=30.0)


@pytest.fixture(params=SERVERS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    with repaired(request.param, 2, [], spoils=True) as cluster:
        cluster.primary.execute(f"CREATE TABLE {cluster.database_name}.mark (n INT)")
        cluster.sync()
        yield cluster


def probed(cluster: Any, user: str) -> Any:
    database = cluster.database(probe_interval=0.1, consistency="eventual", user=user)
    database.execute_sql(READ)
    assert database._parts.cluster.prober.looked.wait(30)
    return database


def used(database: Any, condition: Callable[[], Any]) -> None:
    until(lambda: database.execute_sql(READ) and condition())


@pytest.mark.lesson(27)
def test_a_replica_in_a_wrong_role_is_noticed(cluster: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One cluster for all of it, which ends in two primaries."""
    told = probed(cluster, cluster.admin_user)
    untold = probed(cluster, cluster.user)  # may not ask for the state of replication
    first = cluster.replicas[0]
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        first.execute("SET GLOBAL read_only = OFF")
        for database in (told, untold):
            used(database, lambda: caplog.text.count("read_only=OFF") == 2)
            assert database.replicas[0].state == "up"
        time.sleep(0.5)
        assert caplog.text.count("read_only=OFF") == 2  # once for each database
    if cluster.server == "mysql":
        first.execute("SET GLOBAL offline_mode = ON")
        try:
            for database in (told, untold):
                # An ordinary user is turned away, an administrator looks around.
                used(database, lambda database=database: database.replicas[0].state in ("unfit", "ejected"))
                assert "offline" in database._parts.router.reasons(set())
            assert told.replicas[0].state == "unfit"
        finally:  # the cluster goes on to other tests
            first.execute("SET GLOBAL offline_mode = OFF")
        for database in (told, untold):
            used(database, lambda database=database: database.replicas[0].state == "up")
    _promote(cluster, told, untold)
    for database in (told, untold):
        database.close()
        database.dispose()


def _promote(cluster: Any, told: Any, untold: Any) -> None:
    first = cluster.replicas[0]
    first.execute("STOP REPLICA")
    first.execute("RESET REPLICA ALL")
    used(told, lambda: told.replicas[0].role == "detached")
    assert told.replicas[0].state == "unfit"
    assert "was it promoted?" in told._parts.router.reasons(set())
    assert untold.replicas[0].state == "up"  # as long as nothing is written, nothing is missing
    first.execute(f"INSERT INTO {cluster.database_name}.mark VALUES (7)")
    used(untold, lambda: untold.replicas[0].state == "unfit")
    assert untold.replicas[0].role == "detached"
    assert "writes of its own" in untold._parts.router.reasons(set())
    for database in (told, untold):
        assert database.execute_sql(READ).fetchone() == (0,)
        assert database.replicas[1].state == "up"
