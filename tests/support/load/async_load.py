"""Many tasks on one asynchronous database, while its replicas are killed and started again.

``python -m support.load.async_load --server mysql --seconds 60`` in ``tests`` runs it for longer.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from typing import Any, NamedTuple

from peewee import IntegerField, PeeweeException
from playhouse.pwasyncio import AsyncModel
from support.guarantees.faults import Faults

from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.testing import LocalCluster

_APPLICATION = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = %s"


class Page(AsyncModel):
    """The table that is read and written."""

    hits = IntegerField(default=0)

    class Meta:
        table_name = "async_load_page"


class Load(NamedTuple):
    """What became of the work.

    Attributes:
        reads, writes: how many were done.
        failures: what went wrong, counted by what it was.
        stale: reads that did not see a write of their own task.
        served: reads that replicas served.
        left: connections that the application has at the end, to all nodes.
        tasks: tasks that were left behind.
        faults: what befell the replicas.
    """

    reads: int
    writes: int
    failures: Counter[str]
    stale: int
    served: int
    left: int
    tasks: int
    faults: Counter[str]


def run(
    cluster: LocalCluster, *, tasks: int, seconds: float, pool_size: int, seed: int = 1, **options: Any
) -> Load:
    """Let tasks read and write for some seconds, while replicas are killed and started again."""
    database: Any = cluster.database(AsyncReplicatedDatabase, pool_size=pool_size, **options)
    faults = Faults(cluster, {"crash": 1.0}, kill_every=1.0, quiet=2.0, seed=seed)
    with faults:
        found = asyncio.run(_work(cluster, database, tasks, seconds))
    if faults.errors:
        raise faults.errors[0]
    cluster.sync()
    return found._replace(left=sum(_connections(cluster)), faults=faults.done)


def _connections(cluster: LocalCluster) -> list[int]:
    return [int(node.execute(_APPLICATION, (cluster.user,))[0][0]) for node in cluster.nodes]


async def _work(cluster: LocalCluster, database: Any, tasks: int, seconds: float) -> Load:
    counts, failures = Counter[str](), Counter[str]()
    with database.bind_ctx([Page]):
        await database.adrop_tables([Page], safe=True)
        await database.acreate_tables([Page])
        first = await Page.acreate()
        until = time.monotonic() + seconds

        def goes_on() -> bool:
            """Until the time is over; on a machine under load, until there is something to look at."""
            if time.monotonic() < until:
                return True
            enough = counts["writes"] and counts["reads"] > 1000 and database.stats()["replicas"] > 200
            return not enough and time.monotonic() < until + 60

        async def reads() -> None:
            while goes_on():
                try:
                    assert (await Page.aget_by_id(first.id)).id == first.id
                    counts["reads"] += 1
                except PeeweeException as exc:
                    failures[f"read: {type(exc).__name__}: {exc}"] += 1
                await asyncio.sleep(0)

        async def writes() -> None:
            try:
                page = await Page.acreate(hits=1)
                counts["writes"] += 1
            except PeeweeException:
                failures["write"] += 1  # its connection to the primary was killed
                return
            finally:
                await database.aclose()
            try:
                found = await Page.aget_or_none(Page.id == page.id)
                counts["reads"] += 1
                counts["stale"] += found is None
            except PeeweeException as exc:
                failures[f"read: {type(exc).__name__}: {exc}"] += 1

        async def writes_on() -> None:
            while goes_on():
                await asyncio.gather(*(writes() for _ in range(20)))

        await asyncio.gather(*(reads() for _ in range(tasks - 20)), writes_on())
    stats = database.stats()
    await database.close_pool()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    return Load(
        counts["reads"],
        counts["writes"],
        failures,
        counts["stale"],
        stats["replicas"],
        0,
        len(left),
        Counter(),
    )


def main() -> None:
    """Run the load and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--pool-size", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with LocalCluster(replicas=2, server=options.server) as cluster:
        found = run(cluster, tasks=options.tasks, seconds=options.seconds, pool_size=options.pool_size)
    for name, value in found._asdict().items():
        print(f"{name:9} {value}")


if __name__ == "__main__":
    main()
