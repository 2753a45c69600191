"""A connection that is being opened can be hung up from another thread at each step of connecting."""

from __future__ import annotations

import ssl
import threading
import time

import pytest
from pymysql import err
from pymysql.constants import CLIENT
from support.scripted_server import OFFERED, ScriptedServer, silence
from support.waiting import until

from peewee_replicas.servers.wire.connection import Connection


@pytest.mark.parametrize("step", ["greeting", "TLS handshake", "authentication"])
def test_hanging_up_wakes_the_thread_that_connects(step: str) -> None:
    silent = {"greets": silence} if step == "greeting" else {"lets_in": silence}
    secure = step == "TLS handshake"
    options = {"ssl": ssl.create_default_context()} if secure else {}
    with ScriptedServer(offered=OFFERED | CLIENT.SSL if secure else OFFERED, **silent) as server:
        conn = Connection(defer_connect=True, connect_timeout=60, **server.parameters, **options)
        failures: list[BaseException] = []

        def connect() -> None:
            try:
                conn.connect()
            except err.MySQLError as exc:
                failures.append(exc)

        thread = threading.Thread(target=connect)
        thread.start()
        until(lambda: server.clients == 1)
        began = time.monotonic()
        # Again and again, because nobody sees from outside which step it has reached.
        while thread.is_alive() and time.monotonic() - began < 20:
            conn.hang_up()
            thread.join(0.05)
        assert not thread.is_alive()
        assert isinstance(failures[0], err.OperationalError)
        assert not conn.open
