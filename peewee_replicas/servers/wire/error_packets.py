"""Error packets, which a server sends when it refuses a statement or before it ends the connection."""

from __future__ import annotations

import struct
from typing import NamedTuple

from .trackers import MalformedPacket
from .transport import Transport

# The exceptions that the driver raises on unexpected bytes.
STUMBLES = (
    AssertionError, AttributeError, IndexError, KeyError, NameError, TypeError, ValueError, struct.error,
)  # fmt: skip

LONGEST_WORDS = 1 << 12
"""The size in bytes up to which an unexpected packet is read as an error."""

_LAST_WORDS_SECONDS = 0.05  # an error sent before the server hung up has already arrived, or will not come
_NO_WORDS = 3  # bytes of an error packet before its SQLSTATE and its message
_ANY_STATE = b"#HY000"


class ServerError(NamedTuple):
    """An error that the server has sent: the number, 0 for none, and the text in parentheses."""

    number: int
    text: str


NO_ERROR = ServerError(0, "")


def error_in(payload: bytes) -> ServerError:
    """Return the error in the payload of a packet; `NO_ERROR` if it is no error packet."""
    if len(payload) < 4 or payload[0] != 0xFF:
        return NO_ERROR
    number = payload[1] | payload[2] << 8
    words = payload[9:] if payload[3:4] == b"#" else payload[3:]
    return ServerError(number, f" ({number}: {words.decode('utf8', 'replace')})")


def last_words(transport: Transport) -> ServerError:
    """Return the error that the server sent before it hung up, if there is one."""
    try:
        with transport.within(_LAST_WORDS_SECONDS):
            header = transport.read(4)
            return error_in(transport.read(min(int.from_bytes(header[:3], "little"), LONGEST_WORDS)))
    except (OSError, ValueError):
        return NO_ERROR


def with_state(payload: bytes) -> bytes:
    """Return the payload of an error packet in the form that all releases of PyMySQL read alike.

    The releases differ if the SQLSTATE is missing or is not text.

    Raises:
        MalformedPacket: the packet ends before its message.
    """
    if len(payload) <= _NO_WORDS:
        raise MalformedPacket("an error packet without words")
    if payload[3:4] != b"#":
        return payload[:3] + _ANY_STATE + payload[3:]
    return payload if payload[4:9].isascii() else payload[:3] + _ANY_STATE + payload[9:]
