"""Work that is handed to other threads and tasks, with a replica one second late: is all of it found?

    python -m benchmarks.hand_over --server mariadb

One thread writes rows and hands the reading of each to a pool of eight threads, or to tasks; each reading is
a unit of work of its own. At the default level nothing may be missing. Shown are what was not found, where
the first reads were served, how many waited, and how long they took.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from peewee import IntegerField, Model
from playhouse.pwasyncio import AsyncModel

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.testing import LocalCluster

from .timing import percentile

LATE_SECONDS = 1
WORKERS = 8


class Upload(Model):
    """What one thread writes and another reads."""

    n = IntegerField()


class AsyncUpload(AsyncModel):
    """The same in the asyncio form."""

    n = IntegerField()

    class Meta:
        table_name = "upload"


class Found:
    """What the units of work found, and how long their first reads took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.missing = 0
        self.milliseconds: list[float] = []

    def add(self, there: bool, seconds: float) -> None:
        """Record one unit of work."""
        with self._lock:
            self.missing += not there
            self.milliseconds.append(seconds * 1000)


def in_threads(database: Any, units: int, share: float, found: Found) -> None:
    """Write in this thread, in this share of the units; read in a pool of threads."""

    def look(key: int) -> None:
        with database.connection_context():
            began = time.perf_counter()
            there = Upload.get_or_none(Upload.id == key) is not None
            found.add(there, time.perf_counter() - began)

    chance = random.Random(1)
    with database.bind_ctx([Upload]), ThreadPoolExecutor(WORKERS) as pool:
        key = Upload.create(n=0).id
        under_way: list[Future[None]] = []
        for n in range(units):
            if chance.random() < share:
                key = Upload.create(n=n).id
            under_way.append(pool.submit(look, key))
            if n >= WORKERS:  # no more are handed over than there are workers, or all would come at the end
                under_way[n - WORKERS].result()
        for one in under_way:
            one.result()
        database.close()


def in_tasks(database: Any, units: int, share: float, found: Found) -> None:
    """Write in one task; read in others, each in a context of its own."""

    async def look(key: int) -> None:
        began = time.perf_counter()
        there = await database.run(AsyncUpload.get_or_none, AsyncUpload.id == key) is not None
        found.add(there, time.perf_counter() - began)

    async def run() -> None:
        chance = random.Random(1)
        key = (await database.run(AsyncUpload.create, n=0)).id
        under_way: list[asyncio.Task[None]] = []
        for n in range(units):
            if chance.random() < share:
                key = (await database.run(AsyncUpload.create, n=n)).id
            under_way.append(asyncio.create_task(look(key)))
            if n >= WORKERS:
                await under_way[n - WORKERS]
        await asyncio.gather(*under_way)
        await database.close_pool()

    with database.bind_ctx([AsyncUpload]):
        asyncio.run(run())


FORMS: dict[str, tuple[Any, Callable[..., None]]] = {
    "plain": (ReplicatedDatabase, in_threads),
    "pooled": (PooledReplicatedDatabase, in_threads),
    "asyncio": (AsyncReplicatedDatabase, in_tasks),
}


def main() -> int:
    """Print one line for each form and share of writes; return 1 if anything was not found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--units", type=int, default=1000, help="units of work for each line")
    options = parser.parse_args()
    missing = 0
    with LocalCluster(server=options.server, replicas=1) as cluster:
        with cluster.database() as database, database.bind_ctx([Upload]):
            database.create_tables([Upload])
        cluster.sync()
        cluster.replicas[0].delay(LATE_SECONDS)
        print(f"{options.server}, {options.units} units each, the replica {LATE_SECONDS} s late")
        for name, (form, run) in FORMS.items():
            for share in (0.05, 0.5):
                database = cluster.database(form)
                found = Found()
                run(database, options.units, share, found)
                stats, times = database.stats(), sorted(found.milliseconds)
                print(
                    f"{name:8} writes {share:4.0%}  not found {found.missing}  "
                    f"on replicas {stats['replicas'] / options.units:6.1%}  "
                    f"waited {stats['waits'] / options.units:6.1%}  first read "
                    f"p50 {percentile(times, 0.5):6.1f} ms  p95 {percentile(times, 0.95):6.1f} ms"
                )
                missing += found.missing
                database.dispose()
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
