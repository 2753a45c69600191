"""Whose writes a read has to see: threads, tasks, pools, several databases, and bookmarks between them."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from lagging import (
    LONG,
    MODELS,
    SHORT,
    Slot,
    clear,
    elsewhere,
    frozen,
    held_back,
    in_thread,
    n_of,
    soon,
    watched,
)

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase, bookmarks
from peewee_replicas.errors import BookmarkError
from peewee_replicas.positions import MariaDBPosition, MySQLPosition

UUID = "00000000-0000-0000-0000-0000000000aa"


@pytest.fixture(scope="module")
def clusters() -> Iterator[Any]:
    """A cluster of this module's own per server, started when first asked for."""
    made: dict[str, Any] = {}
    with ExitStack() as stack:

        def cluster(server: str) -> Any:
            if server not in made:
                made[server] = stack.enter_context(held_back(server))
            return made[server]

        yield cluster


@pytest.fixture
def lagging(server: str, clusters: Any) -> Iterator[Any]:
    """Its replica is frozen after the row ("a", 1)."""
    cluster = clusters(server)
    clear(cluster, ("a", 1))
    with frozen(cluster):
        yield cluster


@contextmanager
def bound(cluster: Any, kind: Any = None, **options: Any) -> Iterator[Any]:
    db = cluster.database(kind, **{"catch_up_timeout": SHORT, **options})
    with db.bind_ctx(MODELS):
        yield db
    db.close()


def read_and_close(db: Any) -> int | None:
    with db.connection_context():
        return n_of()


# Threads and tasks


def test_another_thread_is_another_context_at_level_session(lagging: Any) -> None:
    with bound(lagging) as db:
        Slot.update(n=2).execute()
        assert n_of() == 2
        assert in_thread(lambda: read_and_close(db)) == 1


def test_work_handed_on_to_a_pool_of_threads_at_level_process(lagging: Any) -> None:
    with bound(lagging, consistency="process") as db, ThreadPoolExecutor(2) as pool:
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


def test_what_one_thread_is_asking_for_holds_for_the_others_too(lagging: Any) -> None:
    """At level process: a read must not pass between the question to the primary and its answer."""
    with bound(lagging, consistency="process") as db, ThreadPoolExecutor(1) as pool:
        elsewhere(lagging, "UPDATE slot SET n = 2")
        Slot.update(n=9).where(Slot.n == 0).execute()
        consistency = db._replication.consistency
        ask, found = consistency.ask, []

        def slow(database: Any) -> Any:
            if not found:
                found.append(None)
                found[0] = pool.submit(read_and_close, db).result()
            return ask(database)

        consistency.ask = slow
        assert n_of() == 2
        assert found == [2]


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

    with bound(lagging) as db:
        n_of()
        assert asyncio.run(main(db)) == [2, 2, 3, 3, 3, 3]
        assert n_of() == 3  # what the session had seen, its surroundings have seen


def test_a_causal_session_does_not_see_what_others_write(lagging: Any) -> None:
    with bound(lagging) as db:
        in_thread(lambda: (Slot.update(n=2).execute(), db.close()))
        with db.causal_session():
            assert n_of() == 1


def test_to_thread_without_a_causal_session_needs_level_process(lagging: Any) -> None:
    async def main(db: Any) -> int | None:
        Slot.update(n=2).execute()
        return await asyncio.to_thread(read_and_close, db)

    with bound(lagging) as db:
        assert asyncio.run(main(db)) == 1
    with bound(lagging, consistency="process") as db:
        assert asyncio.run(main(db)) == 2


def test_nested_sessions_hand_on_what_they_have_seen(lagging: Any) -> None:
    with bound(lagging) as db:
        with db.causal_session():
            with db.causal_session():
                Slot.update(n=2).execute()
            assert n_of() == 2
            with db.causal_session():
                assert n_of() == 2
        assert n_of() == 2


# Levels


def test_strong_sees_what_others_have_committed(server: str, clusters: Any) -> None:
    cluster = clusters(server)
    clear(cluster, ("a", 1))
    with bound(cluster, consistency="strong", catch_up_timeout=LONG) as db, watched(db) as events:
        for n in range(2, 42):
            elsewhere(cluster, f"UPDATE slot SET n = {n}")
            assert n_of() == n
        assert {event.role for event in events} == {"replica"}
        assert db.stats()["asked"] == 40


def test_a_level_for_one_scope(lagging: Any) -> None:
    with bound(lagging) as db:
        elsewhere(lagging, "UPDATE slot SET n = 2")
        assert n_of() == 1
        with db.readonly(consistency="strong"):
            assert n_of() == 2
        with bound(lagging, consistency="strong") as other, other.readonly(consistency="eventual"):
            assert n_of() == 1
        Slot.update(n=3).execute()
        with db.readonly(consistency="eventual"):
            assert n_of() == 1
        with db.readonly():
            assert n_of() == 3


def test_a_scope_stays_with_the_node_that_has_served_it(lagging: Any) -> None:
    """Its reads never go backwards, although one of its nodes is ahead of the other."""
    with bound(lagging, policy="round-robin") as db:
        own = dict(lagging.parameters(lagging.primary))
        db.init(db.database, replicas=[*db._own["replicas"], {"name": "ahead", "port": own["port"]}])
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
    with bound(lagging) as one, bound(lagging, consistency="process") as two:

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
    with bound(lagging, PooledReplicatedDatabase, max_connections=4) as db:

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
                    assert not used[0].read_in_transaction
                return n_of(), db.bookmark()

        used: list[Any] = []
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            assert one.submit(first).result() == 2
            assert other.submit(second).result() == (1, None)
            assert one.submit(read_and_close, db).result() == 2


# Bookmarks


def test_there_is_no_bookmark_of_nothing(lagging: Any) -> None:
    with bound(lagging) as db:
        assert db.bookmark() is None
        n_of()
        assert db.bookmark() is None


@pytest.mark.parametrize("moves", [False, True], ids=["frozen", "late"])
def test_a_bookmark_given_to_another_thread_and_another_database_object(lagging: Any, moves: bool) -> None:
    seconds = LONG if moves else SHORT
    with bound(lagging, catch_up_timeout=seconds) as db:
        Slot.update(n=2).execute()
        mark = db.bookmark()
        assert isinstance(mark, str)

        def read() -> tuple[int | None, str]:
            other_database = bound(lagging, catch_up_timeout=seconds)
            with other_database as other, other.causal_session(mark), watched(other) as events:
                return n_of(), events[-1].role

        with ExitStack() as stack:
            if moves:
                stack.enter_context(soon(lagging.replicas[0].thaw))
            assert in_thread(read) == (2, "replica" if moves else "primary")


def test_a_bookmark_of_what_reported_no_position(lagging: Any) -> None:
    with bound(lagging) as db:
        elsewhere(lagging, "UPDATE slot SET n = 2")
        Slot.update(n=9).where(Slot.n == 0).execute()
        mark = db.bookmark()
        assert db.stats()["asked"] == 1
        with bound(lagging) as other, other.causal_session(mark):
            assert in_thread(lambda: read_and_close(other)) == 1  # a plain thread has no part in it
            assert n_of() == 2


def _read_in_a_process(parameters: dict[str, Any], mark: str, answer: Any) -> None:
    db = ReplicatedDatabase(**parameters)
    with db.bind_ctx(MODELS), db.causal_session(mark):
        answer.put(n_of())
    db.close()


def test_a_bookmark_given_to_another_process(lagging: Any) -> None:
    with bound(lagging) as db:
        Slot.update(n=2).execute()
        replica = lagging.replicas[0]
        parameters = {
            **lagging.parameters(lagging.primary),
            "replicas": [{"host": replica.host, "port": replica.port}],
            "catch_up_timeout": SHORT,
        }
        spawning = multiprocessing.get_context("spawn")
        answer = spawning.Queue()
        process = spawning.Process(target=_read_in_a_process, args=(parameters, db.bookmark(), answer))
        process.start()
        try:
            assert answer.get(timeout=60) == 2
        finally:
            process.join()
        answer.close()
        answer.join_thread()


def test_a_decorated_function_with_a_bookmark(lagging: Any) -> None:
    with bound(lagging) as db:
        Slot.update(n=2).execute()
        mark = db.bookmark()
        with bound(lagging) as other:
            assert other.causal_session(mark)(n_of)() == 2
            assert n_of() == 2  # a session hands on what it has seen


BAD = ["", "x", "not a bookmark", "AAAA", "ä" * 20, "A" * 5000, "a.b"]


@pytest.mark.parametrize("text", BAD)
def test_a_malformed_bookmark_is_refused_when_the_scope_is_entered(lagging: Any, text: str) -> None:
    with bound(lagging) as db:
        with pytest.raises(BookmarkError), db.causal_session(text):
            raise AssertionError("entered")
        assert n_of() == 1


def position_of(server: str, far: bool = False) -> Any:
    number = 10**9 if far else 1
    if server == "mysql":
        return MySQLPosition.parse(f"{UUID}:1-{number}")
    return MariaDBPosition.parse(f"0-1-{number}")


def test_a_bookmark_that_has_expired(lagging: Any, server: str) -> None:
    with bound(lagging) as db:
        old = bookmarks.encode(position_of(server), db.database, time.time() - 2 * 24 * 3600)
        with pytest.raises(BookmarkError, match="old"), db.causal_session(old):
            raise AssertionError("entered")


def test_a_bookmark_of_another_database(lagging: Any, server: str) -> None:
    with bound(lagging) as db:
        foreign = bookmarks.encode(position_of(server), "elsewhere", time.time())
        with pytest.raises(BookmarkError, match="elsewhere"), db.causal_session(foreign):
            raise AssertionError("entered")


def test_a_bookmark_of_the_other_kind_of_server(lagging: Any, server: str) -> None:
    other = "mysql" if server == "mariadb" else "mariadb"
    with bound(lagging) as db:
        foreign = bookmarks.encode(position_of(other), db.database, time.time())
        with db.causal_session(foreign), watched(db) as events:  # no server has been met yet
            assert n_of() == 1
            assert events[-1].role == "primary"
            Slot.update(n=2).execute()
            assert n_of() == 2
        assert n_of() == 2
        with pytest.raises(BookmarkError, match=other), db.causal_session(foreign):
            raise AssertionError("entered")


def test_a_forged_bookmark_costs_its_reader_a_bounded_time_and_nobody_else(lagging: Any, server: str) -> None:
    lagging.replicas[0].thaw()
    timeout = 0.5
    with bound(lagging, catch_up_timeout=timeout) as db:
        Slot.update(n=2).execute()
        forged = bookmarks.encode(position_of(server, far=True), db.database, time.time())

        def read() -> float:
            with db.connection_context(), db.causal_session(forged), watched(db) as events:
                began = time.monotonic()
                assert n_of() == 2
                assert events[-1].role == "primary"
                return time.monotonic() - began

        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(read)
            assert [n_of() for _ in range(20)] == [2] * 20
            assert slow.result() < timeout * 3
        assert n_of() == 2


def test_a_signed_bookmark(lagging: Any) -> None:
    key = "a secret of sixteen bytes or more"
    with bound(lagging) as db:
        Slot.update(n=2).execute()
        signed = bookmarks.sign(db.bookmark(), key, context="ada")
        with bound(lagging) as other:
            with other.causal_session(bookmarks.unsign(signed, key, context="ada")):
                assert n_of() == 2
            with pytest.raises(bookmarks.BookmarkError, match="signature"):
                bookmarks.unsign(signed, key, context="grace")
            with pytest.raises(BookmarkError), other.causal_session(signed):
                raise AssertionError("entered")
