"""Let tracing tools that wrap aiomysql see this library's connections.

As `servers.wire.instrumented`, for asyncio. Such a tool wraps the coroutine function that opens a connection
(Datadog's) or that takes one from a pool (New Relic's), and awaits what the connection's cursors execute; or
it wraps the method of cursors itself (Elastic's). Here statements run in a greenlet, where waiting looks
synchronous. A tool's part of a statement runs outside of it, as some find their own state by the greenlet.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Protocol, cast

import aiomysql.connection
import aiomysql.cursors
import aiomysql.pool
import aiomysql.utils
from playhouse.pwasyncio import await_, greenlet_spawn

Wrapper = Callable[..., Coroutine[None, object, object]]
"""What a tool puts around a coroutine function: takes it, its object, and the call's arguments."""


class _Reported(Protocol):
    """A connection whose statements are to be reported."""

    host: object
    port: object
    user: object
    db: object
    cursor: Callable[..., object]


class _Traced(Protocol):
    """A connection as a tool returns it."""

    def cursor(self, made: object, /) -> Awaitable[object]: ...


def report_to_tools(conn: _Reported) -> None:
    """Let the tools that have wrapped aiomysql's entry points, if any, report a connection's statements."""
    opened = _wrappers(vars(aiomysql.connection)["_connect"])
    taken = _wrappers(vars(aiomysql.pool.Pool)["_acquire"])
    if not opened and not taken and not _around_execute():
        return

    async def connect(*_args: object, **_kwargs: object) -> _Connection:
        return _Connection(conn)

    opening: Callable[..., Coroutine[None, object, object]] = connect
    for wrapper in reversed(opened):
        opening = _around(wrapper, opening, None)
    for wrapper in reversed(taken):
        opening = _around(wrapper, opening, _Pool(conn))
    traced = cast(_Traced, _run(opening(host=conn.host, port=conn.port, user=conn.user, db=conn.db)))
    real = weakref.ref(conn)  # which keeps the new method alive
    method: Callable[..., object] = type(conn).cursor

    def cursor(cls: object = None) -> object:
        made = method(real(), cls)

        async def take() -> object:
            return await traced.cursor(made)

        vars(made)["traced"] = _run(take())
        made.__class__ = _reporting(cast(Hashable, made.__class__))
        return made

    conn.cursor = cursor


def _wrappers(function: object) -> list[Wrapper]:
    """Return the functions that were put around another with wrapt, from the outermost."""
    found: list[Wrapper] = []
    while (wrapper := getattr(function, "_self_wrapper", None)) is not None:
        found.append(wrapper)
        function = getattr(function, "__wrapped__", None)
    return found


def _around_execute() -> list[Wrapper]:
    return _wrappers(vars(aiomysql.cursors.Cursor)["execute"])


def _around(
    wrapper: Wrapper, wrapped: Callable[..., Coroutine[None, object, object]], instance: object
) -> Callable[..., Coroutine[None, object, object]]:
    def call(*args: object, **kwargs: object) -> Coroutine[None, object, object]:
        return wrapper(wrapped, instance, args, kwargs)

    return call


class _Pool:
    """A pool as a tool sees it that wants to know where a connection leads."""

    def __init__(self, conn: _Reported) -> None:
        self._conn_kwargs = {"host": conn.host, "port": conn.port, "user": conn.user, "db": conn.db}


class _Connection:
    """A connection as aiomysql's users see it; only its cursors can be used."""

    def __init__(self, conn: _Reported) -> None:
        # No reference to the connection itself, which keeps what the tool has made alive.
        self.host, self.port, self.user, self.db = conn.host, conn.port, conn.user, conn.db

    def cursor(self, made: _Executing) -> Awaitable[_Cursor]:
        async def make() -> _Cursor:
            return _Cursor(made)

        context: Callable[..., Awaitable[_Cursor]] = vars(aiomysql.utils)["_ContextManager"]
        return context(make())


class _Executing(Protocol):
    """A cursor of the class that `_reporting` returns, or one about to get it."""

    plain: type[_Executing]
    traced: _Cursor

    def execute(self, query: object, args: object = None, /) -> object: ...
    def executemany(self, query: object, args: object, /) -> object: ...


class _Cursor:
    """A cursor as aiomysql's users see it."""

    def __init__(self, made: _Executing) -> None:
        self._made = weakref.ref(made)  # which keeps this object alive

    @property
    def _cursor(self) -> _Executing:
        made = self._made()
        assert made is not None  # its own method has called the tool
        return made

    def __getattr__(self, name: str) -> object:
        return getattr(self._cursor, name)

    async def execute(self, query: object, args: object = None) -> object:
        cursor = self._cursor

        async def send(query: object, args: object = None) -> object:
            return cast(object, await greenlet_spawn(cursor.plain.execute, cursor, query, args))

        execute: Callable[..., Coroutine[None, object, object]] = send
        for wrapper in reversed(_around_execute()):
            execute = _around(wrapper, execute, self)
        return await execute(query, args)

    async def executemany(self, query: object, args: object) -> object:
        cursor = self._cursor
        return cast(object, await greenlet_spawn(cursor.plain.executemany, cursor, query, args))


@functools.lru_cache
def _reporting(cls: type[object]) -> type[object]:
    """Return a subclass of a cursor's class, whose statements go through the tool."""

    def execute(self: _Executing, query: object, args: object = None) -> object:
        return cast(object, await_(self.traced.execute(query, args)))

    def executemany(self: _Executing, query: object, args: object) -> object:
        return cast(object, await_(self.traced.executemany(query, args)))

    return type(cls.__name__, (cls,), {"execute": execute, "executemany": executemany, "plain": cls})


def _run(coroutine: Coroutine[object, object, object]) -> object:
    """Run a coroutine in this greenlet, where what it calls may wait synchronously."""
    try:
        while True:
            future = coroutine.send(None)
            await_(asyncio.wait([future]) if isinstance(future, asyncio.Future) else asyncio.sleep(0))
    except StopIteration as end:
        return cast(object, end.value)
    finally:
        coroutine.close()
