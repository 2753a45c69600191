"""Parse session trackers, the server's report about a session after the status in an OK packet. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from ...log import log_event

# Numbers of the session trackers; MySQL and MariaDB agree on them.
TRACK_VARIABLE, TRACK_CHANGE, TRACK_GTIDS, TRACK_TRANSACTION = 0, 2, 3, 5

# Servers whose reports could not be read; each is logged once.
_logged: set[str] = set()
_MOST_LOGGED = 256

NO_NUMBER = 0xFB  # a byte below this is itself a length or count


class MalformedPacket(ValueError):
    """A packet, or a part of a packet, violates the protocol."""


def read_length(data: bytes, at: int) -> tuple[int, int]:
    """Read a length-encoded integer in `data` at `at`; return the value and the offset after it.

    Raises:
        MalformedPacket: the bytes end early or are not a length.
    """
    first = data[at] if at < len(data) else NO_NUMBER
    if first < NO_NUMBER:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    end = at + 1 + size
    if not size or end > len(data):
        raise MalformedPacket("malformed length")
    return int.from_bytes(data[at + 1 : end], "little"), end


def take(data: bytes, at: int) -> tuple[bytes, int]:
    """Read a length-encoded string in `data` at `at`; return and raise as `read_length` does."""
    length, start = read_length(data, at)
    end = start + length
    if end > len(data):
        raise MalformedPacket("a length-encoded string ends early")
    return data[start:end], end


def session_trackers(tail: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield ``(type, payload)`` of each tracker in the tail of an OK packet (after its status words).

    Raises:
        MalformedPacket: the tail is malformed.
    """
    _info, at = take(tail, 0)
    block, _ = take(tail, at)
    at = 0
    while at < len(block):
        payload, end = take(block, at + 1)
        yield block[at], payload
        at = end


def log_unreadable(server: str, complaint: str) -> None:
    """Log, once for each server, that its reports cannot be read."""
    if server in _logged:
        return
    if len(_logged) >= _MOST_LOGGED:
        _logged.clear()
    _logged.add(server)
    log_event(
        "report_unreadable",
        "%s: the server's report about the session cannot be read (%s) and is ignored; a proxy may have "
        "changed it",
        server,
        complaint,
        node=server,
        cause=complaint,
    )
