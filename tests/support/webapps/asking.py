"""Clients of applications that run in the test's own process."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from peewee_replicas import bookmarks


class Client:
    """Calls an ASGI application as a server would."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.cookies: dict[bytes, bytes] = {}
        self.messages: list[Any] = []

    def ask(self, method: str = "GET", *headers: tuple[bytes, bytes], **scope: Any) -> bytes:
        return asyncio.run(self.asked(method, *headers, **scope))

    async def asked(self, method: str = "GET", *headers: tuple[bytes, bytes], **scope: Any) -> bytes:
        pairs = [name + b"=" + value for name, value in self.cookies.items()]
        sent = [*headers, *((b"cookie", pair) for pair in pairs)]  # HTTP/2 may send one for each
        self.messages = []

        requests = iter([{"type": "http.request"}])

        async def receive() -> Any:
            return next(requests, None) or await asyncio.Event().wait()  # the client stays connected

        async def send(message: Any) -> None:
            self.messages.append(message)

        await self.app({"type": "http", "method": method, "headers": sent, **scope}, receive, send)
        for name, value in self.headers:
            if name == b"set-cookie":
                cookie, _, worth = value.partition(b";")[0].partition(b"=")
                self.cookies[cookie] = worth
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return next((message["headers"] for message in self.messages if "headers" in message), [])

    @property
    def mark(self) -> int:
        text = self.cookies.get(b"replication_bookmark", b"").decode().partition(".")[0]
        if not text:
            return 0
        position: Any = bookmarks.decode(text, time.time(), 60).position
        return next(iter(position.gtids()))[2]  # type: ignore[no-any-return]
