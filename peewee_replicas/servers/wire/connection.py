"""A PyMySQL connection that tracks the state of its session, and whether it can still be used.

Every OK, EOF and error packet passes through here, whatever sent the command: ``execute_sql``, peewee's own
``BEGIN`` and ``COMMIT``, a pool's rollback or the user's raw cursor. Only this module, `results` and
`columns` read packets, and nothing here knows about routing.
"""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

from pymysql import err
from pymysql.charset import charset_by_name
from pymysql.connections import Connection as _Connection
from pymysql.constants import CLIENT, COMMAND, CR, ER
from pymysql.converters import escape_item
from pymysql.protocol import MysqlPacket, OKPacketWrapper

from ...concurrency import Clock
from ...statements.comments import with_comment
from .. import protocols
from ..dialects import dialect_of
from ..protocols import Record, Row
from .columns import Columns
from .dialing import dial
from .error_packets import LONGEST_WORDS, NO_ERROR, STUMBLES, error_in, last_words, with_state
from .instrumented import report_to_tools
from .results import Result, UndecodableText, drain
from .session import AUTOCOMMIT, NO_QUERY, OVERHEARD_LIMIT, SessionState, goes_unreported
from .session_settings import own_settings, set_session
from .sockets import end_when_vanished, heard_within, poll_for
from .statement_size import LARGE, MAY_BE_LARGE, SizeLimit, statement_size
from .tls import shared_context
from .trackers import MalformedPacket, log_unreadable
from .transport import SocketTransport, TlsUpgrade, Transport

__all__ = ["ASKED_FOR", "AUTOCOMMIT", "Connection"]

NOTHING_SENT = "_peewee_replicas_nothing_sent"
"""The attribute that marks the error of one of the library's own queries that lost the connection before the
user's statement was sent."""

# The capabilities that are requested in addition to PyMySQL's, if the server offers them.
ASKED_FOR = CLIENT.SESSION_TRACK | CLIENT.DEPRECATE_EOF

_QUERY = COMMAND.COM_QUERY
# PyMySQL 1.1 puts bytes into a statement's text as surrogates, and makes bytes of them when it is sent.
_ENCODING_ERRORS = "surrogateescape" if "\udcff" in escape_item(b"\xff", "utf8") else "strict"
_FULL_PACKET = 0xFFFFFF
# What follows the size of a command's packet: its sequence number, and the command.
_FIRST_OF_COMMAND = [bytes([0, command]) for command in range(256)]
_SERVER_LOST = "Lost connection to MySQL server during query"


class Connection(SessionState, _Connection):
    """A connection to one node.

    Parameters:
        guard: ask the server to refuse writes on this connection (``SET SESSION TRANSACTION READ ONLY``).
        kwargs: PyMySQL's own arguments.
    """

    _ahead = b""
    _ahead_seconds: float | None = None
    _unsent = b""
    _halfway = False  # a command was sent, and its answer has not been read to its end
    _broken_off: str | bytes = ""
    without_eof = False
    _settings = ""
    _poll: Callable[[int], object]
    _later = ""
    greeted = False
    _read_timeout: float | None
    _write_timeout: float | None
    _current_timeout: float | str | None = "unknown"
    _next_seq_id: int
    _sock: Any
    _rfile: Any
    ctx: ssl.SSLContext | TlsUpgrade | None
    _result: Result | None
    encoding: str
    decoders: Mapping[int, Callable[..., object]]
    use_unicode: bool
    dialect: protocols.ServerDialect
    server_version: str
    connect_timeout: float | None

    def __init__(self, *, guard: bool = False, **kwargs: object) -> None:
        self.changes = []
        self._seen_tails = {}
        self.columns = Columns()
        self.size_limit = SizeLimit()
        self.guarded = guard
        # Read for each statement, and Python finds them faster here than in the class.
        self.comment = self.complaint = ""
        self.internal = False
        super().__init__(**kwargs)

    # Opening

    def connect(self, sock: socket.socket | None = None) -> None:
        """Open the socket and the session.

        ``connect_timeout`` limits all of it together: TCP, the greeting, TLS, authentication, the user's
        ``init_command`` and our own settings.

        Parameters:
            sock: a connected socket, as for PyMySQL.

        Raises:
            OperationalError: the server cannot be reached, took too long, or refuses this client.
        """
        self._ready = self.greeted = False
        self._later = self._broken_off = ""
        self._ahead = self._unsent = b""
        self.begin_anew()
        started = Clock.monotonic()
        transport = self._dial() if sock is None else SocketTransport(sock)
        seconds = self.connect_timeout
        if seconds is not None:
            took = Clock.monotonic() - started
            # What took longer than it may take, and succeeded, was stopped together with this process.
            seconds -= took if took < seconds else 0.0
        try:
            with transport.within(seconds):
                super().connect(transport)
                if self._settings:
                    set_session(self, self._settings)
        except BaseException:
            self._force_close()
            transport.close()
            raise
        self.changes.clear()
        self._poll = poll_for(self._sock)
        if self.guarded:
            end_when_vanished(self._sock)
        self._ready = True

    def report_to_tools(self) -> None:
        """Let tools that have wrapped the driver's entry point report the statements of this connection."""
        report_to_tools(self)

    def _dial(self) -> SocketTransport:
        where = self.host, self.port, self.unix_socket
        transport = dial(*where, self.connect_timeout, self.bind_address)
        if self.unix_socket:
            self.host_info = "Localhost via UNIX socket"
            self._secure = True
        else:
            self.host_info = f"socket {self.host}:{self.port}"
        return transport

    def _get_server_information(self) -> None:
        try:
            super()._get_server_information()
            int(self.server_version.split(".", 1)[0])  # raises now, because PyMySQL would fail on it later
        except (err.MySQLError, OSError):
            raise
        except STUMBLES as exc:
            raise self.malformed(exc) from exc

    def _request_authentication(self) -> None:
        self.client_flag |= self.server_capabilities & ASKED_FOR
        self.learn_greeting()
        context = getattr(self, "ctx", None)
        self.ctx = TlsUpgrade(context)
        try:
            super()._request_authentication()
        except err.MySQLError as exc:
            if exc.args and not isinstance(exc.args[0], int):  # the driver has no number for it
                raise self.malformed(exc) from exc
            raise
        except OSError:
            raise  # includes a rejected certificate, whose error is also a ValueError
        except STUMBLES as exc:
            if self._auth_plugin_map or self.user is None:
                raise  # the user's own code or argument is wrong
            raise self.malformed(exc) from exc
        finally:
            self.ctx = context

    def learn_greeting(self) -> None:
        """Record the server's dialect and capabilities from its greeting."""
        self.greeted = True
        offered = self.server_capabilities
        self.without_eof = bool(offered & CLIENT.DEPRECATE_EOF)
        self.tracks = bool(offered & CLIENT.SESSION_TRACK)
        if not self.tracks:
            self.untracked = "its greeting does not offer session tracking"
        self.dialect = dialect_of(self.server_version)
        self._settings = own_settings(self.dialect, tracks=self.tracks, guarded=self.guarded)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """Send ``SET NAMES``; while connecting, our own settings go in the same round trip."""
        if self._ready or self.init_command is not None or not self._settings:
            # A user's init_command must find the session as plain PyMySQL would leave it.
            super().set_character_set(charset, collation)
            self._halfway = False  # PyMySQL reads this answer with _read_packet(), which does not reset it
            if self._ready:
                self.note_change(f"SET NAMES {charset}")
            return
        encoding = charset_by_name(charset).encoding
        names = f"NAMES {charset} COLLATE {collation}" if collation else f"NAMES {charset}"
        set_session(self, f"{names}, {self._settings}", names)
        self._settings = ""
        self.charset, self.encoding, self.collation = charset, encoding, collation

    def run_command(self, sql: str) -> None:
        """Send a statement that returns no rows, while the session is being set up."""
        self._execute_command(COMMAND.COM_QUERY, sql)
        self._read_ok_packet()

    def _create_ssl_ctx(self, sslp: object) -> ssl.SSLContext:
        return shared_context(sslp, super()._create_ssl_ctx)

    def _complain(self) -> None:
        """Log, once for each server, that its reports cannot be read."""
        if self.busy:
            return  # a logging handler that uses this connection would read its rows as an answer
        complaint, self.complaint = self.complaint, ""
        result, self._result = self._result, None  # a logging handler may use this connection
        try:
            log_unreadable(self.unix_socket or f"{self.host}:{self.port}", complaint)
        finally:
            self._result = result

    # Sending

    def query(self, sql: str | bytes | bytearray, unbuffered: bool = False) -> int:
        """Send one statement like PyMySQL, and remember its text for the server's report about it."""
        if isinstance(sql, bytearray):  # as `executemany()` sends rows; a text to remember must not change
            sql = bytes(sql)
        if not self.executing and self._ready:
            if self.raw_statement_check is not None:
                self.raw_statement_check(self, sql)
            if len(sql) < OVERHEARD_LIMIT and goes_unreported(sql):
                self.note_change(sql)
        if len(sql) >= MAY_BE_LARGE and self._ready:
            self._check_size(sql)
        # As the driver's own method does. It is repeated here, because a call costs more than what it does.
        if isinstance(sql, str):
            sql = sql.encode(self.encoding, _ENCODING_ERRORS)
        self._execute_command(_QUERY, sql)
        rows = self._affected_rows = self._read_query_result(unbuffered)
        if self.complaint:
            self._complain()
        return rows

    def _check_size(self, sql: str | bytes) -> None:
        """Refuse a statement that is too large, for which the server would end the session.

        Raises:
            OperationalError: 1153, as the server would send it; the connection stays open.
        """
        size = statement_size(sql, self.encoding)
        if size < LARGE:
            return
        limit = self.size_limit
        if limit.bytes is None and not (self._ahead or self.busy or self.suspect_statement):
            try:
                limit.bytes = int(self.ask(SizeLimit.QUESTION, self.connect_timeout)[0][1])
            except (err.MySQLError, IndexError, ValueError) as exc:
                self._check_still_open(exc)
                limit.bytes = 0
        if limit.bytes and size > limit.bytes:
            raise limit.exceeded(size, "nothing was sent")

    def _refused_as_too_large(self) -> err.OperationalError:
        return self.size_limit.exceeded(
            statement_size(self.last_statement, self.encoding), "nothing was executed"
        )

    def _check_still_open(self, exc: Exception) -> None:
        """Check the connection after one of the library's own queries failed before a user's statement.

        Raises:
            OperationalError: 2006, marked with `NOTHING_SENT`; the connection is lost.
        """
        if self._sock is None:
            failure = err.OperationalError(CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away ({exc})")
            setattr(failure, NOTHING_SENT, True)
            raise failure from exc

    def _execute_command(self, command: int, sql: str | bytes) -> None:
        if self._halfway:
            # The last command was interrupted, and its answer would be read as the answer to this one.
            self._force_close()
        if self._later:
            later, self._later = self._later, ""
            self.run_setting(later)
        if self._sock is not None:
            result = self._result
            if result is not None:
                if result.unbuffered_active or result.has_next:
                    self._finish_result(result)
                self._result = None
            if self._rfile.unread():
                self._fail_as_hung_up()
        if command == _QUERY:
            self.last_statement = sql
            if self.comment and len(sql) < MAY_BE_LARGE:  # else it could exceed the server's limit
                sql = self._commented(sql)
        else:  # neither a ping nor a change of schema reads data
            self.last_statement = f"USE `{sql!s}`" if command == COMMAND.COM_INIT_DB else NO_QUERY
        if type(sql) is bytes and len(sql) < _FULL_PACKET - 1 and self._sock is not None:
            # A command that fits into one packet, as the driver's own method sends it.
            self._write_bytes((len(sql) + 1).to_bytes(3, "little") + _FIRST_OF_COMMAND[command] + sql)
            self._next_seq_id = 1
        else:
            # `super()` would make an object for each statement.
            _Connection._execute_command(self, command, sql)

    def _commented(self, sql: str | bytes) -> str | bytes:
        if isinstance(sql, str):
            return with_comment(sql, self.comment)
        return with_comment(sql.decode("latin1"), self.comment).encode("latin1")

    def _finish_result(self, result: Result) -> None:
        """Read the rest of the last result, with PyMySQL's warning."""
        if result.unbuffered_active:
            warnings.warn("Previous unbuffered result was left incomplete", stacklevel=4)
        drain(self)
        self._result = None

    def _fail_as_hung_up(self) -> None:
        """Handle an unexpected packet: the server has ended the session and reads nothing more.

        Raises:
            OperationalError: 2006; nothing was sent.
        """
        said = last_words(self._rfile)
        self._force_close()
        raise err.OperationalError(CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away{said.text}")

    def _write_bytes(self, data: bytes) -> None:
        if self._unsent:  # only with the first write: a statement longer than a packet takes several
            data, self._unsent = self._unsent + data, b""
        self._halfway = self._ready
        if self._current_timeout != self._write_timeout:
            self._sock.settimeout(self._write_timeout)
            self._current_timeout = self._write_timeout
        try:
            self._sock.sendall(data)
        except OSError as exc:
            said = last_words(self._rfile)
            self._halfway = False  # a statement that was not sent completely was not executed
            self._force_close()
            if said.number == ER.NET_PACKET_TOO_LARGE:
                raise self._refused_as_too_large() from exc
            raise err.OperationalError(
                CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away ({exc!r}){said.text}"
            ) from exc

    # Reading

    def _read_ok_packet(self) -> OKPacketWrapper:
        try:
            packet = self._read_packet()
            try:
                ok = OKPacketWrapper(packet)
            except Exception as exc:
                raise self.malformed(exc) from exc
        except BaseException as exc:
            self._halfway = not isinstance(exc, err.MySQLError)
            self.note_failure()
            raise
        self._halfway = False
        self.statement_ended(ok.server_status, ok.message)
        if self.complaint:
            self._complain()
        return ok

    def _read_packet(self, packet_type: type[MysqlPacket] = MysqlPacket) -> MysqlPacket:
        """Read a packet like PyMySQL, but faster if it is no error and has arrived completely."""
        result = self._result
        streaming = result is not None and result.unbuffered_active
        try:
            data, at = self.arrived()
            size = data[at] | data[at + 1] << 8 | data[at + 2] << 16 if len(data) - at > 4 else 0
            if 0 < size <= len(data) - at - 4 and size < _FULL_PACKET and data[at + 3] == self._next_seq_id:
                self.skip(size + 4, 1)
                payload = data[at + 4 : at + 4 + size]
            else:
                payload = self._read_payload()
            try:
                if payload[0] != 0xFF:
                    return packet_type(payload, self.encoding)
            except Exception as exc:
                raise self.malformed(exc) from exc
            if streaming and result is not None:
                result.unbuffered_active = False
            self._raise_error(payload)
        except BaseException:
            if streaming:
                self.note_failure()
            raise

    def arrived(self) -> tuple[bytes, int]:
        """Return the received bytes and the offset of the first unread one; wait if all are read."""
        transport = self._rfile
        if transport is None:
            return b"", 0
        if transport.at < len(transport.data):
            return transport.data, transport.at
        if self._current_timeout != self._read_timeout:
            self._sock.settimeout(self._read_timeout)
            self._current_timeout = self._read_timeout
        try:
            transport.receive()
        except OSError as exc:
            self._lost(exc)
        except BaseException:
            self._force_close()  # interrupted: the next statement must not read this answer
            raise
        return transport.data, transport.at

    def skip(self, size: int, packets: int) -> None:
        """Mark the next `size` received bytes, which contain `packets` packets, as read."""
        self._next_seq_id = (self._next_seq_id + packets) % 256
        self._rfile.at += size

    def _read_payload(self) -> bytes:
        """Read the payload of the next packet, or of several if it did not fit into one."""
        found = []
        while True:
            header = self._read_bytes(4)
            size = int.from_bytes(header[:3], "little")
            if header[3] != self._next_seq_id:
                self._out_of_step(header[3], size)
            self._next_seq_id = (self._next_seq_id + 1) % 256
            found.append(self._read_bytes(size))
            if size < _FULL_PACKET:
                return b"".join(found)

    def _out_of_step(self, number: int, size: int) -> NoReturn:
        said = error_in(self._read_bytes(size)) if size < LONGEST_WORDS else NO_ERROR
        self._force_close()
        if said.number == ER.NET_PACKET_TOO_LARGE:
            # The server stopped at the first of several packets, so its sequence number differs.
            self._broken_off = ""
            raise self._refused_as_too_large()
        if number == 0:  # an error that answers no command: the server has ended the session
            raise err.OperationalError(CR.CR_SERVER_LOST, f"{_SERVER_LOST}{said.text}")
        raise err.InternalError(f"Packet sequence number wrong - got {number} expected {self._next_seq_id}")

    def _read_bytes(self, num_bytes: int) -> bytes:
        if self._rfile is None:
            raise err.InterfaceError(0, "")
        if self._current_timeout != self._read_timeout:
            self._sock.settimeout(self._read_timeout)
            self._current_timeout = self._read_timeout
        try:
            data: bytes = self._rfile.read(num_bytes)
        except OSError as exc:
            self._lost(exc)
        except BaseException:
            self._force_close()
            raise
        if len(data) < num_bytes:
            self._force_close()
            raise err.OperationalError(CR.CR_SERVER_LOST, _SERVER_LOST)
        return data

    def _lost(self, exc: OSError) -> NoReturn:
        self._force_close()
        raise err.OperationalError(CR.CR_SERVER_LOST, f"{_SERVER_LOST} ({exc})") from exc

    def _raise_error(self, payload: bytes) -> NoReturn:
        """Raise the error that the server has sent."""
        if error_in(payload).number == ER.NET_PACKET_TOO_LARGE:
            self._halfway = False
            self._force_close()  # as the server does
            raise self._refused_as_too_large()
        try:
            err.raise_mysql_exception(with_state(payload))
        except err.MySQLError:
            raise
        except Exception as exc:
            raise self.malformed(exc) from exc
        raise self.malformed(MalformedPacket("an error packet without an error"))

    def malformed(self, exc: Exception) -> err.OperationalError:
        """Close the connection after a malformed answer; return the error to raise."""
        self._force_close()
        # A converter's own message may quote the value.
        why = str(exc) if isinstance(exc, MalformedPacket) else type(exc).__name__
        return err.OperationalError(CR.CR_SERVER_LOST, f"{_SERVER_LOST} (malformed answer: {why})")

    def _read_query_result(self, unbuffered: bool = False) -> int:
        self._result = None
        # Reading a further result of the last command sends nothing, so nothing else has set this.
        self._halfway = True
        result = Result(self)
        try:
            if self._ahead:
                self._read_ahead()
            if unbuffered:
                result.init_unbuffered_query()
            else:
                result.read()
        except BaseException as exc:
            self._halfway = isinstance(exc, UndecodableText) or not isinstance(exc, err.MySQLError)
            self.note_failure()
            raise
        self._result = result
        self._halfway = False
        return result.affected_rows

    def _read_ahead(self) -> None:
        """Read the answer to the query of `send_ahead`, which comes before the user's statement's answer."""
        self._ahead = b""
        result = Result(self)
        own, self.internal = self.internal, True
        # The query sent ahead is a command of its own, so the packets of its answer are numbered from 1.
        sequence, self._next_seq_id = self._next_seq_id, 1
        try:
            with self.within(self._ahead_seconds):
                result.read_own()
            self.answer_ahead = (result.rows or (None,))[0]
        except err.MySQLError as exc:
            if self._sock is None:
                raise
            self.answer_ahead = exc
        finally:
            self.internal = own
            self.ahead_answered_at = Clock.monotonic()
        self._next_seq_id = sequence

    def send_ahead(self, sql: str, seconds: float | None) -> None:
        """Send one of the library's own queries together with the next statement, before it.

        Afterwards `answer_ahead` is the first row of its answer, or its error.

        Parameters:
            seconds: the limit for its whole answer, after which the server counts as lost (2013).
        """
        self._ahead_seconds = seconds
        query = sql.encode(self.encoding)
        self._ahead = (len(query) + 1).to_bytes(3, "little") + _FIRST_OF_COMMAND[COMMAND.COM_QUERY] + query
        self._unsent = self._ahead
        self.answer_ahead = None
        self.ahead_answered_at = 0.0

    def recall_ahead(self) -> None:
        """Withdraw the query of `send_ahead`, if nothing was sent."""
        self._ahead = self._unsent = b""

    def show_warnings(self) -> tuple[Row, ...] | None:
        """Send ``SHOW WARNINGS`` and return its rows, like PyMySQL."""
        self._execute_command(COMMAND.COM_QUERY, "SHOW WARNINGS")
        return self._read_whole().rows

    def _read_whole(self, *, own: bool = False) -> Result:
        """Read and return a complete result.

        Parameters:
            own: whether it answers one of the library's own queries.
        """
        result = Result(self)
        try:
            if own:
                result.read_own()
            else:
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
        """Read the rest of a result that was garbage-collected, as PyMySQL does."""
        if self._sock is not None:
            result.finish()

    def drain(self) -> None:
        """Read the rest of the last statement's results, as the next command on this connection would."""
        drain(self)

    def unanswered_statement(self) -> str:
        """Return the statement whose answer had not arrived when the connection ended, or ``""``."""
        text = self.last_statement if self._halfway else self._broken_off
        return text if isinstance(text, str) else bytes(text).decode("latin1")

    @property
    def socket(self) -> Transport | None:
        """The socket, or None while the connection is closed."""
        return self._sock  # type: ignore[no-any-return]  # the driver has no types

    def hang_up(self) -> bool:
        """End the connection and wake the thread that waits on it; return whether it was open."""
        sock = self._sock
        if sock is None:
            return False
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False  # closed in the meantime, or not connected yet
        return True

    def heard_within(self, seconds: float) -> bool:
        """Return whether anything has arrived from the server in this time; from any thread."""
        sock = self._sock
        return sock is not None and heard_within(sock, seconds)

    def abort(self) -> None:
        """Close the connection without telling the server; may be called more than once."""
        self._force_close()

    def leave_to_parent(self) -> None:
        """Close the socket without telling the server, for a forked child: the session is the parent's."""
        # A thread or greenlet of the parent may be reading from it, so it cannot be closed properly.
        sock, self._sock, self._rfile = self._sock, None, None
        if sock is not None:
            sock.close()
        self._force_close()

    @property
    def read_timeout(self) -> float | None:
        """The limit for an answer, in seconds; None for no limit."""
        return self._read_timeout

    @property
    def has_more_results(self) -> bool:
        """Whether another result of the last statement is unread."""
        return self._result is not None and bool(self._result.has_next)

    def dropped(self) -> bool:
        """Return whether an idle connection is known to be no longer usable, without a round trip.

        A server sends nothing on an idle connection unless it closes it, so anything readable means the end.
        """
        if self._sock is None or self._halfway:
            return True
        if self._rfile.unread() or self._poll(0):
            return not self.busy
        return False

    @property
    def single_value(self) -> object:
        """The value that the last statement returned, if it was one row of one column; else None."""
        rows = None if self._result is None else self._result.rows
        return rows[0][0] if rows and len(rows) == 1 and len(rows[0]) == 1 else None

    def is_alive(self) -> bool:
        """Return whether the server answers a ping within ``connect_timeout``; costs one round trip."""
        try:
            with self.within(self.connect_timeout):
                self.ping(False)
        except Exception:
            return False
        return True

    def ask(self, sql: str, timeout: float | None = None) -> tuple[Row, ...]:
        """Run one of the library's own queries; return tuples whatever the user's ``cursorclass`` is.

        Parameters:
            timeout: seconds after which a server that has not answered in full counts as lost (2013); the
                user's ``read_timeout`` may end it sooner.
        """
        own, self.internal = self.internal, True
        try:
            with self.within(timeout):
                self._execute_command(COMMAND.COM_QUERY, sql)
                return self._read_whole(own=True).rows or ()
        finally:
            self.internal = own

    def within(self, seconds: float | None) -> AbstractContextManager[None]:
        """Return a context manager that limits everything sent and read in it to `seconds` in all."""
        return nullcontext() if self._rfile is None else self._rfile.within(seconds)

    def start_query(self, sql: str) -> None:
        """Send one of the library's own queries without waiting; call `finish_query` next."""
        self._execute_command(COMMAND.COM_QUERY, sql)

    def finish_query(self) -> list[Record] | Exception:
        """Return the rows of the query that `start_query` sent, by column name, or the server's error.

        Raises:
            MySQLError: the connection is lost.
        """
        try:
            result = self._read_whole(own=True)
        except err.MySQLError as exc:
            if self._sock is None:
                raise
            refused: Exception = exc
            return refused
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.rows or ()]

    def run_setting(self, sql: str) -> None:
        """Run one of the library's own settings; it does not count as a change of the session.

        Raises:
            OperationalError: 2006 if the connection is lost; the user's statement was not sent.
        """
        effect_known, own = self.effect_known, self.internal
        self.effect_known = self.internal = True
        try:
            with self.within(self.connect_timeout):
                self.run_command(sql)
        except err.MySQLError as exc:
            self._check_still_open(exc)
            raise
        finally:
            self.effect_known, self.internal = effect_known, own

    def run_setting_when_idle(self, sql: str) -> None:
        """Run a setting like `run_setting`, or, if rows are unread, before the next command."""
        if self.busy:
            # If it were sent now, its answer would come after rows that the user has yet to read.
            self._later = sql
        else:
            self.run_setting(sql)


if TYPE_CHECKING:
    _IMPLEMENTS: type[protocols.ServerConnection] = Connection
