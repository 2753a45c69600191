"""A statement that was broken off leaves no half-read connection in use, and nothing leaks.

Every read carries a mark of its own: an answer that was meant for another statement does not have it.
"""

from __future__ import annotations

import gc
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import peewee
import pymysql
import pytest
from pymysql.cursors import SSCursor
from support.databases.models import Item
from support.load.one_request import sockets
from support.load.programs import Program, connections, settles

from peewee_replicas import (
    PooledReplicatedDatabase,
)
from peewee_replicas.servers.wire import results

CLASSES = pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
MARK = "SELECT %s"
LONG = "SELECT %s, SLEEP(5)"
_numbers = iter(range(1, 1 << 40))


class Interrupted(BaseException):
    """What a signal's handler raises: no `Exception`, as `KeyboardInterrupt` is none."""


def own_answers(database: Any, times: int = 6) -> None:
    """Each of these reads, on replicas, in a scope and on the primary, gets its own answer."""
    for _ in range(times):
        for place in (database, database.on_primary):
            mark = next(_numbers)
            assert place.execute_sql(MARK, (mark,)).fetchone() == (mark,)
    with database.readonly():
        mark = next(_numbers)
        assert database.execute_sql(MARK, (mark,)).fetchone() == (mark,)


def idle(database: Any) -> None:
    """Nothing counts as in flight any more."""
    assert [replica.in_flight for replica in (*database.replicas, database._parts.cluster.reader)] == [
        0,
        0,
        0,
    ]


def finish(database: Any) -> None:
    if not database.is_closed():
        database.close()
    if hasattr(database, "close_all"):
        database.close_all()


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """Raise `Interrupted` in this thread, wherever it is by then."""

    def stop(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)


@contextmanager
def in_place(database: Any, place: str) -> Iterator[Any]:
    """What to execute on: by plain routing, in a scope, on the primary, in a transaction."""
    if place == "readonly":
        with database.readonly():
            yield database
    elif place == "snapshot":
        with database.readonly(snapshot=True):
            yield database
    elif place == "atomic":
        with database.atomic():
            yield database
    else:
        yield database.on_primary if place == "primary" else database


@pytest.mark.lesson(29)
@CLASSES
def test_a_read_that_hit_its_timeout_leaves_no_answer_behind(cluster: Any, cls: Any) -> None:
    database = cluster.database(cls, read_timeout=1)
    for place in ("plain", "primary", "readonly"):
        with pytest.raises(peewee.OperationalError), in_place(database, place) as target:
            target.execute_sql(LONG, (next(_numbers),))
        if place == "primary":
            database.close()  # as a program does when a request ends
        own_answers(database)
    idle(database)
    finish(database)


@pytest.mark.lesson(29)
@CLASSES
@pytest.mark.parametrize("place", ["plain", "readonly", "snapshot", "primary", "atomic"])
def test_an_interrupted_read_leaves_no_answer_behind(cluster: Any, cls: Any, place: str) -> None:
    database = cluster.database(cls)
    own_answers(database)
    # Leaving a transaction whose connection has gone fails as it does in peewee itself.
    failing = pytest.raises((Interrupted, peewee.PeeweeException))
    with failing as raised, in_place(database, place) as target, interrupted(0.2):
        target.execute_sql(LONG, (next(_numbers),))
    met: BaseException | None = raised.value
    while met is not None and not isinstance(met, Interrupted):
        met = met.__context__
    assert met is not None
    if place in ("atomic", "primary"):
        database.close()  # as a program does when a request ends
    own_answers(database)
    idle(database)
    finish(database)


@pytest.mark.lesson(29)
@CLASSES
@pytest.mark.parametrize("place", ["plain", "readonly", "primary"])
@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_statement_broken_off_before_its_answer_is_read_leaves_no_answer_behind(
    cluster: Any, cls: Any, place: str, unbuffered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = cluster.database(cls, **({"cursorclass": SSCursor} if unbuffered else {}))
    own_answers(database)

    def stop(*_: object) -> None:
        raise Interrupted

    # As a signal's handler or a killed greenlet would, when the statement has just gone out.
    with pytest.raises(Interrupted), in_place(database, place) as target, monkeypatch.context() as patch:
        patch.setattr(results.Result, "init_unbuffered_query" if unbuffered else "read", stop)
        target.execute_sql(MARK, (next(_numbers),))
    if place == "primary":
        with suppress(peewee.PeeweeException):
            assert database.on_primary.execute_sql(MARK, (3,)).fetchone() == (3,)
        database.close()
    own_answers(database)
    idle(database)
    finish(database)


def test_a_commit_broken_off_before_its_answer_is_read_leaves_no_answer_behind(
    db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = db.commit

    def stop(*_: object) -> None:
        raise Interrupted

    def interrupted_commit() -> None:
        monkeypatch.setattr(results.Result, "read", stop)
        commit()

    monkeypatch.setattr(db, "commit", interrupted_commit)
    with pytest.raises((Interrupted, peewee.PeeweeException)), db.atomic():
        Item.create(name="half")
    monkeypatch.undo()
    db.close()
    own_answers(db)


# A driver that is interrupted inside the operating system's connect() leaves that socket to the collector.
@pytest.mark.lesson(29, 42)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@CLASSES
def test_interrupts_at_any_moment_leave_no_answer_behind(cluster: Any, cls: Any) -> None:
    database = cluster.database(cls, timeout=5) if cls else cluster.database()
    own_answers(database)
    chance = random.Random(4)
    hit = 0
    for _ in range(300):
        try:
            with interrupted(chance.uniform(0.00002, 0.0015)):
                mark = next(_numbers)
                assert database.execute_sql(MARK, (mark,)).fetchone() == (mark,)
                with database.readonly():
                    mark = next(_numbers)
                    assert database.execute_sql(MARK, (mark,)).fetchone() == (mark,)
                mark = next(_numbers)
                assert database.on_primary.execute_sql(MARK, (mark,)).fetchone() == (mark,)
        except Interrupted:
            hit += 1
            if chance.random() < 0.3:
                with suppress(peewee.PeeweeException, pymysql.err.Error):
                    database.close()
    assert hit > 20
    with suppress(peewee.PeeweeException):
        database.close()
    own_answers(database)
    finish(database)


def rows_then(database: Any, leave: Callable[[Any], None]) -> None:
    with database.bind_ctx([Item]):
        leave(Item.select().order_by(Item.id).iterator())


def take_some(rows: Any) -> None:
    for _ in range(3):
        next(rows)


def fail_inside(rows: Any) -> None:
    with suppress(ZeroDivisionError):
        for _ in rows:
            1 / 0  # noqa: B018


@pytest.mark.lesson(30)
@pytest.mark.parametrize("leave", [take_some, fail_inside])
@pytest.mark.parametrize("cursors", [None, SSCursor])
def test_rows_that_nobody_read_to_the_end_are_not_the_next_reads(
    db: Any, cluster: Any, leave: Any, cursors: Any
) -> None:
    Item.insert_many([{"name": f"name {n}", "n": n} for n in range(500)]).execute()
    cluster.sync()
    for cls in (None, PooledReplicatedDatabase):
        options = {"cursorclass": cursors} if cursors else {}
        database = cluster.database(cls, **options)
        for _ in range(3):
            rows_then(database, leave)
            own_answers(database, 2)
            with database.readonly():
                rows_then(database, leave)
                own_answers(database, 2)
        idle(database)
        finish(database)


@CLASSES
def test_an_abandoned_generator_in_a_scope_leaves_it_and_its_connection_in_order(
    db: Any, cluster: Any, cls: Any
) -> None:
    Item.insert_many([{"name": f"name {n}", "n": n} for n in range(50)]).execute()
    cluster.sync()
    database = cluster.database(cls)

    @database.readonly()
    def names() -> Iterator[str]:
        with database.bind_ctx([Item]):
            for row in Item.select().iterator():
                yield row.name

    for _ in range(5):
        generator = names()
        next(generator)
        assert database.explain_route("SELECT 1").reason == "a proven read"
        del generator
        gc.collect()
        own_answers(database, 1)
    idle(database)
    finish(database)


@pytest.mark.lesson(30)
@CLASSES
def test_threads_that_come_and_go_leave_no_connection_on_any_server(cluster: Any, cls: Any) -> None:
    database = cluster.database(cls, probe_interval=None)
    before = connections(cluster)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with database.connection_context():
                own_answers(database, 2)
                if number % 3 == 0:
                    with suppress(peewee.ProgrammingError):
                        database.execute_sql("SELECT FROM")
                if number % 5 == 0:
                    with database.readonly(snapshot=True):
                        database.execute_sql("SELECT 1").fetchall()
        except BaseException as exc:
            failures.append(exc)

    for _ in range(5):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    idle(database)
    finish(database)

    def more() -> list[str]:
        return [name for name, number in connections(cluster).items() if number > before[name]]

    assert settles(more, lambda found: not found) == []


@pytest.mark.lesson(30)
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts sockets in /proc")
def test_databases_that_come_and_go_leave_nothing(cluster: Any) -> None:
    def one(cls: Any) -> None:
        own = cluster.parameters(cluster.primary)
        replicas = [{"host": node.host, "port": node.port} for node in cluster.replicas]
        database = (cls or type(cluster.database()))(own.pop("database"), **own, replicas=replicas)
        own_answers(database, 1)
        finish(database)

    one(None)
    gc.collect()
    sockets_before, threads_before = sockets(), threading.active_count()
    for number in range(6):
        one(PooledReplicatedDatabase if number % 2 else None)
    gc.collect()
    assert settles(sockets, lambda found: found <= sockets_before) <= sockets_before
    assert settles(threading.active_count, lambda found: found <= threads_before) <= threads_before


@pytest.mark.lesson(29)
@pytest.mark.parametrize("kind", ["plain", "pooled"])
def test_greenlets_that_are_killed_leave_no_answer_behind(cluster: Any, kind: str) -> None:
    pytest.importorskip("gevent")
    # Broken off inside the operating system's connect(), a socket is left to the collector: it is counted.
    with Program("gevent_broken_off.py", cluster, kind, warnings="ignore::ResourceWarning") as program:
        found = program.ask(times=100, seed=4)
        assert found["wrong"] == []
        assert found["hit"] > 20
        assert found["in_flight"] == 0
        before = found["sockets_before"]
        assert settles(lambda: program.ask(close=True)["sockets"], lambda now: now <= before) <= before
    assert not program.errors, program.errors


@pytest.mark.lesson(42)
@pytest.mark.parametrize("place", ["replica", "primary"])
def test_an_interrupted_statement_leaves_no_answer_for_the_next(db: Any, place: str) -> None:
    database = db if place == "replica" else db.on_primary

    def interrupt(*_: object) -> None:
        raise Interrupted

    database.execute_sql("SELECT 1")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            database.execute_sql("SELECT 'late', SLEEP(3)")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert database.execute_sql("SELECT 'next'").fetchone() == ("next",)
