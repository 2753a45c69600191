"""Whatever bytes a server sends, a statement ends in time, in an error of the driver's, and leaves nothing.

The answers are bytes at random, and well-formed ones of every sort (OK with and without trackers, results
with both kinds of end, errors, several results) with bytes changed, put in and taken out. After each, the
next statement must get its own answer or an error, never what was left of this one.
"""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peewee import PeeweeException
from pymysql import err
from support.peewees import needs_asyncio
from support.scripted_server import (
    AUTOCOMMIT,
    CHANGED,
    ScriptedServer,
    column,
    eof,
    error,
    last_gtid,
    ok,
    opening,
    packets,
    result,
    row,
    trackers,
)  # fmt: skip

from peewee_replicas import ReplicatedDatabase

SECONDS = 0.05
"""What one answer may take; those that end early take it."""

WHOLE = [
    packets(ok(1, 2)),
    packets(ok(1, tail=last_gtid(b"0-1-8"), status=AUTOCOMMIT | CHANGED)),
    packets(ok(tail=trackers((5, b"\x08T_______"), (2, b"\x011")), status=CHANGED | 1)),
    result(),
    result(row(b"1"), row(None), row(b"x" * 300)),
    result(row(b"1", b"2"), columns=2, old=True),
    result(row(b"1"), status=2 | 8) + packets(ok(1), first=5),
    packets(b"\x01", column(kind=3), row(b"7"), eof()),
    error(1062, "Duplicate entry"),
    error(1053, "Server shutdown in progress", first=0),
]
CHANGES = st.lists(
    st.tuples(st.sampled_from(["change", "insert", "delete"]), st.integers(0, 400), st.integers(0, 255)),
    max_size=4,
)


def changed(whole: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    data = bytearray(whole)
    for how, where, byte in changes:
        at = where % (len(data) + 1)
        if how == "insert":
            data.insert(at, byte)
        elif at < len(data):
            if how == "change":
                data[at] = byte
            else:
                del data[at]
    return bytes(data)


ANSWERS = st.one_of(st.binary(max_size=60), st.builds(changed, st.sampled_from(WHOLE), CHANGES))
NEXT = {"SELECT 'next'": result(row(b"next"))}


def ends_well(conn: Any, server: ScriptedServer, answer: bytes) -> None:
    """One statement that is answered so, and the next."""
    server.answers["UPDATE"] = answer
    began = time.monotonic()
    try:
        with conn.within(SECONDS):
            conn.query("UPDATE t SET n = 1")
    except err.MySQLError:
        pass
    took = time.monotonic() - began
    assert took < SECONDS + 2, took
    try:
        rows = conn.ask("SELECT 'next'", SECONDS)
    except err.MySQLError:
        assert not conn.open
    else:
        assert rows == (("next",),)


@settings(max_examples=150, deadline=None)
@given(st.lists(ANSWERS, min_size=1, max_size=3))
def test_statements_end_well(answers: list[bytes]) -> None:
    with ScriptedServer(NEXT) as server, opening("threads") as connect:
        conn = connect(server)
        for answer in answers:
            if conn.open:
                ends_well(conn, server, answer)


@needs_asyncio
@settings(max_examples=40, deadline=None)
@given(st.lists(ANSWERS, min_size=1, max_size=3))
def test_statements_of_the_asyncio_form_end_well(answers: list[bytes]) -> None:
    from playhouse.pwasyncio import greenlet_spawn

    def work() -> None:
        with opening("asyncio") as connect:
            conn = connect(server)
            for answer in answers:
                if conn.open:
                    ends_well(conn, server, answer)

    with ScriptedServer(NEXT) as server:
        asyncio.run(greenlet_spawn(work))


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.sampled_from(["greets", "lets_in", "usual"]))
def test_connecting_ends_well(answer: bytes, step: str) -> None:
    with ScriptedServer(**{step: answer}) as server, opening("threads") as connect:
        try:
            conn = connect(server, connect_timeout=SECONDS * 2)
        except err.MySQLError:
            return
        assert conn.open


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.sampled_from(["UPDATE t SET n = 1", "SELECT n FROM t", "COMMIT"]))
def test_a_database_raises_errors_of_peewee_or_the_driver(answer: bytes, statement: str) -> None:
    with ScriptedServer({statement: answer}) as server:
        database = ReplicatedDatabase(
            probe_interval=None, connect_timeout=2, read_timeout=SECONDS, **server.parameters
        )
        try:
            database.execute_sql(statement)
        except (PeeweeException, err.MySQLError):
            pass
        finally:
            database.close()


@pytest.mark.parametrize("size", [0xFFFFFE, 0xFFFFFF])
@pytest.mark.parametrize("columns", [b"\x01", b"\xfd\xff\xff\0", b"\xfe" + b"\xff" * 7 + b"\x7f"])
def test_nothing_is_set_aside_for_what_a_packet_only_announces(size: int, columns: bytes) -> None:
    announced = packets(columns) + size.to_bytes(3, "little") + b"\2abc"
    with ScriptedServer({"UPDATE": announced}) as server, opening("threads") as connect:
        conn = connect(server)
        tracemalloc.start()
        try:
            ends_well(conn, server, announced)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
