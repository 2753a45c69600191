"""What consistency costs: latency and the replicas' share, by level, by how much is written, and by lag.

Two parts. On a wire with a round trip of two milliseconds, single statements against plain peewee, in turn.
Then many users at once, each reading at random what was written before, on replicas that receive everything
late; beside the library's levels, the usual remedy: a user who wrote reads from the primary for two seconds.
"""

from __future__ import annotations

import itertools
import random
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

from peewee import MySQLDatabase

from peewee_replicas.consistency.catch_up import CatchUp, Late

from .plan import Plan
from .stage import ROWS, Relay, late, on, stage
from .timing import percentile, spread, wait_until

STICKY_SECONDS = 2.0
ROUND_TRIP_MS = 2.0
# Long enough for a replica on the same machine to apply one write.
APPLIED_SECONDS = 0.03

STRATEGIES = {
    "eventual": {"consistency": "eventual"},
    "session": {"consistency": "session"},
    "strong": {"consistency": "strong"},
    "primary for 2 s": {"consistency": "eventual"},
    "session, waits always": {"consistency": "session"},
    "session, catch_up_timeout=0": {"consistency": "session", "catch_up_timeout": 0},
    "primary only": {"reads": "primary"},
}
# Those that one run of all sections measures; `waiting.py` measures more of them, in turn.
USUAL = ("eventual", "session", "strong", "primary for 2 s")


def milliseconds(work: Callable[[], Any]) -> float:
    """How long it took."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def statements(cluster: Any, rounds: int) -> dict[str, Any]:
    """Per kind of statement the medians of plain peewee and of ours on the slow wire, and their ratio."""
    half = ROUND_TRIP_MS / 2000
    replica = cluster.replicas[0]
    with (
        Relay(cluster.primary.port, to_server=half, to_client=half) as to_primary,
        Relay(replica.port, to_server=half, to_client=half) as to_replica,
    ):
        parameters = {**cluster.parameters("primary"), "ssl_disabled": True}

        def plain(relay: Relay) -> Any:
            return MySQLDatabase(**{**parameters, "port": relay.port})

        replicas = [{"host": "127.0.0.1", "port": to_replica.port}]
        ours = {
            level: cluster.database(
                port=to_primary.port, replicas=replicas, ssl_disabled=True, consistency=level
            )
            for level in ("session", "strong")
        }
        writer, reader = plain(to_primary), plain(to_replica)
        taken = _in_turn(on(writer), on(reader), {level: on(db) for level, db in ours.items()}, rounds)
        for database in (writer, reader, *ours.values()):
            database.close()
    return {
        name: {
            "plain_ms": statistics.median(theirs),
            "ours_ms": statistics.median(mine),
            "ratio": spread([one / other for one, other in zip(mine, theirs, strict=True)]),
        }
        for name, (theirs, mine) in taken.items()
    }


def _in_turn(writes: Any, reads: Any, ours: dict[str, Any], rounds: int) -> dict[str, tuple[list, list]]:
    taken: dict[str, tuple[list[float], list[float]]] = {}
    values = itertools.count(int(time.time()))
    session = ours["session"]

    def pair(name: str, theirs: Callable[[], Any], mine: Callable[[], Any]) -> None:
        lists = taken.setdefault(name, ([], []))
        lists[0].append(milliseconds(theirs))
        lists[1].append(milliseconds(mine))

    for number in range(rounds + 1):
        if number == 1:
            taken.clear()  # the first turn opens connections
        key = number % ROWS + 1

        def write(row: Any, key: int = key) -> None:
            row.update(n=next(values) % 10**9).where(row.id == key).execute()  # never a no-op

        def read(row: Any, key: int = key) -> None:
            row.get_by_id(key)

        pair("write", lambda: write(writes), lambda: write(session))
        # Whatever the replica needs to apply it, the read waits for.
        pair("session: read at once after a write", lambda: read(reads), lambda: read(session))
        write(session)
        time.sleep(APPLIED_SECONDS)  # the replica is not to be asked meanwhile
        # The replica has it by now, but that is still to be heard from it: wait and read go in one send.
        pair("session: first read once the replica has it", lambda: read(reads), lambda: read(session))
        pair("session: read, replica known to have it", lambda: read(reads), lambda: read(session))
        pair("strong: read", lambda: read(reads), lambda: read(ours["strong"]))
    return taken


class Users:
    """People at work at once, each in a thread of its own, at an even pace."""

    def __init__(
        self, database: Any, strategy: str, writes: float, seconds: float, pace: float, warm_up: float = 0.0
    ) -> None:
        self.database = database
        self.row = on(database)
        self.sticky = strategy == "primary for 2 s"
        self.writes = writes
        self.pace = pace
        self.begin = time.monotonic() + warm_up  # reads before that do not count
        self.end = self.begin + seconds
        self.lock = threading.Lock()
        self.reads: list[tuple[float, bool, bool, float]] = []  # milliseconds, by a replica, stale, waited
        self.local = threading.local()
        database.route_hooks.append(lambda event: setattr(self.local, "waited", event.waited * 1000))
        self.errors: list[str] = []
        self.values = itertools.count(
            int(time.time() * 100) % 10**9
        )  # no value comes twice, or is stale by luck

    def work(self, number: int, keys: range) -> None:
        """One user, who is the only one to write some rows and reads any."""
        chance = random.Random(number)
        own: dict[int, int] = {}
        # As if everybody had been at work for long.
        before = chance.expovariate(self.writes / self.pace) if self.writes else 1e9
        wrote = time.monotonic() - before
        due = time.monotonic() + chance.random() * self.pace
        try:
            while time.monotonic() < self.end:
                wait_until(due)
                due += self.pace
                if chance.random() < self.writes:
                    value, key = next(self.values), chance.choice(keys)
                    self.row.update(n=value).where(self.row.id == key).execute()
                    own[key], wrote = value, time.monotonic()
                    if chance.random() < 0.5:  # a page that shows what was just saved
                        self._read(key, own[key], True)
                else:
                    key = chance.choice(list(own)) if own and chance.random() < 0.5 else chance.choice(keys)
                    self._read(key, own.get(key), time.monotonic() - wrote < STICKY_SECONDS)
        except Exception as exc:
            self.errors.append(f"{type(exc).__name__}: {exc}"[:200])
        finally:
            self.database.close()

    def _read(self, key: int, expected: int | None, sticks: bool) -> None:
        scope = self.database.primary() if self.sticky and sticks else nullcontext()
        with scope:
            began = time.perf_counter()
            row = self.row.get_by_id(key)
            took = (time.perf_counter() - began) * 1000
        with self.lock:
            stale = expected is not None and row.n != expected
            if time.monotonic() >= self.begin:
                self.reads.append((took, row.node > 0, stale, self.local.waited))


def mix(
    cluster: Any, strategy: str, writes: float, seconds: float, users: int, warm_up: float = 0.0
) -> dict[str, Any]:
    """What became of the reads of so many users of whose statements such a share writes."""
    database = cluster.database(**STRATEGIES[strategy])
    at_work = Users(database, strategy, writes, seconds, pace=0.05, warm_up=warm_up)
    always = patch.object(CatchUp, "judge", lambda *_, **__: Late.WAIT)
    each = ROWS // users
    threads = [
        threading.Thread(
            target=at_work.work, args=(number, range(1 + number * each, 1 + (number + 1) * each))
        )
        for number in range(users)
    ]
    with always if strategy == "session, waits always" else nullcontext():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if at_work.errors:
        raise RuntimeError(at_work.errors[0])
    # The first read of a thread opens its connection.
    reads = at_work.reads if warm_up else at_work.reads[users:] or at_work.reads
    taken = sorted(read[0] for read in reads)
    return {
        "reads": len(reads),
        "by_replicas": sum(read[1] for read in reads) / len(reads),
        "stale": sum(read[2] for read in reads),
        "p50_ms": percentile(taken, 0.5),
        "p95_ms": percentile(taken, 0.95),
        "p99_ms": percentile(taken, 0.99),
        "longest_ms": taken[-1],
        "waited_p95_ms": percentile(sorted(read[3] for read in reads), 0.95),
        "discarded": database.stats()["discarded"] / len(reads),
    }


def measure(plan: Plan) -> dict[str, Any]:
    """Both parts on the first server of the plan."""
    lags = plan.pick((0, 20), (0, 20, 200))
    shares = plan.pick((0.1,), (0.01, 0.1, 0.3))
    with stage(plan.servers[0], 2) as cluster:
        found: dict[str, Any] = {"server": f"{cluster.server} {cluster.version}", "mixes": []}
        found["statements"] = statements(cluster, plan.pick(5, 150))
        plan.save(found)
        plan.say("single statements on a slow wire")
        cells = len(lags) * len(shares) * len(USUAL)
        seconds = plan.pick(0.3, max(1.5, min(4.0, (plan.left() - 15) / cells - 0.3)))
        with late(cluster, *cluster.replicas) as relay:
            for behind in lags:
                relay.to_client = behind / 1000
                for writes in shares:
                    for strategy in USUAL:
                        cell = mix(cluster, strategy, writes, seconds, plan.pick(8, 20))
                        found["mixes"].append(
                            {"lag_ms": behind, "writes": writes, "strategy": strategy, **cell}
                        )
                plan.save(found)
                plan.say(f"replicas {behind} ms behind")
        return found
