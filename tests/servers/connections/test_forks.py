"""A forked child leaves its parent's connections alone and opens its own."""

from __future__ import annotations

import json
import os
from typing import Any

import peewee
import pytest
from support.forks import in_child

from peewee_replicas import PooledReplicatedDatabase

pytestmark = pytest.mark.core

SQL = "SELECT CAST(%s AS CHAR)"


def sessions(database: Any) -> list[str]:
    """Names of this thread's connections: a replica's, and the primary's."""
    with database.readonly():
        replica = database.connection()
    return [f"{conn.port}: {conn.thread_id()}" for conn in (replica, database.connection())]


def asked(database: Any, name: str) -> list[str]:
    """What came back where it should be the names that were sent."""
    answers = []
    for number in range(20):
        for place in (database, database.on_primary):
            answers.append(place.execute_sql(SQL, (f"{name}{number}",)).fetchone()[0])
    return answers


def expected(name: str) -> list[str]:
    return [f"{name}{number}" for number in range(20) for _ in range(2)]


@pytest.mark.lesson(28)
@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_parent_and_child_both_go_on(cluster: Any, cls: Any) -> None:
    database = cluster.database(cls)
    mine = sessions(database)
    go, gone = os.pipe()

    def work() -> Any:
        os.write(gone, b"x")
        answers = asked(database, "child")
        others = sessions(database)
        return [answers, others, database.close(), database.is_closed()]

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.read(go, 1)
    assert asked(database, "parent") == expected("parent")
    os.close(writing)
    with open(reading, "rb") as answered:
        answers, others, closed, is_closed = json.loads(answered.read())
    os.waitpid(pid, 0)
    assert answers == expected("child")
    assert closed
    assert is_closed
    assert not set(others) & set(mine)
    # The child's end has ended none of the parent's sessions.
    assert database.execute_sql(SQL, ("after",)).fetchone()[0] == "after"
    assert sessions(database)[1] == mine[1]
    database.close()
    if cls is PooledReplicatedDatabase:
        database.close_all()
    for descriptor in (go, gone):
        os.close(descriptor)


def test_a_pool_is_empty_in_the_child(cluster: Any) -> None:
    database = cluster.database(PooledReplicatedDatabase, max_connections=1)
    database.replicas[1].eject("one is enough here")
    mine = sessions(database)

    def work() -> Any:
        others = sessions(database)  # would exceed max_connections, had the parent's been counted
        database.close()
        return others

    assert not set(in_child(work)) & set(mine)
    assert sessions(database) == mine
    database.close_all()


def test_a_transaction_stays_the_parents(db: Any) -> None:
    def work() -> Any:
        try:
            db.execute_sql("INSERT INTO item (name, n) VALUES ('child', 1)")
        except peewee.InterfaceError:
            return "refused"
        return "written"

    with db.atomic():
        db.execute_sql("INSERT INTO item (name, n) VALUES ('parent', 1)")
        assert in_child(work) == "refused"
    with db.primary():
        assert db.execute_sql("SELECT name FROM item").fetchall() == (("parent",),)


def test_what_the_parent_wrote_binds_the_child(cluster: Any) -> None:
    database = cluster.database()
    database.execute_sql("CREATE TABLE IF NOT EXISTS forked (n INT)")
    database.execute_sql("INSERT INTO forked VALUES (1)")

    def work() -> Any:
        return database.execute_sql("SELECT COUNT(*) FROM forked").fetchone()[0]

    assert in_child(work) == 1
    database.execute_sql("DROP TABLE forked")
    database.close()


def test_locks_of_other_threads_are_free_in_the_child(db: Any) -> None:
    read = "SELECT COUNT(*) FROM item"
    db.execute_sql(read)
    core = db._parts.cluster
    node = core.replicas.all[0]
    # As another thread would hold them at the moment of the fork.
    held = [core.counters._lock, node._lock, node.breaker._lock, node.progress.lock, db._lock]
    for lock in held:
        lock.acquire()
    try:
        pid_answer = in_child(lambda: [db.execute_sql(read).fetchone()[0], db.stats()["replicas"] > 0])
    finally:
        for lock in held:
            lock.release()
    assert pid_answer == [0, True]
