"""Fixtures: real clusters, one per server and worker, started when first asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from peewee import CharField, ForeignKeyField, IntegerField, Model, TextField

from peewee_replicas.testing import LocalCluster, available

SERVERS = ("mariadb", "mysql")
REQUIRED = os.environ.get("PEEWEE_REPLICAS_REQUIRE_SERVERS") == "1"

_clusters: dict[str, LocalCluster] = {}


def _cluster(server: str) -> LocalCluster:
    reason = available(server)
    if reason is not None:
        if REQUIRED:
            pytest.fail(f"a {server} server is required here: {reason}", pytrace=False)
        pytest.skip(f"NO {server.upper()} SERVER: {reason}")
    if server not in _clusters:
        _clusters[server] = LocalCluster(replicas=2, server=server)  # type: ignore[arg-type]
        _clusters[server].start()
    return _clusters[server]


@pytest.fixture(scope="session", autouse=True)
def _stop_clusters() -> Iterator[None]:
    yield
    for cluster in _clusters.values():
        cluster.stop()


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """Each server in turn."""
    return str(request.param)


@pytest.fixture
def cluster(server: str) -> LocalCluster:
    """A healthy primary with two replicas, all caught up; shared by the tests of one worker.

    A test that stops, freezes or reconfigures a node uses a cluster of its own.
    """
    found = _cluster(server)
    found.sync()
    return found


class Item(Model):
    """A table for tests; bind it to the database under test."""

    name = CharField()
    n = IntegerField(default=0)


class Note(Model):
    """A second table, with a reference to the first."""

    item = ForeignKeyField(Item, backref="notes")
    text = TextField()


@pytest.fixture
def db(cluster: LocalCluster) -> Iterator[Any]:
    """A `ReplicatedDatabase` over the cluster, with `Item` and `Note` bound, empty and replicated.

    Its consistency is eventual, so that the servers count what the test sent and no waits beside it.
    """
    database = cluster.database(consistency="eventual")
    with database.bind_ctx([Item, Note]):
        with database.primary():
            database.drop_tables([Note, Item], safe=True)
            database.create_tables([Item, Note])
        cluster.sync()
        database.close()
        cluster.reset_counts()
        yield database
    if not database.is_closed():
        while database.in_transaction():
            database.pop_transaction()
        database.close()
