"""What routing costs under asyncio: `AsyncReplicatedDatabase` against plain `AsyncMySQLDatabase`.

Both read and write the same row on the same server, in one run and in turns;
``python -m benchmarks.asynchronous``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from typing import Any

from peewee import CharField, IntegerField
from playhouse.pwasyncio import AsyncModel, AsyncMySQLDatabase

from benchmarks import timing
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.testing import LocalCluster

PAIRS = {
    "routed": "plain",
    "routed, in readonly()": "plain",
    "plain again": "plain",
    "routed, writes": "plain, writes",
    "plain again, writes": "plain, writes",
}
TOGETHER = {f"{name}, 20 tasks": f"{other}, 20 tasks" for name, other in PAIRS.items()}
_TASKS = 20


class Row(AsyncModel):
    """What is read."""

    name = CharField()
    n = IntegerField()

    class Meta:
        table_name = "asynchronous_row"


def _bound(database: Any) -> Any:
    meta = type("Meta", (), {"database": database, "table_name": Row._meta.table_name})
    return type("Row", (Row,), {"Meta": meta})


async def _one_after_another(row: Any, reads: int) -> None:
    for _ in range(reads):
        await row.aget_by_id(7)


async def _writes(row: Any, writes: int) -> None:
    for _ in range(writes):
        query = row.update(n=next(_numbers)).where(row.id == 7)
        await row._meta.database.run(query.execute)


_numbers = itertools.count(1000)  # an update is never a no-op


async def _together(row: Any, statements: int, work: Any = _one_after_another) -> None:
    each = statements // _TASKS
    await asyncio.gather(*(work(row, each) for _ in range(_TASKS)))


async def _in_readonly(row: Any, reads: int, work: Any) -> None:
    async with row._meta.database.readonly():
        await work(row, reads)


def measure(server: Any, *, rounds: int, reads: int) -> dict[str, Any]:
    """Ratios of wall and CPU time, routed to plain, as `timing.ratios` gives them.

    Parameters:
        server: ``"mariadb"`` or ``"mysql"``.
        rounds: how many paired rounds.
        reads: how many reads, or writes, in each.
    """
    loop = asyncio.new_event_loop()
    with LocalCluster(replicas=1, server=server) as cluster:
        options = cluster.parameters(cluster.replicas[0])
        name = options.pop("database")
        plain = [AsyncMySQLDatabase(name, pool_size=_TASKS, **options) for _ in range(2)]
        routed = cluster.database(AsyncReplicatedDatabase, pool_size=_TASKS)
        options = cluster.parameters("primary")
        options.pop("database")
        plain += [AsyncMySQLDatabase(name, pool_size=_TASKS, **options) for _ in range(2)]
        rows = {"plain": _bound(plain[0]), "plain again": _bound(plain[1]), "routed": _bound(routed)}
        written = {**rows, "plain": _bound(plain[2]), "plain again": _bound(plain[3])}
        loop.run_until_complete(_fill(routed, rows["routed"]))
        cluster.sync()
        contenders: dict[str, Any] = {}
        for title, row in rows.items():
            contenders[title] = _run(loop, _one_after_another, row, reads)
            contenders[f"{title}, {_TASKS} tasks"] = _run(loop, _together, row, reads)
        for title, row in written.items():
            contenders[f"{title}, writes"] = _run(loop, _writes, row, reads)
            contenders[f"{title}, writes, {_TASKS} tasks"] = _run(loop, _together, row, reads, _writes)
        scoped = rows["routed"]
        contenders["routed, in readonly()"] = _run(loop, _in_readonly, scoped, reads, _one_after_another)
        contenders[f"routed, in readonly(), {_TASKS} tasks"] = _run(
            loop, _in_readonly, scoped, reads, _together
        )
        try:
            taken = timing.rounds(contenders, rounds)
        finally:
            for database in (*plain, routed):
                loop.run_until_complete(database.close_pool())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
    found: dict[str, Any] = timing.ratios(taken, {**PAIRS, **TOGETHER}, reads)
    return found


async def _fill(database: Any, row: Any) -> None:
    await database.acreate_tables([row])
    await database.run(row.insert_many([{"name": f"row {i}", "n": i} for i in range(100)]).execute)
    await database.aclose()


def _run(loop: asyncio.AbstractEventLoop, function: Any, *arguments: Any) -> Any:
    return lambda: loop.run_until_complete(function(*arguments))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--reads", type=int, default=400, help="reads per round")
    options = parser.parse_args()
    found = measure(options.server, rounds=options.rounds, reads=options.reads)
    print(f"get_by_id on {options.server}, routed / plain, {options.rounds} paired rounds")
    for name, told in found.items():
        print(name, told)


if __name__ == "__main__":
    main()
