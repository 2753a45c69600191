"""What stands between client and server in tests closes a socket only after the last use of it.

The number of a closed socket may be another's at once, such as of the client's next connection. A thread that
still used it would take what arrives there, and the client would wait for ever.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from support.proxies.relay import Relay, _Conversation
from support.proxies.saboteur import Saboteur
from support.waiting import until


@pytest.mark.parametrize("proxy", [Relay, Saboteur])
def test_a_socket_stays_open_while_a_thread_uses_it(monkeypatch: pytest.MonkeyPatch, proxy: Any) -> None:
    busy, go_on = threading.Event(), threading.Event()

    def between_two_uses(*_: object) -> None:
        busy.set()
        go_on.wait(20)

    of, step = (_Conversation, "_count") if proxy is Relay else (Saboteur, "_plan_for")
    monkeypatch.setattr(of, step, between_two_uses)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        proxy(server.getsockname()[1]) as between,
        socket.create_connection(("127.0.0.1", between.port)) as client,
    ):
        client.sendall(b"hello")
        assert busy.wait(20)
        used = between._conversations[0]._sockets if proxy is Relay else between._sockets
        if proxy is Relay:
            between.drop()
        else:
            server.accept()[0].close()
        assert client.recv(1) == b""  # the connection has ended
        assert used[0].fileno() >= 0
        go_on.set()
        until(lambda: {sock.fileno() for sock in used} == {-1})
