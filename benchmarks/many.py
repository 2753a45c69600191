"""What a database, a node, a thread, a task and a prober cost: memory, connections, CPU time.

Memory is what Python allocates (`tracemalloc`), and the growth of the process beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.testing import LocalCluster

KIB = 1024
WATCHED_SECONDS = 10.0


def resident() -> int:
    """The memory of this process in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def allocated(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """What a call leaves allocated and resident, in KiB, and what it returns."""
    gc.collect()
    before = resident()
    tracemalloc.start()
    kept = work()
    gc.collect()
    found = tracemalloc.get_traced_memory()[0] / KIB
    tracemalloc.stop()
    return found, resident() - before, kept


def unconnected(replicas: int) -> Any:
    """A database over addresses at which nobody is."""
    nodes = [{"host": f"192.0.2.{number}"} for number in range(1, replicas + 1)]
    return ReplicatedDatabase("app", host="192.0.2.254", replicas=nodes, probe_interval=None)


def databases_and_nodes() -> None:
    """Memory of databases that have no connections."""
    count, few, many = 100, 2, 22
    small = allocated(lambda: [unconnected(few) for _ in range(count)])[0] / count
    large = allocated(lambda: [unconnected(many) for _ in range(count)])[0] / count
    each = (large - small) / (many - few)
    print(f"a database with {few} replicas: {small:.0f} KiB; each more: {each:.1f} KiB")


def threads(db: Any, count: int) -> None:
    """Memory of threads that have read, and of others."""
    each: dict[bool, tuple[float, float]] = {}
    for reads in (False, True):
        leave, ready = threading.Event(), threading.Semaphore(0)

        def work(reads: bool = reads, leave: threading.Event = leave, ready: Any = ready) -> None:
            if reads:
                db.execute_sql("SELECT 1").fetchall()
            ready.release()
            leave.wait()
            db.close()

        def begin(work: Callable[[], None] = work, ready: Any = ready) -> list[threading.Thread]:
            begun = [threading.Thread(target=work) for _ in range(count)]
            for thread in begun:
                thread.start()
            for _ in begun:
                ready.acquire()
            return begun

        traced, grown, begun = allocated(begin)
        each[reads] = (traced / count, grown / count)
        leave.set()
        for thread in begun:
            thread.join()
    traced, grown = (after - before for before, after in zip(each[False], each[True], strict=True))
    print(f"a thread that has read ({count}): {traced:.1f} KiB, resident {grown:.0f}, and one connection")


async def tasks(db: Any, count: int) -> None:
    """Memory of tasks that have read, and of others."""
    each: dict[bool, float] = {}
    for reads in (False, True):
        leave = asyncio.Event()
        done = asyncio.Semaphore(0)

        async def work(reads: bool = reads, leave: Any = leave, done: Any = done) -> None:
            if reads:
                await db.aexecute_sql("SELECT 1")
            done.release()
            await leave.wait()

        gc.collect()
        tracemalloc.start()
        begun = [asyncio.create_task(work()) for _ in range(count)]
        for _ in begun:
            await done.acquire()
        gc.collect()
        each[reads] = tracemalloc.get_traced_memory()[0] / KIB / count
        tracemalloc.stop()
        leave.set()
        await asyncio.gather(*begun)
    print(
        f"a task that has read ({count}): {each[True] - each[False]:.1f} KiB; connections come from the pools"
    )
    await db.close_pool()


def connected(cluster: LocalCluster) -> int:
    """How many connections all servers have."""
    rows = [node.execute("SHOW STATUS LIKE 'Threads_connected'") for node in cluster.nodes]
    return sum(int(found[0][1]) for found in rows)


def many_databases(cluster: LocalCluster, make: Callable[[], Any], count: int) -> None:
    """Threads, connections and CPU time of the probers of many databases."""
    before, there = threading.active_count(), connected(cluster)

    def begin() -> list[Any]:
        made = [make() for _ in range(count)]
        for db in made:
            db.execute_sql("SELECT 1").fetchall()
            db._parts.cluster.prober.wait_for_first_look(60)
            db.close()
        return made

    traced, grown, made = allocated(begin)
    began, cpu = time.monotonic(), time.process_time()
    time.sleep(WATCHED_SECONDS)  # what the probers use meanwhile is what is measured
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    print(
        f"{count} databases in use: {threading.active_count() - before} threads and "
        f"{connected(cluster) - there} connections of probers, {share:.1%} of a CPU; "
        f"each {traced / count:.0f} KiB, resident {grown / count:.0f}"
    )
    for db in made:
        db.dispose()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--databases", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=10_000)
    options = parser.parse_args()
    databases_and_nodes()
    with LocalCluster(2, options.server, options={"*": {"max_connections": 2000}}) as cluster:
        parameters: dict[str, Any] = cluster.parameters("primary")
        nodes = [{"name": node.name, "host": node.host, "port": node.port} for node in cluster.replicas]

        def make(**given: Any) -> Any:
            return ReplicatedDatabase(**{**parameters, "ssl_disabled": True, "replicas": nodes, **given})

        many_databases(cluster, make, options.databases)
        db = make(probe_interval=None)
        threads(db, options.threads)
        from peewee_replicas.aio import AsyncReplicatedDatabase

        given = {name: value for name, value in parameters.items() if name != "ssl_disabled"}
        asyncio.run(
            tasks(AsyncReplicatedDatabase(**given, replicas=nodes, probe_interval=None), options.tasks)
        )


if __name__ == "__main__":
    main()
