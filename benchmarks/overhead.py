"""What routing costs: `Model.get_by_id()` routed against plain peewee, on the same server in one run.

The two take turns in short rounds, so that a machine whose speed drifts drifts for both; each pair of rounds
gives one ratio. Wall time and CPU time of this process are both taken; ratios below 1 are possible, because
the library negotiates results without the packet that PyMySQL reads after the columns.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

from peewee import CharField, IntegerField, Model, MySQLDatabase

from peewee_replicas.testing import LocalCluster


class Row(Model):
    """What is read."""

    name = CharField()
    n = IntegerField()


def reader(database: Any, reads: int) -> Callable[[], None]:
    """A function that makes `reads` reads by primary key on `database`."""

    class Bound(Row):
        class Meta:
            table_name = "row"

    Bound.bind(database)

    def read() -> None:
        for _ in range(reads):
            Bound.get_by_id(7)

    return read


def ratios(
    plain: Callable[[], None], other: Callable[[], None], rounds: int
) -> dict[str, tuple[float, float, float]]:
    """Median and quartiles of other/plain, of CPU and of wall time."""
    found: dict[str, list[float]] = {"cpu": [], "wall": []}
    for turn in range(rounds):
        taken = {}
        order = (plain, other) if turn % 2 else (other, plain)
        for work in order:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            taken[work] = (time.process_time() - cpu, time.perf_counter() - wall)
        found["cpu"].append(taken[other][0] / taken[plain][0])
        found["wall"].append(taken[other][1] / taken[plain][1])
    result = {}
    for name, values in found.items():
        low, middle, high = statistics.quantiles(values, n=4)
        result[name] = (low, middle, high)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--reads", type=int, default=300, help="reads per round")
    options = parser.parse_args()
    with LocalCluster(replicas=1, server=options.server) as cluster:
        replica = cluster.parameters(cluster.replicas[0])
        routed = cluster.database()
        plain = MySQLDatabase(replica.pop("database"), **replica)
        Row.bind(routed)
        routed.create_tables([Row])
        Row.insert_many([{"name": f"row {i}", "n": i} for i in range(100)]).execute()
        cluster.sync()
        routed.close()
        work = reader(plain, options.reads), reader(routed, options.reads)
        for run in work:
            run()
        print(
            f"get_by_id on {options.server} {cluster.version}, routed / plain, {options.rounds} paired rounds"
        )
        for name, (low, middle, high) in ratios(*work, options.rounds).items():
            print(f"{name:5} median {middle:.3f}   quartiles {low:.3f} to {high:.3f}")
        plain.close()
        routed.close()


if __name__ == "__main__":
    main()
