"""A statement above ``max_allowed_packet`` ends in the server's own error, however that reaches the client.

The kind is that of `tests/unit/servers/test_statement_too_large.py`; here the servers themselves refuse: in
one packet and in several, with and without TLS, with the limit known to the client and not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymysql import err
from support.clusters import SERVERS, own_cluster

from peewee_replicas.servers.wire.connection import Connection
from peewee_replicas.testing import LocalCluster

MIB = 1 << 20


@pytest.fixture(scope="module", params=SERVERS)
def narrow(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A server that takes statements of up to 1 MiB."""
    with own_cluster(request.param, replicas=0, options={"*": {"max_allowed_packet": MIB}}) as cluster:
        yield cluster


@pytest.fixture(params=[True, False], ids=["plain", "tls if offered"])
def conn(narrow: LocalCluster, request: pytest.FixtureRequest) -> Iterator[Any]:
    parameters = {**narrow.parameters(narrow.primary), "ssl_disabled": request.param}
    opened = Connection(autocommit=True, read_timeout=20, **parameters)
    yield opened
    if opened.open:
        opened.close()


def select(size: int) -> str:
    """A statement of so many bytes."""
    return f"SELECT LENGTH('{'x' * (size - 17)}')"


def test_one_that_fits_is_executed(conn: Any) -> None:
    conn.query(select(MIB - 1000))
    assert conn._result.rows == ((MIB - 1017,),)


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB, 20 * MIB, 40 * MIB])
def test_one_that_does_not_is_refused_and_the_connection_goes_on(conn: Any, size: int) -> None:
    conn.begin()
    with pytest.raises(err.OperationalError, match=rf"has {size + 1:,} bytes.* is 1,048,576") as caught:
        conn.query(select(size))
    assert caught.value.args[0] == 1153
    assert conn.transaction
    conn.commit()


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB, 20 * MIB, 40 * MIB])
def test_where_the_limit_is_not_known_it_is_the_servers_error(conn: Any, size: int) -> None:
    conn.size_limit.bytes = 0
    with pytest.raises(
        err.OperationalError, match=rf"has {size + 1:,} bytes.*nothing was executed"
    ) as caught:
        conn.query(select(size))
    assert caught.value.args[0] == 1153
    assert not conn.open
    assert conn.unanswered_statement() == ""
