"""What `instructions` runs under valgrind: reads and writes in stretches, with a mark after each.

It runs with the package of any revision: whichever is beside it in the folder it was started in.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from peewee import MySQLDatabase
from playhouse.pool import PooledMySQLDatabase

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase

from .stage import ROWS, Row, on

TASKS = 20
_EACH = 8  # statements of one task, so that beginning it is not most of what is counted

Stretch = Callable[[list[int]], int]
"""Runs one statement for each number, or more; returns how many it was."""


def contenders(task: dict[str, Any]) -> dict[str, Stretch]:
    """What is counted, each with all connections open."""
    primary, replica = task["primary"], task["replica"]
    # Probes come once a second, which here is once in a few statements.
    ours: dict[str, Any] = {
        **primary,
        "replicas": [{"name": "replica-1", "host": replica["host"], "port": replica["port"]}],
        "probe_interval": None,
    }
    databases = {
        "plain": MySQLDatabase(**replica),
        "session": ReplicatedDatabase(**ours),
        "eventual": ReplicatedDatabase(**ours, consistency="eventual"),
        "pooled plain": PooledMySQLDatabase(**replica),
        "pooled session": PooledReplicatedDatabase(**ours),
    }
    found: dict[str, Stretch] = {}
    for name, database in databases.items():
        found[name] = _one_by_one(on(database).get_by_id)
    writers = {
        "plain write": MySQLDatabase(**primary),
        "write": ReplicatedDatabase(**ours),
    }
    for name, database in writers.items():
        row = on(database)

        def write(number: int, row: Any = row) -> Any:
            changed = task["above"] + number  # or the second of two revisions would change nothing
            return row.update(n=changed).where(row.id == number % ROWS + 1).execute()

        found[name] = _one_by_one(write)
        found[f"{name} in atomic()"] = _one_by_one(database.atomic()(write))
    return {**found, **_of_tasks(primary, replica, ours, task["above"])} if task["asyncio"] else found


def _one_by_one(run: Callable[[int], Any]) -> Stretch:
    def stretch(numbers: list[int]) -> int:
        for number in numbers:
            run(number)
        return len(numbers)

    return stretch


def _of_tasks(
    primary: dict[str, Any], replica: dict[str, Any], ours: dict[str, Any], above: int
) -> dict[str, Stretch]:
    """The same under asyncio, by tasks that run together."""
    try:
        from playhouse.pwasyncio import AsyncModel, AsyncMySQLDatabase

        from peewee_replicas.aio import AsyncReplicatedDatabase
    except ImportError:
        return {}
    loop = asyncio.new_event_loop()

    def made(kind: Any, parameters: dict[str, Any]) -> Any:
        # aiomysql does not know the argument; it uses TLS only where asked to.
        rest = {name: value for name, value in parameters.items() if name not in ("database", "ssl_disabled")}
        # Under valgrind on a busy machine, twenty connections take longer to open than peewee waits for one.
        database = kind(parameters["database"], pool_size=TASKS, acquire_timeout=300, **rest)
        meta = type("Meta", (), {"database": database, "table_name": Row._meta.table_name})
        return type("Row", (Row, AsyncModel), {"Meta": meta})

    def together(row: Any, of_task: Callable[[Any, list[int]], Any], scope: Any = nullcontext) -> Stretch:
        def stretch(numbers: list[int]) -> int:
            cycle = itertools.cycle(numbers)

            async def all_tasks() -> None:
                async with scope():
                    await asyncio.gather(
                        *(of_task(row, list(itertools.islice(cycle, _EACH))) for _ in range(TASKS))
                    )

            loop.run_until_complete(all_tasks())
            return TASKS * _EACH

        return stretch

    async def read(row: Any, numbers: list[int]) -> None:
        for number in numbers:
            await row.aget_by_id(number)

    async def write(row: Any, numbers: list[int]) -> None:
        changed = above + next(_changes)
        for number in numbers:
            query = row.update(n=changed).where(row.id == number % ROWS + 1)
            await row._meta.database.run(query.execute)

    scoped = made(AsyncReplicatedDatabase, ours)
    return {
        "asyncio plain": together(made(AsyncMySQLDatabase, replica), read),
        "asyncio session": together(made(AsyncReplicatedDatabase, ours), read),
        "asyncio readonly()": together(scoped, read, scoped._meta.database.readonly),
        "asyncio plain write": together(made(AsyncMySQLDatabase, primary), write),
        "asyncio write": together(made(AsyncReplicatedDatabase, ours), write),
    }


_changes = itertools.count(10_000)


def main() -> None:
    """Run under valgrind: every contender in turn, with a mark after each; what was run goes to stdout."""
    task = json.loads(sys.argv[1])
    work = contenders(task)
    names = list(work)
    for run in work.values():
        run(list(range(1, 6)))
    order = []
    numbers = itertools.count(6)  # an update is never a no-op
    gc.collect()
    gc.disable()  # when it runs is chance, and one run of it costs as much as many statements
    os.getpgrp()
    for turn in range(task["turns"]):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            order.append((name, work[name]([next(numbers) % ROWS + 1 for _ in range(task["reads"])])))
            os.getpgrp()
    print(json.dumps(order), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
