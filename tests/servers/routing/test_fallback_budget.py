"""What reaches the primary when replicas are gone or behind: `max_fallback_share` and `fallback="error"`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.clusters import SERVERS
from support.clusters.repaired import repaired
from support.databases.models import Item
from support.databases.nodes import nodes_of

from peewee_replicas import NoReplicaAvailable
from peewee_replicas.routing.fallback_budget import QUIET_SECONDS

SHARE = 0.2
READ = "SELECT name FROM item WHERE id = 1"


@pytest.fixture(scope="module", params=SERVERS)
def breakable(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A cluster whose replicas the tests of this module kill and freeze."""
    with repaired(request.param, 2, []) as cluster:
        yield cluster


@pytest.fixture
def fragile(breakable: Any) -> Iterator[Any]:
    """The same, whole, with one row in `item`."""
    for node in breakable.replicas:
        node.start()
        node.thaw()
    database = breakable.database(consistency="eventual", probe_interval=None)
    with database.bind_ctx([Item]):
        database.drop_tables([Item], safe=True)
        database.create_tables([Item])
        Item.create(id=1, name="one")
        database.close()
        breakable.sync()
        breakable.reset_counts()
        yield breakable


def make(cluster: Any, **arguments: Any) -> Any:
    return cluster.database(**{"consistency": "eventual", "probe_interval": None, **arguments})


def kill_all(cluster: Any) -> None:
    for node in cluster.replicas:
        node.kill()
    cluster.reset_counts()


def try_reads(database: Any, reads: int) -> tuple[int, list[NoReplicaAvailable]]:
    """How many of so many reads were answered, and the errors of the others."""
    answered, errors = 0, []
    for _ in range(reads):
        try:
            assert database.execute_sql(READ).fetchone()[0] == "one"
            answered += 1
        except NoReplicaAvailable as exc:
            errors.append(exc)
    return answered, errors


def test_with_all_replicas_gone_only_that_share_of_the_reads_reaches_the_primary(fragile: Any) -> None:
    database = make(fragile, max_fallback_share=SHARE)
    good = 40
    assert try_reads(database, good) == (good, [])
    kill_all(fragile)
    results: list[tuple[int, list[NoReplicaAvailable]]] = []

    def work() -> None:
        results.append(try_reads(database, 60))
        database.close()

    started = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    answered = sum(result[0] for result in results)
    errors = [error for result in results for error in result[1]]
    assert answered + len(errors) == 240
    # Beyond the share: the first read, and one a second where there was no other.
    assert SHARE * 240 - 1 <= answered <= SHARE * (good + 240) + 1 + took / QUIET_SECONDS
    assert fragile.counts()["primary"].reads == answered
    stats = database.stats()
    assert stats["fallbacks"] == answered
    assert stats["fallbacks_refused"] == len(errors)
    for error in (errors[0], errors[-1]):
        for node in fragile.replicas:
            assert f"{node.name} ({node.host}:{node.port})" in str(error)
        assert "max_fallback_share=0.2" in str(error)
        assert "allow a larger share" in str(error)
    # What goes to the primary by rule is not held to it.
    with database.atomic():
        assert try_reads(database, 20)[0] == 20
    with database.primary():
        assert try_reads(database, 20)[0] == 20
    assert try_reads(database.on_primary, 20)[0] == 20
    database.close()


def test_reads_that_fall_back_because_replicas_are_behind_count_too(fragile: Any) -> None:
    database = make(fragile, consistency="session", catch_up_timeout=0.0, max_fallback_share=SHARE)
    try_reads(database, 2)
    for node in fragile.replicas:
        node.freeze()
    fragile.reset_counts()
    with database.bind_ctx([Item]):
        Item.create(name="two")
    started = time.monotonic()
    answered, errors = try_reads(database, 60)
    took = time.monotonic() - started
    # Each of these reads was tried on both replicas first, and is one read all the same.
    assert SHARE * 60 - 1 <= answered <= SHARE * 62 + 1 + took / QUIET_SECONDS
    assert answered == database.stats()["fallbacks"]
    assert "has not" in str(errors[-1])
    assert errors[-1].__cause__ is not None
    for node in fragile.replicas:
        node.thaw()
    fragile.sync()
    assert try_reads(database, 60) == (60, [])
    database.close()


def test_a_scope_or_a_snapshot_is_answered_as_a_whole_and_paid_for(fragile: Any) -> None:
    database = make(fragile, max_fallback_share=SHARE)
    kill_all(fragile)
    started = time.monotonic()
    with database.readonly():
        assert try_reads(database, 10)[0] == 10
    answered, refused = 10, 0
    for snapshot in (False, True) * 40:
        with database.readonly(snapshot=snapshot):
            here = try_reads(database, 3)
        # Refused at its first read, a scope is asked for again at each; else it stays with its node.
        answered += here[0]
        refused += len(here[1])
    took = time.monotonic() - started
    assert refused > 0
    assert answered <= SHARE * (answered + refused) + 1 + 10 + 3 * took / QUIET_SECONDS
    assert answered >= SHARE * (answered + refused) - 3
    assert fragile.counts()["primary"].reads >= answered
    database.close()


def test_without_fallback_no_read_reaches_the_primary_from_any_scope(fragile: Any) -> None:
    database = make(fragile, fallback="error")
    with database.causal_session():
        database.execute_sql(READ)  # what making the table has left unasked is asked for now
    database.close()
    kill_all(fragile)
    scopes = [
        database.readonly,
        lambda: database.readonly(snapshot=True),
        database.causal_session,
        lambda: database.readonly(consistency="session"),
    ]
    for scope in scopes:
        for _ in range(2):
            with scope(), pytest.raises(NoReplicaAvailable) as raised:
                database.execute_sql(READ)
            for node in fragile.replicas:
                assert f"{node.name} ({node.host}:{node.port})" in str(raised.value)
            assert 'fallback="primary"' in str(raised.value)
    with database.readonly(), pytest.raises(NoReplicaAvailable):
        database.cursor()
    assert fragile.counts()["primary"].reads == 0
    database.close()
    for node in fragile.replicas:
        node.start()
    for replica in nodes_of(database):
        replica.restore()
    with database.readonly():
        assert try_reads(database, 3)[0] == 3
        mine = next(replica for replica in nodes_of(database) if replica.reads)
        mine.eject("a test")  # a scope under way, whose node goes
        assert try_reads(database, 3)[0] == 3
        for replica in nodes_of(database):
            replica.eject("a test")
        with pytest.raises(NoReplicaAvailable, match="a test"):
            database.execute_sql(READ)
    assert database.stats()["fallbacks"] == 0
    database.close()
