"""A connection that aiomysql opens and that then follows the state the server reports for its session.

aiomysql reads the user's arguments, connects, negotiates TLS and authenticates. From then on `servers.wire`
sends the statements and reads the answers, as it does for the synchronous form.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any, Protocol

import aiomysql
import aiomysql.connection
from peewee import PeeweeException
from playhouse.pwasyncio import await_
from pymysql import cursors, err
from pymysql.constants import CLIENT, CR

from ..concurrency import Clock
from ..errors import ConfigurationError
from ..servers.wire import connection as wire
from ..servers.wire.error_packets import STUMBLES
from ..servers.wire.session import Unread
from ..servers.wire.session_settings import set_session
from ..servers.wire.sockets import end_when_vanished
from ..statements.redaction import shown
from .instrumented import report_to_tools
from .pool import Pool
from .transport import Reader, Stream, close_with_loop

_CONNECT_SECONDS = 10.0
_STEP_SECONDS = 0.25

# Attributes that aiomysql sets while connecting and that statements need.
_LEARNED = (
    "host_info", "protocol_version", "salt", "server_capabilities", "server_charset", "server_language",
    "server_status", "server_thread_id", "server_version", "_secure",
)  # fmt: skip


class Cursor(cursors.Cursor):
    """The result of `execute_sql`. Its rows have been read, so using it never waits for the server."""

    async def aclose(self) -> None:
        """Close the cursor; does not wait."""
        self.close()


class DictCursor(cursors.DictCursorMixin, Cursor):
    """A `Cursor` with rows as dicts."""


class StreamCursor(cursors.SSCursor):
    """A cursor that reads its rows from the server on demand."""

    def __del__(self) -> None:
        """Leave unread rows to the connection; a collected object cannot wait for a server."""


class StreamDictCursor(cursors.DictCursorMixin, StreamCursor):
    """A `StreamCursor` with rows as dicts."""


# Even a streaming class reads whole results, as in peewee's asyncio form; only `iterate` streams.
_CURSORS = {
    aiomysql.Cursor: Cursor,
    aiomysql.SSCursor: Cursor,
    aiomysql.DictCursor: DictCursor,
    aiomysql.SSDictCursor: DictCursor,
}


class Streaming(Protocol):
    """A result whose rows are read on demand."""

    def wait(self) -> None:
        """Wait a moment for the result's end; raise ``InterfaceError`` if it does not come."""


class _Opening(aiomysql.connection.Connection):
    """aiomysql's connection, used until it is authenticated."""

    _reader: Reader | None = None
    _writer: asyncio.StreamWriter | None = None
    running_in: asyncio.AbstractEventLoop | None = None

    async def _request_authentication(self) -> None:
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise err.OperationalError(
                CR.CR_SSL_CONNECTION_ERROR, "SSL is required but the server doesn't support it"
            )
        self.client_flag |= self.server_capabilities & wire.ASKED_FOR
        await super()._request_authentication()

    def hang_up(self) -> bool:
        """End the attempt if it has connected; may be called from any thread."""
        writer, loop = self._writer, self.running_in
        if writer is None or loop is None:
            return False
        try:
            loop.call_soon_threadsafe(writer.transport.abort)
        except RuntimeError:
            return False  # the loop has been closed
        return True

    def hand_over(self) -> Stream:
        """Release the opened socket and return it."""
        assert self._reader is not None  # it has connected
        assert self._writer is not None
        stream = Stream(self._reader, self._writer)
        self._writer = self._reader = None
        return stream


class Connection(wire.Connection):
    """A connection to one node, in one event loop. Used in greenlets, where waiting looks synchronous.

    Parameters:
        guard: whether to make the server refuse writes here (``SET SESSION TRANSACTION READ ONLY``).
        database: the schema's name.
        defer_connect: whether the caller calls `connect`.
        arguments: aiomysql's own arguments.

    Attributes:
        pool: the pool it belongs to, if any.
        last_used: when it was last given back to the pool, on a monotonic clock in seconds.
        held: whether it is kept for longer than one statement.
    """

    held = False
    cursorclass: type[cursors.Cursor]
    streamed: Streaming | None = None
    _attempt: _Opening | None = None

    def __init__(
        self,
        *,
        guard: bool = False,
        database: str | None = None,
        defer_connect: bool = False,
        **arguments: Any,
    ) -> None:
        self.pool: Pool[Connection] = None  # type: ignore[assignment]  # each one that statements use has a pool
        self.last_used = 0.0
        cursor = arguments.pop("cursorclass", aiomysql.Cursor)
        if cursor not in _CURSORS:
            allowed = ", ".join(f"aiomysql.{known.__name__}" for known in _CURSORS)
            name = getattr(cursor, "__name__", shown(cursor))
            raise ConfigurationError(f"cursorclass={name}: allowed are {allowed}")
        # Run in `_set_up`, so that `servers.wire` reads the results.
        later = {name: arguments.pop(name, None) for name in ("sql_mode", "init_command")}
        self._arguments = {**arguments, "db": database, "autocommit": None}
        opening = self._opening()
        self._connect_seconds = opening.connect_timeout or _CONNECT_SECONDS
        super().__init__(
            guard=guard,
            defer_connect=True,
            ssl_disabled=True,  # aiomysql negotiates it
            host=opening.host,
            port=opening.port,
            user=opening.user,
            database=opening.db,
            unix_socket=opening.unix_socket,
            charset=opening.charset,
            use_unicode=opening.use_unicode,
            client_flag=opening.client_flag,
            local_infile=bool(arguments.get("local_infile")),
            cursorclass=_CURSORS[cursor],
            autocommit=True,
            **later,
        )
        self.connect_timeout = self._connect_seconds
        self.encoders, self.decoders = opening.encoders, opening.decoders
        if not defer_connect:
            self.connect()

    def _opening(self) -> _Opening:
        return _Opening(**self._arguments)

    def connect(self, sock: socket.socket | None = None) -> None:
        """Open the session, within ``connect_timeout`` seconds in all.

        Raises:
            OperationalError: the server cannot be reached, took too long, or refuses this client.
        """
        self._ready = self._closed = self.greeted = False
        self._later = ""
        self._ahead = self._unsent = b""
        self.begin_anew()
        seconds, began = self._connect_seconds, Clock.monotonic()
        try:
            self._attempt = self._opening()
            self._sock = self._rfile = stream = await_(_open(self._attempt, seconds, self))
            self._current_timeout = None
            self._next_seq_id = 0
            self.learn_greeting()
            self._poll = stream.readable
            if self.guarded:
                end_when_vanished(stream)
            took = Clock.monotonic() - began
            # What took longer than it may take, and succeeded, was stopped together with this event loop.
            with stream.within(seconds - took if took < seconds else seconds):
                await_(close_with_loop(stream))
                self._set_up()
        except BaseException as exc:
            self.abort()
            if isinstance(exc, OSError):
                raise err.OperationalError(CR.CR_CONN_HOST_ERROR, f"{self._unreached()} ({exc})") from exc
            raise
        finally:
            self._attempt = None
        self.changes.clear()
        self._ready = True

    def _unreached(self) -> str:
        return f"Can't connect to MySQL server on {self.unix_socket or self.host!r}"

    def _set_up(self) -> None:
        # In aiomysql's order, so that a user's init_command finds the session as with aiomysql.
        if self.sql_mode is not None:
            self.run_command(f"SET sql_mode={self.sql_mode}")
        if self.init_command is not None:
            self.query(self.init_command)
            self.run_command("COMMIT")
        least = "" if self.get_autocommit() else "autocommit = 1"
        settings = ", ".join(part for part in (least, self._settings) if part)
        if settings:
            set_session(self, settings, least)
        self._settings = ""

    def report_to_tools(self) -> None:
        """Let tools that have wrapped aiomysql's entry point report the statements of this connection."""
        report_to_tools(self)

    def leave_unread(self, result: Unread) -> None:
        """Cut the connection of a collected result, which cannot wait for the server."""
        result.unbuffered_active = False
        self.abort()

    def _write_bytes(self, data: bytes) -> None:
        try:
            wire.Connection._write_bytes(self, data)  # `super()` would make an object for each statement
        except (err.MySQLError, PeeweeException):
            raise
        except BaseException:
            self.abort()  # interrupted; half a statement may have been sent
            raise

    def hang_up(self) -> bool:
        """End the connection, even while it is being opened, and wake the task that waits on it."""
        attempt = self._attempt
        return super().hang_up() or (attempt is not None and attempt.hang_up())

    @property
    def socket(self) -> Stream | None:
        """The socket, or None while the connection is closed."""
        return self._sock  # type: ignore[no-any-return]  # the driver has no types

    def stream(self, streams: bool) -> None:
        """Set whether results of the next statements are read row by row, on demand."""
        dicts = issubclass(self.cursorclass, cursors.DictCursorMixin)
        if streams:
            self.cursorclass = StreamDictCursor if dicts else StreamCursor
        else:
            self.cursorclass = DictCursor if dicts else Cursor


async def _ended_within(work: Awaitable[None], seconds: float) -> bool:
    """Wait until `work` has ended, and return True; after so many seconds, cancel it and return False."""
    task = asyncio.ensure_future(work)
    left = seconds
    try:
        while left > 0 and not task.done():
            # However long this event loop was blocked, the server has had time for one step only.
            step = min(left, _STEP_SECONDS)
            await asyncio.wait([task], timeout=step)
            left -= step
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        failure = None if task.cancelled() else task.exception()  # or asyncio logs that nobody has taken it
    if failure is not None:
        raise failure
    return not task.cancelled()


async def _open(opening: _Opening, seconds: float, conn: Connection) -> Stream:
    opening.running_in = asyncio.get_running_loop()
    opening.connect_timeout = None  # aiomysql's own limit would count the time in which the loop was blocked
    try:
        try:
            ended = await _ended_within(opening._connect(), seconds)
        except err.OperationalError as exc:
            if isinstance(exc.__cause__, OSError):
                exc.original_exception = exc.__cause__  # as PyMySQL names it
                exc.args = (exc.args[0], f"{conn._unreached()} ({exc.__cause__})")
            if exc.args and not isinstance(exc.args[0], int):  # aiomysql has no number for it
                raise conn.malformed(exc) from exc
            raise
        except OSError:
            raise  # a rejected certificate is also a ValueError, so catch it here
        except STUMBLES as exc:
            raise conn.malformed(exc) from exc
        if not ended:
            raise err.OperationalError(
                CR.CR_CONN_HOST_ERROR, f"{conn._unreached()} (no greeting within {seconds} s)"
            ) from TimeoutError()
        for name in _LEARNED:
            setattr(conn, name, getattr(opening, name, None))
        return opening.hand_over()
    finally:
        opening.close()
