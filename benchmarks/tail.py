"""One of three replicas is ten times slower: how long reads take under each policy, side by side in one run.

The slow replica is slow for real: there the view that is read sleeps in the server for nine times what a
read of it takes without, as measured first under the same load. The policies take turns in short slices, so
that what else the machine does befalls all of them alike. Last, the slow replica becomes as fast as the
others, and the time is told until ``least-busy`` gives it its share again.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import pymysql

from peewee_replicas.testing import LocalCluster

POLICIES = ("round-robin", "random", "least-busy")
ROWS = 1000
READ = "SELECT name FROM seen WHERE id = %s"
SKIPPED = 5
"""The first reads of a thread open its connections."""


def slow_down(cluster: LocalCluster, seconds: float) -> None:
    """Let each row that is read through the view on the last replica cost so many seconds; 0: nothing."""
    node, database = cluster.replicas[-1], cluster.database_name
    where = f"WHERE SLEEP({seconds:.6f}) = 0" if seconds else ""
    conn = pymysql.connect(host=node.host, port=node.port, user=cluster.admin_user, password=cluster.password)
    with conn, conn.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(f"CREATE OR REPLACE VIEW {database}.seen AS SELECT * FROM {database}.item {where}")


def load(
    database: Any, threads: int, over: Callable[[], bool], on_read: Callable[[float, str], object]
) -> None:
    """Read by key in several threads until it is over; tell how long each read took, and where."""
    told = threading.local()

    def hook(event: Any) -> None:
        told.node = event.node

    def work(number: int) -> None:
        key = number
        skip = SKIPPED
        while not over():
            key = (key + 7) % ROWS
            started = time.perf_counter()
            database.execute_sql(READ, (key + 1,)).fetchall()
            took = time.perf_counter() - started
            if skip:
                skip -= 1
            else:
                on_read(took, told.node)
        database.close()

    database.route_hooks.append(hook)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    database.route_hooks.remove(hook)


def slice_of(database: Any, threads: int, seconds: float) -> list[tuple[float, str]]:
    """The reads of one slice."""
    found: list[tuple[float, str]] = []
    ends = time.monotonic() + seconds
    load(database, threads, lambda: time.monotonic() > ends, lambda took, node: found.append((took, node)))
    return found


def percentile(values: list[float], share: float) -> float:
    """In milliseconds; the values are sorted."""
    return values[min(len(values) - 1, int(len(values) * share))] * 1000


def rediscover(cluster: Any, database: Any, threads: int) -> float | None:
    """Seconds until the replica that is fast again serves a quarter of the last 200 reads."""
    slow_down(cluster, 0)
    started = time.monotonic()
    recent: list[str] = []
    found: list[float] = []

    def note(_: float, node: str) -> None:
        recent.append(node)
        if len(recent) >= 200:
            if recent[-200:].count("replica-3") >= 50:
                found.append(time.monotonic() - started)
            del recent[:-200]

    load(database, threads, lambda: bool(found) or time.monotonic() - started > 60, note)
    return found[0] if found else None


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--slice", type=float, default=1.0, help="seconds per policy and round")
    parser.add_argument("--times", type=float, default=10.0, help="how many times slower")
    options = parser.parse_args()
    with LocalCluster(replicas=3, server=options.server) as cluster:
        primary = cluster.primary
        name = cluster.database_name
        primary.execute(f"CREATE TABLE {name}.item (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50))")
        values = ", ".join(f"('row {number}')" for number in range(ROWS))
        primary.execute(f"INSERT INTO {name}.item (name) VALUES {values}")
        primary.execute(f"CREATE VIEW {name}.seen AS SELECT * FROM {name}.item")
        cluster.sync()
        databases = {
            policy: cluster.database(policy=policy, consistency="eventual", probe_interval=None)
            for policy in POLICIES
        }
        for database in databases.values():
            slice_of(database, options.threads, 0.5)
        usual = statistics.median(
            took for took, _ in slice_of(databases["round-robin"], options.threads, 2 * options.slice)
        )
        slow_down(cluster, (options.times - 1) * usual)
        reads: dict[str, list[tuple[float, str]]] = {policy: [] for policy in POLICIES}
        for _ in range(options.rounds):
            for policy, database in databases.items():
                reads[policy] += slice_of(database, options.threads, options.slice)
        again = rediscover(cluster, databases["least-busy"], options.threads)
        for database in databases.values():
            database.close()
    print(
        f"{options.server} {cluster.version}, {options.threads} threads, {options.rounds} rounds; "
        f"a read takes {usual * 1000:.2f} ms, on replica-3 {options.times:g} times that"
    )
    print(f"{'policy':12} {'reads':>8} {'p50 ms':>8} {'p99 ms':>8} {'p99.9 ms':>9} {'on replica-3':>13}")
    for policy in POLICIES:
        took = sorted(seconds for seconds, _ in reads[policy])
        slow = sum(node == "replica-3" for _, node in reads[policy]) / len(took)
        points = [percentile(took, share) for share in (0.5, 0.99, 0.999)]
        print(f"{policy:12} {len(took):8} {points[0]:8.2f} {points[1]:8.2f} {points[2]:9.2f} {slow:12.2%}")
    told = "not within 60 s" if again is None else f"after {again:.1f} s"
    print(f"least-busy, once replica-3 is as fast as the others: its share is back {told}")


if __name__ == "__main__":
    main()
