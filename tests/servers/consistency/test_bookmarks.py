"""Bookmarks: what one context has seen, another has to see too."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from support.clusters.lagging import (
    LONG,
    SHORT,
    Slot,
    elsewhere,
    impatient,
    n_of,
    read_and_close,
    read_in_another_process,
    soon,
    waits_asked_for,
    watched,
)
from support.forms import threads_only
from support.forms.threads import in_thread

from peewee_replicas import bookmarks
from peewee_replicas.errors import BookmarkError
from peewee_replicas.positions import MariaDBPosition, MySQLPosition

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]

UUID = "00000000-0000-0000-0000-0000000000aa"


def test_there_is_no_bookmark_of_nothing(lagging: Any) -> None:
    with impatient(lagging) as db:
        assert db.bookmark() is None
        n_of()
        assert db.bookmark() is None


@pytest.mark.parametrize("moves", [False, True], ids=["frozen", "late"])
def test_a_bookmark_given_to_another_thread_and_another_database_object(lagging: Any, moves: bool) -> None:
    seconds = LONG if moves else SHORT
    with impatient(lagging, catch_up_timeout=seconds) as db:
        Slot.update(n=2).execute()
        mark = db.bookmark()
        assert isinstance(mark, str)

        def read() -> tuple[int | None, str]:
            other_database = impatient(lagging, catch_up_timeout=seconds)
            with other_database as other, other.causal_session(mark), watched(other) as events:
                return n_of(), events[-1].role

        with ExitStack() as stack:
            if moves:
                stack.enter_context(soon(lagging.replicas[0].thaw))
            assert in_thread(read) == (2, "replica" if moves else "primary")


def test_a_bookmark_of_what_reported_no_position(lagging: Any) -> None:
    with impatient(lagging) as db:
        elsewhere(lagging, "UPDATE slot SET n = 2")
        Slot.update(n=9).where(Slot.n == 0).execute()
        mark = db.bookmark()
        assert db.stats()["asked"] == 1
        with impatient(lagging, apart=True) as other, other.causal_session(mark):
            assert in_thread(lambda: read_and_close(other)) == 1  # a plain thread has no part in it
            assert n_of() == 2


def test_a_bookmark_given_to_another_process(lagging: Any) -> None:
    with impatient(lagging) as db:
        Slot.update(n=2).execute()
        replica = lagging.replicas[0]
        parameters = {
            **lagging.parameters(lagging.primary),
            "replicas": [{"host": replica.host, "port": replica.port}],
            "catch_up_timeout": SHORT,
        }
        spawning = multiprocessing.get_context("spawn")
        answer = spawning.Queue()
        process = spawning.Process(target=read_in_another_process, args=(parameters, db.bookmark(), answer))
        process.start()
        try:
            assert answer.get(timeout=60) == 2
        finally:
            process.join()
        answer.close()
        answer.join_thread()


def test_a_decorated_function_with_a_bookmark(lagging: Any) -> None:
    with impatient(lagging) as db:
        Slot.update(n=2).execute()
        mark = db.bookmark()
        with impatient(lagging) as other:
            assert other.causal_session(mark)(n_of)() == 2
            assert n_of() == 2  # a session hands on what it has seen


BAD = ["", "x", "not a bookmark", "AAAA", "ä" * 20, "A" * 5000, "a.b"]


@pytest.mark.parametrize("text", BAD)
def test_a_malformed_bookmark_is_refused_when_the_scope_is_entered(lagging: Any, text: str) -> None:
    with impatient(lagging) as db:
        with pytest.raises(BookmarkError), db.causal_session(text):
            raise AssertionError("entered")
        assert n_of() == 1


def position_of(server: str, far: bool = False) -> Any:
    number = 10**9 if far else 1
    if server == "mysql":
        return MySQLPosition.parse(f"{UUID}:1-{number}")
    return MariaDBPosition.parse(f"0-1-{number}")


def test_a_bookmark_that_has_expired(lagging: Any, server: str) -> None:
    with impatient(lagging) as db:
        old = bookmarks.encode(position_of(server), db.database, time.time() - 2 * 24 * 3600)
        with pytest.raises(BookmarkError, match="old"), db.causal_session(old):
            raise AssertionError("entered")


def test_a_bookmark_of_another_database(lagging: Any, server: str) -> None:
    with impatient(lagging) as db:
        foreign = bookmarks.encode(position_of(server), "elsewhere", time.time())
        with pytest.raises(BookmarkError, match="elsewhere"), db.causal_session(foreign):
            raise AssertionError("entered")


def test_a_bookmark_of_the_other_kind_of_server(lagging: Any, server: str) -> None:
    other = "mysql" if server == "mariadb" else "mariadb"
    with impatient(lagging) as db:
        foreign = bookmarks.encode(position_of(other), db.database, time.time())
        with db.causal_session(foreign), watched(db) as events:  # no server has been met yet
            assert n_of() == 1
            assert events[-1].role == "primary"
            Slot.update(n=2).execute()
            assert n_of() == 2
        assert n_of() == 2
        with pytest.raises(BookmarkError, match=other), db.causal_session(foreign):
            raise AssertionError("entered")


@threads_only("starts threads itself")
def test_a_forged_bookmark_costs_its_reader_a_bounded_time_and_nobody_else(lagging: Any, server: str) -> None:
    lagging.replicas[0].thaw()
    timeout = 0.5
    with impatient(lagging, catch_up_timeout=timeout) as db:
        Slot.update(n=2).execute()
        lagging.sync()  # so that nothing else has to be waited for
        far = position_of(server, far=True)
        forged = bookmarks.encode(far, db.database, time.time())

        def read() -> int | None:
            with db.connection_context(), db.causal_session(forged):
                return n_of()

        with ThreadPoolExecutor(1) as pool, waits_asked_for(far.text()) as asked:
            slow = pool.submit(read)
            assert [n_of() for _ in range(20)] == [2] * 20
            assert slow.result() == 2
        assert asked == [timeout]
        assert n_of() == 2


def test_a_signed_bookmark(lagging: Any) -> None:
    key = "a secret of sixteen bytes or more"
    with impatient(lagging) as db:
        Slot.update(n=2).execute()
        signed = bookmarks.sign(db.bookmark(), key, context="ada")
        with impatient(lagging) as other:
            with other.causal_session(bookmarks.unsign(signed, key, context="ada")):
                assert n_of() == 2
            with pytest.raises(bookmarks.BookmarkError, match="signature"):
                bookmarks.unsign(signed, key, context="grace")
            with pytest.raises(BookmarkError), other.causal_session(signed):
                raise AssertionError("entered")
