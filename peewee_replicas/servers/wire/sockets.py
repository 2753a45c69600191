"""Poll sockets, and detect a host that has vanished; the driver does neither."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

SILENT_SECONDS = 15
"""Seconds without any acknowledgement after which a host's connections end."""

_OPTIONS = {
    "TCP_KEEPIDLE": SILENT_SECONDS // 3,  # idle seconds before the first keepalive packet
    "TCP_KEEPINTVL": SILENT_SECONDS // 3,
    "TCP_KEEPCNT": 2,
    "TCP_USER_TIMEOUT": SILENT_SECONDS * 1000,  # milliseconds that sent data may stay unacknowledged
}


class Numbered(Protocol):
    """A socket that can be waited on."""

    def fileno(self) -> int:
        """Return the socket's file descriptor."""


class Counting(Numbered, Protocol):
    """A socket whose kernel may tell when data has last arrived."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Return an option of the socket."""


class Kept(Protocol):
    """A socket with options."""

    @property
    def family(self) -> int:
        """The address family."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set an option."""


S = TypeVar("S", bound=Numbered)


def end_when_vanished(sock: Kept) -> None:
    """Make a connection end when its host no longer acknowledges anything, not even from its kernel.

    A running host acknowledges packets however long its server works on a query, so this does not limit long
    reads. It does not detect a server that hangs on a healthy host: only a prober does.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


# Where `struct tcp_info` of Linux has the milliseconds since data last arrived.
_LAST_DATA = slice(52, 56)


def heard_within(sock: Counting, seconds: float) -> bool:
    """Return whether data has arrived within this time, even if nobody has read it yet.

    Where the kernel does not tell, only data that nobody has read yet counts.
    """
    try:
        if sys.platform == "linux":
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.stop)
            return int.from_bytes(info[_LAST_DATA], sys.byteorder) < seconds * 1000
    except OSError:
        pass  # it is no TCP socket, or was closed meanwhile
    try:
        return bool(readable([sock], 0.0))
    except (OSError, ValueError):
        return False


def poll_for(sock: Numbered) -> Callable[[int], object]:
    """Return a function that waits up to the given milliseconds and returns whether `sock` can be read."""
    if not hasattr(select, "poll"):  # Windows
        return lambda _timeout: select.select([sock], [], [], 0)[0]
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return poll.poll


def readable(sockets: Sequence[S], seconds: float) -> list[S]:
    """Wait up to `seconds` until at least one of the sockets can be read; return those that can."""
    if not hasattr(select, "poll"):  # Windows
        return list(select.select(sockets, [], [], seconds)[0])
    by_number = {sock.fileno(): sock for sock in sockets}
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(seconds * 1000)]
