"""Bookmarks: a position as an opaque string, to carry between threads, processes and requests.

Pure: the time is passed in. A bookmark is letters, digits, ``-`` and ``_`` (signed: one ``.`` too), so
it fits into URLs, headers and cookies as it is. Each value has one text, and only that is accepted.
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
"""Characters of the longest bookmark, without its signature: what a cookie can hold."""
MAX_HISTORY: Final = 256
"""Bytes of the longest name of a history: of the 64 characters that a schema's name may have."""

_MARIADB, _MYSQL, _PRESENT = 0x11, 0x12, 0x13  # version 1, and the kind of position
_CHECKSUM = 4  # bytes
_SIGNATURE = 16  # bytes
_MIN_KEY = 16  # bytes
_MAX_MILLISECONDS = 2**47  # until the year 6429
_VARINT_BYTES = 10
_LETTERS = re.compile(r"[A-Za-z0-9_-]+")
_UUID_TEXT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Bookmark(NamedTuple):
    """What a bookmark says.

    Attributes:
        position: what its reader must see at least; None: what the primary has when it is read.
        history: names the history that the position belongs to.
        issued: when it was made, in seconds since the epoch, to the millisecond.
    """

    position: Position | None
    history: str
    issued: float


def encode(position: Position | None, history: str, issued: float) -> str:
    """The bookmark for a position.

    Parameters:
        position: of either kind of server; None: what the primary has when the bookmark is used.
        history: names what the position belongs to, such as the primary's ``server_uuid``; at most
            `MAX_HISTORY` bytes as UTF-8. A UUID is the shortest.
        issued: the time now, in seconds since the epoch; kept to the millisecond.

    Raises:
        ValueError: a history or a time that cannot be written, or a position with so many intervals
            that the bookmark would be longer than `MAX_LENGTH` (``compact()`` it first).
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
    """The bookmark for a position of any size.

    Where it would be too long, its reader sees more: also what others wrote between the position's own
    intervals, or if that is not short enough either, all that the primary has when the bookmark is used.
    """
    for shorter in (position, position.filled()):
        try:
            return encode(shorter, history, issued)
        except ValueError:
            continue
    return encode(None, history, issued)


def decode(text: str, now: float, max_age: float) -> Bookmark:
    """What a bookmark says. Its history is the caller's to compare.

    Parameters:
        text: what `encode` returned. A longer one than `MAX_LENGTH` is not looked at.
        now: the time, in seconds since the epoch.
        max_age: seconds that a bookmark is good for; ``math.inf``: for ever. One from the future, by
            a clock that runs ahead, must not be further away than that either.

    Raises:
        BookmarkExpired: it is too old, or too far in the future.
        BookmarkError: it is anything else than a bookmark as this version writes them.
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
        sound = encode(*found) == text
    except BookmarkError:
        raise
    except ValueError as error:
        raise BookmarkError(f"not a bookmark: {error}") from error
    if not sound:
        raise BookmarkError("not a bookmark: the text is not as this package writes it")
    if not abs(now - issued) <= max_age:
        when = f"{now - issued:.0f} s old" if now > issued else f"{issued - now:.0f} s in the future"
        raise BookmarkExpired(f"the bookmark is {when}, more than the {max_age:g} s it is good for")
    return found


def sign(text: str, key: str | bytes, context: str = "") -> str:
    """A bookmark that an untrusted client may carry: it can read it but not make one.

    Parameters:
        text: the bookmark.
        key: a secret of 16 bytes or more. Raises ``ValueError`` if it is shorter.
        context: whatever it is to be bound to, such as a user's name; not part of the result.
    """
    return f"{text}.{_seal(text, key, context).decode()}"


def unsign(text: str, *keys: str | bytes, context: str = "") -> str:
    """The bookmark without its signature.

    Parameters:
        text: what `sign` returned.
        keys: one of them must have signed it: the present one and, while keys change, the last.
        context: the same as in `sign`.

    Raises:
        BookmarkError: it is not signed, or not with these keys for this context.
        ValueError: there is no key, or one is too short.
    """
    if not keys:
        raise ValueError("unsign() needs a key")
    _check_text(text, MAX_LENGTH + 1 + 4 * _SIGNATURE)
    inner, dot, given = text.partition(".")
    if not dot:
        raise BookmarkError("the bookmark is not signed")
    signature = given.encode("utf-8", "replace")  # bytes can be compared whatever is in them
    signed = [hmac.compare_digest(_seal(inner, key, context), signature) for key in keys]
    if not any(signed):
        raise BookmarkError("the bookmark's signature is wrong: forged, damaged, or made with another key")
    return inner


def _seal(text: str, key: str | bytes, context: str) -> bytes:
    secret = key.encode() if isinstance(key, str) else bytes(key)
    if len(secret) < _MIN_KEY:
        raise ValueError(f"a key for bookmarks needs {_MIN_KEY} bytes or more, not {len(secret)}")
    about = context.encode("utf-8", "surrogatepass")
    # The length keeps what belongs to the context from being taken for the text.
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
    """Reads what was written; every step takes at least one byte, so the work is bounded."""

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
    """Per source: whether its UUID was just named, and the tag; how many intervals; these as steps."""
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
