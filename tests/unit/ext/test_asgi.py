"""The ASGI middleware: what is in force while a request is served, and when its bookmark is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.webapps.asking import Client
from support.webapps.visits import SECRET, seen, unconnected

from peewee_replicas import ReadOnlyViolation, ReplicatedDatabase
from peewee_replicas.ext.asgi import CausalSessionMiddleware
from peewee_replicas.positions import MariaDBPosition
from peewee_replicas.scopes.frames import causal

db = pytest.fixture(unconnected)


def write(db: Any, n: int) -> None:
    frame = causal(db._parts.cluster)
    assert frame is not None
    frame.session.saw(MariaDBPosition([(0, 1, n)]))


async def start(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [[b"content-type", b"text/plain"]]})


def plain(work: Callable[[], object]) -> Any:
    """An application that does something and then answers."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        result = work()
        if isinstance(result, Awaitable):
            result = await result
        await start(send)
        await send({"type": "http.response.body", "body": str(result).encode()})

    return app


def wrapped(app: Any, db: Any, **options: Any) -> CausalSessionMiddleware:
    return CausalSessionMiddleware(app, db, secret=SECRET, **options)


def test_a_bookmark_goes_out_and_comes_back(db: ReplicatedDatabase) -> None:
    todo: list[int] = []

    def work() -> int:
        before = seen(db)
        for n in todo:
            write(db, n)
        return before

    app = wrapped(plain(work), db)
    client = Client(app)
    assert client.ask() == b"0"
    assert client.headers == [(b"content-type", b"text/plain")]
    todo[:] = [5]
    assert client.ask("POST") == b"0"
    assert client.mark == 5
    assert (b"vary", b"Cookie") in client.headers
    todo.clear()
    assert client.ask() == b"5"
    assert client.headers == [(b"content-type", b"text/plain")]
    assert Client(app).ask() == b"0"
    assert app.stats() == {"requests": 4, "taken": 1, "refused": 0, "sent": 1, "unsent": 0}


def test_cookies_in_several_headers_and_a_header_of_its_own(db: ReplicatedDatabase) -> None:
    app = wrapped(plain(lambda: write(db, 6) if seen(db) == 0 else seen(db)), db, header="X-Mark")
    client = Client(app)
    client.ask("POST")
    given = dict(client.headers)[b"x-mark"]
    client.cookies = {b"a": b"b", **client.cookies, b"c": b"d"}
    assert client.ask() == b"6"
    assert Client(app).ask("GET", (b"X-Mark", given)) == b"6"
    assert Client(app).ask("GET", (b"x-mark", b"\xff nonsense")) == b"None"


def test_secure_follows_the_request(db: ReplicatedDatabase) -> None:
    client = Client(wrapped(plain(lambda: write(db, 6)), db))
    client.ask("POST", scheme="http")
    assert b"Secure" not in dict(client.headers)[b"set-cookie"]
    client.cookies.clear()
    client.ask("POST", scheme="https")
    assert b"; Secure;" in dict(client.headers)[b"set-cookie"]


def test_the_session_outlives_the_response_to_the_end_of_background_work(db: ReplicatedDatabase) -> None:
    told: list[int] = []
    frames: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        frames.append(causal(db._parts.cluster))
        write(db, 1)
        await start(send)
        for n in (2, 3):
            write(db, n)  # too late for the headers
            await send({"type": "http.response.body", "body": b"x", "more_body": n == 2})
        told.append(await asyncio.to_thread(seen, db))

    client = Client(wrapped(app, db))
    assert client.ask() == b"xx"
    assert (client.mark, told, frames[0].ended) == (1, [3], True)


def test_a_task_that_outlives_its_request_is_in_no_session(db: ReplicatedDatabase) -> None:
    async def main() -> tuple[int, int]:
        over = asyncio.Event()
        tasks = []

        async def later() -> int:
            await over.wait()
            return seen(db)

        def work() -> int:
            tasks.append(asyncio.create_task(later()))
            return seen(db)

        answer = await Client(wrapped(plain(work), db)).asked()
        over.set()
        return int(answer), await tasks[0]

    assert asyncio.run(main()) == (0, -1)


def test_work_in_tasks_and_threads_of_a_request_counts(db: ReplicatedDatabase) -> None:
    async def work() -> int:
        await asyncio.gather(
            asyncio.to_thread(write, db, 1), asyncio.create_task(asyncio.to_thread(write, db, 2))
        )
        return seen(db)

    client = Client(wrapped(plain(work), db))
    assert (client.ask("POST"), client.mark) == (b"2", 2)


def test_requests_at_the_same_time_do_not_meet(db: ReplicatedDatabase) -> None:
    async def main() -> tuple[list[bytes], int]:
        barrier = asyncio.Event()
        arrived = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            write(db, scope["n"])
            arrived.append(scope["n"])
            if len(arrived) == 3:
                barrier.set()
            await barrier.wait()
            await plain(lambda: seen(db))(scope, receive, send)

        middleware = wrapped(app, db)
        clients = [Client(middleware) for _ in range(3)]
        found = await asyncio.gather(*(client.asked(n=n) for n, client in enumerate(clients, 1)))
        assert [client.mark for client in clients] == [1, 2, 3]
        return list(found), seen(db)

    assert asyncio.run(main()) == ([b"1", b"2", b"3"], -1)


def test_the_response_may_start_in_a_task_of_its_own_or_in_a_session_of_its_own(
    db: ReplicatedDatabase,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def answer() -> None:
            with db.causal_session():
                write(db, 7)  # as if a connection had told only this session: it ends with it
                await plain(lambda: "x")(scope, receive, send)

        write(db, 4)
        await asyncio.create_task(answer())

    client = Client(wrapped(app, db))
    client.ask("POST")
    assert client.mark == 4


def test_an_error_and_a_disconnect_end_the_session(db: ReplicatedDatabase) -> None:
    frames: list[Any] = []

    async def failing() -> None:
        frames.append(causal(db._parts.cluster))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Client(wrapped(plain(failing), db)).ask()

    async def hanging() -> None:
        frames.append(causal(db._parts.cluster))
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(Client(wrapped(plain(hanging), db)).asked())
        while len(frames) < 2:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [frame.ended for frame in frames] == [True, True]


def test_web_sockets_and_the_lifespan_pass_through(db: ReplicatedDatabase) -> None:
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append((scope["type"], receive, send, seen(db)))

    def receive() -> Any: ...
    def send() -> Any: ...

    middleware = wrapped(app, db)
    for kind in ("lifespan", "websocket"):
        asyncio.run(middleware({"type": kind}, receive, send))  # type: ignore[arg-type]
    assert told == [("lifespan", receive, send, -1), ("websocket", receive, send, -1)]
    assert middleware.stats()["requests"] == 0


def test_safe_methods_run_inside_readonly_if_asked(db: ReplicatedDatabase) -> None:
    def work() -> str:
        try:
            return db.explain_route("DELETE FROM t").role
        except ReadOnlyViolation:
            return "refused"

    client = Client(wrapped(plain(work), db, readonly=True))
    assert [client.ask(method) for method in ("GET", "HEAD", "POST")] == [b"refused", b"refused", b"primary"]


def test_other_messages_and_headers_stay_as_they_are(db: ReplicatedDatabase) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a>"]})
        write(db, 1)
        headers = [(b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"x", b"\xff"), (b"vary", b"Accept")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        await send({"type": "http.response.body"})

    client = Client(wrapped(app, db))
    client.ask()
    hint, begun, body = client.messages
    assert (hint, body) == (
        {"type": "http.response.early_hint", "links": [b"</a>"]},
        {"type": "http.response.body"},
    )
    assert (begun["status"], begun["trailers"]) == (200, True)
    assert begun["headers"][:3] == [(b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"x", b"\xff")]
    assert begun["headers"][3][1].startswith(b"replication_bookmark=")
    assert begun["headers"][4] == (b"vary", b"Accept, Cookie")


def test_an_owed_position_is_asked_for_outside_the_event_loop(db: ReplicatedDatabase) -> None:
    """The primary may take its time: here the question is answered only once another task has run."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()

        def ask() -> Any:
            asyncio.run_coroutine_threadsafe(_set(answered), loop).result(30)
            return MariaDBPosition([(0, 1, 9)])

        db._parts.consistency.primary.current = ask  # type: ignore[method-assign]

        def work() -> None:
            frame = causal(db._parts.cluster)
            assert frame is not None
            frame.session.owe()

        client = Client(wrapped(plain(work), db))
        await client.asked("POST")
        return client.mark

    assert asyncio.run(main()) == 9


async def _set(event: asyncio.Event) -> None:
    event.set()
