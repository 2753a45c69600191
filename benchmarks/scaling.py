"""Reads per second with one to four replicas of the same limited capacity, and what that leaves for writes.

Every node serves one statement on the table at a time and needs a fixed time for it: a stored function,
hidden in a view and in a trigger, takes a named lock of the server, sleeps, and releases the lock. Who comes
meanwhile waits in the server, as for a busy core. So each node has the same known capacity, whatever this
machine has.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from typing import Any

from peewee import MySQLDatabase

from peewee_replicas import ReplicatedDatabase

from .crowd import Side, gather
from .plan import Plan
from .stage import ROWS, on, stage
from .timing import percentile, spread, wait_until

SERVICE_MS = 3.0
THREADS_PER_NODE = 6
READ = "SELECT id, n, node, busy FROM served WHERE id = %s"

# A row that is `served` costs its node's only worker the service time; so does an update on the primary.
_SERVE = """\
CREATE FUNCTION {schema}.serve() RETURNS INT NOT DETERMINISTIC NO SQL
BEGIN
    DECLARE done INT;
    SET done = GET_LOCK('worker', 60);
    SET done = SLEEP({seconds});
    SET done = RELEASE_LOCK('worker');
    RETURN done;
END
"""
_VIEW = """\
CREATE SQL SECURITY INVOKER VIEW {schema}.served AS
SELECT id, n, node, name, {schema}.serve() AS busy FROM {schema}.bench_row
"""
_WRITES = """\
CREATE TRIGGER {schema}.worker BEFORE UPDATE ON {schema}.bench_row
FOR EACH ROW SET @served = {schema}.serve()
"""


def limit(cluster: Any) -> None:
    """Give every node one worker."""
    schema = cluster.database_name
    for sql in (_SERVE, _VIEW, _WRITES):
        cluster.primary.execute(sql.format(schema=schema, seconds=SERVICE_MS / 1000))
    cluster.sync()


def database(task: dict[str, Any]) -> Any:
    """Plain peewee without replicas, else ours."""
    if not task["replicas"]:
        return MySQLDatabase(**task["primary"])
    return ReplicatedDatabase(**task["primary"], replicas=task["replicas"], max_lag=None)


def clients(task: dict[str, Any], side: Side) -> dict[str, Any]:
    """One process of readers, as many threads as it is told, each without a pause."""
    db = database(task)
    latencies: list[float] = []
    errors: list[str] = []
    prepared = threading.Barrier(task["threads"] + 1)
    window: dict[str, float] = {}

    def run(number: int) -> None:
        chance = random.Random(number)
        db.execute_sql("SELECT busy FROM served WHERE id = 1").fetchall()
        prepared.wait()
        prepared.wait()
        while (began := time.monotonic()) < window["ends"]:
            try:
                db.execute_sql(READ, (chance.randint(1, ROWS),)).fetchall()
            except Exception as exc:
                errors.append(f"{type(exc).__name__}: {exc}"[:200])
                break
            now = time.monotonic()
            if began >= window["begins"] and now <= window["ends"]:
                latencies.append((now - began) * 1000)
        db.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(task["threads"])]
    for thread in threads:
        thread.start()
    prepared.wait(30)
    window["begins"] = side.ready() + task["warm"]
    window["ends"] = window["begins"] + task["seconds"]
    cpu = time.process_time()
    prepared.wait()
    for thread in threads:
        thread.join()
    spent = (time.process_time() - cpu) / (task["seconds"] + task["warm"])
    return {"latencies": latencies, "errors": errors, "cpu": spent}


def read(task: dict[str, Any], processes: int, threads: int) -> dict[str, Any]:
    """Reads per second of so many threads over all processes."""
    shares = [threads // processes + (number < threads % processes) for number in range(processes)]
    found = gather(clients, [{**task, "threads": share} for share in shares], task["seconds"])
    latencies = sorted(value for each in found for value in each["latencies"])
    errors = [error for each in found for error in each["errors"]]
    if errors:
        raise RuntimeError(errors[0])
    return {
        "per_second": len(latencies) / task["seconds"],
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
        "threads": threads,
        "client_cpu": sum(each["cpu"] for each in found),
    }


def write_latency(cluster: Any, seconds: float) -> dict[str, Any]:
    """One writer's latencies on the primary."""
    db = MySQLDatabase(**cluster.parameters("primary"))
    row, taken, number = on(db), [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number += 1
        began = time.perf_counter()
        row.update(n=number).where(row.id == number % ROWS + 1).execute()
        taken.append((time.perf_counter() - began) * 1000)
        time.sleep(0.02)  # few writes, so that they are no load themselves
    db.close()
    taken.sort()
    return {"p50_ms": statistics.median(taken), "p99_ms": percentile(taken, 0.99), "writes": len(taken)}


def writes(cluster: Any, tasks: dict[str, dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Latency of writes while nobody reads, and while readers saturate the primary, or replicas."""
    found = {"nobody reads": write_latency(cluster, seconds / 2)}
    for name, task in tasks.items():

        def write(begins: float, name: str = name) -> None:
            wait_until(begins + 0.3)
            found[name] = write_latency(cluster, seconds)

        task = {**task, "threads": THREADS_PER_NODE * 2, "seconds": seconds + 0.5}
        reads = gather(clients, [task], seconds, write)[0]
        found[name]["reads_per_second"] = len(reads["latencies"]) / task["seconds"]
    return found


def measure(plan: Plan) -> dict[str, Any]:
    """Zero to four replicas, in turns."""
    most, turns = plan.pick(2, 4), plan.pick(1, 3)
    seconds = plan.pick(0.4, min(4.0, (plan.seconds - 30) / (turns * (most + 1)) - 2))
    with stage(plan.servers[0], most) as cluster:
        limit(cluster)
        found: dict[str, Any] = {
            "server": f"{cluster.server} {cluster.version}",
            "service_ms": SERVICE_MS,
            "reads": {},
        }
        nodes = [{"name": node.name, "host": node.host, "port": node.port} for node in cluster.replicas]
        task = {"primary": cluster.parameters("primary"), "seconds": seconds, "warm": 0.5}
        taken: dict[int, list[dict[str, Any]]] = {}
        for turn in range(turns):
            for count in range(most + 1):
                # Enough waiting everywhere that no node is idle by chance of the order.
                threads = THREADS_PER_NODE * max(1, count)
                taken.setdefault(count, []).append(
                    read({**task, "replicas": nodes[:count]}, min(2, max(1, count)), threads)
                )
            plan.say(f"reads with 0 to {most} replicas, turn {turn + 1}")
        for count, several in taken.items():
            # Turn by turn, so that a machine that grows slower does so for both.
            linear = [
                each["per_second"] / (alone["per_second"] * max(1, count))
                for each, alone in zip(several, taken[0], strict=True)
            ]
            found["reads"][count] = {
                **several[0],
                "per_second": spread([each["per_second"] for each in several]),
                "of_linear": spread(linear),
                "p99_ms": statistics.median(each["p99_ms"] for each in several),
                "client_cpu": statistics.median(each["client_cpu"] for each in several),
            }
        plan.save(found)
        seconds = plan.pick(0.4, 4.0)
        found["writes"] = writes(
            cluster,
            {
                "readers on the primary": {**task, "replicas": []},
                "readers on replicas": {**task, "replicas": nodes[:2]},
            },
            seconds,
        )
        plan.say("latency of writes")
        return found
