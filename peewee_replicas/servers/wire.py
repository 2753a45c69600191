"""A PyMySQL connection that hears what the server says about its session.

Every OK, EOF and error packet passes through here, whoever sent the command: ``execute_sql``, peewee's
own ``BEGIN`` and ``COMMIT``, a pool's rollback or the user's raw cursor. Nothing but this and `packets`
reads packets, and nothing here knows about routing.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from pymysql import err
from pymysql.charset import charset_by_name
from pymysql.connections import Connection as _Connection
from pymysql.constants import CLIENT, COMMAND, ER, SERVER_STATUS
from pymysql.protocol import MysqlPacket

from . import flavour_of
from .packets import (
    TRACK_CHANGE,
    TRACK_GTIDS,
    TRACK_TRANSACTION,
    TRACK_VARIABLE,
    Columns,
    Result,
    drain,
    session_trackers,
    take,
)
from .polling import poll_for
from .tls import shared_context

_IN_TRANSACTION = SERVER_STATUS.SERVER_STATUS_IN_TRANS
AUTOCOMMIT = SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT
_STATUS_MASK = _IN_TRANSACTION | AUTOCOMMIT
_SESSION_STATE_CHANGED = 1 << 14  # the tail of the packet carries session trackers

_NO_QUERY = "SET"  # stands for a command that has no text
_OVERHEARD_LIMIT = 1 << 16
_CHANGES_KEPT = 8
_UNKNOWN = object()


class Connection(_Connection):
    """A connection to one node.

    Parameters:
        guard: ask the server to refuse writes on this connection (``SET SESSION TRANSACTION READ ONLY``).
        kwargs: as PyMySQL's own.

    Attributes:
        transaction: in words why the server counts this session as inside a transaction, or ``""``.
        changes: texts after which the server reported a changed session, not yet explained.
        session_state: what was made of them: words, or ``""``; the owner of the connection sets it.
        executing: True while the owner runs a statement, which is then nobody's raw cursor.
        announced: True while that statement's text tells its effect, so that no report is needed.
        settled: True once its owner has finished setting it up; what changes later is state of its own.
        gtid: the position that the last statement reported as its own, or None.
        listener: told of each statement that ended: the connection, whether it succeeded, and whether a
            transaction was open when it was sent. Not told of the library's own statements.
        own: True while a statement of the library's own runs.
        answer_ahead: the answer to `send_ahead`.
        server: the server's identity, once it was asked for.
        read_in_transaction: whether the open transaction has read or failed at something.
        screen: given this and the text of each statement that the owner does not send itself; may raise.
        doubtful: the text of a statement that has left what was not reported, if it failed; or ``""``.
    """

    transaction = session_state = ""
    doubtful: str | bytes = ""
    announced = executing = settled = False
    gtid: str | None = None
    listener: Callable[[Connection, bool, bool], None] | None = None
    own = False
    answer_ahead: Any = None
    server: Any = None
    read_in_transaction = False
    _ahead = b""
    _unsent = b""
    screen: Callable[[Connection, str | bytes], None] | None = None
    without_eof = False
    tracks = False
    guarded = False
    _ready = False
    _sent: Any = ""
    _tables_locked = False
    _settings = ""
    _poll: Any = None
    _later = ""
    _read_timeout: float | None
    _next_seq_id: int
    _sock: Any

    def __init__(self, *, guard: bool = False, **kwargs: Any) -> None:
        self.changes: list[str] = []
        self.columns = Columns()
        self.guarded = guard
        super().__init__(**kwargs)

    # Opening

    def connect(self, sock: Any = None) -> None:
        """Open the socket and the session; the handshake is bounded by ``connect_timeout`` seconds."""
        self._ready = False
        self.transaction = self.session_state = self._later = self.doubtful = ""
        self._tables_locked = self.read_in_transaction = False
        self.server = self.gtid = None
        limit, own = self.connect_timeout, self._read_timeout
        # PyMySQL bounds the TCP connect only: a host that accepts and never greets would hang for ever.
        self._read_timeout = limit if own is None or (limit and limit < own) else own
        self._own_read_timeout = own
        try:
            super().connect(sock)
        finally:
            self._read_timeout = own
        if self._settings:
            self._set_session(self._settings)
        self.changes.clear()
        self._poll = poll_for(self._sock)
        self._ready = True

    def _request_authentication(self) -> None:
        offered = self.server_capabilities
        self.client_flag |= offered & (CLIENT.SESSION_TRACK | CLIENT.DEPRECATE_EOF)
        self.without_eof = bool(offered & CLIENT.DEPRECATE_EOF)
        self.tracks = bool(offered & CLIENT.SESSION_TRACK)
        self.flavour = flavour_of(self.server_version)
        settings = list(self.flavour.TRACKERS) if self.tracks else []
        if self.guarded:
            settings.append(self.flavour.READ_ONLY)
        self._settings = ", ".join(settings)
        super()._request_authentication()
        self._read_timeout = self._own_read_timeout

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """``SET NAMES``; while connecting, our own settings ride in the same round trip."""
        if self._ready or self.init_command is not None or not self._settings:
            # A user's init_command must meet the session as plain PyMySQL would have left it.
            super().set_character_set(charset, collation)
            if self._ready:
                self._changed(f"SET NAMES {charset}")
            return
        encoding = charset_by_name(charset).encoding
        names = f"NAMES {charset} COLLATE {collation}" if collation else f"NAMES {charset}"
        self._set_session(f"{names}, {self._settings}", names)
        self._settings = ""
        self.charset, self.encoding, self.collation = charset, encoding, collation

    def _set_session(self, settings: str, least: str = "") -> None:
        """Send one SET; where the server lacks the trackers, go on without them, never without the guard."""
        try:
            self._command(f"SET {settings}")
        except err.MySQLError as exc:
            if not exc.args or exc.args[0] not in _NO_SUCH_SETTING:
                raise
            self.tracks = False
            if least:
                self._command(f"SET {least}")
            if self.guarded:
                self._command("SET SESSION TRANSACTION READ ONLY")

    def _command(self, sql: str) -> None:
        self._execute_command(COMMAND.COM_QUERY, sql)
        self._read_ok_packet()

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        return shared_context(sslp, super()._create_ssl_ctx)

    # Hearing

    def heard(self, status: int, tail: bytes) -> None:
        """Take in the status word and the tail of a packet that ends a statement."""
        self.server_status = status
        was_open = self.transaction
        self.gtid = None
        if tail and self.tracks and status & _SESSION_STATE_CHANGED:
            self._hear_trackers(tail)
        if status & _STATUS_MASK == AUTOCOMMIT and not self._tables_locked:
            self.transaction = ""
        elif self._tables_locked:
            self.transaction = "LOCK TABLES is in force"
        elif status & _IN_TRANSACTION:
            self.transaction = "the server reports an open transaction"
        else:
            self.transaction = "autocommit is off"
        if self.listener is not None and not self.own:
            self.listener(self, True, bool(was_open))

    def _hear_trackers(self, tail: bytes) -> None:
        for kind, payload in session_trackers(tail):
            if kind == TRACK_CHANGE:
                self._changed(self._sent)
            elif kind == TRACK_TRANSACTION:
                state, _ = take(payload, 0)
                self._tables_locked = state[7:8] == b"L"
            elif kind == TRACK_GTIDS:
                text, _ = take(payload, 1)
                self.gtid = text.decode("ascii")
            elif kind == TRACK_VARIABLE:
                name, at = take(payload, 0)
                value, _ = take(payload, at)
                if name == b"last_gtid":
                    self.gtid = value.decode("ascii")

    def _changed(self, text: Any) -> None:
        if self._ready and not self.announced and len(self.changes) < _CHANGES_KEPT:
            self.changes.append(text if isinstance(text, str) else bytes(text).decode("latin1"))

    def query(self, sql: Any, unbuffered: bool = False) -> Any:
        """Send one statement, as PyMySQL does, remembering its text for what the server reports of it."""
        if not self.executing and self._ready:
            if self.screen is not None:
                self.screen(self, sql)
            if len(sql) < _OVERHEARD_LIMIT and _goes_unreported(sql):
                self._changed(sql)
        return super().query(sql, unbuffered)  # how bytes were put into the text, only the driver knows

    def _failed(self) -> None:
        if self.guarded and self.doubtful and not self.own:
            self._changed(self.doubtful)  # an error tells nothing of what changed before it
        if self.listener is not None and not self.own and self._sent is not _NO_QUERY:
            self.listener(self, False, bool(self.transaction))

    def _read_ok_packet(self) -> Any:
        try:
            ok = super()._read_ok_packet()
        except BaseException:
            self._failed()
            raise
        self.heard(ok.server_status, ok.message)
        return ok

    def _read_packet(self, packet_type: Any = MysqlPacket) -> Any:
        """As PyMySQL's, at less cost for a packet that is no error and has arrived whole."""
        ahead = self.arrived()
        if len(ahead) > 4:
            end = 4 + (ahead[0] | ahead[1] << 8 | ahead[2] << 16)
            if 4 < end <= len(ahead) and ahead[3] == self._next_seq_id and ahead[4] != 0xFF:
                self.skip(end, 1)
                return packet_type(ahead[4:end], self.encoding)
        streaming = self._result is not None and self._result.unbuffered_active
        try:
            return super()._read_packet(packet_type)
        except BaseException:
            if streaming:
                self._failed()
            raise

    def arrived(self) -> bytes:
        """What can be read next without waiting for more; where nothing has come yet, waits for something."""
        if self._rfile is None or getattr(self, "_current_timeout", _UNKNOWN) != self._read_timeout:
            return b""
        try:
            return self._rfile.peek(4)  # type: ignore[no-any-return]  # the driver has no types
        except (OSError, ValueError):
            return b""  # PyMySQL finds out for itself what is wrong
        except BaseException:
            self._force_close()  # interrupted: the answer still to come is not the next statement's
            raise

    def skip(self, size: int, packets: int) -> None:
        """Take so many bytes, which are so many packets, of what has arrived as read."""
        self._next_seq_id = (self._next_seq_id + packets) % 256
        self._rfile.read(size)

    def _read_query_result(self, unbuffered: bool = False) -> Any:
        self._result = None
        result = Result(self)
        try:
            if self._ahead:
                self._hear_ahead()
            if unbuffered:
                result.init_unbuffered_query()
            else:
                result.read()
        except BaseException:
            self._failed()
            raise
        self._result = result
        return result.affected_rows

    def _hear_ahead(self) -> None:
        """Read the answer to what `send_ahead` sent; the user's statement is answered after it."""
        self._ahead = b""
        result = Result(self)
        own, self.own = self.own, True
        sequence, self._next_seq_id = self._next_seq_id, 1
        try:
            result.read()
            self.answer_ahead = (result.rows or (None,))[0]
        except err.MySQLError as exc:
            if self._sock is None:
                raise
            self.answer_ahead = exc
        finally:
            self.own = own
        self._next_seq_id = sequence

    def send_ahead(self, sql: str) -> None:
        """Let a query of the library's own leave in one send with the next statement, before it.

        What it answers is in `answer_ahead` afterwards: its first row, or the error it ended in.
        """
        query = sql.encode(self.encoding)
        self._ahead = (len(query) + 1).to_bytes(3, "little") + b"\0" + bytes([COMMAND.COM_QUERY]) + query
        self._unsent = self._ahead
        self.answer_ahead = None

    def recall_ahead(self) -> None:
        """Take back what `send_ahead` was given, if nothing was sent after all."""
        self._ahead = self._unsent = b""

    def _write_bytes(self, data: bytes) -> None:
        if self._unsent:  # a statement longer than a packet goes out in several writes
            data, self._unsent = self._unsent + data, b""
        super()._write_bytes(data)

    def show_warnings(self) -> Any:
        """``SHOW WARNINGS``, as PyMySQL does."""
        self._execute_command(COMMAND.COM_QUERY, "SHOW WARNINGS")
        result = Result(self)
        result.read()
        return result.rows

    def _force_close(self) -> None:
        super()._force_close()
        # The session is gone, with all that it carried.
        self.transaction = self.session_state = self.doubtful = ""
        self._tables_locked = False
        self.changes.clear()

    # For the owner of the connection

    @property
    def in_transaction(self) -> bool:
        """Whether the server counts this session as inside a transaction (also read by playhouse's pool)."""
        return bool(self.transaction)

    @property
    def busy(self) -> bool:
        """Whether rows of an unbuffered result, or further results, are still to be read."""
        result = self._result
        return result is not None and bool(result.unbuffered_active or result.has_next)

    @property
    def unsettled(self) -> bool:
        """Whether the server may have more to tell of the last statement than was heard."""
        return bool(self.doubtful or self.busy)

    def drain(self) -> None:
        """Read the rest of the last statement's results, as the next command on this connection would."""
        drain(self)

    def dropped(self) -> bool:
        """Whether an idle connection is known to be of no more use, without a round trip.

        A server says nothing on an idle connection unless it closes it, so anything readable means the end.
        """
        if self._sock is None:
            return True
        return bool(self._poll(0)) and not self.busy

    def answers(self) -> bool:
        """Whether the server answers a ping on this connection; one round trip."""
        try:
            self.ping(False)
        except Exception:
            return False
        return True

    def ask(self, sql: str) -> tuple[Any, ...]:
        """Run a query of the library's own; rows are tuples whatever the user's ``cursorclass`` is."""
        own, self.own = self.own, True
        try:
            self._execute_command(COMMAND.COM_QUERY, sql)
            result = Result(self)
            result.read()
            return tuple(result.rows or ())
        finally:
            self.own = own

    def tell(self, sql: str) -> None:
        """Run a setting of the library's own; it leaves no mark on the session."""
        announced, own = self.announced, self.own
        self.announced = self.own = True
        try:
            self._command(sql)
        finally:
            self.announced, self.own = announced, own

    def tell_when_free(self, sql: str) -> None:
        """As `tell`; while rows of an unbuffered result are still unread, only before the next command."""
        if self.busy:
            self._later = sql
        else:
            self.tell(sql)

    def _execute_command(self, command: int, sql: Any) -> None:
        if self._later:
            later, self._later = self._later, ""
            self.tell(later)
        if command == COMMAND.COM_QUERY:
            self._sent = sql
        else:  # neither a ping nor a change of schema reads anything
            self._sent = f"USE `{sql}`" if command == COMMAND.COM_INIT_DB else _NO_QUERY
        super()._execute_command(command, sql)


_NO_SUCH_SETTING = frozenset(
    {ER.UNKNOWN_SYSTEM_VARIABLE, ER.WRONG_VALUE_FOR_VAR, ER.PARSE_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR}
)


def _goes_unreported(sql: Any) -> bool:
    # The server reports no named lock, handler or user variable of a query; every other change it does.
    text = (sql if isinstance(sql, str) else bytes(sql).decode("latin1")).lower()
    return "get_lock" in text or "handler" in text or ("@" in text and (":=" in text or "into" in text))
