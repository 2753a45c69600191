"""Whose writes a read has to see: threads, tasks, pools, and several databases."""

from __future__ import annotations

import asyncio
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

from peewee_replicas import PooledReplicatedDatabase

pytestmark = pytest.mark.usefixtures("form")

# Threads and tasks


def test_another_thread_is_another_context_at_level_session(lagging: Any) -> None:
    with impatient(lagging) as db:
        Slot.update(n=2).execute()
        assert n_of() == 2
        assert in_thread(lambda: read_and_close(db)) == 1


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
        in_thread(lambda: (Slot.update(n=2).execute(), db.close()))
        with db.causal_session():
            assert n_of() == 1


@threads_only("starts threads or an event loop itself")
def test_to_thread_without_a_causal_session_needs_level_process(lagging: Any) -> None:
    async def main(db: Any) -> int | None:
        Slot.update(n=2).execute()
        return await asyncio.to_thread(read_and_close, db)

    with impatient(lagging) as db:
        assert asyncio.run(main(db)) == 1
    with impatient(lagging, consistency="process") as db:
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
            db.database, replicas=[*db._members._given["replicas"], {"name": "ahead", "port": own["port"]}]
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


def test_two_databases_of_one_process_owe_each_other_nothing(lagging: Any) -> None:
    with impatient(lagging) as one, impatient(lagging, consistency="process") as two:

        def through(db: Any) -> Any:
            with db.bind_ctx(MODELS):
                return n_of()

        with one.bind_ctx(MODELS):
            Slot.update(n=2).execute()
        assert (through(one), through(two)) == (2, 1)
        with one.causal_session():
            assert (through(one), through(two)) == (2, 1)
        assert two.bookmark() is None
        assert two.stats()["asked"] == two.stats()["waits"] == 0
        with two.causal_session(one.bookmark()):
            assert through(two) == 2


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

        def second() -> tuple[int | None, Any]:
            with db.connection_context():
                with db.primary():
                    assert db.connection() is used[0]
                    assert not used[0].transaction_has_read
                return n_of(), db.bookmark()

        used: list[Any] = []
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            assert one.submit(first).result() == 2
            assert other.submit(second).result() == (1, None)
            assert one.submit(read_and_close, db).result() == 2
