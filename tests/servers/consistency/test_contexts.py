"""Whose writes a read has to see: threads, tasks, pools, and several databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.clusters.lagging import (
    LONG,
    MODELS,
    Slot,
    bound,
    elsewhere,
    impatient,
    n_of,
    read_and_close,
    watched,
)
from support.forms import threads_only
from support.forms.threads import in_thread
from support.proxies.relay import Relay
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]

# Threads and tasks


def test_a_new_thread_sees_what_was_written_before(lagging: Any) -> None:
    with impatient(lagging) as db:
        assert n_of() == 1
        Slot.update(n=2).execute()
        assert in_thread(lambda: read_and_close(db)) == 2


@threads_only("starts threads or an event loop itself")
def test_a_unit_of_work_sees_nothing_that_others_write_after_it_has_begun(lagging: Any) -> None:
    with impatient(lagging) as db, ThreadPoolExecutor(1) as pool:
        assert pool.submit(n_of).result() == 1
        Slot.update(n=2).execute()
        assert n_of() == 2
        assert pool.submit(n_of).result() == 1  # as it would at a server that is late
        pool.submit(db.close).result()
        assert pool.submit(read_and_close, db).result() == 2  # another unit of work


@threads_only("starts threads or an event loop itself")
def test_work_handed_on_to_a_pool_of_threads_at_level_process(lagging: Any) -> None:
    with impatient(lagging, consistency="process") as db, ThreadPoolExecutor(2) as pool:
        Slot.update(n=2).execute()
        assert list(pool.map(lambda _: read_and_close(db), range(4))) == [2] * 4

        def write(n: int) -> None:
            with db.connection_context():
                Slot.update(n=n).execute()

        pool.submit(write, 3).result()
        assert n_of() == 3

        def lose() -> None:
            with db.connection_context():
                Slot.update(n=9).where(Slot.n == 0).execute()

        elsewhere(lagging, "UPDATE slot SET n = 4")
        pool.submit(lose).result()
        assert read_and_close(db) == 4


@threads_only("starts threads or an event loop itself")
def test_what_one_thread_is_asking_for_holds_for_the_others_too(lagging: Any) -> None:
    """At level process: a read must not pass between the question to the primary and its answer."""
    with impatient(lagging, consistency="process") as db, ThreadPoolExecutor(1) as pool:
        elsewhere(lagging, "UPDATE slot SET n = 2")
        Slot.update(n=9).where(Slot.n == 0).execute()
        primary = db._parts.consistency.primary
        ask, found = primary.current, []

        def slow() -> Any:
            if not found:
                found.append(None)
                found[0] = pool.submit(read_and_close, db).result()
            return ask()

        primary.current = slow
        assert n_of() == 2
        assert found == [2]


@threads_only("starts threads or an event loop itself")
def test_a_causal_session_follows_to_thread(lagging: Any) -> None:
    async def main(db: Any) -> list[int | None]:
        with db.causal_session():
            await asyncio.to_thread(update, db, 2)
            found = [await asyncio.to_thread(read_and_close, db), n_of()]
            update(db, 3)
            found.append(await asyncio.to_thread(read_and_close, db))
            found += await asyncio.gather(*(asyncio.to_thread(read_and_close, db) for _ in range(3)))
        return found

    def update(db: Any, n: int) -> None:
        with db.connection_context() if db.is_closed() else db.causal_session():
            Slot.update(n=n).execute()

    with impatient(lagging) as db:
        n_of()
        assert asyncio.run(main(db)) == [2, 2, 3, 3, 3, 3]
        assert n_of() == 3  # what the session had seen, its surroundings have seen


@threads_only("starts threads or an event loop itself")
def test_a_causal_session_does_not_see_what_others_write(lagging: Any) -> None:
    with impatient(lagging) as db:
        assert n_of() == 1
        in_thread(lambda: (Slot.update(n=2).execute(), db.close()))
        with db.causal_session():
            assert n_of() == 1


@threads_only("starts threads or an event loop itself")
@pytest.mark.parametrize("level", ["session", "process"])
def test_to_thread_sees_what_was_written_before(lagging: Any, level: str) -> None:
    async def main(db: Any) -> int | None:
        Slot.update(n=2).execute()
        return await asyncio.to_thread(read_and_close, db)

    with impatient(lagging, consistency=level) as db:
        assert asyncio.run(main(db)) == 2


def test_nested_sessions_hand_on_what_they_have_seen(lagging: Any) -> None:
    with impatient(lagging) as db:
        with db.causal_session():
            with db.causal_session():
                Slot.update(n=2).execute()
            assert n_of() == 2
            with db.causal_session():
                assert n_of() == 2
        assert n_of() == 2


# Levels


def test_strong_sees_what_others_have_committed(pair: Any) -> None:
    with bound(pair, consistency="strong", catch_up_timeout=LONG) as db, watched(db) as events:
        for n in range(2, 42):
            elsewhere(pair, f"UPDATE slot SET n = {n}")
            assert n_of() == n
        assert {event.role for event in events} == {"replica"}
        assert db.stats()["asked"] == 40


def test_a_level_for_one_scope(lagging: Any) -> None:
    with impatient(lagging) as db:
        elsewhere(lagging, "UPDATE slot SET n = 2")
        assert n_of() == 1
        with db.readonly(consistency="strong"):
            assert n_of() == 2
        with impatient(lagging, consistency="strong") as other, other.readonly(consistency="eventual"):
            assert n_of() == 1
        Slot.update(n=3).execute()
        with db.readonly(consistency="eventual"):
            assert n_of() == 1
        with db.readonly():
            assert n_of() == 3


def test_a_scope_stays_with_the_node_that_has_served_it(lagging: Any) -> None:
    """Its reads never go backwards, although one of its nodes is ahead of the other."""
    with impatient(lagging, policy="round-robin") as db:
        own = dict(lagging.parameters(lagging.primary))
        db.init(
            db.database,
            replicas=[*db._members.nodes.given["replicas"], {"name": "ahead", "port": own["port"]}],
        )
        elsewhere(lagging, "UPDATE slot SET n = 2")
        for scope in (db.readonly, db.causal_session):
            seen = set()
            for _ in range(4):
                with scope():
                    found = {n_of() for _ in range(4)}
                assert len(found) == 1
                seen |= found
            assert 2 in seen


# Databases and pools


@pytest.mark.parametrize("level", ["session", "process"])
def test_two_databases_over_the_same_servers_share_what_was_written(lagging: Any, level: str) -> None:
    with impatient(lagging) as one, impatient(lagging, consistency=level, user="admin") as two:
        with two.bind_ctx(MODELS):
            assert n_of() == 1
            two.close()
        with one.bind_ctx(MODELS):
            Slot.update(n=2).execute()
        with two.bind_ctx(MODELS):
            assert n_of() == 2
        elsewhere(lagging, "UPDATE slot SET n = 3")
        with one.bind_ctx(MODELS):
            Slot.update(n=9).where(Slot.n == 0).execute()  # has seen that there is no 0
        two.close()
        with two.bind_ctx(MODELS):
            assert n_of() == 3


@pytest.fixture
def another_address(lagging: Any) -> Iterator[dict[str, Any]]:
    """Another address of the primary."""
    with Relay(lagging.primary.port) as relay:
        yield {"port": relay.port}


def test_databases_of_other_servers_owe_each_other_nothing(lagging: Any, another_address: Any) -> None:
    """Here at another address of the primary, where nobody has asked who it is."""
    with impatient(lagging) as one, impatient(lagging, consistency="process", **another_address) as two:
        with one.bind_ctx(MODELS):
            Slot.update(n=2).execute()
        with two.bind_ctx(MODELS):
            assert n_of() == 1
        assert two.bookmark() is None
        assert two.stats()["asked"] == two.stats()["waits"] == 0
        with two.causal_session(one.bookmark()), two.bind_ctx(MODELS):
            assert n_of() == 2


@threads_only("the prober is the same for both forms")
def test_one_server_behind_two_addresses_is_known_by_its_identity(lagging: Any, another_address: Any) -> None:
    options = {"probe_interval": 0.1, "max_lag": None}
    with impatient(lagging, **options) as one, impatient(lagging, **options, **another_address) as two:
        for db in (one, two):
            with db.bind_ctx(MODELS):
                assert n_of() == 1  # from now on somebody looks
        until(lambda: two._parts.consistency.history.others)
        two.close()
        with one.bind_ctx(MODELS):
            Slot.update(n=2).execute()
        with two.bind_ctx(MODELS):
            assert n_of() == 2


def test_a_database_that_is_initialised_again_goes_on_with_what_was_written(
    lagging: Any, another_address: Any
) -> None:
    with impatient(lagging) as db:
        assert n_of() == 1
        Slot.update(n=2).execute()
        db.close()
        db.init(db.database, **another_address)
        assert n_of() == 2
        db.init(db.database, policy="random")
        assert n_of() == 2


def test_a_pooled_connection_carries_no_obligations_to_its_next_user(lagging: Any) -> None:
    with impatient(lagging, PooledReplicatedDatabase, max_connections=4) as db:

        def first() -> int | None:
            with db.connection_context():
                Slot.update(n=2).execute()
                conn = db.connection()
                conn.begin()
                conn.cursor().execute("SELECT n FROM slot")
                used.append(conn)
            return read_and_close(db)

        def second() -> tuple[int | None, bool]:
            with db.connection_context():
                with db.primary():
                    assert db.connection() is used[0]
                    assert not used[0].transaction_has_read
                return n_of(), db.bookmark() is not None

        used: list[Any] = []
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            assert one.submit(first).result() == 2
            assert other.submit(second).result() == (2, True)  # what the process wrote before
            assert one.submit(read_and_close, db).result() == 2
