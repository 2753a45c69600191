"""ASGI middleware: one ``causal_session()`` per request, continued by the visitor's next request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from .middleware import Middleware, Request, Visit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class CausalSessionMiddleware(Middleware[App]):
    """Runs each request in a ``causal_session()`` that continues the visitor's last one.

    A response carries a bookmark of everything that its request has written, or seen on the primary, before
    the response starts. The visitor's next request, in any process, sees at least that. The session lasts
    until the application returns, background tasks included. WebSocket and lifespan events are passed on.

    Parameters:
        app: the ASGI application.
        databases: a database (of the synchronous or the asyncio form), a proxy for one, or a dict of these
            by label.
        options: as for `Middleware`.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; pass other events through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = scope["headers"]
        request = self.carrier.begin(
            scope["method"], _header(headers, "cookie", "; "), lambda name: _header(headers, name, ",")
        )
        https = scope.get("scheme") == "https"

        async def send_with_bookmarks(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {
                    **message,
                    "headers": await self._added(request, message.get("headers", ()), https),
                }
            await send(message)

        try:
            with request.step():
                await self.app(scope, receive, send_with_bookmarks)
        finally:
            request.end()

    async def _added(
        self, request: Request, headers: Iterable[tuple[bytes, bytes]], https: bool
    ) -> list[tuple[bytes, bytes]]:
        for visit in request.visits:
            if visit.owes:
                with self.carrier.asking(visit):
                    await _ask(visit)
        text = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in headers]
        added = self.carrier.added(request, text, https)
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in added]


async def _ask(visit: Visit) -> None:
    if hasattr(visit.database, "aexecute_sql"):
        await visit.database.run(visit.ask)
    else:
        await asyncio.to_thread(visit.ask)  # so that the event loop does not block


def _header(headers: Iterable[tuple[bytes, bytes]], name: str, between: str) -> str:
    wanted = name.lower().encode("latin-1")
    return between.join(value.decode("latin-1") for found, value in headers if found.lower() == wanted)
