"""Reach a server: over TCP, at the first of its addresses that answers, or over a Unix socket."""

from __future__ import annotations

import socket
import traceback

from pymysql import err
from pymysql.constants import CR

from ...concurrency import Clock
from .transport import SocketTransport


def dial(
    host: str, port: int, unix_socket: str | None, seconds: float | None, bind_address: str | None
) -> SocketTransport:
    """Connect to a server.

    Parameters:
        unix_socket: the path of its socket, used instead of `host` and `port`; or None.
        seconds: the limit; None for no limit.
        bind_address: the local address to connect from over TCP; None for any.

    Raises:
        OperationalError: 2003; the server cannot be reached.
    """
    try:
        return open_unix(unix_socket, seconds) if unix_socket else open_tcp(host, port, seconds, bind_address)
    except OSError as exc:
        failure = err.OperationalError(
            CR.CR_CONN_HOST_ERROR, f"Can't connect to MySQL server on {host!r} ({exc})"
        )
        failure.original_exception = exc  # both as PyMySQL names them
        failure.traceback = traceback.format_exc()
        raise failure from exc


def open_tcp(host: str, port: int, seconds: float | None, bind_address: str | None) -> SocketTransport:
    """Connect over TCP.

    Parameters:
        seconds: the limit for all addresses of the host together; None for no limit.
        bind_address: the local address to connect from; None for any.

    Raises:
        OSError: no address could be connected to.
    """
    deadline = None if seconds is None else Clock.monotonic() + seconds
    addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    failure: OSError = OSError("the host has no address")
    for number, (*kind, _name, address) in enumerate(addresses):
        sock = None
        try:
            sock = socket.socket(*kind)
            if deadline is not None:
                # An address that does not answer must leave time for those after it.
                left = deadline - Clock.monotonic()
                sock.settimeout(max(left / (len(addresses) - number), 0.001))
            if bind_address is not None:
                sock.bind((bind_address, 0))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return SocketTransport(sock)
        except OSError as exc:
            failure = exc
            if sock is not None:
                sock.close()
        except BaseException:
            if sock is not None:
                sock.close()
            raise
    raise failure


def open_unix(path: str, seconds: float | None) -> SocketTransport:
    """Connect to a Unix socket; `seconds` as for `open_tcp`.

    Raises:
        OSError: the connection could not be made.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(path)
        return SocketTransport(sock)
    except BaseException:
        sock.close()
        raise
