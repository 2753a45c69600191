"""What `instructions` runs under valgrind: reads and writes in stretches, with a mark after each.

It runs with the package of any revision: whichever is beside it in the folder it was started in.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from peewee import MySQLDatabase
from playhouse.pool import PooledMySQLDatabase

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase

from .stage import ROWS, on


def contenders(task: dict[str, Any]) -> dict[str, Callable[[int], Any]]:
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
    found: dict[str, Callable[[int], Any]] = {}
    for name, database in databases.items():
        found[name] = on(database).get_by_id
    writers = {
        "plain write": MySQLDatabase(**primary),
        "write": ReplicatedDatabase(**ours),
    }
    for name, database in writers.items():
        row = on(database)
        found[name] = lambda number, row=row: (
            row.update(n=number).where(row.id == number % ROWS + 1).execute()
        )
        found[f"{name} in atomic()"] = database.atomic()(found[name])
    return found


def main() -> None:
    """Run under valgrind: every contender in turn, with a mark after each; their order goes to stdout."""
    task = json.loads(sys.argv[1])
    work = contenders(task)
    names = list(work)
    for run in work.values():
        for number in range(1, 6):
            run(number)
    order = []
    numbers = itertools.count(6)  # an update is never a no-op
    gc.collect()
    gc.disable()  # when it runs is chance, and one run of it costs as much as many statements
    os.getpgrp()
    for turn in range(task["turns"]):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            run = work[name]
            for _ in range(task["reads"]):
                run(next(numbers) % ROWS + 1)
            order.append(name)
            os.getpgrp()
    print(json.dumps(order), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
