"""A streamed result that is collected before its end ends its connection: a finaliser cannot wait."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from peewee_replicas.aio.connection import Connection


def test_a_collected_result_ends_its_connection_and_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(Connection, "_force_close", lambda conn: ended.append(conn))
    conn = Connection.__new__(Connection)
    result = SimpleNamespace(unbuffered_active=True, finish=lambda: pytest.fail("it waited for the server"))
    conn.leave_unread(result)
    assert ended == [conn]
    assert not result.unbuffered_active
