"""What routing alone costs as things grow: replicas, threads, length and number of texts. No server runs.

A read is routed as far as the replica that would be asked: the text is classified, the decision made, the
policy asked. Addresses are never connected to.
"""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.statements.classifier import Classifier

from . import timing
from .plan import Plan

POLICIES = ("round-robin", "random", "least-busy")
READ = "SELECT `t1`.`id`, `t1`.`n`, `t1`.`name` FROM `bench_row` AS `t1` WHERE (`t1`.`id` = %s) LIMIT %s"


def database(replicas: int, policy: str = "round-robin") -> Any:
    """A database over so many addresses at which nobody is."""
    nodes = [{"host": f"192.0.2.{number}"} for number in range(1, replicas + 1)]
    return ReplicatedDatabase("app", host="192.0.2.254", replicas=nodes, policy=policy, probe_interval=None)


def busy(db: Any) -> Any:
    """The same database with a read under way on every replica, and a latency of each."""
    for replica in db._parts.cluster.replicas.all:
        for _ in range(10):
            read = object()
            replica.start(read)
            replica.finish(read, time.monotonic() - 0.001)
        replica.start(object())
    return db


def router(db: Any) -> Callable[[], Any]:
    """One routed read, as far as its replica."""
    parts, state = db._parts, db._state

    def route() -> Any:
        statement = parts.router.classifier.classify(READ)
        parts.router.plan(statement, None, *parts.primary.situation(state), False)
        return parts.router.choice.choose(scoped=False)

    return route


def by_replicas(counts: tuple[int, ...], calls: int, turns: int) -> dict[str, Any]:
    """CPU nanoseconds per routed read by policy, and of `explain_route()`, by number of replicas."""

    def repeated(call: Callable[[], Any]) -> timing.Work:
        def run() -> None:
            for _ in range(calls):
                call()

        return run

    works = {}
    for count in counts:
        for policy in POLICIES:
            works[policy, count] = repeated(router(database(count, policy)))
        works["least-busy, all busy", count] = repeated(router(busy(database(count, "least-busy"))))
        db = database(count)
        works["explain_route()", count] = repeated(lambda db=db: db.explain_route(READ))
    taken = timing.rounds({f"{name}|{count}": work for (name, count), work in works.items()}, turns)
    found: dict[str, Any] = {}
    for name, count in works:
        each = [cpu / calls * 1e9 for _, cpu in taken[f"{name}|{count}"]]
        found.setdefault(name, {})[str(count)] = timing.spread(each)
    return found


def by_threads(counts: tuple[int, ...], calls: int, turns: int) -> dict[str, Any]:
    """Wall and CPU time per routed read, all threads together making the same number of them."""
    route = router(database(4))
    found: dict[str, Any] = {}
    for count in counts:
        walls, cpus = [], []
        for _ in range(turns):
            gate = threading.Barrier(count + 1)

            def work(gate: threading.Barrier = gate, each: int = calls // count) -> None:
                gate.wait()
                for _ in range(each):
                    route()

            threads = [threading.Thread(target=work) for _ in range(count)]
            for thread in threads:
                thread.start()
            cpu = time.process_time()
            gate.wait()
            began = time.perf_counter()
            for thread in threads:
                thread.join()
            done = calls // count * count
            walls.append((time.perf_counter() - began) / done * 1e9)
            cpus.append((time.process_time() - cpu) / done * 1e9)
        found[str(count)] = {"wall": timing.spread(walls), "cpu": timing.spread(cpus)}
    return found


def texts(length: int) -> Iterator[tuple[str, str]]:
    """Statements of about one length, of several kinds."""
    head, item = "SELECT n FROM bench_row WHERE id IN (", "1234567, "
    yield "SELECT ... IN (numbers)", head + item * max(1, (length - len(head) - 2) // len(item)) + "1)"
    head, item = "INSERT INTO bench_row (n, name) VALUES ", "(1, 'a value'), "
    yield "INSERT ... VALUES (rows)", head + item * max(1, (length - len(head) - 8) // len(item)) + "(1, '')"
    head = "SELECT n FROM bench_row WHERE name = '"
    yield "SELECT ... one literal", head + "x" * max(1, length - len(head) - 1) + "'"
    head = "SELECT n FROM bench_row WHERE "
    item = "(id = %s AND name LIKE %s) OR "
    yield "SELECT ... placeholders", head + item * max(1, (length - len(head) - 6) // len(item)) + "id = 1"


def by_length(lengths: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """CPU microseconds for a text that was never seen before."""
    found: dict[str, Any] = {}
    for length in lengths:
        for name, text in texts(length):
            taken: list[float] = []
            until = time.monotonic() + seconds
            while len(taken) < 3 or (time.monotonic() < until and len(taken) < 50):
                classifier = Classifier("mariadb")
                began = time.process_time()
                kind = classifier.classify(text).kind
                taken.append((time.process_time() - began) * 1e6)
            found.setdefault(name, {"kind": kind, "sizes": {}})["sizes"][len(text)] = timing.spread(taken)
    return found


_DISTINCT = """\
import json, sys, time
from peewee_replicas.statements.classifier import Classifier

def kilobytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4

classifier, marks, found, taken = Classifier("mariadb"), json.loads(sys.argv[1]), {}, 0.0
classifier.classify("SELECT 1 FROM bench_row")
before, number = kilobytes(), 0
for mark in marks:
    count = mark - number
    began = time.process_time()
    for number in range(number + 1, mark + 1):
        classifier.classify(f"SELECT n FROM bench_row WHERE id = {number} AND name = 'row'")
    found[mark] = {
        "us": (time.process_time() - began) / count * 1e6,
        "kilobytes": kilobytes() - before,
        "kept": len(classifier._recent) + len(classifier._older),
    }
print(json.dumps(found))
"""


def by_number(marks: tuple[int, ...], seconds: float) -> Any:
    """Time per new text and memory of a process that has seen so many different ones."""
    import json

    done = subprocess.run(
        [sys.executable, "-c", _DISTINCT, json.dumps(marks)],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=True,
    )
    return json.loads(done.stdout)


def by_repeats(distinct: tuple[int, ...], calls: int) -> dict[str, Any]:
    """Time per classification where so many texts come back in random order, again and again."""
    found: dict[str, Any] = {}
    chance = random.Random(1)
    for count in distinct:
        classifier = Classifier("mariadb")
        known = [f"SELECT n FROM bench_row WHERE id = {number}" for number in range(count)]
        for text in known[:8192]:
            classifier.classify(text)
        asked = [chance.choice(known) for _ in range(calls)]
        gc.collect()
        began = time.process_time()
        for text in asked:
            classifier.classify(text)
        found[str(count)] = (time.process_time() - began) / calls * 1e9
    return found


def measure(plan: Plan) -> dict[str, Any]:
    """All four."""
    counts = (1, 2, 4, 8, 16, 32)
    calls, turns = plan.pick((500, 3), (5000, 21))
    found: dict[str, Any] = {"python": sys.version.split()[0]}
    found["replicas"] = by_replicas(counts, calls, turns)
    plan.save(found)
    plan.say("replicas: 1 to 32")
    found["threads"] = by_threads((1, 2, 4, 8, 16, 32, 64), plan.pick(6400, 64000), plan.pick(2, 7))
    plan.save(found)
    plan.say("threads: 1 to 64")
    lengths = plan.pick((100, 10_000, 100_000), (100, 1_000, 10_000, 100_000, 1_000_000, 4_000_000))
    found["length"] = by_length(lengths, plan.pick(0.05, 0.5))
    plan.save(found)
    plan.say(f"texts: 100 to {lengths[-1]} characters")
    marks = plan.pick((1, 10, 100, 1000, 10_000), (1, 10, 100, 1000, 10_000, 100_000, 1_000_000))
    found["distinct"] = by_number(marks, plan.pick(60.0, 120.0))
    plan.save(found)
    found["repeats"] = by_repeats(plan.pick((1, 1000), (1, 10, 100, 1000, 4000, 10_000, 100_000)), 20_000)
    plan.say(f"texts: 1 to {marks[-1]} different ones")
    return found
