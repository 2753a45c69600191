"""A PyMySQL connection that hears what the server says about its session.

Every OK, EOF and error packet passes through here, whoever sent the command: ``execute_sql``, peewee's
own ``BEGIN`` and ``COMMIT``, a pool's rollback or the user's raw cursor. Nothing but this and `packets`
reads packets, and nothing here knows about routing.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from pymysql import err
from pymysql.charset import charset_by_name
from pymysql.connections import Connection as _Connection
from pymysql.constants import CLIENT, COMMAND, ER
from pymysql.protocol import MysqlPacket

from .. import protocols
from ..dialects import dialect_of
from .packets import Columns, Result, drain
from .session import AUTOCOMMIT, NO_QUERY, OVERHEARD_LIMIT, Heard, goes_unreported
from .sockets import end_when_vanished, hang_up, poll_for
from .tls import shared_context

__all__ = ["AUTOCOMMIT", "Connection"]

# What of the protocol is asked for beside what PyMySQL asks for, where the server offers it.
ASKED_FOR = CLIENT.SESSION_TRACK | CLIENT.DEPRECATE_EOF
_UNKNOWN = object()


class Connection(Heard, _Connection):
    """A connection to one node.

    Parameters:
        guard: ask the server to refuse writes on this connection (``SET SESSION TRANSACTION READ ONLY``).
        kwargs: as PyMySQL's own.
    """

    _ahead = b""
    _unsent = b""
    _halfway = False  # a command was sent, and its answer has not been read to its end
    _broken_off: Any = ""
    without_eof = False
    _settings = ""
    _poll: Any = None
    _later = ""
    _read_timeout: float | None
    _next_seq_id: int
    _sock: Any
    dialect: protocols.ServerDialect
    server_version: str
    connect_timeout: float | None

    def __init__(self, *, guard: bool = False, **kwargs: Any) -> None:
        self.changes = []
        self._told = {}
        self.columns = Columns()
        self.guarded = guard
        super().__init__(**kwargs)

    # Opening

    def connect(self, sock: Any = None) -> None:
        """Open the socket and the session; the handshake is bounded by ``connect_timeout`` seconds."""
        self._ready = False
        self._later = self._broken_off = ""
        self.begin_anew()
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
        if self.guarded:
            end_when_vanished(self._sock)
        self._ready = True

    def _request_authentication(self) -> None:
        self.client_flag |= self.server_capabilities & ASKED_FOR
        self._agree()
        super()._request_authentication()
        self._read_timeout = self._own_read_timeout

    def _agree(self) -> None:
        """Know from the server's greeting what it is, and what it is to be asked for."""
        offered = self.server_capabilities
        self.without_eof = bool(offered & CLIENT.DEPRECATE_EOF)
        self.tracks = bool(offered & CLIENT.SESSION_TRACK)
        self.dialect = dialect_of(self.server_version)
        settings = list(self.dialect.TRACKERS) if self.tracks else []
        if self.guarded:
            settings.append(self.dialect.READ_ONLY)
        self._settings = ", ".join(settings)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """``SET NAMES``; while connecting, our own settings ride in the same round trip."""
        if self._ready or self.init_command is not None or not self._settings:
            # A user's init_command must meet the session as plain PyMySQL would have left it.
            super().set_character_set(charset, collation)
            self._halfway = False  # PyMySQL reads the answer as a bare packet
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

    def query(self, sql: Any, unbuffered: bool = False) -> Any:
        """Send one statement, as PyMySQL does, remembering its text for what the server reports of it."""
        if not self.executing and self._ready:
            if self.raw_statement_check is not None:
                self.raw_statement_check(self, sql)
            if len(sql) < OVERHEARD_LIMIT and goes_unreported(sql):
                self._changed(sql)
        return super().query(sql, unbuffered)  # how bytes were put into the text, only the driver knows

    def _read_ok_packet(self) -> Any:
        try:
            ok = super()._read_ok_packet()
        except BaseException as exc:
            self._halfway = not isinstance(exc, err.MySQLError)
            self._failed()
            raise
        self._halfway = False
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
        self._halfway = True  # a further result of the last command begins here
        result = Result(self)
        try:
            if self._ahead:
                self._hear_ahead()
            if unbuffered:
                result.init_unbuffered_query()
            else:
                result.read()
        except BaseException as exc:
            self._halfway = not isinstance(exc, err.MySQLError)
            self._failed()
            raise
        self._result = result
        self._halfway = False
        return result.affected_rows

    def _hear_ahead(self) -> None:
        """Read the answer to what `send_ahead` sent; the user's statement is answered after it."""
        self._ahead = b""
        result = Result(self)
        own, self.internal = self.internal, True
        sequence, self._next_seq_id = self._next_seq_id, 1
        try:
            result.read()
            self.answer_ahead = (result.rows or (None,))[0]
        except err.MySQLError as exc:
            if self._sock is None:
                raise
            self.answer_ahead = exc
        finally:
            self.internal = own
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
        self._halfway = self._ready
        super()._write_bytes(data)

    def show_warnings(self) -> Any:
        """``SHOW WARNINGS``, as PyMySQL does."""
        self._execute_command(COMMAND.COM_QUERY, "SHOW WARNINGS")
        return self._read_whole().rows

    def _read_whole(self) -> Any:
        """The result of a query that nobody else reads."""
        result = Result(self)
        try:
            result.read()
        except err.MySQLError:
            self._halfway = False
            raise
        self._halfway = False
        return result

    def _force_close(self) -> None:
        super()._force_close()
        if self._halfway:
            self._broken_off = self.last_statement
        self._halfway = False
        self.end_session()

    # For the owner of the connection

    def leave_unread(self, result: Result) -> None:
        """A result was collected before it was read to its end; the rest is read now, as PyMySQL does."""
        result.finish()

    def drain(self) -> None:
        """Read the rest of the last statement's results, as the next command on this connection would."""
        drain(self)

    def unanswered_statement(self) -> str:
        """The text of the statement whose answer was not there yet when the connection ended, or ``""``."""
        text = self.last_statement if self._halfway else self._broken_off
        return text if isinstance(text, str) else bytes(text).decode("latin1")

    @property
    def socket(self) -> Any:
        """The socket, or None while the connection is closed."""
        return self._sock

    def hang_up(self) -> bool:
        """End the connection and wake the thread that waits for it; returns whether it was open."""
        return hang_up(self._sock)

    def abort(self) -> None:
        """Close the connection without telling the server; may be called more than once."""
        self._force_close()

    @property
    def read_timeout(self) -> float | None:
        """Seconds an answer may take; None: no limit."""
        return self._read_timeout

    @property
    def has_more_results(self) -> bool:
        """Whether another result of the last statement is still to be read."""
        return self._result is not None and bool(self._result.has_next)

    def dropped(self) -> bool:
        """Whether an idle connection is known to be of no more use, without a round trip.

        A server says nothing on an idle connection unless it closes it, so anything readable means the end.
        """
        if self._sock is None or self._halfway:
            return True
        return bool(self._poll(0)) and not self.busy

    @property
    def single_value(self) -> object:
        """What the last statement has returned, if that was one row of one column; else None."""
        rows = None if self._result is None else self._result.rows
        return rows[0][0] if rows and len(rows) == 1 and len(rows[0]) == 1 else None

    def is_alive(self) -> bool:
        """Whether the server answers a ping on this connection; one round trip."""
        try:
            self.ping(False)
        except Exception:
            return False
        return True

    def ask(self, sql: str, timeout: float | None = None) -> tuple[Any, ...]:
        """Run a query of the library's own; returns rows as tuples whatever the user's ``cursorclass`` is.

        Parameters:
            timeout: seconds after which a server that has not answered counts as lost (2013), where the
                user's ``read_timeout`` is not shorter.
        """
        usual, own = self._read_timeout, self.internal
        if timeout and (usual is None or timeout < usual):
            self._read_timeout = timeout
        self.internal = True
        try:
            self._execute_command(COMMAND.COM_QUERY, sql)
            return tuple(self._read_whole().rows or ())
        finally:
            self._read_timeout, self.internal = usual, own

    def start_query(self, sql: str) -> None:
        """Send a query of the library's own without waiting; `finish_query` has to follow."""
        self._execute_command(COMMAND.COM_QUERY, sql)

    def finish_query(self) -> list[dict[str, Any]] | Exception:
        """The rows of the query that `start_query` sent, by column name, or the server's refusal.

        Raises:
            MySQLError: the connection is lost.
        """
        try:
            result = self._read_whole()
        except err.MySQLError as exc:
            if self._sock is None:
                raise
            refused: Exception = exc
            return refused
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.rows or ()]

    def run_setting(self, sql: str) -> None:
        """Run a setting of the library's own; it leaves no mark on the session."""
        effect_known, own = self.effect_known, self.internal
        self.effect_known = self.internal = True
        try:
            self._command(sql)
        finally:
            self.effect_known, self.internal = effect_known, own

    def run_setting_when_idle(self, sql: str) -> None:
        """As `run_setting`; while rows are still to be read, only before the next command."""
        if self.busy:
            self._later = sql
        else:
            self.run_setting(sql)

    def _execute_command(self, command: int, sql: Any) -> None:
        if self._halfway:
            # The last command was broken off: the answer still to come would be taken for this one's.
            self._force_close()
        if self._later:
            later, self._later = self._later, ""
            self.run_setting(later)
        if command == COMMAND.COM_QUERY:
            self.last_statement = sql
        else:  # neither a ping nor a change of schema reads anything
            self.last_statement = f"USE `{sql}`" if command == COMMAND.COM_INIT_DB else NO_QUERY
        super()._execute_command(command, sql)


if TYPE_CHECKING:
    _MEETS: type[protocols.ServerConnection] = Connection

_NO_SUCH_SETTING = frozenset(
    {ER.UNKNOWN_SYSTEM_VARIABLE, ER.WRONG_VALUE_FOR_VAR, ER.PARSE_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR}
)
