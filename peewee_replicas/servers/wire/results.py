"""Results that report to their connection how the statement ended, and read rows without copying packets."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol

from pymysql import converters, err
from pymysql.connections import MySQLResult
from pymysql.constants import SERVER_STATUS
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket

from ..protocols import Row
from .trackers import NO_NUMBER, MalformedPacket, read_length
from .transport import Transport

Converter = tuple[str | None, Callable[..., object] | None]
"""The encoding of a column's text, None for bytes, and the function that converts the text to a value."""

_Key = tuple[int, bytes]  # the key of a header: the number of columns, and the packet of the first column

_MORE_RESULTS = SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS

_FULL_PACKET = 0xFFFFFF
# An OK packet: the lower and upper bytes of its size, its sequence number, its type, two lengths that mostly
# take one byte each, the status and the warnings. In other packets, all up to the type means the same.
_start_of_ok = struct.Struct("<HBBBBBHH").unpack_from
_SHORTEST_OK = 11
_SHORTEST_END = 7  # the same without the header; an EOF packet from before DEPRECATE_EOF has five bytes
_MOST_COLUMNS = 0xFFFF  # servers take 4,096 in a table
_COLUMNS_KEPT = 512
_HEADERS_KEPT = 128
_MOST_KEPT_TOGETHER = 64  # the headers of results with more columns are not remembered


# If one of the driver's own converters fails, the server has sent something malformed.
_DRIVERS_OWN = frozenset(converters.conversions.values())


class UndecodableText(err.DataError, UnicodeDecodeError):
    """A value is not in the connection's character set. PyMySQL's error, made one of the driver's classes."""


class ResultSource(Protocol):
    """The connection that a result is read from. Members that PyMySQL has too keep PyMySQL's names.

    Attributes:
        without_eof: whether no EOF packet follows column descriptions.
        columns: the source of column descriptions in that case.
        decoders, encoding, use_unicode: as the user gave them to PyMySQL.
        open: whether the connection is open.
    """

    without_eof: bool
    columns: Columns
    decoders: Mapping[int, Callable[..., object]]
    encoding: str
    use_unicode: bool
    open: bool
    _next_seq_id: int
    _result: Result | None
    _rfile: Transport

    def arrived(self) -> tuple[bytes, int]:
        """Return the received bytes and the offset of the first unread one; wait if all are read."""

    def skip(self, size: int, packets: int) -> None:
        """Mark the next `size` received bytes, which contain `packets` packets, as read."""

    def malformed(self, exc: Exception) -> err.OperationalError:
        """Close the connection after a malformed answer; return the error to raise."""

    def statement_ended(self, status: int, tail: bytes) -> None:
        """Record the status word and the tail of a packet that ends a statement."""

    def leave_unread(self, result: Result) -> None:
        """Handle a result that was garbage-collected before it was read to its end."""

    def next_result(self) -> object:
        """Begin to read the next result."""

    def _read_packet(self) -> MysqlPacket:
        """Read the next packet; raise the error if the server has sent one."""


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
        self._connection: ResultSource | None = None
        self._known: dict[tuple[bytes, str], FieldDescriptorPacket] = {}
        self._headers: dict[_Key, _Header] = {}

    def recall(self, result: Result, connection: ResultSource) -> _Key | tuple[()] | None:
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

    def keep(self, key: _Key | tuple[()], result: Result, connection: ResultSource) -> None:
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

    def of(self, connection: ResultSource) -> Columns:
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


class Result(MySQLResult):
    """A PyMySQL result that reports the packet at its end to its connection.

    A malformed result raises the driver's error for a lost connection. Exceptions of the user's own
    converters are passed on unchanged.
    """

    connection: Any  # a ResultSource; None once there is nothing more to read
    affected_rows: int
    field_count: int
    server_status: int | None
    converters: list[Converter]
    fields: list[FieldDescriptorPacket]
    description: tuple[Row, ...]
    rows: tuple[Row, ...] | None
    message: bytes
    has_next: int
    warning_count: int
    unbuffered_active: bool
    _at_first_row = False
    _was_old_eof = False

    def __init__(self, connection: ResultSource) -> None:
        self.connection = connection  # what else the driver's constructor sets, the class has: see below

    def __del__(self) -> None:
        if self.unbuffered_active and self.connection is not None:
            self.connection.leave_unread(self)

    def finish(self) -> None:
        """Read an unbuffered result to its end."""
        self._finish_unbuffered_query()

    def read(self) -> None:
        """Read the result like PyMySQL, but faster if the first packet has arrived completely."""
        connection: ResultSource = self.connection
        try:
            try:
                self._read_first(connection)
            except err.MySQLError:
                raise
            except Exception as exc:
                raise connection.malformed(exc) from exc
            if self.field_count:
                self._read_rowdata_packet()
            elif self.server_status is not None:
                connection.statement_ended(self.server_status, self.message)
        finally:
            self.connection = None

    def _read_first(self, connection: ResultSource) -> None:
        data, at = connection.arrived()
        if len(data) - at >= _SHORTEST_OK:
            size, more, number, first, rows, row_id, status, warnings = _start_of_ok(data, at)
            if number == connection._next_seq_id and not more:
                end = at + 4 + size
                if first:
                    if size == 1 and first < NO_NUMBER:
                        connection.skip(5, 1)
                        self.field_count = first
                        self._get_descriptions()
                        return
                elif at + _SHORTEST_OK <= end <= len(data) and rows < NO_NUMBER and row_id < NO_NUMBER:
                    connection._next_seq_id = (number + 1) % 256  # as `skip` does, without a call
                    connection._rfile.at = end
                    self.affected_rows = rows
                    self.insert_id = row_id
                    self.warning_count = warnings
                    self.message = data[at + _SHORTEST_OK : end]
                    self.has_next = status & _MORE_RESULTS
                    self.server_status = status
                    return
        packet = connection._read_packet()
        if packet.is_ok_packet():
            self._take_ok(packet.get_all_data())
        elif packet.is_load_local_packet():
            self._read_load_local_packet(packet)
        else:
            self._read_columns(packet)

    def _take_ok(self, data: bytes) -> None:
        self.affected_rows, at = (data[1], 2) if data[1] < NO_NUMBER else read_length(data, 1)
        self.insert_id, at = (data[at], at + 1) if data[at] < NO_NUMBER else read_length(data, at)
        status = data[at] | data[at + 1] << 8
        self.warning_count = data[at + 2] | data[at + 3] << 8
        self.message = data[at + 4 :]
        self.has_next = status & _MORE_RESULTS
        self.server_status = status

    def _read_ok_packet(self, packet: MysqlPacket) -> None:
        self._take_ok(packet.get_all_data())

    def _read_columns(self, packet: MysqlPacket) -> None:
        count, _ = read_length(packet.get_all_data(), 0)
        if not 0 < count <= _MOST_COLUMNS:
            raise MalformedPacket(f"a result of {count} columns")
        self.field_count = count
        self._get_descriptions()

    def init_unbuffered_query(self) -> None:
        """Read up to the first row; rows are read when they are fetched."""
        connection: ResultSource = self.connection
        try:
            packet = connection._read_packet()
            if packet.is_ok_packet():
                self.connection = None
                self._take_ok(packet.get_all_data())
            elif packet.is_load_local_packet():
                self._read_load_local_packet(packet)
                self.connection = None
            else:
                self._read_columns(packet)
                self.affected_rows = 2**64 - 1  # as in MySQLdb and PyMySQL
                self.unbuffered_active = True
        except BaseException as exc:
            # In old releases of PyMySQL, a result is active from the start, and waits for rows when deleted.
            self.unbuffered_active = False
            self.connection = None
            if isinstance(exc, err.MySQLError) or not isinstance(exc, Exception):
                raise
            raise connection.malformed(exc) from exc
        if self.server_status is not None:
            connection.statement_ended(self.server_status, self.message)

    def _get_descriptions(self) -> None:
        connection: ResultSource = self.connection
        if not connection.without_eof:
            super()._get_descriptions()
            return
        self._at_first_row = True
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

    def _read_rowdata_packet(self) -> None:
        """Read all rows."""
        connection: ResultSource = self.connection
        transport = connection._rfile
        convert = self.converters
        rows = []
        try:
            while True:
                data, at = transport.data, transport.at
                # A row that has arrived completely is read in the buffer, without copying its packet.
                if len(data) - at > 4:
                    end = at + 4 + (data[at] | data[at + 1] << 8 | data[at + 2] << 16)
                    if (
                        at + 4 < end <= len(data)
                        and data[at + 3] == connection._next_seq_id
                        and data[at + 4] < 0xFE
                        and end - at < _FULL_PACKET
                    ):
                        connection._next_seq_id = (data[at + 3] + 1) % 256
                        transport.at = end
                        self._at_first_row = False
                        rows.append(_read_row(data, at + 4, end, convert))
                        continue
                packet = connection._read_packet()
                if self._check_packet_is_eof(packet):
                    break
                if not self._was_old_eof:
                    data = packet.get_all_data()
                    rows.append(_read_row(data, 0, len(data), convert))
        except err.MySQLError:
            raise
        except Exception as exc:
            self._fail(exc, connection)
        self.connection = None
        self.affected_rows = len(rows)
        self.rows = tuple(rows)

    def _read_rowdata_packet_unbuffered(self) -> Row | None:
        """Read one row; None after the last."""
        if not self.unbuffered_active:
            return None
        connection: ResultSource = self.connection
        try:
            while True:
                packet = connection._read_packet()
                if self._check_packet_is_eof(packet):
                    self.unbuffered_active = False
                    self.connection = None
                    self.rows = None
                    return None
                if not self._was_old_eof:
                    data = packet.get_all_data()
                    row = _read_row(data, 0, len(data), self.converters)
                    break
        except err.MySQLError:
            raise
        except Exception as exc:
            self._fail(exc, connection)
        self.affected_rows = 1
        self.rows = (row,)
        return row

    def _fail(self, exc: Exception, connection: ResultSource) -> NoReturn:
        """Raise the right error for an exception that occurred while reading a row."""
        if not isinstance(exc, MalformedPacket):
            if not all(each is None or each in _DRIVERS_OWN for _, each in self.converters):
                raise exc
            if isinstance(exc, UnicodeDecodeError):
                raise UndecodableText(*exc.args) from exc
        self.unbuffered_active = False
        raise connection.malformed(exc) from exc

    def _finish_unbuffered_query(self) -> None:
        connection: ResultSource | None = self.connection
        if connection is None or not connection.open:
            self.unbuffered_active = False  # so that a cursor can be closed after its connection
            return
        try:
            super()._finish_unbuffered_query()
        except MalformedPacket as exc:
            self.unbuffered_active = False
            raise connection.malformed(exc) from exc

    def _check_packet_is_eof(self, packet: MysqlPacket) -> bool:
        """Return whether a packet ends the result; if it does, record its content.

        If `_was_old_eof` is set afterwards, the packet only ended the column descriptions.
        """
        data = packet.get_all_data()
        first, self._at_first_row, self._was_old_eof = self._at_first_row, False, False
        if data[0] != 0xFE:
            return False
        connection: ResultSource = self.connection
        if connection.without_eof and len(data) < _SHORTEST_END:
            # The server offered DEPRECATE_EOF, as some proxies do for their servers, but answers the old way.
            connection.without_eof = False
            self._was_old_eof = first
            if first:
                return False
        try:
            if connection.without_eof:
                # A row can also begin with 0xFE, but then its first column alone fills a packet.
                if len(data) >= _FULL_PACKET:
                    return False
                at = read_length(data, read_length(data, 1)[1])[1] if data[1] or data[2] else 3
                status = data[at] | data[at + 1] << 8
                self.warning_count = data[at + 2] | data[at + 3] << 8
                tail = data[at + 4 :]
            else:
                if len(data) >= 9:
                    return False
                self.warning_count = data[1] | data[2] << 8
                status = data[3] | data[4] << 8
                tail = b""
        except IndexError as exc:
            raise MalformedPacket("a result's last packet ends early") from exc
        self.has_next = status & _MORE_RESULTS
        self.server_status = status
        connection.statement_ended(status, tail)
        return True


# All results begin alike. Setting a dozen attributes of each would cost more than reading an OK packet.
for _name, _value in vars(MySQLResult(None)).items():
    setattr(Result, _name, _value)


def _read_row(data: bytes, at: int, end: int, convert: list[Converter]) -> Row:
    """Return the values of the row in the packet ``data[at:end]``.

    Raises:
        MalformedPacket: a value would end after the packet.
    """
    row: list[object] = []
    for encoding, converter in convert:
        if at >= end:
            break  # as PyMySQL does: some statements return fewer values than columns
        size = data[at]
        at += 1
        if size >= NO_NUMBER:
            if size == NO_NUMBER:
                row.append(None)
                continue
            size, at = read_length(data, at - 1)
        start, at = at, at + size
        if at > end:
            raise MalformedPacket("a value is longer than its row")
        value: Any = data[start:at]  # bytes, then perhaps text, then the converted value
        if encoding is not None:
            value = value.decode(encoding)
        if converter is not None:
            value = converter(value)
        row.append(value)
    return tuple(row)


def drain(connection: ResultSource) -> None:
    """Read the rest of a connection's last result, and all results that follow it."""
    result = connection._result
    if result is not None and result.unbuffered_active:
        result.finish()
    while connection._result is not None and connection._result.has_next:
        connection.next_result()
