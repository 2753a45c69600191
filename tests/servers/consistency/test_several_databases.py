"""Several database objects over the same servers: what a thread or task wrote through one, all show it.

Members of this kind, found by following every place where the process's session learns of a statement: a
write, a commit, one in a `causal_session()`, a statement that reports no position, and a transaction that is
broken off. What was only read on the primary is of no concern to other objects.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any

import pytest
from support.clusters.lagging import Slot, elsewhere, frozen, impatient, n_of, watched
from support.forms import threads_only

from peewee_replicas import PooledReplicatedDatabase
from peewee_replicas.ext.jobs import in_session

pytestmark = pytest.mark.usefixtures("form")


def read(db: Any) -> int | None:
    with db.bind_ctx([Slot]):
        return n_of()


def write(db: Any, n: int) -> None:
    with db.bind_ctx([Slot]):
        Slot.update(n=n).execute()


def commit(db: Any, n: int, _: Any) -> None:
    with db.atomic():
        write(db, n)


def write_in_a_session(db: Any, n: int, _: Any) -> None:
    with db.causal_session():
        write(db, n)


def write_nothing(db: Any, n: int, pair: Any) -> None:
    elsewhere(pair, f"UPDATE slot SET n = {n}")
    with db.bind_ctx([Slot]):
        Slot.update(n=0).where(Slot.n == -1).execute()


def break_off(db: Any, n: int, pair: Any) -> None:
    db.execute_sql("BEGIN")
    elsewhere(pair, f"UPDATE slot SET n = {n}")
    assert read(db) == n
    db.close()


ACTS: dict[str, Callable[[Any, int, Any], None]] = {
    "write": lambda db, n, _: write(db, n),
    "commit": commit,
    "write_in_a_session": write_in_a_session,
    "write_nothing": write_nothing,
    "break_off": break_off,
}
"""What is done through a database object, after which others have to see the value that is given."""


@pytest.mark.parametrize("scope", ["none", "readonly", "causal_session"])
@pytest.mark.parametrize("act", ACTS)
def test_what_was_done_through_one_is_seen_through_the_other(pair: Any, act: str, scope: str) -> None:
    def inside(db: Any) -> AbstractContextManager[Any]:
        return nullcontext() if scope == "none" else getattr(db, scope)()

    with impatient(pair) as one, impatient(pair) as other:
        assert (read(one), read(other)) == (1, 1)
        with inside(other), watched(other) as events:
            assert read(other) == 1
            assert [event.role for event in events] == ["replica"]
            with frozen(pair):
                ACTS[act](one, 2, pair)
                assert read(other) == 2
        with inside(one), frozen(pair):
            ACTS[act](other, 3, pair)
            assert read(one) == 3


@pytest.mark.parametrize("act", ACTS)
def test_one_that_has_read_nothing_is_heard_too(pair: Any, act: str) -> None:
    with impatient(pair) as one, impatient(pair) as other:
        assert read(other) == 1
        with frozen(pair):
            ACTS[act](one, 2, pair)
            assert read(other) == 2


def test_each_of_many_sees_what_each_has_written(pair: Any) -> None:
    with impatient(pair) as one, impatient(pair) as two, impatient(pair) as three:
        found = [one, two, three]
        with frozen(pair):
            for n in range(2, 11):
                write(found[n % 3], n)
                assert [read(db) for db in found] == [n] * 3


@threads_only("peewee's asyncio form has no other pool")
def test_a_pool_and_a_plain_database_share_it_too(pair: Any) -> None:
    with impatient(pair, PooledReplicatedDatabase) as pooled, impatient(pair) as plain:
        assert (read(pooled), read(plain)) == (1, 1)
        with frozen(pair):
            write(pooled, 2)
            assert read(plain) == 2
            write(plain, 3)
            assert read(pooled) == 3


@threads_only("the sessions of tasks are kept in the same way")
def test_the_units_of_work_of_other_threads_wait_for_their_own_writes_only(pair: Any) -> None:
    with impatient(pair) as one, impatient(pair) as other, ThreadPoolExecutor(1) as thread:

        def apart() -> tuple[int | None, str]:
            with watched(other) as events:
                return n_of(), events[-1].role

        with other.bind_ctx([Slot]):
            assert thread.submit(apart).result() == (1, "replica")
            with frozen(pair):
                one.execute_sql("UPDATE slot SET n = 2")
                assert thread.submit(apart).result() == (1, "replica")
                assert apart() == (2, "primary")
            thread.submit(other.close).result()


@threads_only("a read is as cheap in both forms")
def test_where_nothing_was_written_through_another_no_read_waits(pair: Any) -> None:
    with impatient(pair) as one, impatient(pair) as other:
        write(one, 2)
        pair.sync()
        assert (read(one), read(other)) == (2, 2)
        with frozen(pair), watched(other) as events:
            for _ in range(3):
                with one.primary():
                    assert read(one) == 2
                assert read(other) == 2
        assert {event.role for event in events} == {"replica"}


@threads_only("contexts are copied in the same way")
def test_a_session_that_another_context_shares_hears_of_it(pair: Any) -> None:
    with impatient(pair) as one, impatient(pair) as other, ThreadPoolExecutor(1) as thread:

        def apart() -> list[int | None]:
            found = [read(other)]
            write(one, 2)
            found.append(read(other))
            one.close()
            other.close()
            return found

        with other.causal_session():
            assert read(other) == 1
            with frozen(pair):
                assert thread.submit(copy_context().run, apart).result() == [1, 2]
                assert read(other) == 2


def test_what_was_written_in_a_session_of_its_own_is_seen_after_it(pair: Any) -> None:
    with impatient(pair) as one, impatient(pair) as other:
        assert read(other) == 1
        with frozen(pair):
            with other.causal_session():
                assert read(other) == 1
                write(one, 2)
                assert read(other) == 2
            assert read(other) == 2
            write(one, 3)
            assert read(other) == 3


def test_what_was_written_while_a_job_ran_is_seen_after_it(pair: Any) -> None:
    with impatient(pair) as one, impatient(pair) as other:

        @in_session(other)
        def job() -> None:
            assert read(other) == 1
            write(one, 2)

        assert read(other) == 1
        with frozen(pair):
            job()
            assert read(other) == 2


@threads_only("tasks keep their sessions over init() in the same way")
def test_one_that_is_initialised_again_hears_what_other_threads_write(pair: Any) -> None:
    with impatient(pair) as one, impatient(pair) as other, ThreadPoolExecutor(1) as thread:
        assert thread.submit(read, other).result() == 1
        own = pair.parameters(pair.primary)
        replicas = [{"host": node.host, "port": node.port} for node in pair.replicas]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the thread's connection is forgotten
            other.init(own.pop("database"), **own, replicas=replicas, catch_up_timeout=0.05)
            gc.collect()  # what the thread has read through before is no more
        with frozen(pair):
            thread.submit(write, one, 2).result()
            assert thread.submit(read, other).result() == 2
        for db in (one, other):
            thread.submit(db.close).result()


def test_a_generator_with_a_session_of_its_own_hears_what_is_written_in_it(pair: Any) -> None:
    with impatient(pair) as one, impatient(pair) as other:

        @other.causal_session()
        def steps() -> Iterator[int | None]:
            yield read(other)
            write(one, 3)
            yield read(other)

        with frozen(pair):
            going = steps()
            assert next(going) == 1
            write(one, 2)
            assert read(other) == 2
            assert next(going) == 3
            assert list(going) == []
