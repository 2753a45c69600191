"""A table with one row, and databases that read from the first replica, for tests of failing nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.clusters import as_in_another_process
from support.databases.models import Item

READ = "SELECT name FROM item WHERE id = 1"
LOGGER = "peewee.replicas"


def first(usable: Any) -> Any:
    """A policy that always takes the first usable replica."""
    return usable[0]


def where(node: Any, **more: Any) -> dict[str, Any]:
    return {"name": node.name, "host": node.host, "port": node.port, **more}


@contextmanager
def opened(cluster: Any, cls: Any = None, *, of_first: Any = (), **options: Any) -> Iterator[Any]:
    """A database without a prober that reads from the first replica, whose settings `of_first` extends."""
    one, two = cluster.replicas
    replicas = [{**where(one), **dict(of_first)}, where(two)]
    usual = {"replicas": replicas, "policy": first, "consistency": "eventual", "probe_interval": None}
    database = cluster.database(cls, **{**usual, **options})
    database.events = []
    database.route_hooks.append(database.events.append)
    try:
        yield database
    finally:
        database.close()


def prepare(cluster: Any) -> None:
    with as_in_another_process():  # or the tests would begin with what this has written
        made = cluster.database(replicas=(), probe_interval=None)
    with made as database, database.bind_ctx([Item]):
        database.create_tables([Item])
        Item.create(id=1, name="one")
    cluster.sync()


def read(database: Any) -> Any:
    return database.execute_sql(READ).fetchone()[0]
