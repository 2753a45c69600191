"""One visitor and two databases, as of two processes, while no replica applies anything."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flask
import peewee
import pytest
from playhouse.flask_utils import FlaskDB
from support.clusters import as_in_another_process, one_for_each, own_cluster
from support.clusters.lagging import (
    MODELS,
    SHORT,
    Slot,
    clear,
    elsewhere,
    frozen,
    held_back,
)
from support.peewees import AsyncReplicatedDatabase, needs_asyncio
from support.webapps.asking import Client

from peewee_replicas import PooledReplicatedDatabase, ReadOnlyViolation, bookmarks
from peewee_replicas.ext.asgi import CausalSessionMiddleware as AsgiMiddleware
from peewee_replicas.ext.wsgi import CausalSessionMiddleware as WsgiMiddleware
from peewee_replicas.positions import MariaDBPosition, MySQLPosition

SECRET = "a secret of sixteen bytes or more"
READ = "SELECT n FROM slot WHERE name = 'a'"


@pytest.fixture(scope="module")
def clusters() -> Iterator[Any]:
    """A cluster of this module's own per server, started when first asked for."""
    with one_for_each(held_back) as cluster:
        yield cluster


@pytest.fixture
def lagging(server: str, clusters: Any) -> Iterator[Any]:
    """Its replica is frozen after the row ("a", 1)."""
    cluster = clusters(server)
    clear(cluster, ("a", 1))
    with frozen(cluster):
        yield cluster


def read(db: Any) -> int:
    n: int = db.execute_sql(READ).fetchone()[0]
    return n


def flask_app(db: Any, **options: Any) -> flask.Flask:
    """An application with `FlaskDB` that runs what it is sent."""
    app = flask.Flask("app")
    FlaskDB(app, db)
    app.wsgi_app = WsgiMiddleware(app.wsgi_app, db, secret=SECRET, **options)  # type: ignore[method-assign]
    app.work = lambda: None  # type: ignore[attr-defined]

    @app.route("/", methods=["GET", "POST"])
    def serve() -> str:
        return str(app.work())  # type: ignore[attr-defined]

    return app


class Visitor:
    """Goes from one application to the other with its cookies."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def ask(self, app: Any, work: Callable[[], object], method: str = "GET") -> str:
        app.work = work
        client = app.test_client(use_cookies=False)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        answer = client.open("/", method=method, headers=headers)
        assert answer.status_code == 200, answer.text
        for cookie in answer.headers.getlist("Set-Cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        text: str = answer.text
        return text


def in_processes_of_their_own(cluster: Any, kind: Any = None, **options: Any) -> tuple[Any, Any]:
    """Two databases that know nothing of each other's writes."""
    made = []
    for _ in range(2):
        with as_in_another_process():
            made.append(cluster.database(kind, **options))
    return made[0], made[1]


@contextmanager
def two(cluster: Any, **options: Any) -> Iterator[tuple[Any, Any]]:
    """A database for each of two processes."""
    options = {"catch_up_timeout": SHORT, "probe_interval": None, **options}
    one, other = in_processes_of_their_own(cluster, **options)
    yield one, other
    for database in (one, other):
        database.close()


def fail(db: Any) -> None:
    with pytest.raises(peewee.IntegrityError):
        db.execute_sql("INSERT INTO slot (name, n) VALUES ('a', 5)")


def roll_back(db: Any) -> None:
    with db.atomic() as transaction:
        read(db)
        transaction.rollback()


def write_nothing(db: Any) -> None:
    with db.atomic():
        read(db)


def look(db: Any) -> None:
    with db.primary():
        read(db)


TOLD_NOTHING = {
    "a failed insert": fail,
    "an update of nothing": lambda db: db.execute_sql("UPDATE slot SET n = 9 WHERE n = 0"),
    "a rollback": roll_back,
    "a transaction without a write": write_nothing,
    "a read on the primary": look,
}


@pytest.mark.parametrize("what", TOLD_NOTHING)
def test_an_unreported_position_is_asked_for_before_the_response_leaves(lagging: Any, what: str) -> None:
    with two(lagging) as (one, other):
        visitor, first, second = Visitor(), flask_app(one), flask_app(other)
        elsewhere(lagging, "UPDATE slot SET n = 2")
        visitor.ask(first, lambda: TOLD_NOTHING[what](one), "POST")
        assert one.stats()["asked"] == 1
        assert one.is_closed()
        assert visitor.ask(second, lambda: read(other)) == "2"
        assert Visitor().ask(second, lambda: read(other)) == "1"  # somebody else


def test_a_write_reports_its_position_and_a_read_of_a_replica_asks_nothing(lagging: Any) -> None:
    with two(lagging) as (one, other):
        visitor, first, second = Visitor(), flask_app(one), flask_app(other)
        assert visitor.ask(first, lambda: read(one)) == "1"
        assert (visitor.cookies, one.stats()["asked"]) == ({}, 0)
        visitor.ask(first, lambda: one.execute_sql("UPDATE slot SET n = 2"), "POST")
        assert (len(visitor.cookies), one.stats()["asked"]) == (1, 0)
        assert visitor.ask(second, lambda: read(other)) == "2"


@pytest.mark.lesson(11)
def test_what_one_visitor_read_is_not_asked_for_by_the_next_of_the_thread(lagging: Any) -> None:
    with two(lagging) as (one, _):
        app = flask_app(one)
        Visitor().ask(app, lambda: one.execute_sql("UPDATE slot SET n = 2"), "POST")
        Visitor().ask(app, lambda: look(one))
        asked = one.stats()["asked"]
        lagging.replicas[0].thaw()
        lagging.sync()
        for _ in range(3):
            visitor = Visitor()
            assert visitor.ask(app, lambda: read(one)) == "2"  # each request sees what the process wrote
            assert visitor.cookies == {}
        assert one.stats()["asked"] == asked


def test_a_commit_in_a_teardown_function_is_carried(lagging: Any) -> None:
    with two(lagging) as (one, other):
        first, second = flask.Flask("first"), flask_app(other)
        first.wsgi_app = WsgiMiddleware(first.wsgi_app, one, secret=SECRET)  # type: ignore[method-assign]

        @first.before_request
        def begin() -> None:
            one.connect()
            flask.g.transaction = one.transaction()
            flask.g.transaction.__enter__()

        @first.teardown_request
        def commit(error: Any) -> None:
            flask.g.transaction.__exit__(None, None, None)
            one.close()

        @first.post("/")
        def serve() -> str:
            one.execute_sql("UPDATE slot SET n = 2")
            return ""

        visitor = Visitor()
        visitor.ask(first, lambda: None, "POST")
        assert visitor.ask(second, lambda: read(other)) == "2"


def test_a_streamed_response_reads_in_the_session(lagging: Any) -> None:
    with two(lagging) as (one, other):
        first, second = flask_app(one), flask.Flask("second")
        second.wsgi_app = WsgiMiddleware(second.wsgi_app, other, secret=SECRET)  # type: ignore[method-assign]

        @second.get("/")
        def serve() -> Any:
            def parts() -> Iterator[str]:
                with other.connection_context():
                    for _ in range(3):
                        yield str(read(other))

            return flask.Response(parts())

        visitor = Visitor()
        visitor.ask(first, lambda: one.execute_sql("UPDATE slot SET n = 2"), "POST")
        assert visitor.ask(second, lambda: None) == "222"
        assert other.is_closed()


def test_readonly_for_safe_methods(lagging: Any) -> None:
    def write() -> str:
        try:
            one.execute_sql("UPDATE slot SET n = 2")
        except ReadOnlyViolation:
            return "refused"
        return "written"

    with two(lagging) as (one, other):
        visitor, first, second = Visitor(), flask_app(one, readonly=True), flask_app(other, readonly=True)
        assert visitor.ask(first, write) == "refused"
        assert visitor.ask(first, write, "POST") == "written"
        assert visitor.ask(second, lambda: (read(other), read(other))) == "(2, 2)"
        assert other.stats()["primary.reads"] == 2  # under the guard


@pytest.mark.parametrize("kind", [None, PooledReplicatedDatabase])
def test_a_program_that_closes_before_it_answers_is_left_closed(lagging: Any, kind: Any) -> None:
    options = {"catch_up_timeout": SHORT, "probe_interval": None}
    one, other = lagging.database(kind, **options), lagging.database(kind, **options)

    first, second = flask.Flask("first"), flask_app(other)
    first.wsgi_app = WsgiMiddleware(first.wsgi_app, one, secret=SECRET)  # type: ignore[method-assign]

    @first.post("/")
    def serve() -> str:
        with one.connection_context():
            one.execute_sql("UPDATE slot SET n = 9 WHERE n = 0")
        return ""

    visitor = Visitor()
    elsewhere(lagging, "UPDATE slot SET n = 2")
    visitor.ask(first, lambda: None, "POST")
    assert (one.is_closed(), one.stats()["asked"]) == (True, 1)
    assert visitor.ask(second, lambda: read(other)) == "2"


def test_a_bookmark_of_a_lost_history_is_replaced(lagging: Any, server: str) -> None:
    position: Any = (
        MariaDBPosition.parse("0-1-4000000000")
        if server == "mariadb"
        else MySQLPosition.parse("11111111-2222-3333-4444-555555555555:7")
    )
    lost = bookmarks.encode(position, lagging.database_name, time.time())
    with two(lagging) as (one, other):
        visitor, first, second = Visitor(), flask_app(one), flask_app(other)
        visitor.cookies["replication_bookmark"] = bookmarks.sign(lost, SECRET, context="peewee_replicas.ext ")
        elsewhere(lagging, "UPDATE slot SET n = 2")
        assert visitor.ask(first, lambda: (read(one), one.bookmark())[0]) == "2"
        lagging.replicas[0].thaw()
        lagging.sync()
        assert visitor.ask(second, lambda: read(other)) == "2"
        assert other.stats()["fallbacks"] == 0  # it is no burden any more


def test_a_primary_that_is_gone_keeps_no_response_back(server: str) -> None:
    with own_cluster(server, 1) as cluster:
        db = cluster.database(probe_interval=None, read_timeout=5)
        db.execute_sql("CREATE TABLE slot (id INT PRIMARY KEY, name VARCHAR(9), n INT)")
        db.execute_sql("INSERT INTO slot VALUES (1, 'a', 1)")
        db.close()
        cluster.sync()
        app = flask_app(db)
        visitor = Visitor()

        def work() -> int:
            look(db)
            cluster.primary.kill()
            return read(db) if db.stats()["unasked"] else 7

        assert visitor.ask(app, work) == "7"
        assert db.stats()["unasked"] == 1
        assert app.wsgi_app.stats()["unsent"] == 1
        text = visitor.cookies["replication_bookmark"].partition(".")[0]
        assert bookmarks.decode(text, time.time(), 60).position is None  # whatever the primary has then
        assert visitor.ask(app, lambda: read(db)) == "1"


# Servers without GTIDs


WITHOUT = {
    "mariadb": {"skip_log_bin": None},
    "mysql": {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"},
}


def test_without_gtids_reads_stay_on_the_primary_in_other_processes_too(server: str) -> None:
    options: Any = {"*": WITHOUT[server]}
    with own_cluster(server, 0, options=options) as primary, own_cluster(server, 0, options=options) as late:
        for cluster, n in ((primary, 1), (late, 0)):
            database = cluster.database(consistency="eventual")
            with database.bind_ctx(MODELS), database.connection_context():
                database.create_tables(MODELS)
                Slot.create(name="a", n=n)
        replicas = [{**late.parameters(late.primary), "name": "late"}]
        with two(primary, replicas=replicas, sticky_seconds=60) as (one, other):
            visitor, first, second = Visitor(), flask_app(one), flask_app(other)
            assert visitor.ask(first, lambda: read(one)) == "0"
            assert visitor.cookies == {}
            visitor.ask(first, lambda: one.execute_sql("UPDATE slot SET n = 2"), "POST")
            assert visitor.ask(second, lambda: read(other)) == "2"
            assert Visitor().ask(second, lambda: read(other)) == "0"
        with two(primary, replicas=replicas, sticky_seconds=0.001) as (one, _):
            assert visitor.ask(flask_app(one), lambda: (threading.Event().wait(0.01), read(one))[1]) == "0"


# Starlette: what copies the context, and what runs in threads


def starlette_app(db: Any, *, inside: bool) -> Any:
    """An application with a middleware that runs it in a task of its own, around ours or inside."""
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    def work(change: str) -> int:
        with db.connection_context():
            if not change:
                return read(db)
            db.execute_sql(change)
            return 0

    def serve(request: Any) -> Any:  # in the thread pool
        return PlainTextResponse(str(work(request.query_params.get("sql", ""))))

    async def serve_async(request: Any) -> Any:
        return PlainTextResponse(str(await asyncio.to_thread(work, request.query_params.get("sql", ""))))

    def stream(request: Any) -> Any:
        def parts() -> Iterator[str]:  # each step in whichever thread
            for _ in range(3):
                yield str(work(""))

        return StreamingResponse(parts())

    def background(request: Any) -> Any:
        return PlainTextResponse("", background=BackgroundTask(lambda: app.state.told.append(work(""))))

    async def pass_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    ours = Middleware(AsgiMiddleware, databases=db, secret=SECRET)
    theirs = Middleware(BaseHTTPMiddleware, dispatch=pass_on)
    routes = [
        Route("/sync", serve, methods=["GET", "POST"]),
        Route("/async", serve_async, methods=["GET", "POST"]),
        Route("/stream", stream),
        Route("/background", background),
    ]
    app = Starlette(routes=routes, middleware=[theirs, ours] if inside else [ours, theirs])
    app.state.told = []
    return app


@pytest.mark.parametrize("inside", [True, False])
def test_threads_tasks_streams_and_background_work_are_in_the_session(lagging: Any, inside: bool) -> None:
    pytest.importorskip("starlette")
    options = {"probe_interval": None, "catch_up_timeout": SHORT}
    one, other = in_processes_of_their_own(lagging, PooledReplicatedDatabase, **options)
    first, second = starlette_app(one, inside=inside), starlette_app(other, inside=inside)

    def ask(client: Client, app: Any, method: str, path: str, sql: str = "") -> bytes:
        client.app = app
        query = b"sql=" + sql.replace(" ", "+").replace("=", "%3D").encode()
        return client.ask(method, path=path, query_string=query)

    for n, path in enumerate(("/sync", "/async"), 2):
        visitor = Client(first)
        ask(visitor, first, "POST", path, f"UPDATE slot SET n = {n}")
        assert ask(visitor, second, "GET", "/sync") == b"%d" % n
        assert ask(visitor, second, "GET", "/async") == b"%d" % n
        assert ask(visitor, second, "GET", "/stream") == b"%d" % n * 3
        assert ask(visitor, second, "GET", "/background") == b""
        assert second.state.told.pop() == n
        assert ask(Client(second), second, "GET", "/sync") == b"1"


def test_an_owed_position_is_asked_for_in_a_thread_that_keeps_no_connection(lagging: Any) -> None:
    pytest.importorskip("starlette")
    options = {"probe_interval": None, "catch_up_timeout": SHORT}
    one, other = in_processes_of_their_own(lagging, PooledReplicatedDatabase, **options)
    elsewhere(lagging, "UPDATE slot SET n = 2")
    visitor = Client(starlette_app(one, inside=False))
    visitor.ask("POST", path="/async", query_string=b"sql=UPDATE+slot+SET+n%3D9+WHERE+n%3D0")
    assert one.stats()["asked"] == 1
    visitor.app = starlette_app(other, inside=False)
    assert visitor.ask(path="/async", query_string=b"") == b"2"
    for database in (one, other):
        core = database._parts.cluster
        nodes = (*core.replicas.all, core.reader)
        pools = [database, *(node.made.db for node in nodes if node.made is not None)]
        assert [pool._in_use for pool in pools] == [{}] * len(pools)
        database.close_all()


# The asyncio form


@needs_asyncio
@pytest.mark.parametrize("what", ["an update of nothing", "a write", "a read on the primary"])
def test_the_asyncio_form_is_asked_in_the_event_loop(lagging: Any, what: str) -> None:
    async def change(db: Any) -> None:
        if what == "an update of nothing":
            await db.aexecute_sql("UPDATE slot SET n = 9 WHERE n = 0")
        elif what == "a write":
            await db.aexecute_sql("UPDATE slot SET n = n + 0, name = 'b' WHERE name = 'a'")
            await db.aexecute_sql("UPDATE slot SET name = 'a' WHERE name = 'b'")
        else:
            with db.primary():
                await db.aexecute_sql(READ)

    async def main() -> tuple[bytes, bytes, int]:
        options = {"probe_interval": None, "catch_up_timeout": SHORT}
        one, other = in_processes_of_their_own(lagging, AsyncReplicatedDatabase, **options)

        def serving(db: Any) -> Any:
            async def app(scope: Any, receive: Any, send: Any) -> None:
                if scope["method"] == "POST":
                    await change(db)
                rows = (await db.aexecute_sql(READ)).fetchall() if scope["method"] == "GET" else None
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": str(rows and rows[0][0]).encode()})

            return AsgiMiddleware(app, db, secret=SECRET, readonly=True)

        visitor = Client(serving(one))
        await asyncio.create_task(visitor.asked("POST"))
        asked = one.stats()["asked"]
        visitor.app = serving(other)
        found = await asyncio.create_task(visitor.asked("GET"))
        somebody = await asyncio.create_task(Client(visitor.app).asked("GET"))
        for database in (one, other):
            await database.close_pool()
        return found, somebody, asked

    elsewhere(lagging, "UPDATE slot SET n = 2")
    assert asyncio.run(main()) == (b"2", b"1", 0 if what == "a write" else 1)
