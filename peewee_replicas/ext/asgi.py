"""ASGI middleware: one ``causal_session()`` per request, whose bookmark goes out and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from .carrying import Secrets, Terms
from .requests import Carrier, Request, Visit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class CausalSessionMiddleware:
    """Runs each request in a ``causal_session()`` that begins where the visitor's last one has ended.

    A response carries the bookmark of what its request wrote, and of what it saw on the primary, as it
    stands when the response starts; the visitor's next request, in whichever process, sees at least that.
    The session lasts until the application returns, background tasks included. WebSockets and the
    lifespan pass through.

    Parameters:
        app: the ASGI application.
        databases: a database (of the synchronous or the asyncio form), a proxy that stands for one, or a dict
            of these by label.
        secret: signs the bookmarks, 16 bytes or more; of several the first signs, and all are accepted.
        cookie: the cookie's name; with labels, ``_label`` is added. None: no cookie.
        header: the name of a header of request and response; with labels, ``-label`` is added. None: none.
        max_age: seconds after which a bookmark is dropped, at most a day. Longer than replicas are ever late.
        secure: the cookie's ``Secure``; None: as the request's own scheme.
        same_site: the cookie's ``SameSite``: ``"Lax"``, ``"Strict"`` or ``"None"``.
        domain: the cookie's ``Domain``; None: the host alone.
        path: the cookie's ``Path``.
        readonly: the methods whose requests run inside ``readonly()``; True: GET, HEAD and OPTIONS.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    def __init__(
        self,
        app: App,
        databases: Any,
        *,
        secret: Secrets,
        cookie: str | None = "replication_bookmark",
        header: str | None = None,
        max_age: float = 3600,
        secure: bool | None = None,
        same_site: str = "Lax",
        domain: str | None = None,
        path: str = "/",
        readonly: bool | Iterable[str] = False,
    ) -> None:
        self.app = app
        terms = Terms(
            secret=secret, cookie=cookie, header=header, max_age=max_age, secure=secure,
            same_site=same_site, domain=domain, path=path, readonly=readonly,
        )  # fmt: skip
        self._carrier = Carrier(databases, terms)

    def stats(self) -> dict[str, int]:
        """Counters: ``requests``, and bookmarks ``taken``, ``refused``, ``sent`` and ``unsent``."""
        return self._carrier.counters.snapshot()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = scope["headers"]
        request = self._carrier.begin(
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
        self, request: Request, headers: Iterable[Any], https: bool
    ) -> list[tuple[bytes, bytes]]:
        for visit in request.visits:
            if visit.owes:
                try:
                    await _ask(visit)
                except Exception as exc:
                    self._carrier.failed(visit, exc)
                else:
                    self._carrier.asked(visit)
        text = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in headers]
        added = self._carrier.added(request, text, https)
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in added]


async def _ask(visit: Visit) -> None:
    if hasattr(visit.database, "aexecute_sql"):
        await visit.database.run(visit.ask)
    else:
        await asyncio.to_thread(visit.ask)  # the event loop is not to wait for a server


def _header(headers: Iterable[tuple[bytes, bytes]], name: str, between: str) -> str:
    wanted = name.lower().encode("latin-1")
    return between.join(value.decode("latin-1") for found, value in headers if found.lower() == wanted)
