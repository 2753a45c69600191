"""`health()` over real servers: what it says while nodes come and go, and that it asks none of them.

What can change a health: a replica or the primary is killed, the primary is made read-only, and each comes
back. The first test makes them all on one pair; asking must cost the servers nothing.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
from support import waiting
from support.forms.threads import in_threads

from peewee_replicas import PrimaryReadOnly
from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.once

READ = "SELECT COUNT(*) FROM slot"
WRITE = "UPDATE slot SET n = n + 1"

until = functools.partial(waiting.until, seconds=60.0)


def test_health_follows_what_the_prober_finds(own_pair: LocalCluster) -> None:
    db = own_pair.database(probe_interval=0.1, consistency="eventual", connect_timeout=5)
    (replica,) = own_pair.replicas
    db.execute_sql(READ)
    until(lambda: db._parts.cluster.prober.looked.is_set())

    def serve() -> tuple[bool, tuple[str, ...], bool]:
        health = db.health()
        assert health.probed
        return health.reads, health.read_by, health.writes

    assert serve() == (True, ("replica-1",), True)
    replica.kill()
    until(lambda: serve() == (True, ("primary",), True))
    own_pair.primary.kill()
    until(lambda: serve() == (False, (), False))
    assert "cannot be reached" in db.health().cause
    replica.start()
    until(lambda: serve() == (True, ("replica-1",), False))
    own_pair.primary.start()
    until(lambda: serve() == (True, ("replica-1",), True))
    own_pair.primary.execute("SET GLOBAL read_only = ON")
    try:
        until(lambda: serve() == (True, ("replica-1",), False))
        assert db.health().cause == "the primary is read-only"
    finally:
        own_pair.primary.execute("SET GLOBAL read_only = OFF")
    until(lambda: serve() == (True, ("replica-1",), True))


def test_without_a_prober_a_refused_write_is_known_until_one_succeeds(own_pair: LocalCluster) -> None:
    db = own_pair.database(probe_interval=None)
    db.execute_sql(WRITE)
    assert db.health().writes
    own_pair.primary.execute("SET GLOBAL read_only = ON")
    try:
        with pytest.raises(PrimaryReadOnly):
            db.execute_sql(WRITE)
        assert not db.health().writes
    finally:
        own_pair.primary.execute("SET GLOBAL read_only = OFF")
    db.execute_sql(WRITE)
    assert db.health().writes


def test_asking_costs_the_servers_nothing(cluster: LocalCluster) -> None:
    db = cluster.database(probe_interval=None)
    cluster.reset_counts()
    in_threads(2, lambda: [db.health() for _ in range(50)])
    for node, counts in cluster.counts().items():
        assert (counts.connections, counts.reads, counts.writes) == (0, 0, 0), node


def test_both_forms_answer(cluster: LocalCluster, form: str) -> None:
    db: Any = cluster.database()
    db.execute_sql("SELECT 1")
    health = db.health()
    assert (health.reads, health.writes) == (True, True)
    assert set(health.read_by) == {"replica-1", "replica-2"}
    db.close()
