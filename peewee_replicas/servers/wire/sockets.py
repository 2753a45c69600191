"""Noticing that a host has vanished: one that answers nothing at all, not even for its kernel.

A host that is there acknowledges what it is sent however long its server thinks about a query, so this limits
no long read. Nor does it help against a server that hangs on a host that is well: that takes a prober.
"""

from __future__ import annotations

import socket
from typing import Any

SILENT_SECONDS = 15
"""How long a host may acknowledge nothing before its connections end."""

_OPTIONS = {
    "TCP_KEEPIDLE": SILENT_SECONDS // 3,  # then it is asked whether it is there
    "TCP_KEEPINTVL": SILENT_SECONDS // 3,
    "TCP_KEEPCNT": 2,
    "TCP_USER_TIMEOUT": SILENT_SECONDS * 1000,  # for what was sent and is not acknowledged
}


def end_when_vanished(sock: Any) -> None:
    """Let a connection end when its host has vanished, as far as this platform can tell it to."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
