"""The WSGI middleware: what is in force while a request is served, and when its bookmark is taken."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from peewee import SqliteDatabase

from peewee_replicas import (
    ConfigurationError,
    ReadOnlyViolation,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
    bookmarks,
)
from peewee_replicas.ext.wsgi import CausalSessionMiddleware
from peewee_replicas.positions import MariaDBPosition, MySQLPosition
from peewee_replicas.scopes import causal

SECRET = "a secret of sixteen bytes or more"
App = Callable[[dict[str, Any], Any], Iterable[bytes]]


@pytest.fixture
def db() -> ReplicatedDatabase:
    """One that is never connected: what would be written is told to its session instead."""
    return ReplicatedDatabase("app", host="p", replicas=[{"host": "r"}])


def write(db: Any, n: int) -> None:
    """As if this context had written the transaction of that number."""
    session = causal(db._replication)
    own = db._replication.consistency.own_session() if session is None else session.session
    own.saw(MariaDBPosition([(0, 1, n)]))


def seen(db: Any) -> int:
    """The number of the last transaction that this context has to see; 0: none; -1: it is in no session."""
    frame = causal(db._replication)
    if frame is None:
        return -1
    position = frame.session.seen
    return 0 if position is None else next(iter(position.gtids()))[2]


class Server:
    """What a server does with an application, in the order in which it does it."""

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
        """What the visitor's cookie says; 0 without one."""
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
    """An application that does something and then answers with a list."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        result = work()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(result).encode()]

    return app


def test_a_bookmark_goes_out_and_comes_back(db: ReplicatedDatabase) -> None:
    todo: list[int] = []

    def work() -> int:
        before = seen(db)
        for n in todo:
            write(db, n)
        return before

    server = Server(wrapped(plain(work), db))
    assert server.ask() == [b"0"]
    assert server.headers == [("Content-Type", "text/plain")]
    todo[:] = [5]
    assert server.ask("POST") == [b"0"]
    assert server.mark == 5
    assert ("Vary", "Cookie") in server.headers
    todo.clear()
    assert server.ask() == [b"5"]
    assert server.headers == [("Content-Type", "text/plain")]  # nothing new, so nothing older either
    todo[:] = [9]
    assert server.ask("POST") == [b"5"]
    assert server.mark == 9
    assert seen(db) == -1


def test_other_visitors_and_earlier_requests_of_the_thread_are_left_out(db: ReplicatedDatabase) -> None:
    write(db, 7)
    db._replication.consistency.own_session().owe()
    app = wrapped(plain(lambda: seen(db)), db)
    assert Server(app).ask() == [b"0"]
    with db.causal_session():  # as a test may do that means the same visitor
        assert Server(app).ask() == [b"7"]


def test_what_a_request_wrote_stays_its_own(db: ReplicatedDatabase) -> None:
    Server(wrapped(plain(lambda: write(db, 3)), db)).ask()
    assert db._replication.consistency.own_session().seen is None
    assert db._replication.consistency.shared.seen is None  # that is told by connections


def test_bad_bookmarks_are_no_error_and_are_counted(
    db: ReplicatedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    position = MariaDBPosition([(0, 1, 4)])
    now = time.time()

    def signed(text: str, secret: str = SECRET) -> str:
        return bookmarks.sign(text, secret, context="peewee_replicas.ext ")

    good = bookmarks.encode(position, "app", now)
    bad = {
        "empty": "",
        "damaged": signed(good)[1:],
        "unsigned": good,
        "forged": signed(good, "somebody else's secret"),
        "of another purpose": bookmarks.sign(good, SECRET),
        "expired": signed(bookmarks.encode(position, "app", now - 61)),
        "from the future": signed(bookmarks.encode(position, "app", now + 61)),
        "foreign": signed(bookmarks.encode(position, "other", now)),
        "signed nonsense": signed("nonsense"),
    }
    app = wrapped(plain(lambda: seen(db)), db, max_age=60)
    server = Server(app)
    with caplog.at_level(logging.DEBUG, "peewee.replicas"):
        for name, value in bad.items():
            server.cookies = {"replication_bookmark": value}
            assert server.ask() == [b"0"], name
    assert app.stats() == {"requests": 9, "taken": 0, "refused": 9, "sent": 0, "unsent": 0}
    assert [record.levelname for record in caplog.records] == ["DEBUG"] * 9
    server.cookies = {"replication_bookmark": signed(good)}
    assert server.ask() == [b"4"]
    assert app.stats()["taken"] == 1


def test_a_cookie_and_a_header_are_both_heeded(db: ReplicatedDatabase) -> None:
    app = wrapped(plain(lambda: write(db, 6) if seen(db) == 0 else seen(db)), db, header="X-Mark")
    first = Server(app)
    first.ask("POST")
    given = dict(first.headers)
    assert read(given["X-Mark"]) == 6
    assert given["Vary"] == "Cookie, X-Mark"
    assert Server(app).ask(HTTP_X_MARK=given["X-Mark"]) == [b"6"]
    assert Server(app).ask(HTTP_X_MARK="nonsense", HTTP_COOKIE=given["Set-Cookie"].partition(";")[0]) == [
        b"6"
    ]


def test_a_header_alone(db: ReplicatedDatabase) -> None:
    server = Server(wrapped(plain(lambda: write(db, 6)), db, cookie=None, header="X-Mark"))
    server.ask("POST")
    assert set(dict(server.headers)) == {"Content-Type", "X-Mark", "Vary"}


def test_secure_follows_the_request(db: ReplicatedDatabase) -> None:
    server = Server(wrapped(plain(lambda: write(db, 6)), db))
    server.ask("POST")
    assert "Secure" not in dict(server.headers)["Set-Cookie"]
    server.cookies.clear()
    server.ask("POST", **{"wsgi.url_scheme": "https"})
    assert "; Secure;" in dict(server.headers)["Set-Cookie"]


# The order of things


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
        frames.append(causal(db._replication))
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


def test_safe_methods_run_inside_readonly_if_asked(db: ReplicatedDatabase) -> None:
    def work() -> str:
        try:
            return db.explain_route("DELETE FROM t").role
        except ReadOnlyViolation:
            return "refused"

    reasons = {}
    for readonly in (False, True, ("DELETE",)):
        server = Server(wrapped(plain(work), db, readonly=readonly), checked=False)
        reasons[str(readonly)] = [
            server.ask(method)[0].decode() for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE")
        ]
    assert reasons == {
        "False": ["primary"] * 5,
        "True": ["refused"] * 3 + ["primary"] * 2,
        "('DELETE',)": ["primary"] * 4 + ["refused"],
    }


def test_a_proxy_is_looked_up_at_each_request(db: ReplicatedDatabase) -> None:
    proxy = ReplicatedDatabaseProxy()
    server = Server(wrapped(plain(lambda: seen(db)), proxy))
    with pytest.raises(ConfigurationError, match="initialize"):
        server.ask()
    proxy.initialize(db)
    assert server.ask() == [b"0"]


def test_other_databases_are_refused(db: ReplicatedDatabase) -> None:
    for other in (SqliteDatabase(":memory:"), None, [db]):
        with pytest.raises(ConfigurationError, match="none of peewee_replicas' databases"):
            wrapped(plain(int), other)


def test_several_databases_have_a_cookie_each(db: ReplicatedDatabase) -> None:
    other = ReplicatedDatabase("app", host="q", replicas=[{"host": "s"}])
    todo = [(db, 3)]

    def work() -> tuple[int, int]:
        for database, n in todo:
            write(database, n)
        return seen(db), seen(other)

    server = Server(wrapped(plain(work), {"one": db, "two": other}, readonly=True))
    server.ask("POST")
    assert set(server.cookies) == {"replication_bookmark_one"}
    todo[:] = [(other, 8)]
    assert server.ask("POST") == [b"(3, 8)"]
    assert [read(server.cookies[f"replication_bookmark_{name}"]) for name in ("one", "two")] == [3, 8]
    todo.clear()
    assert server.ask() == [b"(3, 8)"]
    assert server.headers == [("Content-Type", "text/plain")]


def test_a_position_that_does_not_fit_goes_unsent_and_is_said(
    db: ReplicatedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        frame = causal(db._replication)
        assert frame is not None
        frame.session.saw(MariaDBPosition([(n, 1, 2**63) for n in range(2**31, 2**31 + 190)]))

    app = wrapped(plain(work), db)
    server = Server(app)
    server.ask("POST")
    assert (server.cookies, app.stats()["unsent"]) == ({}, 1)
    assert "without a bookmark" in caplog.text


def owing(db: Any) -> Callable[[], None]:
    def work() -> None:
        frame = causal(db._replication)
        assert frame is not None
        frame.session.owe()

    return work


def test_a_position_with_many_gaps_is_replaced_by_the_primarys_own(db: ReplicatedDatabase) -> None:
    uuid = "11111111-2222-3333-4444-555555555555"
    ragged = MySQLPosition.parse(f"{uuid}:" + ":".join(str(n) for n in range(2, 900, 2)))
    asked: list[Any] = []

    def ask(database: Any) -> Any:
        asked.append(database)
        return MySQLPosition.parse(f"{uuid}:1-5000")

    db._replication.consistency.ask = ask  # type: ignore[method-assign]

    def work() -> None:
        frame = causal(db._replication)
        assert frame is not None
        frame.session.saw(ragged)

    server = Server(wrapped(plain(work), db))
    server.ask("POST")
    text = server.cookies["replication_bookmark"].partition(".")[0]
    assert bookmarks.decode(text, time.time(), 60).position == MySQLPosition.parse(f"{uuid}:1-5000")
    assert (len(asked), len(text) < 100) == (1, True)


def test_a_question_that_fails_costs_the_bookmark_and_not_the_response(
    db: ReplicatedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(database: Any) -> Any:
        raise RuntimeError("no")

    db._replication.consistency.ask = ask  # type: ignore[method-assign]
    app = wrapped(plain(owing(db)), db)
    server = Server(app)
    assert server.ask("POST") == [b"None"]
    assert (server.cookies, app.stats()["unsent"]) == ({}, 1)
    (record,) = caplog.records
    assert "without a bookmark of 'app'" in record.getMessage()
    assert record.exc_info is not None
