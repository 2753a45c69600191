"""The middleware adds a ``Server-Timing`` header on request, with what the request itself has executed.

The members of the kind are both kinds of middleware, an answer made at once and one that is streamed, one
database and several, and the argument's wrong values. They were listed from the ways in which
`test_wsgi.py` and `test_asgi.py` send a response.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.databases.sqlite import a_path, one_row, opened  # noqa: F401  # the fixtures `path` and `db`
from support.webapps.asking import Client
from support.webapps.visits import SECRET
from support.webapps.wsgi import Server, plain, wrapped

from peewee_replicas import ConfigurationError
from peewee_replicas.ext import asgi, wsgi


def read(db: Any, times: int = 1) -> None:
    for _ in range(times):
        db.execute_sql("SELECT 1").fetchall()


def timing(headers: Any) -> list[str]:
    pairs = [tuple(each if isinstance(each, str) else each.decode() for each in pair) for pair in headers]
    return [value for name, value in pairs if name.lower() == "server-timing"]


def shape(headers: Any) -> list[str]:
    """The header with its times left out."""
    return [re.sub(r"dur=[\d.]+", "dur=…", value) for value in timing(headers)]


TWO_READS = 'db-replicas;dur=…;desc="2 reads", db-primary;dur=…;desc="write 1"'


def work(db: Any) -> None:
    read(db, 2)
    db.execute_sql("UPDATE row SET n = n + 1")


def test_wsgi(db: Any) -> None:
    server = Server(wrapped(plain(lambda: work(db)), db, server_timing=True))
    for _ in range(2):  # each request begins anew
        server.ask()
        assert shape(server.headers) == [TWO_READS]
    assert db._members.reports.counting.in_use == 0


def test_wsgi_that_streams_shows_what_ran_before_its_first_chunk(db: Any) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        read(db, 2)
        yield b"first"
        read(db, 5)
        yield b"second"

    server = Server(wrapped(app, db, server_timing=True))
    assert server.ask() == [b"first", b"second"]
    assert ['"2 reads"' in value for value in timing(server.headers)] == [True]
    assert db._members.reports.counting.in_use == 0


def test_asgi(db: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        work(db)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    client = Client(asgi.CausalSessionMiddleware(app, db, secret=SECRET, server_timing=True))
    for _ in range(2):
        client.ask()
        assert shape(client.headers) == [TWO_READS]
    assert db._members.reports.counting.in_use == 0


def test_each_database_has_its_label(db: Any, tmp_path: Path) -> None:
    other = opened(str(tmp_path / "other.db"))
    server = Server(wrapped(plain(lambda: read(db)), {"shop": db, "blog": other}, server_timing=True))
    server.ask()
    (value,) = timing(server.headers)
    assert 'desc="1 reads"' in value.partition("db-blog")[0]
    assert "db-shop-replicas" in value
    assert 'db-blog-replicas;dur=0.0;desc="0 reads"' in value
    other.close()


def test_it_is_off_unless_asked_for(db: Any) -> None:
    server = Server(wrapped(plain(lambda: work(db)), db))
    server.ask()
    assert timing(server.headers) == []


@pytest.mark.parametrize("middleware", [wsgi.CausalSessionMiddleware, asgi.CausalSessionMiddleware])
def test_other_values_are_refused(db: Any, middleware: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"server_timing=1: allowed are True and False"):
        middleware(None, db, secret=SECRET, server_timing=1)
