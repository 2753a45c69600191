"""Results that report to their connection how the statement ended, and read rows without copying packets."""

from __future__ import annotations

import struct
from typing import Any, NoReturn, Protocol

from pymysql import converters, err
from pymysql.connections import MySQLResult
from pymysql.constants import SERVER_STATUS
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket

from ..protocols import Row
from .columns import Columns, ColumnSource, Converter
from .trackers import NO_NUMBER, MalformedPacket, read_length
from .transport import Transport

_MORE_RESULTS = SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS

_FULL_PACKET = 0xFFFFFF
# An OK packet: the lower and upper bytes of its size, its sequence number, its type, two lengths that mostly
# take one byte each, the status and the warnings. In other packets, all up to the type means the same.
_start_of_ok = struct.Struct("<HBBBBBHH").unpack_from
_SHORTEST_OK = 11
_SHORTEST_END = 7  # the same without the header; an EOF packet from before DEPRECATE_EOF has five bytes
_MOST_COLUMNS = 0xFFFF  # servers take 4,096 in a table

# If one of the driver's own converters fails, the server has sent something malformed.
_DRIVERS_OWN = frozenset(converters.conversions.values())


class UndecodableText(err.DataError, UnicodeDecodeError):
    """A value is not in the connection's character set. PyMySQL's error, made one of the driver's classes."""


class ResultSource(ColumnSource, Protocol):
    """The connection that a result is read from. Members that PyMySQL has too keep PyMySQL's names.

    Attributes:
        without_eof: whether no EOF packet follows column descriptions.
        columns: the source of column descriptions in that case.
        changed_rows: how many rows the last statement has changed; 0 if it returned rows.
        open: whether the connection is open.
    """

    without_eof: bool
    columns: Columns
    changed_rows: int
    open: bool
    _next_seq_id: int
    _result: Result | None
    _rfile: Transport

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
                connection.changed_rows = self.affected_rows
                connection.statement_ended(self.server_status, self.message)
        finally:
            self.connection = None

    def read_own(self) -> None:
        """Read an answer to the library as text and numbers, whatever the user's converters are."""
        connection: ResultSource = self.connection
        theirs = connection.decoders, connection.use_unicode
        # As bytes, because with character_set_results = binary the server declares text to be bytes too.
        connection.decoders, connection.use_unicode = converters.decoders, False
        try:
            self.read()
        finally:
            connection.decoders, connection.use_unicode = theirs
        encoding = connection.encoding
        self.rows = tuple(
            tuple(v.decode(encoding, "replace") if isinstance(v, bytes) else v for v in row)
            for row in self.rows or ()
        )

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
            connection.changed_rows = self.affected_rows
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
        connection.changed_rows = 0
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
