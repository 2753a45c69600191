"""A connection that ends before TLS begins leaves no socket behind, whoever ended it."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from peewee_replicas.servers.wire.transport import SocketTransport

ABRUPTLY = struct.pack("ii", 1, 0)  # with this as SO_LINGER, closing sends a reset


@contextmanager
def no_socket_is_left() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert not [each for each in caught if issubclass(each.category, ResourceWarning)]


@pytest.mark.parametrize("hung_up", [False, True])
@pytest.mark.parametrize("abruptly", [False, True])
def test_the_socket_is_closed_although_tls_never_began(hung_up: bool, abruptly: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport = SocketTransport(socket.create_connection(listener.getsockname()))
        peer, _ = listener.accept()
        if abruptly:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)
        if hung_up:
            transport.shutdown(socket.SHUT_RDWR)
        peer.close()
        with no_socket_is_left():
            with pytest.raises((ConnectionError, ssl.SSLError)):
                transport.secure(ssl.create_default_context(), "localhost")
            transport.close()


class EndsAtTheLastMoment(ssl.SSLContext):
    """A context whose peer resets the connection when Python has already begun to wrap the socket."""

    peer: socket.socket

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)
        self.peer.close()
        return super().wrap_socket(*args, **kwargs)


def test_nor_does_one_that_ends_while_the_socket_is_wrapped() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport = SocketTransport(socket.create_connection(listener.getsockname()))
        context = EndsAtTheLastMoment(ssl.PROTOCOL_TLS_CLIENT)
        context.peer, _ = listener.accept()
        with no_socket_is_left():
            with pytest.raises(ConnectionError):
                transport.secure(context, "localhost")
            transport.close()
