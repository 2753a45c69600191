"""The WSGI middleware: bodies, headers and errors reach the server as the application gave them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest
from support.webapps.visits import seen, unconnected
from support.webapps.wsgi import Server, wrapped, write

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.scopes.frames import causal

db = pytest.fixture(unconnected)


def test_what_is_written_before_the_headers_leave_is_in_the_bookmark(db: ReplicatedDatabase) -> None:
    """A function that runs after the response was made, such as Flask's for teardown, may commit."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        write(db, 8)
        return [b"x"]

    server = Server(wrapped(app, db))
    server.ask("POST")
    assert server.mark == 8


def test_a_streamed_body_is_in_the_session_to_its_end(db: ReplicatedDatabase) -> None:
    told: list[int] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            write(db, 1)  # before the first part, which is when headers leave
            yield b"a"
            write(db, 2)  # too late for them
            told.append(seen(db))
            yield b"b"

        def close(self) -> None:
            told.append(seen(db))

    def app(environ: dict[str, Any], start_response: Any) -> Body:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body()

    server = Server(wrapped(app, db))
    assert server.ask() == [b"a", b"b"]
    assert server.mark == 1
    assert told == [2, 2]


def test_between_two_parts_nothing_is_in_force(db: ReplicatedDatabase) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        with db.primary():  # stays in force in the body alone
            yield db.explain_route("SELECT 1").reason.encode()
            yield db.explain_route("SELECT 1").reason.encode()

    middleware = wrapped(app, db)
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    server = Server(middleware, checked=False)
    body = iter(middleware(environ, server.start_response))
    assert server.log == []
    for _ in range(2):
        assert next(body) == b"inside primary()"
        assert (seen(db), db.explain_route("SELECT 1").reason) == (-1, "a proven read")
    assert server.log == ["200 OK"]
    assert list(body) == []


def test_two_requests_in_turn_on_one_thread_do_not_meet(db: ReplicatedDatabase) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        write(db, int(environ["PATH_INFO"][1:]))
        for _ in range(3):
            yield str(seen(db)).encode()

    middleware = wrapped(app, db)
    bodies = []
    for path in ("/3", "/5"):
        environ: dict[str, Any] = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        bodies.append(middleware(environ, Server(middleware, checked=False).start_response))
    assert list(zip(*bodies, strict=True)) == [(b"3", b"5")] * 3
    for body in reversed(bodies):
        body.close()  # type: ignore[attr-defined]


def test_an_empty_body_has_its_headers(db: ReplicatedDatabase) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        write(db, 4)
        start_response("204 No Content", [])
        return
        yield

    server = Server(wrapped(app, db))
    assert server.ask("POST") == []
    assert (server.log, server.mark) == (["204 No Content"], 4)


def test_write_sends_the_headers_first(db: ReplicatedDatabase) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        send = start_response("200 OK", [("Content-Type", "text/plain")])
        write(db, 4)
        send(b"a")
        send(b"b")
        return [b"c"]

    server = Server(wrapped(app, db))
    assert server.ask("POST") == [b"c"]
    assert (server.log, server.mark) == (["200 OK", "wrote a", "wrote b"], 4)


def test_an_error_ends_the_session_and_reaches_the_server(db: ReplicatedDatabase) -> None:
    frames: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        frames.append(causal(db._parts.cluster))
        start_response("200 OK", [("Content-Type", "text/plain")])
        raise ZeroDivisionError

    server = Server(wrapped(app, db))
    with pytest.raises(ZeroDivisionError):
        server.ask()
    assert (frames[0].ended, server.log, seen(db)) == (True, [], -1)


def test_an_error_page_replaces_what_was_to_be_sent(db: ReplicatedDatabase) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        write(db, 4)
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as exc:
            start_response("500 Oh", [("Content-Type", "text/plain")], (type(exc), exc, None))
        return [b"oh"]

    server = Server(wrapped(app, db))
    assert server.ask("POST") == [b"oh"]
    assert (server.log, server.mark) == (["500 Oh"], 4)


def test_an_error_after_the_headers_is_raised(db: ReplicatedDatabase) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"a"
        exc = ZeroDivisionError()
        start_response("500 Oh", [], (type(exc), exc, None))

    with pytest.raises(ZeroDivisionError):
        Server(wrapped(app, db), checked=False).ask()


def test_start_response_twice_is_a_mistake(db: ReplicatedDatabase) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    with pytest.raises(AssertionError, match="without exc_info"):
        Server(wrapped(app, db), checked=False).ask()


def test_files_and_lists_reach_the_server_as_they_are(db: ReplicatedDatabase) -> None:
    made: list[Any] = [FileWrapper(io.BytesIO(b"file")), [b"list"]]

    for body in made:

        def app(environ: dict[str, Any], start_response: Any, body: Any = body) -> Any:
            start_response("200 OK", [("Content-Type", "text/plain")])
            write(db, 4)
            return body

        environ: dict[str, Any] = {"wsgi.file_wrapper": FileWrapper}
        setup_testing_defaults(environ)
        server = Server(app)
        assert wrapped(app, db)(environ, server.start_response) is body
        server.keep()
        assert server.mark == 4


# readonly(), proxies, several databases
