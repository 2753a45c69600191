"""Let tracing tools that wrap aiomysql's ``connect`` see this library's connections.

As `servers.wire.instrumented`, for asyncio. Such a tool (Datadog's) wraps the coroutine function that opens a
connection, and awaits what the connection's cursors execute. Here statements run in a greenlet, where waiting
looks synchronous, so the tool's coroutines are run there too.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Protocol, cast

import aiomysql.connection
import aiomysql.utils
from playhouse.pwasyncio import await_

Wrapper = Callable[..., Coroutine[None, object, "_Traced"]]
"""What a tool puts around a coroutine function: takes it, an instance, and the call's arguments."""


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
    """Let the tool that has wrapped aiomysql's entry point, if any, report a connection's statements."""
    wrappers = _wrappers(vars(aiomysql.connection)["_connect"])
    if not wrappers:
        return

    async def connect(*_args: object, **_kwargs: object) -> _Connection:
        return _Connection(conn)

    opening: Callable[..., Coroutine[None, object, object]] = connect
    for wrapper in reversed(wrappers):
        opening = _around(wrapper, opening)
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


def _around(
    wrapper: Wrapper, wrapped: Callable[..., Coroutine[None, object, object]]
) -> Callable[..., Coroutine[None, object, object]]:
    def call(*args: object, **kwargs: object) -> Coroutine[None, object, object]:
        return wrapper(wrapped, None, args, kwargs)

    return call


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
        return cursor.plain.execute(cursor, query, args)

    async def executemany(self, query: object, args: object) -> object:
        cursor = self._cursor
        return cursor.plain.executemany(cursor, query, args)


@functools.lru_cache
def _reporting(cls: type[object]) -> type[object]:
    """Return a subclass of a cursor's class, whose statements go through the tool."""

    def execute(self: _Executing, query: object, args: object = None) -> object:
        return _run(self.traced.execute(query, args))

    def executemany(self: _Executing, query: object, args: object) -> object:
        return _run(self.traced.executemany(query, args))

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
