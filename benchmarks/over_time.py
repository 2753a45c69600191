"""How long reads take while one of three replicas turns slow, hangs or goes, for each policy, over time.

The policies read at the same time, each in a process of its own, at one even pace, so that a fault befalls
all of them at the same moment. The slow replica is slow in the server: the view that is read sleeps there.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from peewee_replicas import ReplicatedDatabase

from .crowd import Side, gather
from .plan import Plan
from .stage import ROWS, on, stage
from .timing import percentile, wait_until

POLICIES = ("round-robin", "random", "least-busy")
TIMES = 10.0
THREADS, PACE = 4, 0.01
SLOT = 0.5


def slow_down(cluster: Any, node: Any, seconds: float) -> None:
    """Let every read of the view on this node alone take so many seconds longer; 0: none."""
    where = f"WHERE SLEEP({seconds:.6f}) = 0" if seconds else ""
    schema = cluster.database_name
    with node._control.session() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(f"CREATE OR REPLACE VIEW {schema}.seen AS SELECT * FROM {schema}.bench_row {where}")


def readers(task: dict[str, Any], side: Side) -> dict[str, Any]:
    """One policy's process."""
    db = ReplicatedDatabase(**task["primary"], replicas=task["replicas"], policy=task["policy"])
    row = on(db)
    row._meta.set_table_name("seen")
    reads: list[tuple[float, float, int]] = []
    errors: dict[str, int] = {}
    prepared = threading.Barrier(THREADS + 1)
    window: dict[str, float] = {}

    def run(number: int) -> None:
        chance = random.Random(number)
        for _ in range(4):
            row.get_by_id(1)  # opens the connections
        prepared.wait()
        prepared.wait()
        due = window["begins"] + chance.random() * PACE
        while time.monotonic() < window["ends"]:
            wait_until(due)
            began = time.monotonic()
            due = max(due + PACE, began)
            try:
                node = row.get_by_id(chance.randint(1, ROWS)).node
            except Exception as exc:
                node = -1
                text = f"{type(exc).__name__}: {exc}"[:160]
                errors[text] = errors.get(text, 0) + 1
            reads.append((began, time.monotonic() - began, node))
        db.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    prepared.wait(30)
    window["begins"] = side.ready()
    window["ends"] = window["begins"] + task["seconds"]
    prepared.wait()
    for thread in threads:
        thread.join()
    return {"policy": task["policy"], "reads": reads, "errors": errors}


def watch(
    cluster: Any,
    seconds: float,
    at: float,
    cured: float,
    strike: Callable[[], None],
    cure: Callable[[], None],
) -> dict[str, Any]:
    """All policies through one fault, which begins and ends at these seconds."""
    nodes = [{"name": node.name, "host": node.host, "port": node.port} for node in cluster.replicas]
    task = {"primary": cluster.parameters("primary"), "replicas": nodes, "seconds": seconds}
    times: dict[str, float] = {}

    def fault(begins: float) -> None:
        wait_until(begins + at)
        times["struck"] = time.monotonic()
        strike()
        wait_until(begins + cured)
        cure()
        times["healed"] = time.monotonic() - times["struck"]

    found = gather(readers, [{**task, "policy": policy} for policy in POLICIES], seconds, fault)
    return {
        "healed_s": times["healed"],
        "policies": {each["policy"]: _summary(each, times["struck"], times["healed"]) for each in found},
    }


def _summary(told: dict[str, Any], struck: float, healed: float) -> dict[str, Any]:
    reads = [(began - struck, took * 1000, node) for began, took, node in told["reads"]]
    during = sorted(
        took for began, took, node in reads if -0.2 <= began < healed and began + took / 1000 >= 0
    )
    before = sorted(took for began, took, node in reads if began + took / 1000 < 0)
    slots: dict[int, list[float]] = {}
    for began, took, _ in reads:
        slots.setdefault(int(began // SLOT), []).append(took)
    return {
        "before": _points(before),
        "during": _points(during),
        "failed": sum(node < 0 for _, _, node in reads),
        "on_it": sum(node == 3 for began, _, node in reads if 0 <= began < healed) / max(1, len(during)),
        "errors": told["errors"],
        "slots": [
            [number * SLOT, *(round(value, 3) for value in _points(sorted(slots[number])).values())]
            for number in sorted(slots)
            if len(slots[number]) > 5
        ],
    }


def _points(taken: list[float]) -> dict[str, float]:
    if not taken:
        return dict.fromkeys(("p50", "p99", "p999", "max"), 0.0)
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    return {name: percentile(taken, share) for name, share in shares.items()} | {"max": taken[-1]}


def usual(cluster: Any) -> float:
    """Seconds that a read of the view takes with nothing else going on."""
    database = cluster.database()
    row, taken = on(database), []
    row._meta.set_table_name("seen")
    for key in range(1, 301):
        began = time.perf_counter()
        row.get_by_id(key)
        taken.append(time.perf_counter() - began)
    database.close()
    return statistics.median(taken[20:])


def measure(plan: Plan) -> dict[str, Any]:
    """The three faults on the last of three replicas of the first server."""
    seconds, at, cured = plan.pick((2.0, 0.5, 1.2), (15.0, 3.0, 10.0))
    with stage(plan.servers[0], 3) as cluster:
        slow_down(cluster, cluster.primary, 0)
        for node in cluster.replicas:
            slow_down(cluster, node, 0)
        cluster.sync()
        normal = usual(cluster)
        node = cluster.replicas[2]
        faults: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "slow": (
                lambda: slow_down(cluster, node, (TIMES - 1) * normal),
                lambda: slow_down(cluster, node, 0),
            ),
            "hung": (node.pause, node.resume),
            "gone": (node.kill, node.start),
        }
        found: dict[str, Any] = {
            "server": f"{cluster.server} {cluster.version}",
            "usual_ms": normal * 1000,
            "at_s": at,
            "cured_s": cured,
            "faults": {},
        }
        for name, (strike, cure) in faults.items():
            try:
                found["faults"][name] = watch(cluster, seconds, at, cured, strike, cure)
            finally:
                node.resume()
                node.start()
            cluster.sync(30)
            plan.save(found)
            plan.say(f"one replica {name}")
        return found
