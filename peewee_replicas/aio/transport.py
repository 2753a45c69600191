"""Presents an asyncio transport as the socket that PyMySQL expects; waiting goes through the greenlet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Protocol

from peewee import InterfaceError
from playhouse.pwasyncio import await_

from ..concurrency import abandon
from ..servers.wire.sockets import poll_for

# Unread bytes at which reading pauses, and resumes; only streamed results reach the limit.
_HIGH, _LOW = 1 << 20, 1 << 18


class Reader(Protocol):
    """The part of aiomysql's reader that is used when its connection is taken over."""

    eof_received: bool

    def exception(self) -> Exception | None:
        """Return the error that ended it, if any."""


class Stream(asyncio.Protocol):
    """The socket of one connection, and the file it is read from.

    Parameters:
        reader, writer: the pair the connection was opened with. The writer is kept, because it closes the
            transport when collected.
    """

    def __init__(self, reader: Reader, writer: asyncio.StreamWriter) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self._transport: Any = writer.transport
        self._pid = os.getpid()
        # The transport does not repeat bytes, or the end, that arrived before this object took over.
        self.data = bytes(getattr(reader, "_buffer", b""))
        self.at = 0
        self._later: list[bytes] = []
        self._waiting = 0  # bytes in `_later`
        self._reader: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._held_back = False
        self._ended = bool(reader.eof_received or self._transport.is_closing())
        self._error: Exception | None = reader.exception()
        self._socket = self._transport.get_extra_info("socket")
        self._poll = poll_for(self._socket)
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done once the transport is closed for good."""
        self._transport.set_protocol(self)

    # What the transport calls

    def data_received(self, data: bytes) -> None:
        if self.at == len(self.data) and not self._later:
            self.data, self.at = data, 0
        else:
            self._later.append(data)
            self._waiting += len(data)
            if self._waiting > _HIGH and not self._held_back and self._reader is None:
                self._transport.pause_reading()
                self._held_back = True
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc or self._error
        if not self.lost.done():
            self.lost.set_result(None)
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # What PyMySQL calls

    def unread(self) -> bool:
        """Return whether bytes have arrived that were not read."""
        return self.at < len(self.data) or bool(self._later)

    @contextlib.contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        """Limit all sending and reading in this block to `seconds` together; None: no limit."""
        if seconds is None:
            yield
            return
        timer = self._loop.call_later(max(seconds, 0), self.time_out)
        try:
            yield
        finally:
            timer.cancel()

    def receive(self) -> None:
        """Wait until there are unread bytes in `data`, or the connection ends; call it when all are read."""
        self._await_bytes(1)
        self._join()

    def read(self, size: int) -> bytes:
        """Read `size` bytes; fewer if the connection ends first."""
        if len(self.data) - self.at < size:
            self._await_bytes(size)
            self._join()
        start, self.at = self.at, min(self.at + size, len(self.data))
        return self.data[start : self.at]

    def _await_bytes(self, size: int) -> None:
        while len(self.data) - self.at + self._waiting < size and not self._ended:
            if self._held_back:
                self._transport.resume_reading()
                self._held_back = False
            if self._reader is not None:
                raise InterfaceError("this connection is waiting for another task's answer already")
            self._reader = self._loop.create_future()
            try:
                await_(self._reader)
            finally:
                self._reader = None
        if self._error is not None and len(self.data) - self.at + self._waiting < size:
            raise self._error

    def _join(self) -> None:
        if self._later:
            self.data, self.at = b"".join([self.data[self.at :], *self._later]), 0
            self._later, self._waiting = [], 0
        if self._held_back and len(self.data) < _LOW:
            self._transport.resume_reading()
            self._held_back = False

    def sendall(self, data: bytes) -> None:
        """Send bytes; wait while too many are in transit."""
        if self._ended or self._transport.is_closing():
            raise self._error or BrokenPipeError("the server has closed the connection")
        self._transport.write(data)
        if self._drained is not None:
            await_(self._drained)

    def time_out(self) -> None:
        """Cut the connection, even under a waiting reader, because the server has not answered in time."""
        self._error = TimeoutError("the server has not answered in time")
        self.close()
        self._wake()

    def settimeout(self, _seconds: float | None) -> None:
        """Do nothing: this socket has no timeouts; see `within`."""

    def makefile(self, _mode: str) -> Stream:
        """Return self, which is also the file to read from."""
        return self

    def setsockopt(self, *arguments: object) -> None:
        """Set an option of the socket."""
        self._socket.setsockopt(*arguments)

    def getsockopt(self, *arguments: int) -> bytes:
        """Return an option of the socket."""
        return self._socket.getsockopt(*arguments)  # type: ignore[no-any-return]  # loops have their own types

    @property
    def family(self) -> int:
        """The address family of the socket."""
        return int(self._socket.family)

    def shutdown(self, _how: int) -> None:
        """Cut the connection, even under a waiting reader; may be called from any thread."""
        if self._ended:
            raise BrokenPipeError("the connection has ended already")
        try:
            # Not every event loop lets other code shut its sockets down.
            self._loop.call_soon_threadsafe(self._hang_up)
        except RuntimeError as exc:
            raise BrokenPipeError("the loop of the connection has been closed") from exc
        self._ended = True  # from now on nothing more is sent

    def _hang_up(self) -> None:
        self.close()
        self._wake()

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return int(self._socket.fileno())

    def close(self) -> None:
        """Close at once. In a forked child, leave the connection to the parent."""
        if os.getpid() != self._pid:
            abandon(self, self._transport, self._writer)
            return
        self._ended = True
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._transport.abort()

    def readable(self, _milliseconds: int = 0) -> bool:
        """Return whether bytes, or the end, can be read now, even if the loop has not noticed yet."""
        return self._ended or self.unread() or self._transport.is_closing() or bool(self._poll(0))


# An event loop that ends notifies nobody except asynchronous generators.
_open: dict[asyncio.AbstractEventLoop, _Until] = {}


class _Until:
    """The connections of one event loop, closed when the loop ends."""

    def __init__(self) -> None:
        self.streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self.generator = self._wait()

    async def _wait(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            left = [stream for stream in self.streams if not stream.lost.done()]
            for stream in left:
                stream.close()
            if left:
                await asyncio.wait([stream.lost for stream in left], timeout=1)


async def close_with_loop(stream: Stream) -> None:
    """Arrange for the connection to be closed when the running loop ends."""
    loop = asyncio.get_running_loop()
    until = _open.get(loop)
    if until is None:
        for ended in [known for known in list(_open) if known.is_closed()]:
            _open.pop(ended, None)
        until = _open[loop] = _Until()
        await until.generator.__anext__()
    until.streams.add(stream)
