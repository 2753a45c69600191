"""Scopes that several threads share never go backwards, even when one of them makes the scope move."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from support.clusters.repaired import repaired

SELECT = "SELECT v FROM t"


@pytest.fixture
def fragile(server: str) -> Iterator[Any]:
    """A cluster whose nodes may be frozen and killed."""
    with repaired(server, 2, []) as cluster:
        yield cluster


def read(database: Any) -> Any:
    return database.execute_sql(SELECT).fetchone()[0]


def seeded(cluster: Any) -> Any:
    """Another program's database; what it has written, 1, is on all nodes."""
    other = cluster.database()
    other.execute_sql("CREATE TABLE t (v INT)")
    other.execute_sql("INSERT INTO t VALUES (1)")
    cluster.sync()
    return other


def freeze(cluster: Any) -> None:
    for node in cluster.replicas:
        node.freeze()


def held_up(
    monkeypatch: pytest.MonkeyPatch, target: Any, name: str
) -> tuple[threading.Event, threading.Event]:
    """Keep what a function found from other threads: tells that one is there, and is told to let it go."""
    there, go = threading.Event(), threading.Event()
    original = getattr(target, name)
    main = threading.current_thread()

    def slow(*arguments: Any) -> Any:
        found = original(*arguments)
        if threading.current_thread() is not main:
            there.set()
            assert go.wait(30)
        return found

    monkeypatch.setattr(target, name, slow)
    return there, go


@pytest.mark.parametrize("scope", ["causal_session", "readonly"])
def test_a_read_that_was_decided_before_its_scope_moved(
    fragile: Any, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(1) as pool:
        database = fragile.database(policy=lambda usable: usable[0])
        other = seeded(fragile)
        near, far = fragile.replicas
        far.freeze()
        other.execute_sql("UPDATE t SET v = 2")
        fragile.sync()

        decided, moved = held_up(monkeypatch, database._parts.consistency, "needs")
        with getattr(database, scope)():
            assert read(database) == 2
            late = pool.submit(copy_context().run, read, database)
            assert decided.wait(30)
            near.kill()
            assert read(database) == 2
            moved.set()
            assert late.result() == 2, "the scope has seen 2 before"
        pool.submit(database.close).result()


def test_threads_of_one_causal_session_wait_for_one_answer(
    fragile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(1) as pool:
        database, other = fragile.database(), seeded(fragile)
        assert read(database) == 1
        freeze(fragile)
        other.execute_sql("UPDATE t SET v = 2")

        asking, answered = held_up(monkeypatch, database._parts.consistency.primary, "current")
        with database.causal_session():
            assert database.execute_sql(SELECT + " FOR UPDATE").fetchone()[0] == 2
            first = pool.submit(copy_context().run, read, database)
            assert asking.wait(30)
            assert read(database) == 2, "another thread is asking for what this one must see"
            answered.set()
            assert first.result() == 2
        pool.submit(database.close).result()


@pytest.mark.lesson(36)
def test_a_question_whose_connection_is_killed_is_asked_again(
    fragile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, other = fragile.database(catch_up_timeout=0.05), seeded(fragile)
    assert read(database) == 1
    freeze(fragile)
    other.execute_sql("UPDATE t SET v = 2")
    assert database.execute_sql(SELECT + " FOR UPDATE").fetchone()[0] == 2
    killed: list[int] = []
    positions = database._parts.consistency.primary
    reach = positions._connection

    def reach_and_kill() -> Any:
        conn = reach()
        if not killed:
            killed.append(conn.thread_id())
            fragile.primary.execute("KILL %s", killed)
        return conn

    monkeypatch.setattr(positions, "_connection", reach_and_kill)
    assert read(database) == 2, "the read falls back, on a new connection to the primary"
    assert killed
    assert database.stats()["unasked"] == 0
    database.close()
    assert read(database) == 2, "what the locking read saw still has to be seen"
