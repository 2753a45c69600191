"""Reads that wait for a replica: for how long, how many of them, and what for."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import peewee
import pytest
from support.lagging import LONG, SHORT, Slot, bound, frozen, n_of, watched
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase, progress


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
    with bound(own_three, catch_up_timeout=timeout) as db, frozen(own_three):
        Slot.update(n=2).execute()
        began = time.monotonic()
        assert n_of() == 2
        first = time.monotonic() - began
        assert timeout * 0.9 <= first < timeout * 1.9
        assert db.stats()["waits"] >= 1
        began = time.monotonic()
        for _ in range(10):
            assert n_of() == 2
        assert time.monotonic() - began < timeout * 1.9  # the other one's turn has come
        assert db.stats()["waits"] >= 2
        began = time.monotonic()
        for _ in range(10):
            assert n_of() == 2
        assert time.monotonic() - began < timeout * 0.5  # nobody waits again for what does not move


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


def test_only_so_many_wait_on_one_replica(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAITERS", 2)
    threads, timeout = 6, 2.0
    with bound(pair, catch_up_timeout=timeout, consistency="process") as db:
        n_of()
        barrier = threading.Barrier(threads, timeout=60)
        with frozen(pair):
            Slot.update(n=2).execute()

            def work(_: int) -> tuple[int | None, float]:
                with db.connection_context():
                    with db.readonly(consistency="eventual"):
                        n_of()  # opens the connection
                    with db.primary():
                        pass
                    barrier.wait()
                    began = time.monotonic()
                    return n_of(), time.monotonic() - began

            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(work, range(threads)))
        assert [n for n, _ in found] == [2] * threads
        assert sum(seconds > timeout * 0.8 for _, seconds in found) == 2
        assert db.stats()["waits"] == 2


def test_a_wait_ends_before_the_clients_own_timeout(pair: Any) -> None:
    with bound(pair, catch_up_timeout=LONG, read_timeout=1) as db, frozen(pair):
        Slot.update(n=2).execute()
        began = time.monotonic()
        with watched(db) as events:
            assert n_of() == 2
        assert time.monotonic() - began < LONG / 2
        assert events[-1].role == "primary"
        assert db.stats()["replica-1.ejections"] == 0
        assert db.stats()["retries"] == 0
