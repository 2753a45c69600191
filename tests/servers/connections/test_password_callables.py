"""A callable as `password` is asked for each physical connection, and its failures say nothing about a node.

Where a connection is opened was listed from the callers of `open_connection()`: the primary's for writing and
for reading, a replica's, a snapshot's and the prober's; in the plain, the pooled and the asyncio form. What
the servers count as logins decides how often the callable should have been asked.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support.clusters.lagging import Slot, bound, n_of
from support.databases.async_pools import count, making
from support.waiting import until

from peewee_replicas import NoReplicaAvailable, PasswordUnavailable, PooledReplicatedDatabase
from peewee_replicas.nodes import breaker

make = pytest.fixture(making)
HIDDEN = "what the secret store said"


class Store:
    """Knows the cluster's password, and who has asked for it."""

    def __init__(self, cluster: Any) -> None:
        self.password = cluster.password
        self.asked: Counter[str] = Counter()
        self.threads: set[str] = set()
        self.fails_for: set[str] = set()

    def __call__(self, node: Any) -> str:
        assert node.host
        self.asked[node.name] += 1
        self.threads.add(threading.current_thread().name)
        if node.name in self.fails_for:
            raise LookupError(HIDDEN)
        return str(self.password)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "SHORTEST_BACKOFF", 0.001)
    monkeypatch.setattr(breaker, "LONGEST_BACKOFF", 0.002)


def logins(pair: Any) -> dict[str, int]:
    return {name: counts.connections for name, counts in pair.counts().items()}


@pytest.mark.usefixtures("form")
def test_it_is_asked_once_for_each_connection(pair: Any) -> None:
    store = Store(pair)
    with bound(pair, password=store) as db:
        pair.reset_counts()
        for _ in range(3):
            n_of()
            Slot.update(n=Slot.n + 1).execute()
        with db.readonly(snapshot=True):
            n_of()
        with db.readonly(), db.primary():
            n_of()
        db.on_primary.readonly()(n_of)()
        assert store.asked == logins(pair)
        assert {*store.asked} >= {"primary", "replica-1"}


def test_a_pool_asks_for_new_connections_only(pair: Any) -> None:
    store = Store(pair)
    with bound(pair, PooledReplicatedDatabase, password=store) as db:
        db.close()
        store.asked.clear()
        pair.reset_counts()
        for _ in range(5):
            with db.connection_context():
                n_of()
                Slot.update(n=Slot.n + 1).execute()
        assert store.asked == logins(pair)
        assert max(store.asked.values()) <= 1


def test_a_replica_may_have_its_own(pair: Any) -> None:
    general, own = Store(pair), Store(pair)
    replica = pair.replicas[0]
    listed = [{"name": "r", "host": replica.host, "port": replica.port, "password": own}]
    with bound(pair, password=general, replicas=listed, consistency="eventual"):
        n_of()
        Slot.update(n=2).execute()
    assert set(own.asked) == {"r"}
    assert set(general.asked) == {"primary"}


@pytest.mark.usefixtures("form")
def test_the_prober_asks_too(pair: Any) -> None:
    store = Store(pair)
    with bound(pair, password=store, probe_interval=1) as db:
        n_of()
        until(lambda: db.replicas[0].lag is not None)
        assert any(name.startswith("prober") for name in store.threads)
        db.dispose()  # ends the prober


@pytest.mark.usefixtures("form")
def test_a_failure_ejects_no_node_and_names_it(pair: Any) -> None:
    store = Store(pair)
    with bound(pair, password=store, fallback="error") as db:
        db.close()
        if hasattr(db, "close_unused"):
            db.close_unused()
            for database in db._parts.replicas.made():
                database.close_unused()
        store.fails_for = {"replica-1"}
        words = "replica-1.*PasswordUnavailable.*raised LookupError"
        with pytest.raises(NoReplicaAvailable, match=words) as none:
            n_of()
        assert HIDDEN not in str(none.value)
        assert (db.replicas[0].state, db.stats()["replica-1.ejections"]) == ("up", 0)
        Slot.update(n=5).execute()
        db.close()
        if hasattr(db, "close_unused"):
            db.close_unused()
        store.fails_for.add("primary")
        with pytest.raises(
            PasswordUnavailable, match=r"^the primary \(.*\): .*raised LookupError; no fault"
        ) as raised:
            Slot.update(n=6).execute()
        assert HIDDEN not in str(raised.value)
        assert isinstance(raised.value.__cause__, LookupError)
        assert db.health().writes  # the primary itself is fine
        store.fails_for.clear()
        Slot.update(n=7).execute()
        until(lambda: not db._parts.cluster.replicas.all[0].is_resting())
        assert n_of() == 7


def cached(pair: Any) -> tuple[Callable[..., str], list[bool]]:
    asked: list[bool] = []

    def password(node: Any, refused: bool = False) -> str:
        asked.append(refused)
        return str(pair.password) if refused else "the last one"

    return password, asked


def in_turn(pair: Any) -> tuple[Callable[..., str], list[bool]]:
    asked: list[bool] = []

    def password(node: Any) -> str:
        asked.append(bool(asked))
        return str(pair.password) if len(asked) > 1 else "the last one"

    return password, asked


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("kind", [cached, in_turn])
def test_a_refused_one_is_asked_for_once_more(pair: Any, kind: Any) -> None:
    password, asked = kind(pair)
    db = pair.database(password=password, consistency="eventual")
    with db.primary():
        assert db.execute_sql("SELECT 1").fetchone() == (1,)
    assert asked == [False, True]
    db.close()


@pytest.mark.usefixtures("form")
def test_the_same_one_is_not_sent_twice(pair: Any) -> None:
    asked = []

    def password(node: Any, **words: Any) -> str:
        asked.append(words)
        return "wrong"

    db = pair.database(password=password)
    before = refused_logins(pair)
    with pytest.raises(Exception, match="Access denied") as raised, db.primary():
        db.execute_sql("SELECT 1")
    assert raised.value.args[0] == 1045
    assert asked == [{"refused": False}, {"refused": True}]
    assert refused_logins(pair) - before == 1


def refused_logins(pair: Any) -> int:
    return int(pair.primary.execute("SHOW GLOBAL STATUS LIKE 'Aborted_connects'")[0][1])


@pytest.mark.parametrize("answer", [None, 5])
def test_anything_but_text_is_a_failure(pair: Any, answer: Any) -> None:
    db = pair.database(password=lambda node: answer)
    with pytest.raises(PasswordUnavailable, match=f"returned a {type(answer).__name__}"), db.primary():
        db.execute_sql("SELECT 1")


def test_a_slow_one_does_not_block_the_event_loop(cluster: Any, make: Any) -> None:
    ticking = threading.Event()

    def password(node: Any) -> str:
        assert ticking.wait(60)  # set by the loop, which is therefore running
        return str(cluster.password)

    database = make(password=password)

    async def work() -> None:
        reading = asyncio.ensure_future(count(database))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, ticking.set)
        assert await reading == 100
        await database.close_pool()

    asyncio.run(work())
