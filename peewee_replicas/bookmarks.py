"""Bookmarks: a position as an opaque string, to carry between threads, processes and requests.

No I/O and no clock: the time is passed in. A bookmark consists of letters, digits, ``-`` and ``_`` (a signed
one also has one ``.``), so URLs, headers and cookies can carry it unchanged. Each bookmark can be written in
only one way, and `decode` accepts no other.
"""

from __future__ import annotations

import hmac
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Final, NamedTuple
from uuid import UUID
from zlib import crc32

from peewee_replicas.errors import BookmarkError, BookmarkExpired
from peewee_replicas.positions import MariaDBPosition, MySQLPosition, Position

__all__ = [
    "MAX_HISTORY", "MAX_LENGTH", "Bookmark", "BookmarkError", "BookmarkExpired", "decode", "encode",
    "encode_within_limit", "sign", "unsign",
]  # fmt: skip

MAX_LENGTH: Final = 4000
"""The longest bookmark without its signature, in characters: the size of a cookie."""
MAX_HISTORY: Final = 256
"""The longest name of a history, in bytes: as long as a schema's, 64 characters of up to 4 bytes each."""

_MARIADB, _MYSQL, _PRESENT = 0x11, 0x12, 0x13  # version 1, and the kind of position
_CHECKSUM = 4  # bytes
_SIGNATURE = 16  # bytes
_MIN_KEY = 16  # bytes
_MAX_MILLISECONDS = 2**47  # until the year 6429
_VARINT_BYTES = 10
_LETTERS = re.compile(r"[A-Za-z0-9_-]+")
_UUID_TEXT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Bookmark(NamedTuple):
    """The content of a bookmark.

    Attributes:
        position: the position that its reader must see at least; None means all that the primary has when
            the bookmark is used.
        history: the name of the history that the position belongs to.
        issued: when the bookmark was made, in seconds since the epoch, to the millisecond.
    """

    position: Position | None
    history: str
    issued: float


def encode(position: Position | None, history: str, issued: float) -> str:
    """Return the bookmark for a position.

    Parameters:
        position: MySQL's or MariaDB's; None means all that the primary has when the bookmark is used.
        history: the name of what the position belongs to, such as the primary's ``server_uuid``; at most
            `MAX_HISTORY` bytes as UTF-8. A UUID makes the shortest bookmark.
        issued: the current time, in seconds since the epoch; kept to the millisecond.

    Raises:
        ValueError: the history or the time cannot be encoded, or the position has so many intervals that
            the bookmark would be longer than `MAX_LENGTH` (``compact()`` the position first).
    """
    writer = bytearray()
    if isinstance(position, MariaDBPosition):
        writer.append(_MARIADB)
    elif isinstance(position, MySQLPosition):
        writer.append(_MYSQL)
    elif position is None:
        writer.append(_PRESENT)
    else:
        raise TypeError(f"there are no bookmarks for a {type(position).__name__}")
    if not (math.isfinite(issued) and 0 <= round(issued * 1000) < _MAX_MILLISECONDS):
        raise ValueError(f"issued must be seconds since the epoch, not {issued!r}")
    _put(writer, round(issued * 1000))
    _put_history(writer, history)
    if isinstance(position, MariaDBPosition):
        _put_mariadb(writer, position)
    elif isinstance(position, MySQLPosition):
        _put_mysql(writer, position, history)
    text = _letters(bytes(writer) + crc32(writer).to_bytes(_CHECKSUM, "big"))
    if position is not None and len(text) > MAX_LENGTH:
        raise ValueError(
            f"a position of {position.size} intervals makes a bookmark of {len(text)} characters, of "
            f"which {MAX_LENGTH} are allowed: compact() it with what the primary has executed"
        )
    return text


def encode_within_limit(position: Position, history: str, issued: float) -> str:
    """Return the bookmark for a position of any size.

    If it would be too long, return a shorter one that makes its reader wait for more: also for what others
    wrote between the position's intervals or, if that is still too long, for all that the primary has when
    the bookmark is used.
    """
    for shorter in (position, position.filled()):
        try:
            return encode(shorter, history, issued)
        except ValueError:
            continue
    return encode(None, history, issued)


def decode(text: str, now: float, max_age: float) -> Bookmark:
    """Return the content of a bookmark. The caller must compare its history.

    Parameters:
        text: what `encode` returned. A text longer than `MAX_LENGTH` is refused unread.
        now: the current time, in seconds since the epoch.
        max_age: how long a bookmark is valid, in seconds; ``math.inf`` means forever. A bookmark dated in the
            future, by a clock that is ahead, may not be further from `now` than this either.

    Raises:
        BookmarkExpired: the bookmark is too old, or too far in the future.
        BookmarkError: the text is not a bookmark as this version writes them.
    """
    data = _bytes(text)
    body, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
    if crc32(body).to_bytes(_CHECKSUM, "big") != checksum:
        raise BookmarkError("not a bookmark: the text is damaged, or something else")
    reader = _Reader(body)
    kind = reader.number()
    if kind not in (_MARIADB, _MYSQL, _PRESENT):
        raise BookmarkError(f"a bookmark of another version of this package (its mark is {kind:#04x})")
    issued = reader.number() / 1000
    history = _take_history(reader)
    try:
        found = Bookmark(_TAKE[kind](reader, history), history, issued)
        sound = encode(*found) == text  # refuse any other way to write the same value
    except BookmarkError:
        raise
    except ValueError as error:
        raise BookmarkError(f"not a bookmark: {error}") from error
    if not sound:
        raise BookmarkError("not a bookmark: the text is not as this package writes it")
    if not abs(now - issued) <= max_age:  # written with "not" so that NaN is refused
        when = f"{now - issued:.0f} s old" if now > issued else f"{issued - now:.0f} s in the future"
        raise BookmarkExpired(f"the bookmark is {when}, more than the {max_age:g} s it is good for")
    return found


def sign(text: str, key: str | bytes, context: str = "") -> str:
    """Return a signed bookmark for an untrusted client, who can read it but not make one.

    Parameters:
        text: the bookmark.
        key: a secret of 16 bytes or more. Raises ``ValueError`` if it is shorter.
        context: a text to bind the signature to, such as a user's name; not part of the result.
    """
    return f"{text}.{_seal(text, key, context).decode()}"


def unsign(text: str, *keys: str | bytes, context: str = "") -> str:
    """Check a signed bookmark and return it without its signature.

    Parameters:
        text: what `sign` returned.
        keys: the accepted keys: the current one and, while keys are being changed, the previous one.
        context: the same as in `sign`.

    Raises:
        BookmarkError: the bookmark is not signed, or not with one of these keys for this context.
        ValueError: there is no key, or a key is too short.
    """
    if not keys:
        raise ValueError("unsign() needs a key")
    _check_text(text, MAX_LENGTH + 1 + 4 * _SIGNATURE)
    inner, dot, given = text.partition(".")
    if not dot:
        raise BookmarkError("the bookmark is not signed")
    signature = given.encode("utf-8", "replace")  # compare_digest() takes a str only if it is ASCII
    signed = [hmac.compare_digest(_seal(inner, key, context), signature) for key in keys]
    if not any(signed):
        raise BookmarkError("the bookmark's signature is wrong: forged, damaged, or made with another key")
    return inner


def _seal(text: str, key: str | bytes, context: str) -> bytes:
    secret = key.encode() if isinstance(key, str) else bytes(key)
    if len(secret) < _MIN_KEY:
        raise ValueError(f"a key for bookmarks needs {_MIN_KEY} bytes or more, not {len(secret)}")
    about = context.encode("utf-8", "surrogatepass")
    # The length separates the context from the text, so that no part of one can pass for the other.
    message = b"bookmark\0%d\0%s%s" % (len(about), about, text.encode("utf-8", "surrogatepass"))
    return _letters(hmac.digest(secret, message, "sha256")[:_SIGNATURE]).encode()


def _check_text(text: object, longest: int) -> None:
    if not isinstance(text, str):
        raise BookmarkError(f"a bookmark is a str, not {type(text).__name__}")
    if len(text) > longest:
        raise BookmarkError(f"not a bookmark: {len(text)} characters, the longest has {longest}")


def _letters(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    _check_text(text, MAX_LENGTH)
    if not _LETTERS.fullmatch(text) or len(text) % 4 == 1:
        raise BookmarkError("not a bookmark: it is letters, digits, - and _ only, or it is cut off")
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


# Numbers are written seven bits to a byte, the lowest first, the high bit set on all but the last.


def _put(writer: bytearray, *numbers: int) -> None:
    for number in numbers:
        while number > 0x7F:
            writer.append(number & 0x7F | 0x80)
            number >>= 7
        writer.append(number)


class _Reader:
    """Reads the bytes of a bookmark. Every step takes at least one byte, so the work is bounded."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise BookmarkError("not a bookmark: it ends too early")
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self) -> int:
        number = 0
        for place in range(_VARINT_BYTES):
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return number
        raise BookmarkError("not a bookmark: a number in it is too long")

    @property
    def more(self) -> bool:
        return self._at < len(self._data)


def _put_history(writer: bytearray, history: str) -> None:
    if _UUID_TEXT.fullmatch(history):
        _put(writer, 1)
        writer += UUID(history).bytes
        return
    name = history.encode()
    if len(name) > MAX_HISTORY:
        raise ValueError(f"the name of a history has at most {MAX_HISTORY} bytes, not {len(name)}")
    _put(writer, len(name) << 1)
    writer += name


def _take_history(reader: _Reader) -> str:
    mark = reader.number()
    if mark == 1:
        return str(UUID(bytes=reader.take(16)))
    try:
        return reader.take(mark >> 1).decode()
    except UnicodeDecodeError as error:
        raise BookmarkError("not a bookmark: the name of its history is no text") from error


def _put_mariadb(writer: bytearray, position: MariaDBPosition) -> None:
    for gtid in position.gtids():
        _put(writer, *gtid)


def _take_mariadb(reader: _Reader, history: str) -> MariaDBPosition:
    gtids = []
    while reader.more:
        gtids.append((reader.number(), reader.number(), reader.number()))
    return MariaDBPosition(gtids)


def _put_mysql(writer: bytearray, position: MySQLPosition, history: str) -> None:
    """Write, per source: whether its UUID is the last one named; the tag; the number of intervals; each
    interval, as the distance from the last one and its length."""
    last = history
    for (uuid, tag), group in groupby(position.intervals(), key=lambda interval: interval[:2]):
        _put(writer, len(tag) << 1 | (uuid == last))
        if uuid != last:
            writer += UUID(uuid).bytes
            last = uuid
        writer += tag.encode("ascii")
        intervals = list(group)
        _put(writer, len(intervals))
        at = 0
        for _, _, first, end in intervals:
            _put(writer, first - at, end - first)
            at = end


def _take_mysql(reader: _Reader, history: str) -> MySQLPosition:
    return MySQLPosition(_mysql_intervals(reader, history))


def _mysql_intervals(reader: _Reader, history: str) -> Iterator[tuple[str, str, int, int]]:
    uuid = history
    while reader.more:
        mark = reader.number()
        if not mark & 1:
            uuid = str(UUID(bytes=reader.take(16)))
        tag = reader.take(mark >> 1).decode("ascii")
        last = 0
        for _ in range(reader.number()):
            first = last + reader.number()
            last = first + reader.number()
            yield uuid, tag, first, last


def _take_present(reader: _Reader, history: str) -> None:
    if reader.more:
        raise BookmarkError("not a bookmark: something follows its end")


_TAKE: Final[Mapping[int, Callable[[_Reader, str], Position | None]]] = {
    _MARIADB: _take_mariadb,
    _MYSQL: _take_mysql,
    _PRESENT: _take_present,
}
