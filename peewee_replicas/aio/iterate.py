"""Results whose rows are read from the server while the program iterates over them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

from peewee import BaseQuery, InterfaceError, __exception_wrapper__
from playhouse.pwasyncio import await_

from ..connections.peewee_types import Cursor
from .connection import Connection
from .tasks import TaskState

# Rows to fetch at a time, as in peewee's asyncio form.
BATCH = 100
# Seconds to wait for a generator left by `break`, which the event loop closes a moment later.
_LEFT_BEHIND_SECONDS = 5.0


class Streamed:
    """One result and its connection, which nobody else uses until the result is closed.

    Parameters:
        cursor: the driver's cursor.
        state: the state of the task that runs the query.
        leased: whether the connection was taken from a pool for this result; otherwise it is the task's own.
        had_writer: whether the task had a connection to the primary before.
    """

    def __init__(self, cursor: Cursor, state: TaskState, *, leased: bool, had_writer: bool) -> None:
        self._cursor = cursor
        self.conn: Connection = cursor.connection  # type: ignore[assignment]  # ours always has one
        self.state = state
        self.had_writer = had_writer
        self._leased = leased
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.conn.stream(False)
        self.conn.streamed = self
        if leased:
            self.conn.pool.hold(self.conn, True)
            state.streams += 1

    def rows(self, query: BaseQuery) -> Iterator[object]:
        """Return an iterator over the rows, in the form the query asks for."""
        return query._get_cursor_wrapper(self._cursor).iterator()  # type: ignore[no-any-return]  # peewee's

    def take(self, rows: Iterator[object], number: int) -> list[object]:
        """Return the next `number` rows; fewer at the end."""
        with __exception_wrapper__:
            return list(itertools.islice(rows, number))

    def close(self) -> None:
        """Close the result, whether it was read to its end or not."""
        if self._ended.done():
            return
        conn = self.conn
        try:
            if not self._leased and conn.open and conn.busy:
                with __exception_wrapper__:
                    self._cursor.close()  # a transaction depends on this connection: read what is left
        finally:
            if conn.streamed is self:  # else it was given back earlier and may have another user
                conn.streamed = None
            self._ended.set_result(None)
            if self._leased:
                self.state.streams -= 1
                if conn.busy or not conn.replaceable:
                    conn.pool.discard(conn)
                else:
                    conn.pool.give_back(conn)

    def wait(self) -> None:
        """Wait a moment for the result's end, before something else is sent on its connection.

        Raises:
            InterfaceError: the program is still iterating over the result.
        """
        ended = self._ended
        if not ended.done():
            await_(asyncio.wait([ended], timeout=_LEFT_BEHIND_SECONDS))
        if not ended.done():
            raise InterfaceError(
                "Connection is busy streaming results from iterate(). Run the query from another task, "
                "or exhaust or aclose() the iterator."
            )
