"""Connections for reading end when their host has vanished."""

from __future__ import annotations

import socket

import pytest

from peewee_replicas.servers.wire.sockets import SILENT_SECONDS, end_when_vanished


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this platform has no such option")
def test_a_connection_ends_when_nothing_is_acknowledged() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sock,
    ):
        end_when_vanished(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SILENT_SECONDS * 1000
        idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        between = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        asked = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert idle + between * asked == SILENT_SECONDS


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this platform has no such sockets")
def test_a_local_socket_is_left_as_it_is() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    end_when_vanished(one)
    one.close()
    other.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this platform has no such option")
def test_a_platform_without_the_options_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_KEEPIDLE")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sock,
    ):
        end_when_vanished(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
