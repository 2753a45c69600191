"""The WSGI middleware: what is in force while a request is served, and when its bookmark is taken."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from peewee import SqliteDatabase
from support.webapps.visits import SECRET, seen, unconnected
from support.webapps.wsgi import Server, plain, read, wrapped, write

from peewee_replicas import (
    ConfigurationError,
    ReadOnlyViolation,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
    bookmarks,
)
from peewee_replicas.positions import MariaDBPosition, MySQLPosition
from peewee_replicas.scopes.frames import causal

db = pytest.fixture(unconnected)


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
    db._parts.consistency.own_session().owe()
    app = wrapped(plain(lambda: seen(db)), db)
    assert Server(app).ask() == [b"0"]
    with db.causal_session():  # as a test may do that means the same visitor
        assert Server(app).ask() == [b"7"]


def test_what_a_request_wrote_stays_its_own(db: ReplicatedDatabase) -> None:
    Server(wrapped(plain(lambda: write(db, 3)), db)).ask()
    assert db._parts.consistency.own_session().seen is None
    assert db._parts.consistency.history.session.seen is None  # that is told by connections


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


def test_a_position_that_does_not_fit_makes_the_visitor_see_all_that_the_primary_has(
    db: ReplicatedDatabase,
) -> None:
    huge = MariaDBPosition([(n, 1, 2**63) for n in range(2**31, 2**31 + 190)])
    todo: list[MariaDBPosition] = [huge]

    def work() -> bool:
        frame: Any = causal(db._parts.cluster)
        for position in todo:
            frame.session.saw(position)
        return bool(frame.session.owes)

    app = wrapped(plain(work), db)
    server = Server(app)
    assert server.ask("POST") == [b"False"]
    text = server.cookies["replication_bookmark"].partition(".")[0]
    assert bookmarks.decode(text, time.time(), 60).position is None
    todo.clear()
    assert server.ask() == [b"True"]


def owing(db: Any) -> Callable[[], None]:
    def work() -> None:
        frame = causal(db._parts.cluster)
        assert frame is not None
        frame.session.owe()

    return work


def test_a_position_with_many_gaps_is_sent_without_them(db: ReplicatedDatabase) -> None:
    uuid = "11111111-2222-3333-4444-555555555555"
    ragged = MySQLPosition.parse(f"{uuid}:" + ":".join(str(n) for n in range(2, 900, 2)))

    def work() -> None:
        frame: Any = causal(db._parts.cluster)
        frame.session.saw(ragged)

    server = Server(wrapped(plain(work), db))
    server.ask("POST")
    text = server.cookies["replication_bookmark"].partition(".")[0]
    assert bookmarks.decode(text, time.time(), 60).position == MySQLPosition.parse(f"{uuid}:2-898")
    assert len(text) < 100


def test_a_question_that_fails_makes_the_visitor_see_all_that_the_primary_has(
    db: ReplicatedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    def ask() -> Any:
        raise RuntimeError("no")

    db._parts.consistency.primary.current = ask  # type: ignore[method-assign]
    app = wrapped(plain(owing(db)), db)
    server = Server(app)
    assert server.ask("POST") == [b"None"]
    text = server.cookies["replication_bookmark"].partition(".")[0]
    assert bookmarks.decode(text, time.time(), 60).position is None
    assert app.stats()["unsent"] == 1
    (record,) = caplog.records
    assert "the position in 'app' is not known" in record.getMessage()
