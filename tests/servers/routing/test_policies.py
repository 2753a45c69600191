"""Who serves how much, as the servers counted it."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from support.forms import threads_only
from support.forms.threads import in_threads

from peewee_replicas import ConfigurationError, LeastBusy, Random, Replica, RoundRobin

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]

THREADS = 8
EACH = 150


def share(cluster: Any) -> list[int]:
    counts = cluster.counts()
    assert counts["primary"].reads == 0
    return [counts[node.name].reads for node in cluster.replicas]


def weighted(cluster: Any, *weights: int) -> list[dict[str, Any]]:
    return [
        {"name": node.name, "host": node.host, "port": node.port, "weight": weight}
        for node, weight in zip(cluster.replicas, weights, strict=True)
    ]


def read_in_threads(database: Any) -> None:
    def work() -> None:
        for _ in range(EACH):
            database.execute_sql("SELECT 1").fetchall()
        database.close()

    in_threads(THREADS, work)


@pytest.mark.lesson(32)
def test_round_robin_is_exact_under_threads(cluster: Any, db: Any) -> None:
    # Each read takes one number of a shared counter, and each turn is fixed by its number: no bound needed.
    database = cluster.database(consistency="eventual")
    read_in_threads(database)
    assert share(cluster) == [THREADS * EACH // 2] * 2


@pytest.mark.lesson(34)
def test_weights_are_exact_under_threads(cluster: Any, db: Any) -> None:
    database = cluster.database(consistency="eventual", replicas=weighted(cluster, 1, 3))
    read_in_threads(database)
    assert share(cluster) == [THREADS * EACH // 4, THREADS * EACH * 3 // 4]


def test_random_follows_the_weights(cluster: Any, db: Any) -> None:
    database = cluster.database(
        consistency="eventual",
        replicas=weighted(cluster, 1, 2),
        policy=Random(random.Random(20)),
    )
    total = 1200
    for _ in range(total):
        database.execute_sql("SELECT 1").fetchall()
    seen = share(cluster)
    expected = [total / 3, total * 2 / 3]
    chi_square = sum((got - wanted) ** 2 / wanted for got, wanted in zip(seen, expected, strict=True))
    assert chi_square < 10.83  # one degree of freedom, 0.1 %; the generator is seeded, so it never varies


def test_random_scopes_follow_the_weights_too(cluster: Any, db: Any) -> None:
    database = cluster.database(consistency="eventual", policy=Random(random.Random(3)))
    nodes = []
    for _ in range(200):
        with database.readonly():
            nodes.append(database.execute_sql("SELECT @@server_id").fetchone()[0])
    ones = nodes.count(nodes[0])
    assert (ones - 100) ** 2 / 100 + (200 - ones - 100) ** 2 / 100 < 10.83


@threads_only("waits for a thread, and lets no task run")
def test_least_busy_uses_all_and_avoids_the_busy_one(cluster: Any, db: Any) -> None:
    database = cluster.database(consistency="eventual", policy="least-busy")
    for _ in range(10):
        database.execute_sql("SELECT 1")
    assert share(cluster) == [5, 5]  # all idle, so they take turns

    waiting = threading.Thread(
        target=lambda: (database.execute_sql("SELECT SLEEP(1.5)").fetchall(), database.close())
    )
    waiting.start()
    while not any(replica.in_flight for replica in database.replicas):
        pass
    busy = next(place for place, replica in enumerate(database.replicas) if replica.in_flight)
    before = share(cluster)
    for _ in range(10):
        database.execute_sql("SELECT 1")
    assert waiting.is_alive()
    after = share(cluster)
    waiting.join()
    assert after[1 - busy] - before[1 - busy] == 10


def test_a_replica_of_weight_0_is_never_read(cluster: Any, db: Any) -> None:
    for policy in ("round-robin", "random", "least-busy"):
        database = cluster.database(consistency="eventual", replicas=weighted(cluster, 0, 1), policy=policy)
        cluster.reset_counts()
        for _ in range(20):
            database.execute_sql("SELECT 1")
        with database.readonly():
            database.execute_sql("SELECT 1")
        assert share(cluster) == [0, 21]
        database.close()


def test_a_callable_chooses(cluster: Any, db: Any) -> None:
    given: list[Any] = []

    def second(replicas: Any) -> Replica:
        given.append(replicas)
        return replicas[1]  # type: ignore[no-any-return]  # untyped on purpose

    database = cluster.database(consistency="eventual", policy=second)
    for _ in range(10):
        database.execute_sql("SELECT 1")
    assert share(cluster) == [0, 10]
    assert len(given) == 10  # once per routed read
    assert [replica.name for replica in given[0]] == ["replica-1", "replica-2"]
    assert all(isinstance(replica, Replica) for replica in given[0])


@pytest.mark.parametrize("answer", [None, 5, "replica-1"])
def test_a_callable_that_returns_no_replica_is_a_clear_error(cluster: Any, db: Any, answer: Any) -> None:
    database = cluster.database(consistency="eventual", policy=lambda replicas: answer)
    with pytest.raises(ConfigurationError, match=r"policy returned .* replica-1, replica-2"):
        database.execute_sql("SELECT 1")
    assert share(cluster) == [0, 0]


@pytest.mark.lesson(32)
def test_the_turn_advances_once_per_routed_read_and_for_nothing_else(cluster: Any, db: Any) -> None:
    for policy in ("round-robin", "least-busy"):
        database = cluster.database(consistency="eventual", policy=policy)
        told: list[str] = []
        database.route_hooks.append(lambda event, told=told: told.append(event.node))
        for _ in range(6):
            database.connect(reuse_if_open=True)
            database.explain_route("SELECT 1")
            database.execute_sql("SELECT 1")
            with database.primary():
                database.execute_sql("SELECT 1")
            database.execute_sql("SELECT CONNECTION_ID()")
            database.close()
        assert told[::3] == ["replica-1", "replica-2"] * 3
        assert set(told[1::3]) == set(told[2::3]) == {"primary"}


@threads_only("the pool may have a connection already")
def test_connect_opens_the_node_that_the_next_read_then_uses(cluster: Any, db: Any) -> None:
    for policy in ("round-robin", "random", "least-busy"):
        database = cluster.database(consistency="eventual", policy=policy)
        for _ in range(6):
            cluster.reset_counts()
            database.connect()
            database.execute_sql("SELECT 1")
            counts = cluster.counts()
            used = [(counts[node.name].connections, counts[node.name].reads) for node in cluster.replicas]
            assert sorted(used) == [(0, 0), (1, 1)]
            assert counts["primary"].connections == 0
            database.close()


@pytest.mark.lesson(32)
def test_two_databases_share_no_turn_weight_or_counter(cluster: Any, db: Any) -> None:
    for shared in ("round-robin", RoundRobin(), RoundRobin, LeastBusy()):
        one = cluster.database(consistency="eventual", policy=shared, replicas=weighted(cluster, 1, 1))
        two = cluster.database(consistency="eventual", policy=shared, replicas=weighted(cluster, 1, 1))
        nodes: dict[str, list[str]] = {"one": [], "two": []}
        one.route_hooks.append(lambda event, nodes=nodes: nodes["one"].append(event.node))
        two.route_hooks.append(lambda event, nodes=nodes: nodes["two"].append(event.node))
        for _ in range(4):
            one.execute_sql("SELECT 1")
            two.execute_sql("SELECT 1")
        assert nodes["one"] == nodes["two"] == ["replica-1", "replica-2"] * 2
        with one.readonly():
            two.execute_sql("INSERT INTO item (name, n) VALUES ('two', 1)")  # no scope of its own
        one.replicas[0].eject("a test")
        assert [replica.state for replica in two.replicas] == ["up", "up"]
        assert one.stats()["primary"] == 0
        assert two.stats()["primary"] == 1
        one.close()
        two.close()
