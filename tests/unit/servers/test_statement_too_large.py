"""A statement above ``max_allowed_packet`` is its own fault, and the error names its size and the limit.

The kind: every way in which a server's refusal of a large statement reaches the client. Found on real servers
(`tests/servers/servers/test_large_statements.py`) with statements of one packet and of several, with and
without TLS: as an answer in its turn, as an answer out of step, and unread behind a connection that was reset
while the statement was being sent. A server that refuses it out of the blue is scripted here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymysql import err
from support.scripted_server import ScriptedServer, error, hang_up, opening, packets, result, row, silence

pytestmark = pytest.mark.usefixtures("form")

MIB = 1 << 20
LIMIT = {
    "SHOW VARIABLES LIKE 'max_allowed_packet'": result(row(b"max_allowed_packet", b"1048576"), columns=2)
}
REFUSED = error(1153, "Got a packet bigger than 'max_allowed_packet' bytes", state="08S01")


@pytest.fixture
def connect(form: str) -> Iterator[Callable[..., Any]]:
    with opening(form) as connect:
        yield connect


def statement(size: int, letter: str = "x") -> str:
    """A statement of so many bytes."""
    around = "INSERT INTO t VALUES ('')"
    return around[:-2] + letter * ((size - len(around)) // len(letter.encode())) + around[-2:]


@pytest.mark.parametrize("letter", ["x", "é", "漢"])
def test_it_is_refused_before_it_is_sent_and_the_connection_goes_on(connect: Any, letter: str) -> None:
    with ScriptedServer(LIMIT, limit=MIB) as server:
        conn = connect(server)
        conn.begin()
        for _ in range(2):
            large = statement(2 * MIB, letter)
            with pytest.raises(err.OperationalError, match=r"has 2,097,1\d\d bytes.* is 1,048,576") as caught:
                conn.query(large)
            assert caught.value.args[0] == 1153
        conn.commit()
        assert server.clients == 1
        assert [sql for sql in server.statements if sql.startswith("SHOW")] == list(LIMIT)  # asked once


def test_one_that_fits_is_sent(connect: Any) -> None:
    with ScriptedServer(LIMIT, limit=MIB + 10) as server:
        conn = connect(server)
        assert conn.query(statement(MIB - 1)) == 0
        assert server.clients == 1


def test_small_ones_cost_no_question(connect: Any) -> None:
    with ScriptedServer(LIMIT) as server:
        conn = connect(server)
        conn.query(statement(MIB // 2))
        assert not [sql for sql in server.statements if sql.startswith("SHOW")]


@pytest.mark.parametrize(
    "answer", [error(1227, "Access denied"), packets(b"\0\0\0\2\0\0\0"), result(columns=2)]
)
def test_where_the_limit_cannot_be_learned_the_server_has_the_word(connect: Any, answer: bytes) -> None:
    with ScriptedServer({next(iter(LIMIT)): answer}, limit=3 * MIB) as server:
        conn = connect(server)
        assert conn.query(statement(2 * MIB)) == 0


def test_a_limit_below_what_is_asked_for_is_told_by_the_server(connect: Any) -> None:
    with ScriptedServer({"INSERT": REFUSED}) as server:
        conn = connect(server)
        with pytest.raises(err.OperationalError, match=r"has 100,0\d\d bytes.*limit is lower") as caught:
            conn.query(statement(100_000))
        assert caught.value.args[0] == 1153
        assert not conn.open
        assert conn.unanswered_statement() == ""


def test_a_refusal_out_of_step_is_understood(connect: Any) -> None:
    refused = error(1153, "Got a packet bigger than 'max_allowed_packet' bytes", first=3, state="08S01")
    with ScriptedServer({"INSERT": refused}) as server:
        conn = connect(server)
        with pytest.raises(err.OperationalError, match="nothing was executed") as caught:
            conn.query(statement(100_000))
        assert caught.value.args[0] == 1153
        assert conn.unanswered_statement() == ""


def test_a_question_for_the_limit_that_hangs_ends_with_the_connection(connect: Any) -> None:
    with ScriptedServer({"SHOW": silence}) as server:
        conn = connect(server, connect_timeout=0.3)
        with pytest.raises(err.MySQLError) as caught:
            conn.query(statement(2 * MIB))
        assert caught.value.args[0] in (0, 2006, 2013)
        assert not any(sql.startswith("INSERT") for sql in server.statements)


def test_a_connection_that_ends_at_the_question_has_sent_nothing(connect: Any) -> None:
    with ScriptedServer({"SHOW": hang_up}) as server:
        conn = connect(server)
        with pytest.raises(err.OperationalError) as caught:
            conn.query(statement(2 * MIB))
        assert caught.value.args[0] == 2006
