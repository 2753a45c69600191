"""Sockets beyond what the driver does with them: polling, and noticing a vanished host."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

SILENT_SECONDS = 15
"""How long a host may acknowledge nothing before its connections end."""

_OPTIONS = {
    "TCP_KEEPIDLE": SILENT_SECONDS // 3,  # then it is asked whether it is there
    "TCP_KEEPINTVL": SILENT_SECONDS // 3,
    "TCP_KEEPCNT": 2,
    "TCP_USER_TIMEOUT": SILENT_SECONDS * 1000,  # for what was sent and is not acknowledged
}


class Numbered(Protocol):
    """A socket that can be waited for."""

    def fileno(self) -> int:
        """The number of the socket."""


class Kept(Protocol):
    """A socket whose options can be set."""

    @property
    def family(self) -> int:
        """The family of its addresses."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set one of them."""


S = TypeVar("S", bound=Numbered)


def end_when_vanished(sock: Kept) -> None:
    """Let a connection end when its host answers nothing any more, not even from its kernel.

    A host that is there acknowledges what it is sent however long its server thinks about a query, so this
    limits no long read. Nor does it help against a server that hangs on a healthy host: that takes a prober.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def poll_for(sock: Numbered) -> Callable[[int], object]:
    """A function that waits up to the given milliseconds and says whether `sock` can be read."""
    if not hasattr(select, "poll"):  # Windows
        return lambda _timeout: select.select([sock], [], [], 0)[0]
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return poll.poll


def readable(sockets: Sequence[S], seconds: float) -> list[S]:
    """Wait up to `seconds` until at least one of the sockets can be read; returns those that can."""
    if not hasattr(select, "poll"):  # Windows
        return list(select.select(sockets, [], [], seconds)[0])
    by_number = {sock.fileno(): sock for sock in sockets}
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(seconds * 1000)]
