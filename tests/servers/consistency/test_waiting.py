"""Reads that wait for a replica: for how long, how many of them, and what for."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import peewee
import pytest
from support.clusters import own_cluster
from support.clusters.lagging import (
    LONG,
    SHORT,
    Slot,
    bound,
    frozen,
    n_of,
    read_and_close,
    waits_asked_for,
    watched,
)
from support.databases.nodes import nodes_of
from support.forms import threads_only
from support.waiting import until

from peewee_replicas import (
    PooledReplicatedDatabase,
)
from peewee_replicas.consistency import catch_up

pytestmark = pytest.mark.usefixtures("form")


@pytest.mark.lesson(15)
@threads_only("starts threads or an event loop itself")
def test_losers_of_one_key_see_the_winner(own_three: Any) -> None:
    """The loser's error frees no position of its own, and may come before the winner's is published."""
    threads, rounds = 4, 60
    with bound(own_three, PooledReplicatedDatabase, catch_up_timeout=LONG) as db:
        barrier = threading.Barrier(threads, timeout=60)

        def work(me: int) -> tuple[int, int]:
            lost = missed = 0
            with db.connection_context():
                for turn in range(rounds):
                    barrier.wait()
                    try:
                        Slot.create(name=f"key {turn}", n=me)
                    except peewee.IntegrityError:
                        lost += 1
                        missed += n_of(f"key {turn}") is None
            return lost, missed

        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(work, range(threads)))
        assert sum(lost for lost, _ in found) == rounds * (threads - 1)
        assert sum(missed for _, missed in found) == 0
        reads = db.stats()["replicas"]
        assert reads > 0


def test_waiting_is_bounded_over_all_nodes_together(own_three: Any) -> None:
    timeout = 1.0
    with (
        waits_asked_for() as asked,
        bound(own_three, catch_up_timeout=timeout) as db,
        frozen(own_three),
    ):

        def read() -> list[float]:
            """What one read asks for."""
            before = len(asked)
            assert n_of() == 2
            assert sum(asked[before:]) <= timeout * 1.1  # a server's clock is not the client's
            return [seconds for seconds in asked[before:] if seconds]

        def waits() -> int:
            return sum(seconds > 0 for seconds in asked)

        Slot.update(n=2).execute()
        began = time.monotonic()
        assert read()[0] == timeout
        assert time.monotonic() - began >= timeout * 0.9
        until(lambda: read() or waits() == 2)  # the other one's turn has come
        assert waits() == 2
        looks = len(asked)
        until(lambda: read() or len(asked) >= looks + 4)
        assert waits() == 2  # nobody waits again for what does not move
        assert db.stats()["waits"] == len(asked)


def test_a_replica_that_moves_again_is_used_again(pair: Any) -> None:
    with bound(pair, catch_up_timeout=SHORT) as db, frozen(pair):
        Slot.update(n=2).execute()
        assert n_of() == 2
        pair.replicas[0].thaw()
        pair.sync()

        def served() -> bool:
            with watched(db) as events:
                assert n_of() == 2
            return events[-1].role == "replica"

        until(served)


@threads_only("starts threads or an event loop itself")
def test_only_so_many_wait_on_one_replica(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "WAITERS", 2)
    timeout = 60.0
    with (
        waits_asked_for() as asked,
        bound(pair, catch_up_timeout=timeout, consistency="process") as db,
        ThreadPoolExecutor(6) as pool,
    ):
        replica = nodes_of(db)[0]
        n_of()
        with frozen(pair):
            Slot.update(n=2).execute()
            waiting = []
            for number in (1, 2):
                waiting.append(pool.submit(read_and_close, db))
                until(lambda number=number: replica.progress.waiting == number)
            others = [pool.submit(read_and_close, db) for _ in range(4)]
            assert [other.result(timeout / 2) for other in others] == [2] * 4
            assert replica.progress.waiting == 2
        assert [one.result(timeout) for one in waiting] == [2] * 2
        assert asked == [timeout] * 2
        assert db.stats()["waits"] == 2
        assert db.stats()["behind"] == 4


@threads_only("aiomysql has no timeout for reading")
def test_a_wait_ends_before_the_clients_own_timeout(pair: Any) -> None:
    with (
        waits_asked_for() as asked,
        bound(pair, catch_up_timeout=LONG, read_timeout=4) as db,
        frozen(pair),
        watched(db) as events,
    ):
        Slot.update(n=2).execute()
        assert n_of() == 2
        assert asked == [2.0]
        assert events[-1].role == "primary"
        assert db.stats()["replica-1.ejections"] == 0
        assert db.stats()["retries"] == 0


def test_a_read_longer_than_a_packet_waits_too(server: str) -> None:
    with own_cluster(server, replicas=1, options={"*": {"max_allowed_packet": "64M"}}) as cluster:
        database = cluster.database(catch_up_timeout=5.0)
        database.execute_sql("CREATE TABLE item (n INT)")
        for length in (2**24 - 30, 2**24, 2**25):
            database.execute_sql("INSERT INTO item VALUES (1)")
            sql = f"SELECT /*{'x' * length}*/ 1"
            assert database.execute_sql(sql).fetchone() == (1,)
            assert database.execute_sql("SELECT 2").fetchone() == (2,)
        assert database.stats()["replica-1.reads"] == 6
