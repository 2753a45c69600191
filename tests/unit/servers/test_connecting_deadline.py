"""``connect_timeout`` bounds connecting as a whole: no step of it can take longer, nor all of them together.

The kind: every wait between the call and the usable connection. Found by following `connect()` through the
driver: TCP to each of a name's addresses, the greeting, the TLS request and its handshake, authentication
with its further rounds, SET NAMES, ``sql_mode``, the user's ``init_command``, autocommit, our own settings;
each of them silent, and each in bytes that trickle so that no single wait is long.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymysql import err
from pymysql.constants import CLIENT
from support.scripted_server import (
    OFFERED,
    Answer,
    ScriptedServer,
    both,
    greeting,
    ok,
    opening,
    packets,
    silence,
    trickle,
)  # fmt: skip

from peewee_replicas.servers.wire.dialing import open_tcp

pytestmark = pytest.mark.usefixtures("form")

SECONDS = 0.5
GREETING = packets(greeting(), first=0)
# Longer in all than any step may take, and no wait in it is as long as that.
SLOWLY = trickle(packets(b"\0" * 1000), every=0.05)
SWITCH = packets(b"\xfemysql_native_password\0" + b"x" * 21, first=2)
SLOW_STEPS: dict[str, dict[str, Any]] = {
    "greeting": {"greets": silence},
    "greeting, slowly": {"greets": trickle(GREETING, every=0.05)},
    "authentication": {"lets_in": silence},
    "authentication, slowly": {"lets_in": trickle(packets(b"\0" * 1000, first=2), every=0.05)},
    "authentication, in rounds": {"lets_in": both(SWITCH, silence)},
    "settings": {"usual": silence},
    "settings, slowly": {"usual": SLOWLY},
    "init_command": {"answers": {"SET @a": silence}},
    "init_command, slowly": {"answers": {"SET @a": SLOWLY}},
    "a little of everything": {
        "greets": both(trickle(GREETING[:4], every=0.05), GREETING[4:]),
        "lets_in": trickle(packets(ok(), first=2), every=0.05),
        "usual": trickle(packets(ok()), every=0.05),
    },
}  # fmt: skip


@pytest.fixture
def connect(form: str) -> Iterator[Callable[..., Any]]:
    with opening(form) as connect:
        yield connect


def fails_in_time(connect: Callable[[], Any]) -> Any:
    """The error of connecting, which must come after `SECONDS` and not much later."""
    began = time.monotonic()
    with pytest.raises(err.OperationalError) as caught:
        connect()
    took = time.monotonic() - began
    assert SECONDS * 0.9 < took < SECONDS + 2, (
        took
    )  # the machine may be busy; unbounded ones take 4 s and more
    assert caught.value.args[0] in (2003, 2013)
    return caught.value


@pytest.mark.parametrize("step", SLOW_STEPS)
def test_no_step_takes_longer(connect: Any, step: str) -> None:
    with ScriptedServer(**SLOW_STEPS[step]) as server:
        options = {"init_command": "SET @a = 1"} if step.startswith(("init", "a little")) else {}
        fails_in_time(lambda: connect(server, connect_timeout=SECONDS, **options))


@pytest.mark.parametrize("says", ["silence", "slowly"])
def test_nor_does_tls(connect: Any, says: str) -> None:
    answer: Answer = (
        silence if says == "silence" else trickle(b"\x16\x03\x03\x40\0" + b"\0" * 1000, every=0.05)
    )
    options: dict[str, Any] = {"ssl": ssl.create_default_context()}
    with ScriptedServer(lets_in=answer, offered=OFFERED | CLIENT.SSL) as server:
        fails_in_time(lambda: connect(server, connect_timeout=SECONDS, **options))


def test_a_longer_read_timeout_makes_it_no_longer_and_holds_afterwards(connect: Any, form: str) -> None:
    if form == "asyncio":
        pytest.skip("aiomysql has no read_timeout")
    with ScriptedServer({"SELECT": trickle(packets(ok()), every=0.1)}) as server:
        conn = connect(server, connect_timeout=SECONDS, read_timeout=20)
        conn.query("SELECT 1")  # takes longer than connecting may
        assert conn.socket.gettimeout() == 20
    with ScriptedServer(greets=silence) as server:
        fails_in_time(lambda: connect(server, connect_timeout=SECONDS, read_timeout=20))


def test_a_shorter_read_timeout_ends_a_silent_step_sooner(connect: Any, form: str) -> None:
    if form == "asyncio":
        pytest.skip("aiomysql has no read_timeout")
    began = time.monotonic()
    with ScriptedServer(greets=silence) as server, pytest.raises(err.OperationalError, match="timed out"):
        connect(server, connect_timeout=20, read_timeout=0.2)
    assert time.monotonic() - began < 5


def test_addresses_that_do_not_answer_leave_time_for_one_that_does(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "asyncio":
        pytest.skip("the event loop goes through the addresses")
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    with full, ScriptedServer() as server:
        # A listener whose queue is full answers no more: two that wait fill one of length 0.
        waiting = [socket.socket() for _ in range(2)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        addresses = [(*kind, full.getsockname()), (*kind, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: addresses)
        began = time.monotonic()
        opened = open_tcp("some.name", 3306, SECONDS * 2, None)
        assert opened.getpeername() == ("127.0.0.1", server.port)
        assert SECONDS * 0.9 < time.monotonic() - began < SECONDS * 2
        opened.close()
        for sock in waiting:
            sock.close()


def test_a_question_with_a_limit_ends_in_time_however_it_is_answered(connect: Any) -> None:
    for answer in (silence, SLOWLY):
        with ScriptedServer({"SHOW": answer}) as server:
            conn = connect(server)
            began = time.monotonic()
            with pytest.raises(err.OperationalError) as caught:
                conn.ask("SHOW VARIABLES", SECONDS)
            assert time.monotonic() - began < SECONDS + 2
            assert caught.value.args[0] == 2013
            assert not conn.open


def test_a_ping_ends_in_time(connect: Any) -> None:
    with ScriptedServer(others=silence) as server:
        conn = connect(server, connect_timeout=SECONDS)
        began = time.monotonic()
        assert not conn.is_alive()
        assert time.monotonic() - began < SECONDS + 2
