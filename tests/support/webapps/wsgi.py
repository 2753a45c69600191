"""A WSGI application, and a server that calls it step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from support.webapps.visits import SECRET

from peewee_replicas import bookmarks
from peewee_replicas.ext.wsgi import CausalSessionMiddleware
from peewee_replicas.positions import MariaDBPosition
from peewee_replicas.scopes.frames import causal

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def write(db: Any, n: int) -> None:
    """Pretend that this context has written a transaction with this number."""
    session = causal(db._parts.cluster)
    own = db._parts.consistency.own_session() if session is None else session.session
    own.saw(MariaDBPosition([(0, 1, n)]))


class Server:
    """Calls an application in the order in which a server does."""

    def __init__(self, app: Any, *, checked: bool = True) -> None:
        self.app = validator(app) if checked else app
        self.cookies: dict[str, str] = {}
        self.headers: list[tuple[str, str]] = []
        self.log: list[str] = []

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if exc_info is not None and self.headers:
            raise exc_info[1]
        self.log.append(status)
        self.headers = headers
        return lambda data: self.log.append(f"wrote {data.decode()}")

    def ask(self, method: str = "GET", **environ: Any) -> list[bytes]:
        environ = {"REQUEST_METHOD": method, "QUERY_STRING": "", **environ}
        if self.cookies:
            pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            environ.setdefault("HTTP_COOKIE", pairs)
        setup_testing_defaults(environ)
        self.headers, self.log = [], []
        body = self.app(environ, self.start_response)
        try:
            return list(body)
        finally:
            if hasattr(body, "close"):
                body.close()
            self.keep()

    def keep(self) -> None:
        for name, value in self.headers:
            if name == "Set-Cookie":
                cookie, _, worth = value.partition(";")[0].partition("=")
                self.cookies[cookie] = worth

    @property
    def mark(self) -> int:
        """The number in the client's cookie; 0 without a cookie."""
        return read(self.cookies.get("replication_bookmark", ""))


def read(value: str) -> int:
    text = value.partition(".")[0]
    if not text:
        return 0
    found = bookmarks.decode(text, time.time(), 60)
    assert found.history == "app"
    return next(iter(found.position.gtids()))[2]  # type: ignore[no-any-return,union-attr]


def wrapped(app: App, db: Any, **options: Any) -> CausalSessionMiddleware:
    return CausalSessionMiddleware(app, db, secret=SECRET, **options)


def plain(work: Callable[[], object]) -> App:
    """An application that calls a function and then returns a list."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        result = work()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(result).encode()]

    return app
