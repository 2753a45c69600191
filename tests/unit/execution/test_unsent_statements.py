"""A read that could not be sent to the primary is sent on another connection, up to three times.

A pool may hold several connections that the server has just ended, so once is not always enough; and a
primary that ends every connection must not keep the caller for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from peewee import OperationalError
from support.scripted_server import ScriptedServer, result, row

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.servers.wire.connection import Connection

READ, WRITE = "SELECT n FROM t", "UPDATE t SET n = 1"


@pytest.fixture(params=[ReplicatedDatabase, PooledReplicatedDatabase])
def database(request: pytest.FixtureRequest) -> Iterator[Any]:
    with ScriptedServer({READ: result(row(b"1"))}) as server:
        made = request.param(**server.parameters, replicas=(), probe_interval=None)
        made.scripted = server
        yield made
        made.close()


def end_connections(monkeypatch: pytest.MonkeyPatch, times: int, start: str) -> list[str]:
    """End the next connections just before a statement that begins with `start` is written to them."""
    ended: list[str] = []
    original = Connection._write_bytes

    def write(self: Any, data: bytes) -> None:
        if start.encode() in data and len(ended) < times:
            ended.append(start)
            self.hang_up()
        original(self, data)

    monkeypatch.setattr(Connection, "_write_bytes", write)
    return ended


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_read_is_sent_again_on_a_new_connection(
    database: Any, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    database.execute_sql(READ)
    ended = end_connections(monkeypatch, times, READ)
    assert database.execute_sql(READ).fetchall() == (("1",),)
    assert len(ended) == times
    assert database.scripted.statements.count(READ) == 2


def test_it_ends_with_the_error_if_every_connection_is_ended(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute_sql(READ)
    ended = end_connections(monkeypatch, 100, READ)
    with pytest.raises(OperationalError, match="2006"):
        database.execute_sql(READ)
    assert len(ended) == 4
    assert database.scripted.statements.count(READ) == 1


def test_a_write_is_not_sent_again(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database.execute_sql(READ)
    ended = end_connections(monkeypatch, 1, WRITE)
    with pytest.raises(OperationalError, match="2006"):
        database.execute_sql(WRITE)
    assert len(ended) == 1
    assert WRITE not in database.scripted.statements


def test_nor_is_a_read_in_a_transaction(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database.execute_sql(READ)
    ended = end_connections(monkeypatch, 1, READ)
    with pytest.raises(OperationalError, match="2006"), database.atomic():
        database.execute_sql(READ)
    assert len(ended) == 1
