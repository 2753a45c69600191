"""The pool of connections to one node in one event loop. Never used from another thread."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Generic, Protocol, TypeVar

from peewee import InterfaceError, OperationalError
from playhouse.pool import MaxConnectionsExceeded

from ..concurrency import Clock

CLOSING = "Database pool is shutting down."


class PoolExhausted(OperationalError, MaxConnectionsExceeded):
    """Every connection of the client's own pool is in use. The node itself may be fine."""


class Transported(Protocol):
    """The transport of a connection, as a pool sees it."""

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done once the transport is closed for good."""


class Poolable(Protocol):
    """A connection that may be in a pool.

    Attributes:
        pool: the pool it belongs to.
        last_used: when it was last given back to the pool, on a monotonic clock in seconds.
        held: whether it is kept for longer than one statement.
    """

    pool: Any  # a `Pool` of this class, which a protocol cannot express
    last_used: float
    held: bool

    @property
    def open(self) -> bool:
        """Whether the connection is open."""

    @property
    def socket(self) -> Transported | None:
        """Its transport; None once closed."""

    def dropped(self) -> bool:
        """Return whether the connection is known to be no longer usable."""

    def close(self) -> None:
        """Close the connection."""


C = TypeVar("C", bound=Poolable)


class Pool(Generic[C]):
    """A pool of connections.

    A connection is *held* if it is kept for longer than one statement: while rows are streamed, or after it
    was handed to the user. A task that keeps another connection waits here only for ones that are not held.

    Parameters:
        label: the node's name and address, for messages.
        size: the most connections there may be.
        timeout: seconds that a task waits for a connection.
        recycle: seconds after which an idle connection is closed instead of used; below 0: never.
    """

    def __init__(self, label: str, size: int, timeout: float, recycle: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.closing = False
        self.first = True
        """Whether no connection has been opened yet."""
        self.label = label
        self._size = size
        self._timeout = timeout
        self._recycle = recycle
        self._idle: list[C] = []
        self._used: set[C] = set()
        self._opening = 0
        self._held = 0
        self._waiters: deque[tuple[asyncio.Future[C | None], bool]] = deque()
        self._lost: list[asyncio.Future[None]] = []

    def take(self) -> C | None:
        """Return an idle connection that is not known to be dead; None if there is none."""
        while self._idle:
            conn = self._idle.pop()
            if conn.dropped() or 0 <= self._recycle < Clock.monotonic() - conn.last_used:
                self._close(conn)
                continue
            self._used.add(conn)
            return conn
        return None

    @property
    def full(self) -> bool:
        """Whether no further connection may be opened."""
        return len(self._used) + len(self._idle) + self._opening >= self._size

    @property
    def size(self) -> int:
        """The number of open connections."""
        return len(self._used) + len(self._idle)

    def reserve(self) -> None:
        """Reserve a place for a connection that is about to be opened.

        Raises:
            PoolExhausted: there is no place.
            InterfaceError: the pool is closing.
        """
        if self.closing:
            raise InterfaceError(CLOSING)
        if self.full:
            raise self._exhausted("")
        self._opening += 1

    def forfeit(self) -> None:
        """Free a reserved place, for the next waiting task if there is one."""
        self._opening -= 1
        self.pass_on()

    def release(self) -> None:
        """Free a reserved place without waking a waiting task; the caller reserves it again at once."""
        self._opening -= 1

    def opened(self, conn: C) -> None:
        """Put a connection into a reserved place."""
        self._opening -= 1
        self._used.add(conn)
        conn.pool = self

    def renew(self, conn: C) -> None:
        """Close a connection in use, and reserve its place for another."""
        if conn.held:
            self.hold(conn, False)
        self._used.discard(conn)
        self._close(conn)
        self._opening += 1

    async def wait(self, *, patient: bool) -> C | None:
        """Return a connection that another task gives back; None: a place is reserved for a new one.

        Parameters:
            patient: whether to wait even if every connection is held.

        Raises:
            PoolExhausted: none came back in time.
            InterfaceError: the pool is being closed.
        """
        if self.closing:
            raise InterfaceError(CLOSING)
        # No held connection comes back by itself, so two tasks could wait for each other.
        if not patient and self._all_held():
            raise self._exhausted(": all of them are streaming, or were handed out")
        waiter: asyncio.Future[C | None] = self.loop.create_future()
        entry = (waiter, patient)
        self._waiters.append(entry)
        timer = self.loop.call_later(self._timeout, self._expire, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Cancelled after it had received something.
                given = waiter.result()
                if given is None:
                    self.forfeit()
                else:
                    self.give_back(given)
            raise
        finally:
            timer.cancel()
            if entry in self._waiters:
                self._waiters.remove(entry)

    def _expire(self, waiter: asyncio.Future[C | None]) -> None:
        if not waiter.done():
            waiter.set_exception(self._exhausted(f" (acquire_timeout={self._timeout})"))

    def _exhausted(self, why: str) -> PoolExhausted:
        return PoolExhausted(
            f"Timed out acquiring connection from pool of {self._size} to {self.label}{why}."
        )

    def _all_held(self) -> bool:
        return self._held >= self._size

    def hold(self, conn: C, held: bool) -> None:
        """Set whether a connection is kept for longer than one statement."""
        conn.held = held
        self._held += 1 if held else -1
        if self._all_held():
            # No connection is left that comes back by itself, so impatient tasks would wait in vain.
            for waiter, patient in self._waiters:
                if not patient and not waiter.done():
                    waiter.set_exception(self._exhausted(": all of them are streaming, or were handed out"))

    def give_back(self, conn: C) -> None:
        """Take back a connection whose session is unchanged since it was opened."""
        if conn not in self._used:
            return
        if self.closing or not conn.open:
            self.discard(conn)
            return
        conn.last_used = Clock.monotonic()
        if conn.held:
            self.hold(conn, False)
        waiter = self._next_waiter() if self._waiters else None
        if waiter is not None:
            # Handed over directly, so that a new task cannot overtake the waiting ones.
            waiter.set_result(conn)
            return
        self._used.discard(conn)
        self._idle.append(conn)

    def discard(self, conn: C) -> None:
        """Close a connection for good."""
        if conn in self._used:
            if conn.held:
                self.hold(conn, False)
            self._used.discard(conn)
            self._close(conn)
            self.pass_on()

    def pass_on(self) -> None:
        """Give a free place to the task that has waited longest."""
        if self.full:
            return
        waiter = self._next_waiter()
        if waiter is not None:
            self._opening += 1
            waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[C | None] | None:
        while self._waiters:
            waiter, _ = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    def _close(self, conn: C) -> None:
        if conn.open:
            # A transport closes in a later turn of the loop, which `closed` has to wait for.
            self._lost = [lost for lost in self._lost if not lost.done()]
            sock = conn.socket
            if sock is not None:
                self._lost.append(sock.lost)
            conn.close()

    def close_idle(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._close(self._idle.pop())

    def close(self) -> None:
        """Stop opening and lending connections; close those in use once they come back."""
        self.closing = True
        self.close_idle()
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(InterfaceError(CLOSING))

    async def closed(self, until: float) -> None:
        """Wait until every connection has come back; cut the rest at `until`, on a monotonic clock."""
        while self._used and Clock.monotonic() < until:
            await asyncio.sleep(0.01)
        for conn in list(self._used):
            self.discard(conn)
        if self._lost:
            await asyncio.wait(self._lost, timeout=1)
