"""How long reads wait at a replica that hangs, and how often one that does not hang is taken for it.

The client is a process of its own with eight threads or twenty tasks that read from two replicas; half of the
threads open a connection for each read. What is done to it, or to a replica:

- hung: the replica's server is stopped (SIGSTOP) again and again;
- swallowed: a relay in front of it keeps every packet of its;
- stopped client: the client itself is stopped for 20 s, again and again;
- slow: reads take ten times as long on one replica;
- reports: beside the others, one thread waits 5 s for each answer, another gets a long one slowly;
- busy: nothing is done, for as long as one likes.

Only in the first two may a replica be ejected, and there once each time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peewee_replicas import ReplicatedDatabase

from .over_time import TIMES, slow_down, usual
from .stage import ROWS, Relay, stage

THREADS, TASKS = 8, 20
PAUSE = 0.005
STOPPED_SECONDS = 20.0
READ = "SELECT node FROM seen WHERE id = %s"
REPORTS = ("SELECT SLEEP(5)", "SELECT REPEAT('x', 20000), SLEEP(0.05) FROM bench_row LIMIT 100")


# The client


class Reads:
    """What the reads of a client have met."""

    def __init__(self) -> None:
        self.number = 0
        self.longest = 0.0
        self.errors: dict[str, int] = {}

    @contextmanager
    def one(self) -> Iterator[None]:
        """Time one read, and note its failure."""
        began = time.monotonic()
        try:
            yield
        except Exception as exc:
            text = f"{type(exc).__name__}: {exc}"[:160]
            self.errors[text] = self.errors.get(text, 0) + 1
        self.number += 1
        self.longest = max(self.longest, time.monotonic() - began)


def by_threads(task: dict[str, Any], told: Callable[[Any, Reads], None]) -> None:
    """Read in threads until the parent ends this."""
    db = ReplicatedDatabase(**task["primary"], replicas=task["replicas"], consistency="eventual")
    reads, reports = Reads(), Reads()

    def work(number: int) -> None:
        key = number
        while True:
            key = (key + 7) % ROWS
            with reads.one():
                db.execute_sql(READ, (key + 1,)).fetchall()
                if number % 2:
                    db.close()
            time.sleep(PAUSE)  # a program that does something else, too

    def report(sql: str) -> None:
        while True:
            with reports.one():
                db.execute_sql(sql).fetchall()

    works = [(work, number) for number in range(task["readers"])]
    works += [(report, sql) for sql in (REPORTS if task["reports"] else ())]
    for function, argument in works:
        threading.Thread(target=function, args=(argument,), daemon=True).start()
    told(db, reads)


def by_tasks(task: dict[str, Any], told: Callable[[Any, Reads], None]) -> None:
    """Read in tasks of one event loop until the parent ends this."""
    from peewee_replicas.aio import AsyncReplicatedDatabase

    given = {name: value for name, value in task["primary"].items() if name != "ssl_disabled"}
    db: Any = AsyncReplicatedDatabase(**given, replicas=task["replicas"], consistency="eventual")
    reads = Reads()

    async def work(number: int) -> None:
        key = number
        while True:
            key = (key + 7) % ROWS
            with reads.one():
                await db.aexecute_sql(READ, (key + 1,))
            await asyncio.sleep(PAUSE)

    async def all_of_them() -> None:
        await asyncio.gather(*(work(number) for number in range(task["readers"])))

    threading.Thread(target=asyncio.run, args=(all_of_them(),), daemon=True).start()
    told(db, reads)


def client(task: dict[str, Any]) -> None:
    """Answer each line from the parent with what has happened since the last."""

    def tell(db: Any, reads: Reads) -> None:
        for _ in sys.stdin:
            stats = db.stats()
            answer = {
                "reads": reads.number,
                "longest": reads.longest,
                "errors": reads.errors,
                "ejections": sum(stats[f"replica-{number}.ejections"] for number in (1, 2)),
                "up": all(replica.state == "up" for replica in db.replicas),
                "fallbacks": stats["fallbacks"],
            }
            reads.longest = 0.0
            print(json.dumps(answer), flush=True)

    (by_tasks if task["form"] == "tasks" else by_threads)(task, tell)
    os._exit(0)


class Client:
    """The client, as its parent sees it. A context manager."""

    def __init__(
        self, primary: dict[str, Any], ports: list[int], form: str, readers: int, **options: Any
    ) -> None:
        replicas = [
            {"name": f"replica-{number}", "host": "127.0.0.1", "port": port}
            for number, port in enumerate(ports, 1)
        ]
        task = {"reports": False, **options, "primary": primary, "replicas": replicas, "form": form}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.hung", "--client", json.dumps({**task, "readers": readers})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[1],
        )

    def __enter__(self) -> Client:
        while self.ask()["reads"] < 200:
            time.sleep(0.1)  # the client only answers
        time.sleep(2.0)  # the prober's first rounds
        self.ask()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self) -> dict[str, Any]:
        """What has happened since this was last asked."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def until_up(self) -> None:
        """Wait until both replicas are in rotation."""
        while not self.ask()["up"]:
            time.sleep(0.1)  # the client only answers
        time.sleep(1.0)  # both serve reads again, as before the first fault


# The parent


def say(name: str, took: list[float], before: dict[str, Any], after: dict[str, Any], expected: int) -> None:
    """Print one row."""
    found = after["ejections"] - before["ejections"]
    longest = f"{statistics.median(took):6.2f} {max(took):6.2f}"
    print(
        f"{name:34} {after['reads'] - before['reads']:8} {longest} {found:5} of {expected:2}"
        f" {sum(after['errors'].values()):5}  load {os.getloadavg()[0]:.0f}",
        flush=True,
    )
    for text, number in after["errors"].items():
        print(f"    {number} times {text}")


def hung(cluster: Any, relay: Relay, form: str, readers: int, rounds: int) -> None:
    """The longest read while a replica is stopped, and while its packets are swallowed."""
    node = cluster.replicas[0]

    def swallow() -> None:
        relay.to_client = 3600.0

    def end_swallowing() -> None:
        relay.to_client = 0.0
        relay.drop()

    ways = {"hung": (node.pause, node.resume), "swallowed": (swallow, end_swallowing)}
    ports = [relay.port, cluster.replicas[1].port]
    with Client(cluster.parameters("primary"), ports, form, readers) as reading:
        for way, (strike, cure) in ways.items():
            before, took = reading.ask(), []
            for _ in range(rounds):
                reading.ask()
                strike()
                try:
                    time.sleep(3.0)  # longer than any read took to move on before
                    after = reading.ask()
                finally:
                    cure()
                took.append(after["longest"])
                reading.until_up()
            say(f"{way}, {readers} {form}", took, before, after, rounds)


def healthy(
    name: str, cluster: Any, form: str, readers: int, seconds: float, *, stops: int = 0, reports: bool = False
) -> None:
    """Read while nothing hangs."""
    ports = [node.port for node in cluster.replicas[:2]]
    with Client(cluster.parameters("primary"), ports, form, readers, reports=reports) as reading:
        before, took = reading.ask(), []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends or stops > 0:
            if stops > 0:
                stops -= 1
                reading.process.send_signal(signal.SIGSTOP)
                time.sleep(STOPPED_SECONDS)  # how long it stands still is what is tried
                reading.process.send_signal(signal.SIGCONT)
                time.sleep(5.0)  # a false ejection would come now
            else:
                time.sleep(min(10.0, max(0.1, ends - time.monotonic())))  # reading goes on, which is watched
            after = reading.ask()
            took.append(after["longest"])
        say(f"{name}, {readers} {form}", took, before, after, 0)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--rounds", type=int, default=10, help="how often a replica hangs")
    parser.add_argument("--stops", type=int, default=5, help="how often the client is stopped for 20 s")
    parser.add_argument("--minutes", type=float, default=5.0, help="of reading while nothing is done")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        client(json.loads(options.client))
        return
    with stage(options.server, 2) as cluster:
        node = cluster.replicas[0]
        for each in (cluster.primary, *cluster.replicas):
            slow_down(cluster, each, 0)
        print(f"{options.server} {cluster.version}; longest reads in s, per round: median and most")
        print(f"{'':34} {'reads':>8} {'median':>6} {'most':>6} {'ejected':>11} {'failed':>5}")
        with Relay(node.port) as relay:
            for form, readers in (("threads", THREADS), ("threads", 1), ("tasks", TASKS)):
                hung(cluster, relay, form, readers, options.rounds)
        for form, readers in (("threads", THREADS), ("tasks", TASKS)):
            healthy("stopped client", cluster, form, readers, 0.0, stops=options.stops)
        slow_down(cluster, node, (TIMES - 1) * usual(cluster))
        for form, readers in (("threads", THREADS), ("threads", 1), ("tasks", TASKS)):
            healthy("ten times slower", cluster, form, readers, 30.0)
        slow_down(cluster, node, 0)
        healthy("reports", cluster, "threads", THREADS, 60.0, reports=True)
        for form, readers in (("threads", THREADS), ("tasks", TASKS)):
            healthy(f"busy, {options.minutes:g} min", cluster, form, readers, 60 * options.minutes)


if __name__ == "__main__":
    main()
