"""An answer that cannot be understood is a lost one, in the driver's own words, and its connection ends.

The kind: every place where an answer is taken apart. Found by listing the packets that are read (greeting,
authentication, OK, error, column count, column descriptions, rows, the packet that ends a result, pings and
changes of schema, a request for a local file) and cutting each at every byte, and by what of a packet is a
number or a length that can be absurd. Besides it, a server that offers DEPRECATE_EOF and does without.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymysql import err
from pymysql.constants import CLIENT
from pymysql.cursors import Cursor, SSCursor
from support.scripted_server import (
    OFFERED,
    ScriptedServer,
    both,
    column,
    eof,
    error,
    greeting,
    hang_up,
    length,
    ok,
    opening,
    packets,
    prefixes,
    result,
    row,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("form")

ABSURD = {
    "nothing in it": packets(b""),
    "an OK packet that ends after its name": packets(b"\0"),
    "an OK packet without a status": packets(b"\0\xfc\1\0\0\0\0"),
    "an error without a number": packets(b"\xff"),
    "an error without words": packets(b"\xff\x01\x04"),
    "a length that is none": packets(b"\xfd\x01"),
    "more columns than there can be": packets(b"\xfe" + b"\xff" * 8),
    "a column of nothing": packets(b"\x01", b"\0"),
    "a column that is NULL": packets(b"\x01", b"\xfb" * 20),
    "a column whose name is no text": packets(b"\x01", column(b"\xff\xfe")),
    "an end where a count should be": packets(b"\xfe\0\0\2\0"),
    "a request for a local file": packets(b"\xfb/etc/hostname"),
    "a value that is longer than its row": packets(b"\x01", column(), b"\x05abc"),
    "a value whose length is none": packets(b"\x01", column(), b"\xfc\x01"),
    "an end that ends early": packets(b"\x01", column(), b"\xfe\xfc\1\0\0\0\0"),
    "an end whose length is none": packets(b"\x01", column(), b"\xfe\xff\xff\0\0\0\0"),
    "a packet out of step": packets(ok(), first=5),
    "a goodbye": error(1053, "Server shutdown in progress", first=0),
}
LOST = (err.OperationalError, err.InternalError)


@pytest.fixture
def connect(form: str) -> Iterator[Callable[..., Any]]:
    with opening(form) as connect:
        yield connect


def lost(exc: BaseException) -> bool:
    """Whether it says, as PyMySQL does, that the connection is of no more use."""
    if isinstance(exc, err.InternalError):
        return "sequence number wrong" in str(exc)
    return isinstance(exc, err.OperationalError) and exc.args[0] in (2003, 2013)


@pytest.mark.parametrize("case", ABSURD)
@pytest.mark.parametrize("old", [False, True], ids=["deprecate-eof", "eof"])
def test_it_is_lost_and_the_connection_ends(connect: Any, case: str, old: bool) -> None:
    if old and case.startswith(("a value", "an end that", "an end whose")):
        pytest.skip("the columns would have to end in a packet of their own")
    offered = OFFERED & ~CLIENT.DEPRECATE_EOF if old else OFFERED
    with ScriptedServer({"SELECT": ABSURD[case]}, offered=offered) as server:
        conn = connect(server)
        with pytest.raises(LOST) as caught:
            conn.query("SELECT 1")
        assert lost(caught.value), caught.value
        assert not conn.open


@pytest.mark.parametrize("whole", [packets(ok(3, 4)), result(row(b"1"), row(None)), result(old=True)])
def test_an_answer_that_ends_anywhere_is_lost(connect: Any, whole: bytes) -> None:
    for cut in prefixes(whole):
        with ScriptedServer({"SELECT": both(cut, hang_up)}) as server:
            conn = connect(server)
            with pytest.raises(err.OperationalError, match="Lost connection") as caught:
                conn.query("SELECT 1")
            assert caught.value.args[0] == 2013
            assert not conn.open
            assert conn.unanswered_statement() == "SELECT 1"


@pytest.mark.parametrize(
    "case", ["nothing in it", "an OK packet that ends after its name", "a column of nothing"]
)
@pytest.mark.parametrize("command", ["commit", "begin", "rollback", "select_db", "is_alive"])
def test_so_it_is_where_only_ok_is_expected(connect: Any, command: str, case: str) -> None:
    bad = ABSURD[case]
    with ScriptedServer(dict.fromkeys(("COMMIT", "BEGIN", "ROLLBACK"), bad), others=bad) as server:
        conn = connect(server)
        if command == "is_alive":
            assert not conn.is_alive()
        else:
            with pytest.raises(err.OperationalError) as caught:
                getattr(conn, command)(*(("app",) if command == "select_db" else ()))
            assert caught.value.args[0] == 2013
        assert not conn.open


@pytest.mark.parametrize("rows", [(), (row(b"1"),), (row(b"1"), row(None), row(b""))])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_server_that_offers_the_new_end_and_sends_the_old_one_is_understood(
    connect: Any, rows: tuple[bytes, ...], streamed: bool
) -> None:
    with ScriptedServer({"SELECT": result(*rows, old=True)}) as server:
        conn = connect(server)
        for _ in range(3):  # the columns are remembered
            if streamed:
                conn.cursorclass = SSCursor
            with conn.cursor() as cursor:
                cursor.execute("SELECT n")
                assert len(cursor.fetchall()) == len(rows)
        assert not conn.busy
        assert server.clients == 1


def test_columns_that_are_like_those_of_before_may_end_the_old_way_later(connect: Any) -> None:
    with ScriptedServer() as server:
        conn = connect(server)
        for old in (False, True, True):
            server.answers["SELECT"] = result(row(b"1"), old=old)
            with conn.cursor() as cursor:
                cursor.execute("SELECT n")
                assert cursor.fetchall() == (("1",),)


@pytest.mark.parametrize("case", [case for case in ABSURD if case.startswith(("a value", "an end that"))])
def test_a_row_that_is_streamed_is_lost_too(connect: Any, case: str) -> None:
    with ScriptedServer({"SELECT": ABSURD[case]}) as server:
        conn = connect(server)
        conn.query("SELECT n", unbuffered=True)
        with pytest.raises(LOST) as caught:
            conn._result._read_rowdata_packet_unbuffered()
        assert lost(caught.value)
        assert not conn.open


GREETING = greeting()
GREETINGS = {
    **{f"cut after {end}": GREETING[:end] for end in (0, 1, 5, 17, 20, 25, 28, 31, 33)},
    "no version": b"\x0a\0" + GREETING[17:],
    "a version of words": greeting("unknown"),
    "an error": b"\xff\x10\x04Too many connections",
    "an error of nothing": b"\xff",
    "a plugin that is no text": greeting(plugin=b"\xff\xfe"),
}


@pytest.mark.parametrize("case", GREETINGS)
def test_a_greeting_that_cannot_be_understood_is_a_failure_to_connect(connect: Any, case: str) -> None:
    with ScriptedServer(greets=both(packets(GREETINGS[case], first=0), hang_up)) as server:
        with pytest.raises(err.OperationalError) as caught:
            connect(server)
        assert caught.value.args[0] == 1040 if case == "an error" else lost(caught.value), caught.value


@pytest.mark.parametrize(
    "data",
    [
        packets(b"", first=2),
        packets(b"\0", first=2),
        packets(b"\xfe", first=2),
        packets(b"\xfemysql_native_password\0", first=2),
        packets(b"\xfenever_heard_of_it\0" + b"x" * 21, first=2),
        packets(b"\x01", first=2),
        packets(b"\x01\x07", first=2),
        packets(b"\x05", first=2),
        packets(ok(), first=9),
        b"",
    ],
)
def test_so_is_an_authentication(connect: Any, data: bytes) -> None:
    with ScriptedServer(lets_in=both(data, hang_up)) as server:
        with pytest.raises(LOST) as caught:
            connect(server)
        assert isinstance(caught.value.args[0], int) or lost(caught.value)


@pytest.mark.parametrize("case", ["nothing in it", "a length that is none", "a goodbye"])
def test_so_are_the_settings(connect: Any, case: str) -> None:
    with ScriptedServer(usual=ABSURD[case]) as server:
        with pytest.raises(LOST) as caught:
            connect(server)
        assert lost(caught.value)


def test_an_error_whose_state_is_no_text_is_still_that_error(connect: Any) -> None:
    with ScriptedServer({"SELECT": packets(b"\xff\x28\x04#\xff\xff\xff\xff\xffno such thing")}) as server:
        conn = connect(server)
        with pytest.raises(err.ProgrammingError, match="no such thing") as caught:
            conn.query("SELECT 1")
        assert caught.value.args[0] == 1064
        assert conn.is_alive()


def test_an_error_after_the_columns_is_the_statements_own(connect: Any) -> None:
    answer = packets(length(1), column()) + error(1969, "Query execution was interrupted", first=3)
    with ScriptedServer({"SELECT": answer}) as server:
        conn = connect(server)
        with pytest.raises(err.OperationalError) as caught:
            conn.query("SELECT 1")
        assert caught.value.args[0] == 1969
        conn.query("UPDATE t SET a = 1")
        assert server.clients == 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("kind", "value"), [(3, b"many"), (246, b"1.2.3"), (5, b"x")])
def test_a_number_that_is_none_is_lost(connect: Any, kind: int, value: bytes, streamed: bool) -> None:
    answer = packets(length(1), column(kind=kind), row(value), ok(header=0xFE))
    with ScriptedServer({"SELECT": answer}) as server:
        conn = connect(server)
        conn.cursorclass = SSCursor if streamed else Cursor
        with conn.cursor() as cursor, pytest.raises(LOST) as caught:
            cursor.execute("SELECT n")
            cursor.fetchall()
        assert lost(caught.value)
        assert not conn.open


def test_a_text_that_cannot_be_decoded_raises_what_the_driver_raises(connect: Any) -> None:
    with ScriptedServer({"SELECT": result(row(b"\xff"), row(b"1"))}) as server:
        conn = connect(server)
        with pytest.raises(UnicodeDecodeError, match="invalid start byte") as caught:
            conn.query("SELECT n")
        assert isinstance(caught.value, err.DataError)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), UnicodeDecodeError)
        with pytest.raises(err.MySQLError):
            conn.query("SELECT 1")  # the rows behind it were not read
        assert not conn.open


def test_what_a_converter_of_the_users_raises_is_left_alone(connect: Any) -> None:
    class TooLarge(Exception):
        pass

    def refuse(value: str) -> None:
        raise TooLarge(value)

    with ScriptedServer({"SELECT": result(row(b"1"))}) as server:
        conn = connect(server)
        conn.decoders = {**conn.decoders, 253: refuse}
        with pytest.raises(TooLarge, match="1"):
            conn.query("SELECT n")


def test_the_end_of_columns_is_no_row(connect: Any) -> None:
    answer = packets(length(1), column(), eof(), row(b"1"), ok(header=0xFE))
    with ScriptedServer({"SELECT": answer}) as server:
        conn = connect(server)
        with conn.cursor() as cursor:
            cursor.execute("SELECT n")
            assert cursor.fetchall() == (("1",),)
