"""Whether something can be read from a socket, without a round trip."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Sequence
from typing import Any


def poll_for(sock: Any) -> Any:
    """A callable that is given milliseconds to wait, and tells whether something can be read from `sock`."""
    if not hasattr(select, "poll"):  # Windows
        return lambda _timeout: select.select([sock], [], [], 0)[0]
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return poll.poll


def readable(sockets: Sequence[Any], seconds: float) -> list[Any]:
    """Those of the sockets from which something can be read, once there is one or the time is over."""
    if not hasattr(select, "poll"):  # Windows
        return list(select.select(sockets, [], [], seconds)[0])
    by_number = {sock.fileno(): sock for sock in sockets}
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(seconds * 1000)]


def hang_up(sock: Any) -> bool:
    """End a connection under whoever waits at this socket, in any thread; whether there was one."""
    if sock is None:
        return False
    # The shutdown of a TLS socket forgets its TLS, and who reads from it would go on in the clear.
    shutdown = super(ssl.SSLSocket, sock).shutdown if isinstance(sock, ssl.SSLSocket) else sock.shutdown
    try:
        shutdown(socket.SHUT_RDWR)
    except OSError:
        return False  # closed meanwhile, or not connected yet
    return True
