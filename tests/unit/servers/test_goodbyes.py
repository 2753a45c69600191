"""What arrives unasked means that the connection is over, and that what comes next was not sent.

The kind: bytes in the reader before a command. Found by going through what can put them there: a goodbye
that came in one piece with the last answer (after OK, a result, an error, rows read one by one), more of an
answer than its own lengths say; and through the commands that can follow it: a statement, BEGIN, COMMIT, a
ping, a change of schema, a setting and a question of the library's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymysql import err
from support.scripted_server import (
    ScriptedServer,
    both,
    error,
    hang_up,
    ok,
    opening,
    packets,
    result,
    row,
    silence,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("form")

GOODBYE = error(4031, "The client was disconnected because of inactivity", first=0)
ANSWERS = {
    "OK": packets(ok(1)),
    "result": result(row(b"1")),
    "error": error(1062, "Duplicate entry"),
}
COMMANDS: dict[str, Callable[[Any], Any]] = {
    "statement": lambda conn: conn.query("INSERT INTO t VALUES (1)"),
    "commit": lambda conn: conn.commit(),
    "begin": lambda conn: conn.begin(),
    "rollback": lambda conn: conn.rollback(),
    "schema": lambda conn: conn.select_db("app"),
    "ping": lambda conn: conn.ping(False),
    "setting": lambda conn: conn.run_setting("SET SESSION TRANSACTION READ ONLY"),
    "question": lambda conn: conn.ask("SELECT 1"),
}


@pytest.fixture
def connect(form: str) -> Iterator[Callable[..., Any]]:
    with opening(form) as connect:
        yield connect


def asked(conn: Any) -> None:
    try:
        conn.query("SELECT n")
    except err.IntegrityError:
        assert conn.open


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_nothing_is_sent_after_a_goodbye_that_came_with_an_answer(
    connect: Any, answer: str, command: str
) -> None:
    # Not followed by the end of the connection, which would be noticed anyhow.
    with ScriptedServer({"SELECT": both(ANSWERS[answer] + GOODBYE, silence)}) as server:
        conn = connect(server)
        asked(conn)
        mark = len(server.statements)
        assert conn.dropped()
        with pytest.raises(err.OperationalError, match=r"gone away.*4031.*inactivity") as caught:
            COMMANDS[command](conn)
        assert caught.value.args[0] == 2006
        assert not conn.open
        assert conn.unanswered_statement() == ""
        assert server.since(mark) == []


@pytest.mark.parametrize("behind", [packets(ok()), b"\0", b"HTTP/1.1 400 Bad Request\r\n"])
def test_nor_after_bytes_that_nobody_asked_for(connect: Any, behind: bytes) -> None:
    with ScriptedServer({"SELECT": both(result() + behind, silence)}) as server:
        conn = connect(server)
        asked(conn)
        with pytest.raises(err.OperationalError, match="gone away") as caught:
            conn.commit()
        assert caught.value.args[0] == 2006
        assert "COMMIT" not in server.statements


def test_the_rest_of_an_answer_is_no_goodbye(connect: Any) -> None:
    answer = result(row(b"1"), row(b"2"), status=2 | 8) + packets(ok(1), first=6)  # more results follow
    with ScriptedServer({"CALL": answer}) as server:
        conn = connect(server)
        conn.query("CALL p()")
        assert not conn.dropped()
        conn.query("UPDATE t SET n = 1")
        conn.query("CALL p()", unbuffered=True)
        assert not conn.dropped()
        with pytest.warns(UserWarning, match="left incomplete"):
            conn.query("UPDATE t SET n = 1")
        assert server.clients == 1


def test_a_goodbye_behind_rows_that_are_read_one_by_one_is_noticed(connect: Any) -> None:
    with ScriptedServer({"SELECT": both(result(row(b"1"), row(b"2")) + GOODBYE, silence)}) as server:
        conn = connect(server)
        conn.query("SELECT n", unbuffered=True)
        with (
            pytest.warns(UserWarning, match="left incomplete"),
            pytest.raises(err.OperationalError, match="gone away") as caught,
        ):
            conn.commit()
        assert caught.value.args[0] == 2006


def test_a_goodbye_in_place_of_an_answer_leaves_the_outcome_open(connect: Any) -> None:
    with ScriptedServer({"COMMIT": both(GOODBYE, hang_up)}) as server:
        conn = connect(server)
        with pytest.raises(err.OperationalError, match="4031") as caught:
            conn.commit()
        assert caught.value.args[0] == 2013
        assert conn.unanswered_statement() == "COMMIT"
