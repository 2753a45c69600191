"""A report that cannot be read never makes a failure of a statement that was executed.

The kind: what a server, or a proxy before it, sends beside "this was executed". Found by going through every
byte behind the status of the packets that end a statement, and through everything that is made of it: the
information text, the block of trackers, each tracker's own text, the GTID as a text and as a position. Those
bytes come at the end of an OK packet and of a result (DEPRECATE_EOF), in the first answer and in later ones
of the same length (which are remembered), to a statement, a COMMIT, a raw cursor, and while connecting.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.scripted_server import (
    AUTOCOMMIT,
    CHANGED,
    ScriptedServer,
    last_gtid,
    ok,
    opening,
    packets,
    result,
    row,
    text,
    trackers,
)  # fmt: skip

from peewee_replicas.servers.wire import trackers as logged_trackers

pytestmark = pytest.mark.usefixtures("form")

GTID = last_gtid(b"0-1-8")
UNREADABLE = {
    "an information text and no trackers": b"\x0fRows matched: 1",
    "a text that is longer than the packet": b"\x7fRows matched: 1",
    "a length that is none": b"\xff",
    "a cut block": GTID[:-3],
    "a block that is cut in a tracker": text(b"") + text(GTID[2:-3]),
    "a variable without a value": trackers((0, text(b"last_gtid"))),
    "a GTID that is no text": last_gtid(b"\xff\xfe\xfd"),
    "a GTID of another server": last_gtid(b"3e11fa47-71ca-11e1-9e33-c80aa9429562:8"),
    "a GTID out of range": last_gtid(b"0-1-99999999999999999999"),
    "an empty GTID tracker": trackers((3, b"")),
    "a state that is cut": trackers((5, b"\x08T__")),
}
ANSWERS: dict[str, Callable[[bytes], bytes]] = {
    "OK": lambda tail: packets(ok(1, tail=tail, status=AUTOCOMMIT | CHANGED)),
    "result": lambda tail: result(row(b"1"), tail=tail, status=AUTOCOMMIT | CHANGED),
}


@pytest.fixture
def connect(form: str) -> Iterator[Callable[..., Any]]:
    with opening(form) as connect:
        yield connect


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("case", UNREADABLE)
def test_the_statement_has_succeeded_and_reported_nothing(connect: Any, case: str, answer: str) -> None:
    reports = ANSWERS[answer]
    with ScriptedServer({"UPDATE": reports(GTID)}) as server:
        conn = connect(server)
        for tail, reported in ((GTID, "0-1-8"), (UNREADABLE[case], None), (GTID, "0-1-8")):
            server.answers["UPDATE"] = reports(tail)
            with conn.cursor() as cursor:
                assert cursor.execute("UPDATE t SET a = 1") == 1
            assert (None if conn.position is None else conn.position.text()) == reported
        assert server.clients == 1


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_commit_has_succeeded(connect: Any, case: str) -> None:
    tail = UNREADABLE[case]
    with ScriptedServer({"COMMIT": packets(ok(tail=tail, status=AUTOCOMMIT | CHANGED))}) as server:
        conn = connect(server)
        conn.commit()
        assert conn.position is None
        assert not conn.transaction


@pytest.mark.parametrize("case", UNREADABLE)
def test_connecting_has_succeeded(connect: Any, case: str) -> None:
    with ScriptedServer(usual=packets(ok(tail=UNREADABLE[case], status=AUTOCOMMIT | CHANGED))) as server:
        assert connect(server).is_alive()


def test_a_gtid_of_known_length_that_is_no_text_is_not_reported(connect: Any) -> None:
    with ScriptedServer() as server:
        conn = connect(server)
        for gtid in (b"0-1-8", b"0-1-9", b"0-1-\xff", b"0-1-\xff"):
            server.answers["UPDATE"] = ANSWERS["OK"](last_gtid(gtid))
            conn.query("UPDATE t SET a = 1")
            assert (None if conn.position is None else conn.position.text()) == (
                gtid.decode() if gtid.isascii() else None
            )


def test_a_change_that_was_read_counts_although_what_follows_is_cut(connect: Any) -> None:
    tail = trackers((2, text(b"1")), (0, text(b"last_gtid")))
    with ScriptedServer({"CALL": ANSWERS["OK"](tail)}) as server:
        conn = connect(server)
        conn.query("CALL p()")
        assert conn.changes == ["CALL p()"]


def test_it_is_said_once_for_each_server(
    connect: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server of an earlier test may have had the same port.
    monkeypatch.setattr(logged_trackers, "_logged", set())
    caplog.set_level(logging.WARNING, "peewee.replicas")
    answers = {"UPDATE": ANSWERS["OK"](b"\x0fRows matched: 1"), "SELECT": ANSWERS["result"](b"\xff")}
    with ScriptedServer(answers) as one, ScriptedServer(answers) as other:
        for server in (one, one, other):
            conn = connect(server)
            for sql in ("UPDATE t SET a = 1", "SELECT 1"):
                conn.query(sql)
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == 2
        assert f"127.0.0.1:{one.port}: the server's report" in said[0]
        assert "is ignored" in said[0]


def test_a_handler_that_uses_the_connection_leaves_the_result_alone(connect: Any) -> None:
    class Writing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with conn.cursor() as cursor:
                cursor.execute("INSERT INTO log VALUES (1)")

    handler = Writing()
    logging.getLogger("peewee.replicas").addHandler(handler)
    try:
        with ScriptedServer({"SELECT": ANSWERS["result"](b"\xff")}) as server:
            conn = connect(server)
            with conn.cursor() as cursor:
                cursor.execute("SELECT n")
                assert [value for (value,) in cursor.fetchall()] == ["1"]
            assert server.statements[-2:] == ["SELECT n", "INSERT INTO log VALUES (1)"]
            assert server.clients == 1
    finally:
        logging.getLogger("peewee.replicas").removeHandler(handler)
