"""Packets that end a statement: session trackers, and results that report them to their connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pymysql.connections import MySQLResult
from pymysql.constants import SERVER_STATUS

_MORE_RESULTS = SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS

# Numbers of the session trackers; MySQL and MariaDB agree on them.
TRACK_VARIABLE, TRACK_CHANGE, TRACK_GTIDS, TRACK_TRANSACTION = 0, 2, 3, 5

_FULL_PACKET = 0xFFFFFF
_NO_NUMBER = 0xFB  # bytes below it are lengths and counts by themselves
_COLUMNS_KEPT = 512
_HEADERS_KEPT = 128
_SHORTEST_OK = 11  # four bytes before it, one that names it, two lengths and two words
_MOST_COLUMNS = 64  # of a result whose columns are remembered as a whole


def read_length(data: bytes, at: int) -> tuple[int, int]:
    """Read one length-encoded integer of `data` at `at`; returns the value and the place after it.

    Raises:
        ValueError: the bytes end early or are no length.
    """
    first = data[at] if at < len(data) else _NO_NUMBER
    if first < _NO_NUMBER:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    end = at + 1 + size
    if not size or end > len(data):
        raise ValueError("malformed length in a session tracker")
    return int.from_bytes(data[at + 1 : end], "little"), end


def take(data: bytes, at: int) -> tuple[bytes, int]:
    """Read one length-encoded string of `data` at `at`; as `read_length`."""
    length, start = read_length(data, at)
    end = start + length
    if end > len(data):
        raise ValueError("a session tracker ends early")
    return data[start:end], end


def session_trackers(tail: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield ``(type, payload)`` of each tracker in the tail of an OK packet (after its status words).

    Raises:
        ValueError: the tail is malformed.
    """
    _info, at = take(tail, 0)
    block, _ = take(tail, at)
    at = 0
    while at < len(block):
        payload, end = take(block, at + 1)
        yield block[at], payload
        at = end


class _Header(NamedTuple):
    """The descriptions of all columns of a result, as they came, and what was made of them."""

    data: bytes
    settings: tuple[Any, ...]
    types: tuple[int, ...]
    decoders: tuple[Any, ...]
    fields: list[Any]
    converters: list[Any]
    description: tuple[Any, ...]


class Columns:
    """What a result reads its column descriptions from where no EOF packet follows them."""

    __slots__ = ("_connection", "_headers", "_known", "decoders", "encoding", "use_unicode")

    def __init__(self) -> None:
        self._connection: Any = None
        self._known: dict[Any, Any] = {}
        self._headers: dict[Any, _Header] = {}

    def recall(self, result: Any, connection: Any) -> Any:
        """Describe the columns of `result` by what arrived, if a result before it had just the same.

        Returns None if that was done, else what `keep` is to be given.
        """
        ahead = connection.arrived()
        if len(ahead) < 4 or ahead[3] != connection._next_seq_id:
            return ()
        # Results with the same first column and as many columns are mostly the same.
        key = (result.field_count, ahead[: 4 + (ahead[0] | ahead[1] << 8 | ahead[2] << 16)])
        header = self._headers.get(key)
        if (
            header is None
            or not ahead.startswith(header.data)
            or header.settings != (connection.encoding, connection.use_unicode)
            or header.decoders != tuple(map(connection.decoders.get, header.types))
        ):
            return key
        connection.skip(len(header.data), result.field_count)
        result.fields, result.converters = header.fields, header.converters
        result.description = header.description
        return None

    def keep(self, key: Any, result: Any, connection: Any) -> None:
        """Remember the columns of `result` for others of the same."""
        if not key or result.field_count > _MOST_COLUMNS:
            return
        if len(self._headers) >= _HEADERS_KEPT:
            self._headers.clear()
        first = key[1][3]
        data = b"".join(
            len(field._data).to_bytes(3, "little") + bytes([(first + place) % 256]) + field._data
            for place, field in enumerate(result.fields)
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

    def of(self, connection: Any) -> Columns:
        """Read from `connection` until `release`; it is not kept longer, so that nothing keeps it open."""
        self._connection = connection
        self.decoders = connection.decoders
        self.encoding = connection.encoding
        self.use_unicode = connection.use_unicode
        return self

    def release(self) -> None:
        """Read from no connection any more."""
        self._connection = None

    def _read_packet(self, packet_type: Any = None) -> Any:
        if packet_type is None:
            return _EOF_PACKET
        data = self._connection._read_packet()._data
        # A query that is sent again describes its columns in the same bytes; parsing them is what costs.
        key = (data, self.encoding)
        column = self._known.get(key)
        if column is None:
            if len(self._known) >= _COLUMNS_KEPT:
                self._known.clear()
            column = self._known[key] = packet_type(data, self.encoding)
        return column


class _EofPacket:
    """The packet that DEPRECATE_EOF leaves out, for PyMySQL's check that it came."""

    def is_eof_packet(self) -> bool:
        return True


_EOF_PACKET = _EofPacket()


class Result(MySQLResult):
    """A PyMySQL result that reports the packets it ends with to its connection."""

    connection: Any
    server_status: int | None

    def __del__(self) -> None:
        if self.unbuffered_active and self.connection is not None:
            self.connection.leave_unread(self)

    def finish(self) -> None:
        """Read an unbuffered result to its end."""
        self._finish_unbuffered_query()

    def read(self) -> None:
        """As PyMySQL's, at less cost where the first packet has arrived whole."""
        connection = self.connection
        ahead = connection.arrived()
        if len(ahead) > 4 and ahead[3] == connection._next_seq_id:
            end = 4 + (ahead[0] | ahead[1] << 8 | ahead[2] << 16)
            first = ahead[4]
            if end == 5 and 0 < first < _NO_NUMBER:
                connection.skip(end, 1)
                self.field_count = first
                try:
                    self._get_descriptions()
                    self._read_rowdata_packet()
                finally:
                    self.connection = None
                return
            if first == 0 and _SHORTEST_OK <= end <= len(ahead):
                connection.skip(end, 1)
                self.connection = None
                self._take_ok(ahead[:end], connection)
                return
        super().read()

    def _take_ok(self, packet: bytes, connection: Any) -> None:
        self.affected_rows, at = (packet[5], 6) if packet[5] < _NO_NUMBER else read_length(packet, 5)
        self.insert_id, at = (packet[at], at + 1) if packet[at] < _NO_NUMBER else read_length(packet, at)
        self.server_status = status = packet[at] | packet[at + 1] << 8
        self.warning_count = packet[at + 2] | packet[at + 3] << 8
        self.message = packet[at + 4 :]
        self.has_next = status & _MORE_RESULTS
        connection.heard(status, self.message)

    def _read_ok_packet(self, packet: Any) -> None:
        connection = self.connection
        super()._read_ok_packet(packet)
        if connection is not None:
            connection.heard(self.server_status, self.message)

    def init_unbuffered_query(self) -> None:
        # PyMySQL forgets the connection before it reads an OK packet here; we still have to hear it.
        connection = self.connection
        try:
            super().init_unbuffered_query()
        except BaseException:
            # In old drivers a result is unfinished from the start, and when deleted waits for its rows.
            self.unbuffered_active = False
            self.connection = None
            raise
        if self.server_status is not None:
            connection.heard(self.server_status, self.message)

    def _get_descriptions(self) -> None:
        connection = self.connection
        if not connection.without_eof:
            super()._get_descriptions()
            return
        columns = connection.columns
        key = columns.recall(self, connection)
        if key is None:
            return
        self.connection = columns.of(connection)
        try:
            super()._get_descriptions()
        finally:
            columns.release()
            self.connection = connection
        columns.keep(key, self, connection)

    def _check_packet_is_eof(self, packet: Any) -> bool:
        data = packet._data
        if data[0] != 0xFE:
            return False
        if self.connection.without_eof:
            # A row can begin with 0xFE too, but then its first column alone fills a packet.
            if len(data) >= _FULL_PACKET:
                return False
            at = read_length(data, read_length(data, 1)[1])[1] if data[1] or data[2] else 3
            status = data[at] | data[at + 1] << 8
            self.warning_count = data[at + 2] | data[at + 3] << 8
            tail = data[at + 4 :]
        else:
            if len(data) >= 9:
                return False
            self.warning_count, status = packet.read_struct("<xHH")
            tail = b""
        self.has_next = status & _MORE_RESULTS
        self.server_status = status
        self.connection.heard(status, tail)
        return True


def drain(connection: Any) -> None:
    """Read what is left of a connection's last result, and all results that follow it."""
    if connection._result.unbuffered_active:
        connection._result.finish()
    while connection._result is not None and connection._result.has_next:
        connection.next_result()
