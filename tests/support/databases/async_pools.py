"""Asynchronous databases, and counts of connections, for tests of pools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pymysql
from support.databases.lost import SESSIONS
from support.databases.models import Item, Note
from support.databases.nodes import stop_probers
from support.waiting import until

from peewee_replicas.aio import AsyncReplicatedDatabase


def making(cluster: Any, db: Any) -> Iterator[Any]:
    """A fixture that makes asynchronous databases with `Item` bound to them, which has a hundred rows."""
    Item.insert_many([{"name": f"item {n}", "n": n} for n in range(100)]).execute()
    cluster.sync()
    db.close()
    end_sessions(cluster)

    def made(**options: Any) -> Any:
        database = cluster.database(
            AsyncReplicatedDatabase, **{"consistency": "eventual", "probe_interval": None, **options}
        )
        database.bind([Item, Note])
        return database

    yield made
    db.bind([Item, Note])


def end_sessions(cluster: Any) -> None:
    """Close connections that other tests of this worker left open, so that they are not counted."""
    stop_probers()  # they would connect again
    for node in cluster.nodes:
        for (session,) in node.execute(SESSIONS, (cluster.user,)):
            with suppress(pymysql.MySQLError):
                node.execute(f"KILL {session}")
    until(lambda: not any(sessions(cluster)))


def sessions(cluster: Any) -> list[int]:
    """The number of the application's connections on each node, the primary first."""
    return [len(node.execute(SESSIONS, (cluster.user,))) for node in cluster.nodes]


async def closed(cluster: Any, database: Any) -> None:
    await database.close_pool()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await asyncio.to_thread(until, lambda: not any(sessions(cluster)))


def run(database: Any, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's work in an event loop of its own, and close the database's pools in that."""

    async def main() -> None:
        try:
            await work()
        finally:
            await database.close_pool()

    asyncio.run(main())


async def count(database: Any) -> int:
    return int(await database.count(Item.select()))
