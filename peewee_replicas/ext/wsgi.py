"""WSGI middleware: one ``causal_session()`` per request, continued by the visitor's next request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from .middleware import Carrier, Middleware, Request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    Raised = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None


App = Callable[..., Iterable[bytes]]


class CausalSessionMiddleware(Middleware[App]):
    """Runs each request in a ``causal_session()`` that continues the visitor's last one.

    A response carries a bookmark of everything that its request has written, or seen on the primary, before
    the headers are sent. The visitor's next request, in any process, sees at least that.

    Parameters:
        app: the WSGI application.
        databases: a database, a proxy for one, or a dict of these by label.
        options: as for `Middleware`.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        request = self.carrier.begin(
            environ["REQUEST_METHOD"],
            environ.get("HTTP_COOKIE", ""),
            lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""),
        )
        start = _Start(self.carrier, request, environ.get("wsgi.url_scheme") == "https", start_response)
        try:
            with request.step():
                body = self.app(environ, start)
            if isinstance(body, list | tuple) or _is_file(body, environ):
                # None of the program's code runs after this, and the server may send such bodies faster.
                start.send()
                request.end()
                return body
        except BaseException:
            request.end()
            raise
        return _Body(body, request, start)


class _Start:
    """The application's ``start_response``; the server's own is called as late as WSGI allows.

    Until then nothing is sent, so the bookmark includes what is written after the call, for example in a
    teardown function.
    """

    def __init__(
        self, carrier: Carrier, request: Request, https: bool, start_response: StartResponse
    ) -> None:
        self._carrier = carrier
        self._request = request
        self._https = https
        self._start_response = start_response
        self._given: tuple[str, list[tuple[str, str]], Raised] | None = None
        self._write: Callable[[bytes], object] | None = None

    def __call__(
        self, status: str, headers: list[tuple[str, str]], exc_info: Raised = None, /
    ) -> Callable[[bytes], object]:
        if self._write is not None:
            return self._start_response(status, headers, exc_info)  # raises, since headers have been sent
        if self._given is not None and exc_info is None:
            raise AssertionError("start_response() was called again without exc_info")
        self._given = status, headers, exc_info
        self._carrier.ask(self._request)  # now, while the program's connections are usually still open
        return self._send_first

    def _send_first(self, data: bytes) -> object:
        self.send()
        assert self._write is not None
        return self._write(data)

    def send(self) -> None:
        """Pass the headers to the server, with the bookmarks as they are now."""
        if self._write is not None or self._given is None:
            return
        status, headers, exc_info = self._given
        self._given = None
        self._carrier.ask(self._request)
        headers = self._carrier.added(self._request, headers, self._https)
        self._write = self._start_response(status, headers, *([exc_info] if exc_info else []))


class _Body(Iterator[bytes]):
    """The application's response body; runs each step of it in the request's scopes."""

    def __init__(self, body: Iterable[bytes], request: Request, start: _Start) -> None:
        self._body = body
        self._request = request
        self._start = start
        self._chunks: Iterator[bytes] | None = None

    def __next__(self) -> bytes:
        with self._request.step():
            if self._chunks is None:
                self._chunks = iter(self._body)
            chunk = next(self._chunks, None)
        self._start.send()
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Close the body and end the request, when the server is done."""
        try:
            with self._request.step():
                close = getattr(self._body, "close", None)
                if close is not None:
                    close()
        finally:
            self._request.end()


def _is_file(body: object, environ: WSGIEnvironment) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)
