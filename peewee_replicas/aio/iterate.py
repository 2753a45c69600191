"""Results that are read from the server while the program goes through them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from peewee import InterfaceError, __exception_wrapper__
from playhouse.pwasyncio import await_

from ..databases.mysql import OverMySQL
from .tasks import TaskState

# Rows that are taken at a time, as in peewee's asyncio form.
BATCH = 100
# A generator that was left by `break` is closed by the event loop a moment later.
_LEFT_BEHIND_SECONDS = 5.0


class Streamed:
    """One result, and the connection it comes on, which nobody else uses until it is closed.

    Parameters:
        cursor: the driver's.
        state: the state of the task that asked for it.
        leased: whether the connection was taken out of a pool for it; otherwise it is the task's own.
        had_writer: whether the task had a connection to the primary before.
    """

    def __init__(self, cursor: Any, state: TaskState, *, leased: bool, had_writer: bool) -> None:
        self._cursor = cursor
        self.conn = cursor.connection
        self.state = state
        self.had_writer = had_writer
        self._leased = leased
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.conn.stream(False)
        self.conn.streamed = self
        if leased:
            self.conn.pool.hold(self.conn, True)
            state.streams += 1

    def rows(self, query: Any) -> Iterator[Any]:
        """The rows, as the query has them."""
        return query._get_cursor_wrapper(self._cursor).iterator()  # type: ignore[no-any-return]  # peewee's

    def take(self, rows: Iterator[Any], number: int) -> list[Any]:
        """The next so many rows; fewer at the end."""
        with __exception_wrapper__:
            return list(itertools.islice(rows, number))

    def close(self) -> None:
        """Be done with the result, whether it was read to its end or not."""
        if self._ended.done():
            return
        conn = self.conn
        try:
            if not self._leased and conn.open and conn.busy:
                with __exception_wrapper__:
                    self._cursor.close()  # a transaction depends on this connection: read what is left
        finally:
            if conn.streamed is self:  # else it was given back before, and may be another's
                conn.streamed = None
            self._ended.set_result(None)
            if self._leased:
                self.state.streams -= 1
                if conn.busy or not conn.replaceable:
                    conn.pool.discard(conn)
                else:
                    conn.pool.give_back(conn)

    def wait(self) -> None:
        """Wait a moment for its end, before something else is sent on its connection.

        Raises:
            InterfaceError: it is still being gone through.
        """
        ended = self._ended
        if not ended.done():
            await_(asyncio.wait([ended], timeout=_LEFT_BEHIND_SECONDS))
        if not ended.done():
            raise InterfaceError(
                "Connection is busy streaming results from iterate(). Run the query from another task, "
                "or exhaust or aclose() the iterator."
            )


class Streaming(OverMySQL):
    """`iterate`, on a connection that is kept until the end of the result."""

    run: Callable[..., Any]
    _after_use: Callable[..., None]
    _let_go_of_reader: Callable[..., None]
    _stays_at_primary: Callable[..., bool]

    async def iterate(self, query: Any, buffer_size: int | None = None) -> AsyncGenerator[Any, None]:
        """Go through a query's rows while they come from the server, on a connection kept until the end.

        Parameters:
            query: what to run; routed as any other.
            buffer_size: rows that are taken at a time.
        """
        place = self.on_primary if self._stays_at_primary(query) else self
        query = query.clone() if place._at_primary else query
        query.bind(place)
        sql, params = query.sql()
        streamed = await self.run(place._stream, sql, params)
        try:
            rows = streamed.rows(query)
            while batch := await self.run(streamed.take, rows, buffer_size or BATCH):
                for row in batch:
                    yield row
        finally:
            await self.run(self._end_stream, streamed, sql)

    def _stream(self, sql: str, params: Any) -> Streamed:
        state = self._state
        had_writer = state.conn is not None
        state.streaming = True
        try:
            cursor = super().execute_sql(sql, params)
            node = next((node for node in state.leases if node._state.conn is cursor.connection), None)
            if node is not None:
                state.leases.remove(node)
                node._tasks.forget()
            return Streamed(cursor, state, leased=node is not None, had_writer=had_writer)
        finally:
            state.streaming = False
            for node in state.leases:
                if node._state.conn is not None:  # else it was lost
                    node._state.conn.stream(False)
            if state.conn is not None:
                state.conn.stream(False)
            self._after_use(state, had_writer)

    def _end_stream(self, streamed: Streamed, sql: str) -> None:
        streamed.close()
        state, conn = streamed.state, streamed.conn
        # As `_after_use`, for a stream that the primary has served in a replica's place.
        if conn is state.conn and not streamed.had_writer and conn.replaceable:
            self._let_go_of_reader(state, conn, sql)
