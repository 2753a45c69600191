"""Kill the primary of a group of MySQL servers again and again, and count what the program notices.

``python -m benchmarks.elections --rounds 20``. Nobody promotes anything: the group finds out by itself that
its primary is gone, and elects another; a database with ``follow_primary=True`` follows it. A thread writes
and another reads all the time. Printed are the seconds from the kill to the first acknowledged write, most of
them the group's own time limits, and what must be 0, as in `promotions`.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path
from typing import Any

import peewee
import pymysql

from peewee_replicas import OutcomeUnknown

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.clusters.group import grouped, join, until_complete
from support.waiting import until

PAUSE = 0.02


class Load:
    """A thread that writes and one that reads, until they are stopped."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.acknowledged: list[int] = []
        self.unknown: set[int] = set()
        self.refused = self.reads = self.failed_reads = self.backwards = 0
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=work) for work in (self.write, self.read)]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def write(self) -> None:
        number = 0
        while not self.ended.wait(PAUSE):
            number += 1  # another for each try: one whose outcome is unknown is not sent again
            try:
                self.database.execute_sql("INSERT INTO mark (number) VALUES (%s)", (number,))
            except OutcomeUnknown:
                self.unknown.add(number)
            except peewee.OperationalError:
                self.refused += 1
            else:
                self.acknowledged.append(number)
        self.database.close()

    def read(self) -> None:
        while not self.ended.wait(PAUSE):
            most = 0
            try:
                with self.database.causal_session():  # in which reads never go backwards
                    for _ in range(20):
                        (rows,) = self.database.execute_sql("SELECT COUNT(*) FROM mark").fetchone()
                        self.reads += 1
                        self.backwards += rows < most
                        most = max(most, rows)
                        self.ended.wait(PAUSE)
            except peewee.PeeweeException as exc:
                self.failed_reads += 1
                print(f"a read: {type(exc).__name__}: {exc}", flush=True)
        self.database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with grouped() as cluster:
        cluster.primary.execute(
            f"CREATE TABLE {cluster.database_name}.mark (id INT AUTO_INCREMENT PRIMARY KEY, number INT)"
        )
        cluster.sync()
        join(cluster)
        database = cluster.database(
            user=cluster.admin_user, probe_interval=0.2, connect_timeout=5, follow_primary=True
        )
        load = Load(database)
        seconds = []
        try:
            for number in range(rounds):
                seconds.append(elect(cluster, database, load))
                print(f"{number + 1:3} first write after {seconds[-1]:.1f} s", flush=True)
        finally:
            load.stop()
        report(cluster, load, sorted(seconds), database.stats()["primary_changes"])
        database.close()
        database.dispose()


def elect(cluster: Any, database: Any, load: Load) -> float:
    """Kill the primary; return the seconds until the first write, and let the server join again."""
    until(lambda: all(replica.state == "up" for replica in database.replicas), 120.0)
    until(lambda: len(takes_writes(cluster)) == 1, 60.0)
    (old,) = takes_writes(cluster)
    began, before = time.monotonic(), len(load.acknowledged)
    old.kill()
    until(lambda: len(load.acknowledged) > before + 1, 180.0)  # one may have been on its way
    took = time.monotonic() - began
    old.start()
    try:
        old.execute("START GROUP_REPLICATION")
    except pymysql.err.OperationalError:
        # It has a write that the group does not have, the one of unknown outcome: it begins from nothing.
        old.execute("SET GLOBAL super_read_only = OFF")
        old.execute(f"DROP DATABASE {cluster.database_name}")
        old.execute("RESET BINARY LOGS AND GTIDS")
        old.execute("START GROUP_REPLICATION")
    until_complete(old)
    return took


def takes_writes(cluster: Any) -> list[Any]:
    running = [node for node in cluster.nodes if node.state == "running"]
    return [node for node in running if node.execute("SELECT @@super_read_only") == [(0,)]]


def report(cluster: Any, load: Load, seconds: list[float], moves: int) -> None:
    (primary,) = takes_writes(cluster)
    rows = [number for (number,) in primary.execute(f"SELECT number FROM {cluster.database_name}.mark")]
    written = set(rows)
    print(f"elections: {len(seconds)}, followed: {moves}")
    print(f"seconds: least {seconds[0]:.1f}, median {seconds[len(seconds) // 2]:.1f}, most {seconds[-1]:.1f}")
    print(f"writes acknowledged: {len(load.acknowledged)}, of unknown outcome: {len(load.unknown)}, "
          f"refused: {load.refused}")  # fmt: skip
    print(f"writes doubled: {len(rows) - len(written)}")
    print(f"acknowledged writes missing: {len(set(load.acknowledged) - written)}")
    print(f"reads: {load.reads}, failed: {load.failed_reads}, went backwards: {load.backwards}")


if __name__ == "__main__":
    main()
