"""Node settings, connection counts and databases for tests of `set_replicas()`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.databases.models import Item

from peewee_replicas import PooledReplicatedDatabase

CLASSES = pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase], ids=["plain", "pooled"])


def spec(node: Any, **more: Any) -> dict[str, Any]:
    return {"name": node.name, "host": node.host, "port": node.port, **more}


def specs(cluster: Any, *places: int, **more: Any) -> list[dict[str, Any]]:
    return [spec(cluster.replicas[place - 1], **more) for place in places]


def sessions(node: Any, ids: set[int]) -> set[int]:
    """The connections among `ids` that the server still has."""
    return ids & {row[0] for row in node.execute("SELECT id FROM information_schema.processlist")}


def gone(node: Any, ids: set[int]) -> Callable[[], bool]:
    return lambda: not sessions(node, ids)


def own_sessions(replica: Any) -> set[int]:
    """This process's connections to a node, which is given as users see it or as the library does."""
    node = getattr(replica, "_node", replica)
    return {conn.thread_id() for conn in node._opened.all() if conn.open}


def making(cluster: Any, db: Any) -> Iterator[Callable[..., Any]]:
    """A fixture that makes databases over the first replica or over those given, and closes them."""
    made: list[Any] = []

    def build(cls: Any = None, *places: int, **arguments: Any) -> Any:
        arguments = {"consistency": "eventual", "probe_interval": None, **arguments}
        database = cluster.database(cls, replicas=specs(cluster, *(places or (1,))), **arguments)
        made.append(database)
        return database

    try:
        yield build
    finally:
        for database in made:
            database.close()


def nodes_read(database: Any, reads: int) -> list[str]:
    seen: list[str] = []

    def hook(event: Any) -> None:
        seen.append(event.node)

    database.route_hooks.append(hook)
    for _ in range(reads):
        database.execute_sql("SELECT 1").fetchall()
    database.route_hooks.remove(hook)
    return seen


@contextmanager
def database_of_rows(cluster: Any, rows: int) -> Iterator[None]:
    """Keep this many rows in `item` during the block."""
    Item.insert_many([{"name": "x", "n": number} for number in range(rows)]).execute()
    cluster.sync()
    try:
        yield
    finally:
        Item.delete().execute()
