"""Promote a replica again and again under load, and count what the program notices.

``python -m benchmarks.promotions mariadb --rounds 20``. Each round promotes a replica as an operator does by
hand: in turn a planned switch, a primary that is killed, and one that hangs. Threads write and read all the
time through one database. How it reaches the primary: ``--at listed`` at the address of each node, with
``follow_primary=True``; ``--at haproxy`` at one balancer's address, and ``--at dns`` at a name, which are
pointed to the new primary as the last step of the promotion; once writes work, the list of replicas is
changed. Printed are the seconds from the last step to the first acknowledged write, and what must be 0:
doubled writes, acknowledged writes that the surviving history lacks (the replicas have caught up before a
primary is killed or hangs), failed reads, and reads that saw less than an earlier one of the same
``causal_session()``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee

from peewee_replicas import OutcomeUnknown, ReplicatedDatabase

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.clusters.promoting import Topology, promotable
from support.proxies.moved_address import KINDS, moved_address
from support.waiting import until

WRITERS, READERS = 4, 4
WAYS = ("switched", "killed", "hung")


class Load:
    """Threads that write and read until they are stopped."""

    def __init__(self, database: ReplicatedDatabase) -> None:
        self.database = database
        self.acknowledged: list[tuple[int, int]] = []
        self.unknown: set[tuple[int, int]] = set()
        self.reads = self.failed_reads = self.backwards = self.refused = 0
        self.errors: dict[str, int] = {}
        self.held = threading.Event()
        self._stop = threading.Event()
        self._idle = [threading.Event() for _ in range(WRITERS)]
        works: list[Callable[[int], None]] = [self._write] * WRITERS + [self._read] * READERS
        self._threads = [
            threading.Thread(target=work, args=(number % WRITERS,)) for number, work in enumerate(works)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def pause_writes(self) -> None:
        """Let no write be under way."""
        self.held.set()
        for idle in self._idle:
            idle.wait()

    def resume_writes(self) -> None:
        self.held.clear()

    def _write(self, thread: int) -> None:
        number = 0
        while not self._stop.is_set():
            if self.held.is_set():
                self._idle[thread].set()
                time.sleep(0.005)  # writes are paused until `resume_writes`
                continue
            self._idle[thread].clear()
            number += 1
            key = (thread, number)
            try:
                self.database.execute_sql("INSERT INTO mark (thread, number) VALUES (%s, %s)", key)
            except OutcomeUnknown:
                self.unknown.add(key)
            except peewee.OperationalError as exc:
                self.refused += 1
                self._note(exc)
                time.sleep(0.01)  # a refused program tries again, though not without a pause
            else:
                self.acknowledged.append(key)
            time.sleep(0.002)  # a load that leaves the servers time to replicate
        self._idle[thread].set()
        self.database.close()

    def _read(self, thread: int) -> None:
        while not self._stop.is_set():
            most = 0
            try:
                with self.database.causal_session():  # in which reads never go backwards
                    for _ in range(20):
                        sql = "SELECT COUNT(*) FROM mark WHERE thread = %s"
                        (count,) = self.database.execute_sql(sql, (thread,)).fetchone()
                        self.reads += 1
                        self.backwards += count < most
                        most = max(most, count)
            except peewee.PeeweeException as exc:
                self.failed_reads += 1
                self._note(exc)
            time.sleep(0.002)  # a load that leaves the servers time to replicate
        self.database.close()

    def _note(self, exc: Exception) -> None:
        kind = f"{type(exc).__name__} {exc.args[0] if exc.args else ''}"
        self.errors[kind] = self.errors.get(kind, 0) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=["mariadb", "mysql"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--at", choices=["listed", *KINDS], default="listed")
    chosen = parser.parse_args()
    with promotable(chosen.server) as nodes, reached(nodes, chosen.at) as (arguments, move):
        run(nodes, chosen.rounds, chosen.ways, arguments, move)


Move = Callable[[Any], None]


@contextmanager
def reached(nodes: Topology, at: Any) -> Iterator[tuple[dict[str, Any], Move]]:
    """The arguments that lead a database to the primary, and what moves its address to another node."""
    if at == "listed":
        yield {"follow_primary": True}, lambda _: None
        return
    with tempfile.TemporaryDirectory() as folder, moved_address(at, nodes, Path(folder)) as address:
        yield {**address.arguments, "replicas": nodes.listed(*nodes.others)}, address.lead_to


def run(
    nodes: Topology, rounds: int, ways: Sequence[str], arguments: dict[str, Any], move: Move
) -> None:  # fmt: skip
    nodes.primary.execute(
        f"CREATE TABLE {nodes.cluster.database_name}.mark "
        "(id INT AUTO_INCREMENT PRIMARY KEY, thread INT, number INT)"
    )
    nodes.sync()
    database = nodes.database(**arguments, probe_interval=0.5, connect_timeout=5)
    load = Load(database)
    load.start()
    seconds: list[tuple[str, float]] = []
    try:
        for number in range(rounds):
            way = ways[number % len(ways)]
            seconds.append((way, promote(nodes, load, way, move)))
            print(f"{number + 1:3} {way:9} first write after {seconds[-1][1]:.2f} s", flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    finally:
        load.stop()
    report(nodes, load, seconds, database.stats()["primary_changes"])
    database.dispose()


def promote(nodes: Topology, load: Load, way: str, move: Move) -> float:
    """Promote a replica; return the seconds from the last step of it to the first write."""
    old = nodes.primary
    until(lambda: {one.state for one in load.database.replicas} == {"up"}, 60.0)  # one failure at a time
    time.sleep(1.0)  # load before each promotion, which is what is measured
    if way == "switched":
        nodes.promote()
    else:
        load.pause_writes()  # what the survivors lack would be lost by right
        nodes.sync()
        (old.kill if way == "killed" else old.pause)()
        load.resume_writes()
        nodes.promote_alone()
    move(nodes.primary)
    began, before = time.monotonic(), len(load.acknowledged)
    while len(load.acknowledged) == before:
        if time.monotonic() - began > 120:
            raise TimeoutError(load.database._parts.cluster.finding.words)
        time.sleep(0.005)  # how exactly the seconds are measured
    took = time.monotonic() - began
    if not load.database._parts.cluster.follows:
        load.database.set_replicas(nodes.listed(*nodes.others))
    if way != "switched":
        old.kill()  # one that hung must not wake up and execute what was sent to it meanwhile
        old._following = False
        old.start()
        nodes.join(old)
    nodes.sync()
    return took


def report(nodes: Topology, load: Load, seconds: list[tuple[str, float]], moves: int) -> None:
    rows = nodes.primary.execute(f"SELECT thread, number FROM {nodes.cluster.database_name}.mark")
    written = set(rows)
    times = sorted(took for _, took in seconds)
    print(f"promotions: {len(seconds)}, followed: {moves}")
    print(f"seconds until the first write: median {times[len(times) // 2]:.2f}, most {times[-1]:.2f}")
    for way in WAYS:
        own = sorted(took for one, took in seconds if one == way)
        if own:
            print(f"  {way}: {', '.join(f'{took:.2f}' for took in own)}")
    print(f"writes acknowledged: {len(load.acknowledged)}, of unknown outcome: {len(load.unknown)}, "
          f"refused: {load.refused}")  # fmt: skip
    print(f"writes doubled: {len(rows) - len(written)}")
    print(f"acknowledged writes missing: {len(set(load.acknowledged) - written)}")
    print(f"writes nobody sent or that were refused: {len(written - set(load.acknowledged) - load.unknown)}")
    print(f"reads: {load.reads}, failed: {load.failed_reads}, went backwards: {load.backwards}")
    print(f"errors: {load.errors}")


if __name__ == "__main__":
    main()
