"""Health endpoints for WSGI and ASGI: can this process serve reads, or writes, as far as it knows?"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal, get_args

from peewee import Proxy

from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.errors import ConfigurationError
from peewee_replicas.nodes.health import Health

from .cookies import labelled
from .middleware import resolved

Need = Literal["reads", "writes"]

_STATUS = {200: "200 OK", 405: "405 Method Not Allowed", 503: "503 Service Unavailable"}
_METHODS = ("GET", "HEAD")


class HealthCheck:
    """Decides the answer of a health endpoint. Sends nothing to any server, so it may be asked often.

    Parameters:
        databases: a database, a proxy for one, or a dict of these by label.
        need: ``"reads"``: healthy while reads can be served; ``"writes"``: while reads and writes can.
        details: whether the body also shows each node, with its address and the cause of its state. Only
            for endpoints that strangers cannot reach.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    def __init__(self, databases: object, *, need: Need, details: bool = False) -> None:
        if need not in get_args(Need):
            raise ConfigurationError(f"need={need!r}: allowed are 'reads' and 'writes'")
        self._databases = labelled(databases)
        for database in self._databases.values():
            if not isinstance(database, Replicated | Proxy):
                raise ConfigurationError(
                    f"databases: a {type(database).__name__} is none of peewee_replicas' databases"
                )
        self._need = need
        self._details = details

    def answer(self, method: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return the status code, the headers and the body for one request."""
        if method not in _METHODS:
            return 405, [("Allow", ", ".join(_METHODS)), ("Content-Length", "0")], b""
        found = {label: resolved(database).health() for label, database in self._databases.items()}
        healthy = all(health.reads and (health.writes or self._need == "reads") for health in found.values())
        bodies = {label: self._body(health) for label, health in found.items()}
        body = {
            "healthy": healthy,
            "need": self._need,
            **bodies.get("", {"databases": bodies}),
        }
        text = json.dumps(body).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(text))),
            ("Cache-Control", "no-store"),
        ]
        return 200 if healthy else 503, headers, b"" if method == "HEAD" else text

    def _body(self, health: Health) -> dict[str, object]:
        if not self._details:
            return {"reads": health.reads, "writes": health.writes}
        return {**health._asdict(), "nodes": [node._asdict() for node in health.nodes]}


class WSGIHealth(HealthCheck):
    """A WSGI application that answers 200 while the database can serve, and 503 while it cannot.

    Parameters and errors are those of `HealthCheck`.
    """

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
    ) -> Iterable[bytes]:
        """Answer one request."""
        status, headers, body = self.answer(str(environ.get("REQUEST_METHOD", "GET")))
        start_response(_STATUS[status], headers)
        return [body]


class ASGIHealth(HealthCheck):
    """An ASGI application that answers 200 while the database can serve, and 503 while it cannot.

    Parameters and errors are those of `HealthCheck`.
    """

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ConfigurationError(f"a health endpoint serves http, not {scope['type']}")
        status, headers, body = self.answer(scope["method"])
        raw = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})
