"""The descriptions of a result's columns, remembered because a repeated query gets the same bytes again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from pymysql.protocol import FieldDescriptorPacket, MysqlPacket

from ..protocols import Row

Converter = tuple[str | None, Callable[..., object] | None]
"""The encoding of a column's text, None for bytes, and the function that converts the text to a value."""

_Key = tuple[int, bytes]  # the key of a header: the number of columns, and the packet of the first column

_COLUMNS_KEPT = 512
_HEADERS_KEPT = 128
_MOST_KEPT_TOGETHER = 64  # the headers of results with more columns are not remembered


class ColumnSource(Protocol):
    """The connection that descriptions are read from. Members that PyMySQL has too keep PyMySQL's names.

    Attributes:
        decoders, encoding, use_unicode: as the user gave them to PyMySQL.
    """

    decoders: Mapping[int, Callable[..., object]]
    encoding: str
    use_unicode: bool
    _next_seq_id: int

    def arrived(self) -> tuple[bytes, int]:
        """Return the received bytes and the offset of the first unread one; wait if all are read."""

    def skip(self, size: int, packets: int) -> None:
        """Mark the next `size` received bytes, which contain `packets` packets, as read."""

    def _read_packet(self) -> MysqlPacket:
        """Read the next packet; raise the error if the server has sent one."""


class Described(Protocol):
    """A result whose columns are described."""

    field_count: int
    fields: list[FieldDescriptorPacket]
    converters: list[Converter]
    description: tuple[Row, ...]


class _Header(NamedTuple):
    """The descriptions of all columns of a result: the bytes as received, and the parsed form."""

    data: bytes
    settings: tuple[str, bool]
    types: tuple[int, ...]
    decoders: tuple[Callable[..., object] | None, ...]
    fields: list[FieldDescriptorPacket]
    converters: list[Converter]
    description: tuple[Row, ...]


class Columns:
    """Reads and remembers column descriptions, if no EOF packet follows them."""

    __slots__ = ("_connection", "_headers", "_known", "decoders", "encoding", "use_unicode")

    def __init__(self) -> None:
        self._connection: ColumnSource | None = None
        self._known: dict[tuple[bytes, str], FieldDescriptorPacket] = {}
        self._headers: dict[_Key, _Header] = {}

    def recall(self, result: Described, connection: ColumnSource) -> _Key | tuple[()] | None:
        """Describe the columns of `result` from memory, if an earlier result had the same header.

        Returns None if this succeeded, else the key to pass to `keep`.
        """
        data, at = connection.arrived()
        if len(data) - at < 4 or data[at + 3] != connection._next_seq_id:
            return ()
        # Results with the same first column and the same number of columns mostly have the same header.
        key = (
            result.field_count,
            data[at : at + 4 + (data[at] | data[at + 1] << 8 | data[at + 2] << 16)],
        )
        header = self._headers.get(key)
        if (
            header is None
            or not data.startswith(header.data, at)
            or header.settings != (connection.encoding, connection.use_unicode)
            or header.decoders != tuple(map(connection.decoders.get, header.types))
        ):
            return key
        connection.skip(len(header.data), result.field_count)
        result.fields, result.converters = header.fields, header.converters
        result.description = header.description
        return None

    def keep(self, key: _Key | tuple[()], result: Described, connection: ColumnSource) -> None:
        """Remember the columns of `result` for later results with the same header."""
        if not key or result.field_count > _MOST_KEPT_TOGETHER:
            return
        if len(self._headers) >= _HEADERS_KEPT:
            self._headers.clear()
        first = key[1][3]
        payloads = [field.get_all_data() for field in result.fields]
        data = b"".join(
            len(payload).to_bytes(3, "little") + bytes([(first + place) % 256]) + payload
            for place, payload in enumerate(payloads)
        )
        types = tuple(field.type_code for field in result.fields)
        self._headers[key] = _Header(
            data,
            (connection.encoding, connection.use_unicode),
            types,
            tuple(map(connection.decoders.get, types)),
            result.fields,
            result.converters,
            result.description,
        )

    def of(self, connection: ColumnSource) -> Columns:
        """Read from `connection` until `release` is called. A longer reference would keep it open."""
        self._connection = connection
        self.decoders = connection.decoders
        self.encoding = connection.encoding
        self.use_unicode = connection.use_unicode
        return self

    def release(self) -> None:
        """Drop the reference to the connection."""
        self._connection = None

    def _read_packet(
        self, packet_type: type[FieldDescriptorPacket] | None = None
    ) -> FieldDescriptorPacket | _EofPacket:
        if packet_type is None:
            return _EOF_PACKET
        packet = self._connection._read_packet()  # type: ignore[union-attr]  # between `of` and `release`
        data = packet.get_all_data()
        # A repeated query describes its columns with the same bytes, and parsing them is expensive.
        key = (data, self.encoding)
        column = self._known.get(key)
        if column is None:
            if len(self._known) >= _COLUMNS_KEPT:
                self._known.clear()
            column = self._known[key] = packet_type(data, self.encoding)
        return column


class _EofPacket:
    """A substitute for the packet that DEPRECATE_EOF omits, because PyMySQL checks for it."""

    def is_eof_packet(self) -> bool:
        return True


_EOF_PACKET = _EofPacket()
