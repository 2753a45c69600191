"""A node that hangs costs a bounded time, and a long read on one that is well is left alone."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from peewee import OperationalError
from support import waiting
from support.clusters import SERVERS
from support.clusters.repaired import repaired
from support.databases.nodes import nodes_of

from peewee_replicas import PooledReplicatedDatabase

READ = "SELECT COUNT(*) FROM mark"


until = functools.partial(waiting.until, seconds=30.0)


@pytest.fixture(scope="module", params=SERVERS)
def shared(request: pytest.FixtureRequest) -> Iterator[Any]:
    with repaired(request.param, 2, []) as cluster:
        cluster.primary.execute(f"CREATE TABLE {cluster.database_name}.mark (n INT)")
        cluster.sync()
        yield cluster


@pytest.fixture
def nodes(shared: Any) -> Iterator[Any]:
    yield shared
    for node in shared.nodes:
        node.resume()


class Reads:
    """Threads that read, and what they met."""

    def __init__(self, database: Any, number: int, sql: str = READ, scope: Any = None) -> None:
        self.database, self.sql, self.scope = database, sql, scope
        self.failures: list[BaseException] = []
        self.longest = 0.0
        self.done = [0] * number
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(index,)) for index in range(number)]

    def __enter__(self) -> Reads:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)

    def work(self, index: int) -> None:
        try:
            while not self.stopped.is_set():
                began = time.monotonic()
                self.database.execute_sql(self.sql)
                self.longest = max(self.longest, time.monotonic() - began)
                self.done[index] += 1
            self.database.close()
        except BaseException as exc:
            self.failures.append(exc)


@pytest.mark.lesson(21)
@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_a_hung_replica_costs_one_bounded_wait_and_no_read(nodes: Any, cls: Any) -> None:
    database = nodes.database(cls, probe_interval=0.5, consistency="eventual")
    database.execute_sql(READ)
    assert database._parts.cluster.prober.looked.wait(30)
    with Reads(database, 6) as reads:
        until(lambda: min(reads.done) > 5)
        nodes.replicas[0].pause()
        until(lambda: database.replicas[0].state == "ejected")
        seen = list(reads.done)
        until(lambda: all(now > then + 5 for now, then in zip(reads.done, seen, strict=True)))
        assert database.replicas[1].state == "up"
        nodes.replicas[0].resume()
        until(lambda: database.replicas[0].state == "up")
    assert not reads.failures
    assert database.stats()["fallbacks"] == 0
    assert database.stats()["hung_up"] >= 1
    assert reads.longest < 20  # without the prober, for ever
    database.close()
    database.dispose()


def test_a_long_read_on_a_node_that_is_well_is_not_cut(nodes: Any) -> None:
    database = nodes.database(probe_interval=0.1, consistency="eventual")
    assert database._parts.cluster.prober.limit == 1.0
    for _ in range(4):
        database.execute_sql(READ)
    with Reads(database, 2, "SELECT SLEEP(3)") as reads:  # outlasts every timeout of the prober's
        until(lambda: min(reads.done) > 0)
    assert not reads.failures
    assert database.stats()["retries"] == 0
    assert [replica.state for replica in database.replicas] == ["up", "up"]
    database.close()
    database.dispose()


def test_a_hung_node_delays_what_is_known_of_the_others(nodes: Any) -> None:
    """Not at all, that is."""
    database = nodes.database(probe_interval=0.1, consistency="eventual", max_lag=0.5)
    database.execute_sql(READ)
    assert database._parts.cluster.prober.looked.wait(30)
    first, second = nodes_of(database)
    nodes.replicas[0].pause()
    until(lambda: first.state == "ejected")
    # One round after the other takes a moment, while the hung one is tried aside.
    taken: list[float] = []
    judged = second.probed

    def note(*given: Any) -> None:
        taken.append(time.monotonic())
        judged(*given)

    second.probed = note  # type: ignore[method-assign]
    until(lambda: len(taken) >= 20)
    pauses = sorted(after - before for before, after in itertools.pairwise(taken))
    assert pauses[len(pauses) // 2] < 0.9  # of every try of the hung one, 1 s
    nodes.replicas[0].resume()
    until(lambda: first.state == "up")
    database.close()
    database.dispose()


def test_a_primary_that_is_slow_at_first_is_waited_for(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scope with a bound waits until all were looked at, and needs to know lag then."""
    database = nodes.database(probe_interval=2.0, consistency="eventual")
    found = database._parts.cluster.prober
    judged = threading.Semaphore(0)
    for replica in nodes_of(database):
        take = replica.probed
        replica.probed = lambda *given, take=take: (take(*given), judged.release())
    open_probe = database._parts.replicas.open_probe

    def open_late(replica: Any, *given: Any) -> Any:
        if replica is database._parts.cluster.reader:
            for _ in database.replicas:
                assert judged.acquire(timeout=30)
        return open_probe(replica, *given)

    monkeypatch.setattr(database._parts.replicas, "open_probe", open_late)
    database.execute_sql(READ)
    assert found.looked.wait(30)
    assert None not in [replica.lag for replica in nodes_of(database)]
    database.dispose()


def test_a_snapshot_on_a_hung_node_ends_with_an_error(nodes: Any) -> None:
    database = nodes.database(probe_interval=0.3, consistency="eventual")
    database.execute_sql(READ)
    assert database._parts.cluster.prober.looked.wait(30)
    with database.readonly(snapshot=True):
        database.execute_sql(READ)
        route = database.explain_route(READ)
        assert route.node is not None
        mine = nodes.node(route.node)
        mine.pause()
        with pytest.raises(OperationalError, match="snapshot"):
            database.execute_sql(READ)
    mine.resume()
    until(lambda: all(replica.state == "up" for replica in database.replicas))
    database.close()
    database.dispose()
