"""The socket of a connection, with a buffer that can be inspected and a deadline for several steps."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from ...concurrency import Clock

# Most answers are shorter. Longer ones need fewer system calls than with the 8 KiB of a file object.
_CHUNK = 1 << 16
# A step that took this much longer than it could wait, or began so late, shows that this process was stopped.
_STOPPED_SECONDS = 1.0


class Transport(Protocol):
    """How a connection sends and receives bytes; the asyncio form has its own transport.

    Attributes:
        data, at: the received bytes, and the offset of the first unread byte.
    """

    data: bytes
    at: int

    def receive(self) -> None:
        """Wait until there are unread bytes in `data`, or the connection ends; call it when all are read."""

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes; fewer if the connection ends first."""

    def unread(self) -> bool:
        """Return whether there are unread bytes, without a system call."""

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""

    def within(self, seconds: float | None) -> AbstractContextManager[None]:
        """Return a context manager that limits everything sent and read in it; None for no limit."""

    def settimeout(self, seconds: float | None) -> None:
        """Set the limit for a single step, in seconds."""

    def shutdown(self, how: int) -> None:
        """End the connection and wake any thread that waits on it; may be called from any thread."""

    def fileno(self) -> int:
        """Return the socket's file descriptor."""

    def close(self) -> None:
        """Close the socket; may be called again."""


class SocketTransport:
    """The transport of the synchronous form. PyMySQL uses it as a socket and as the file it reads from.

    It has all other public members of the socket too.
    """

    __slots__ = ("_deadline", "_pending", "_sock", "_stepped_at", "_timeout", "at", "data")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout: float | None = sock.gettimeout()
        self._deadline: float | None = None
        self._stepped_at = 0.0
        # The number of bytes that TLS has already decrypted.
        self._pending: Callable[[], int] | None = getattr(sock, "pending", None)
        self.data = b""
        self.at = 0

    def receive(self) -> None:
        """Wait until there are unread bytes in `data`, or the connection ends; call it when all are read."""
        self.data = self._sock.recv(_CHUNK) if self._deadline is None else self._receive()
        self.at = 0

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes; fewer if the connection ends first."""
        start = self.at
        end = start + size
        if end <= len(self.data):
            self.at = end
            return self.data[start:end]
        found = [self.data[start:]]
        missing = size - len(found[0])
        self.data, self.at = b"", 0
        while missing > 0:
            data = self._receive()
            if not data:
                break
            if len(data) > missing:
                self.data, self.at = data, missing
                data = data[:missing]
            found.append(data)
            missing -= len(data)
        return b"".join(found)

    def _receive(self) -> bytes:
        if self._deadline is None:
            return self._sock.recv(_CHUNK)
        left = self._left()
        self._sock.settimeout(left)
        data = self._sock.recv(_CHUNK)
        self._note_step(left)
        return data

    def unread(self) -> bool:
        """Return whether there are unread bytes, without a system call."""
        return self.at < len(self.data) or (self._pending is not None and bool(self._pending()))

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        if self._deadline is None:
            self._sock.sendall(data)
            return
        left = self._left()
        self._sock.settimeout(left)
        self._sock.sendall(data)
        self._note_step(left)

    def settimeout(self, seconds: float | None) -> None:
        """Set the limit for a single step, in seconds; a deadline may be shorter."""
        self._timeout = seconds
        self._sock.settimeout(seconds)

    def _left(self) -> float:
        """Return the seconds that the next step may take."""
        assert self._deadline is not None
        now = Clock.monotonic()
        pause = now - self._stepped_at
        if pause > _STOPPED_SECONDS:
            self._deadline += pause  # nobody has waited for the server in this time
        left = self._deadline - now
        if left <= 0:
            raise TimeoutError("timed out")
        return left if self._timeout is None else min(left, self._timeout)

    def _note_step(self, could_wait: float) -> None:
        """Note the end of a successful step. If this process was stopped in it, the step took no time."""
        now = Clock.monotonic()
        took = now - self._stepped_at
        if self._deadline is not None and took > could_wait + _STOPPED_SECONDS:
            self._deadline += took
        self._stepped_at = now

    @contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        """Limit everything sent and read in a block to `seconds` in all; None for no limit."""
        if seconds is None:
            yield
            return
        outer = self._deadline
        self._stepped_at = Clock.monotonic()
        deadline = self._stepped_at + seconds
        self._deadline = deadline if outer is None else min(deadline, outer)  # never later than `outer`
        try:
            yield
        finally:
            self._deadline = outer
            if outer is None and self._sock.fileno() >= 0:
                self._sock.settimeout(self._timeout)

    def secure(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        """Switch the connection to TLS.

        Raises:
            OSError: the handshake failed, or took too long.
        """
        if self.unread():
            # Bytes from before TLS must not be read as the server's answer: anybody could have sent them.
            raise ssl.SSLError("the server sent more than its greeting before TLS began")
        if self._deadline is not None:
            self._sock.settimeout(self._left())
        try:
            self._sock.getpeername()
        except OSError as exc:
            raise ConnectionResetError(errno.ECONNRESET, "the connection ended before TLS began") from exc
        try:
            sock = context.wrap_socket(
                self._sock, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except OSError as exc:
            _close_taken(exc)
            raise
        # Before the handshake, so that `shutdown` from another thread wakes one that hangs in it.
        self._sock, self._pending = sock, sock.pending
        sock.do_handshake()

    def makefile(self, _mode: str) -> SocketTransport:
        """Return this object, which PyMySQL also uses as the file."""
        return self

    def shutdown(self, how: int) -> None:
        """End the connection and wake any thread that waits on it; may be called from any thread."""
        sock = self._sock
        # SSLSocket.shutdown() removes the TLS layer, and a thread that is reading would go on in plain text.
        (super(ssl.SSLSocket, sock).shutdown if isinstance(sock, ssl.SSLSocket) else sock.shutdown)(how)

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return int(self._sock.fileno())

    def close(self) -> None:
        """Close the socket; may be called again."""
        self._sock.close()


def _of_socket(name: str) -> property:
    return property(lambda transport: getattr(transport._sock, name))


# With `__getattr__` instead, Python would look up every member of a transport in a slower way.
for _name in dir(ssl.SSLSocket):
    if not (_name.startswith("_") or hasattr(SocketTransport, _name)):
        setattr(SocketTransport, _name, _of_socket(_name))


def _close_taken(exc: BaseException) -> None:
    """Close the socket that a failed `wrap_socket` has taken from its caller.

    If the connection ends meanwhile, Python and gevent raise without closing it, and only the frames of the
    error still know it.
    """
    step = exc.__traceback__
    while step is not None:
        taken = step.tb_frame.f_locals.get("self")
        if isinstance(taken, ssl.SSLSocket):
            taken.close()
        step = step.tb_next


class TlsUpgrade:
    """Replaces the TLS context when PyMySQL wraps its socket, so that the transport stays the same object."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context

    def wrap_socket(self, transport: SocketTransport, server_hostname: str | None = None) -> SocketTransport:
        """Switch the transport to TLS, and return it."""
        assert self._context is not None  # without one, nothing is wrapped
        transport.secure(self._context, server_hostname)
        return transport
