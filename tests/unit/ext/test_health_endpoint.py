"""The health endpoint: status, headers and body, for WSGI and ASGI.

What can differ: the need, which of reads and writes can be served, one database, a proxy or several by label,
the details, and the method.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from peewee import SqliteDatabase
from support.databases.nodes import nodes_of

from peewee_replicas import ConfigurationError, ReplicatedDatabase, ReplicatedDatabaseProxy
from peewee_replicas.concurrency import Clock
from peewee_replicas.ext.health import ASGIHealth, WSGIHealth
from peewee_replicas.nodes.primary_state import PrimaryState


def by_wsgi(*args: Any, method: str = "GET", **options: Any) -> tuple[int, dict[str, str], bytes]:
    answered: list[Any] = []
    app = WSGIHealth(*args, **options)
    body = b"".join(
        app({"REQUEST_METHOD": method}, lambda status, headers: answered.extend((status, headers)))
    )
    status, headers = answered
    return int(status.split()[0]), {name.lower(): value for name, value in headers}, body


def by_asgi(*args: Any, method: str = "GET", **options: Any) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = ASGIHealth(*args, **options)
    asyncio.run(app({"type": "http", "method": method}, None, send))  # type: ignore[arg-type]
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, body["body"]


forms = pytest.mark.parametrize("ask", [by_wsgi, by_asgi])


def database(*, replica: bool = True, primary: bool = True) -> ReplicatedDatabase:
    db = ReplicatedDatabase("app", replicas=["a:1"], probe_interval=None)
    if not replica:
        nodes_of(db)[0].eject("maintenance")
    if not primary:
        db._parts.cluster.primary_state = PrimaryState("gone", found_at=Clock.monotonic())
    return db


@forms
@pytest.mark.parametrize(
    ("replica", "primary", "for_reads", "for_writes"),
    [(True, True, 200, 200), (True, False, 200, 503), (False, True, 200, 200), (False, False, 503, 503)],
)
def test_the_status_says_what_can_be_served(
    ask: Any, replica: bool, primary: bool, for_reads: int, for_writes: int
) -> None:
    db = database(replica=replica, primary=primary)
    for need, expected in (("reads", for_reads), ("writes", for_writes)):
        status, headers, body = ask(db, need=need)
        assert status == expected
        assert headers == {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "cache-control": "no-store",
        }
        assert json.loads(body) == {
            "healthy": expected == 200,
            "need": need,
            "reads": replica or primary,
            "writes": primary,
        }


@forms
def test_addresses_and_causes_are_shown_only_when_asked_for(ask: Any) -> None:
    db = database(replica=False)
    assert b"maintenance" not in ask(db, need="reads")[2]
    told = json.loads(ask(db, need="reads", details=True)[2])
    assert told["read_by"] == ["primary"]
    (node,) = told["nodes"]
    assert (node["address"], node["state"], node["cause"]) == ("a:1", "ejected", "maintenance")


@forms
def test_several_databases_must_all_serve(ask: Any) -> None:
    proxy = ReplicatedDatabaseProxy()
    both = {"one": database(), "two": proxy}
    proxy.initialize(database(primary=False))
    status, _, body = ask(both, need="writes")
    assert status == 503
    assert json.loads(body)["databases"] == {
        "one": {"reads": True, "writes": True},
        "two": {"reads": True, "writes": False},
    }
    assert ask(both, need="reads")[0] == 200


@forms
def test_other_methods(ask: Any) -> None:
    status, headers, body = ask(database(), need="reads", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0
    status, headers, body = ask(database(), need="reads", method="POST")
    assert (status, headers["allow"], body) == (405, "GET, HEAD", b"")


@pytest.mark.parametrize("app", [WSGIHealth, ASGIHealth])
def test_arguments_that_cannot_work_are_refused(app: Any) -> None:
    with pytest.raises(ConfigurationError, match="need='write'"):
        app(database(), need="write")
    with pytest.raises(ConfigurationError, match="SqliteDatabase"):
        app(SqliteDatabase("x"), need="reads")
    with pytest.raises(ConfigurationError, match="not websocket"):
        asyncio.run(ASGIHealth(database(), need="reads")({"type": "websocket"}, None, None))  # type: ignore[arg-type]
