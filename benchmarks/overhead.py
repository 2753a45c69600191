"""What routing costs per read and per write, against the same peewee class without it, on the same server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from peewee import MySQLDatabase
from playhouse.pool import PooledMySQLDatabase

from peewee_replicas import PooledReplicatedDatabase

from . import instructions, timing
from .plan import Plan
from .stage import ROWS, on, stage

# What the prober takes belongs to no statement, and would befall any; it is told by itself.
QUIET = {"probe_interval": None}
SCOPED = "session, in readonly()"
READS = {
    "eventual": "plain",
    "session": "plain",
    "process": "plain",
    "strong": "plain",
    SCOPED: "plain",
    "session, pooled": "plain, pooled",
    "session, pool per request": "plain, pool per request",
    "plain again": "plain",
}
WRITES = {
    "eventual": "plain",
    "session": "plain",
    "process": "plain",
    "session, in atomic()": "plain, in atomic()",
    "session, pooled": "plain, pooled",
    "plain again": "plain",
}

# What servers do by themselves: every commit waits for the disk.
FLUSHED = {"session": "plain", "plain again": "plain"}
_FLUSH = "SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = {}"
_SYNC_BINLOG = {"mariadb": 0, "mysql": 1}

Step = Callable[[int], Any]


def reading(cluster: Any) -> tuple[dict[str, Step], list[Any]]:
    """One read by primary key in every form, and the databases to close."""
    replica = cluster.parameters(cluster.replicas[0])
    plain, again = MySQLDatabase(**replica), MySQLDatabase(**replica)
    pooled, routed_pool = PooledMySQLDatabase(**replica), cluster.database(PooledReplicatedDatabase, **QUIET)
    levels = {
        level: cluster.database(consistency=level, **QUIET)
        for level in ("eventual", "session", "process", "strong")
    }
    scoped = cluster.database(**QUIET)
    steps: dict[str, Step] = {"plain": on(plain).get_by_id, "plain again": on(again).get_by_id}
    for level, database in levels.items():
        steps[level] = on(database).get_by_id
    steps[SCOPED] = on(scoped).get_by_id
    for name, database in {"plain": pooled, "session": routed_pool}.items():
        row = on(database)
        steps[f"{name}, pooled"] = row.get_by_id

        def request(key: int, database: Any = database, row: Any = row) -> Any:
            database.close()
            with database.connection_context():
                return row.get_by_id(key)

        steps[f"{name}, pool per request"] = request
    return steps, [plain, again, *levels.values(), pooled, routed_pool, scoped]


def writing(cluster: Any) -> tuple[dict[str, Step], list[Any]]:
    """One update by primary key in every form, and the databases to close."""
    primary = cluster.parameters("primary")
    plain, again, transacted = (MySQLDatabase(**primary) for _ in range(3))
    databases = {
        "plain": plain,
        "plain again": again,
        "plain, pooled": PooledMySQLDatabase(**primary),
        "session, pooled": cluster.database(PooledReplicatedDatabase, **QUIET),
        **{
            level: cluster.database(consistency=level, **QUIET)
            for level in ("eventual", "session", "process")
        },
    }
    values = itertools.count(1)
    steps: dict[str, Step] = {}

    def update(row: Any, key: int) -> None:
        row.update(n=next(values)).where(row.id == key).execute()  # never a no-op

    for name, database in databases.items():
        row = on(database)
        steps[name] = lambda key, row=row: update(row, key)
    inside = {"plain, in atomic()": transacted, "session, in atomic()": cluster.database(**QUIET)}
    for name, database in inside.items():

        def transaction(key: int, database: Any = database, row: Any = on(database)) -> None:  # noqa: B008  # bound now, on purpose
            with database.atomic():
                update(row, key)

        steps[name] = transaction
    return steps, [*databases.values(), *inside.values()]


def writing_to_disk(cluster: Any) -> tuple[dict[str, Step], list[Any]]:
    """The same with the servers' own settings of durability, from now on."""
    cluster.primary.execute(_FLUSH.format(_SYNC_BINLOG[cluster.server]))
    steps, databases = writing(cluster)
    wanted = {*FLUSHED, *FLUSHED.values()}
    return {name: step for name, step in steps.items() if name in wanted}, databases


def compare(
    steps: dict[str, Step], pairs: dict[str, str], rounds: int, each: int, seconds: float
) -> dict[str, Any]:
    """Ratios of all pairs."""

    def work(name: str, step: Step) -> timing.Work:
        def run() -> None:
            for key in range(1, each + 1):
                step(key % ROWS + 1)

        def in_scope() -> None:
            with step.__self__._meta.database.readonly():  # type: ignore[attr-defined]  # a method of the model
                run()

        return in_scope if name == SCOPED else run

    works = {name: work(name, step) for name, step in steps.items()}
    taken = timing.rounds(works, rounds, until=time.monotonic() + seconds)
    return timing.ratios(taken, pairs, each)


def idle(cluster: Any, seconds: float) -> float:
    """CPU milliseconds per second of a database with its defaults, once used and then left alone."""
    database = cluster.database()
    on(database).get_by_id(1)
    time.sleep(0.2)  # the first probes connect
    cpu = time.process_time()
    time.sleep(seconds)  # leaving it alone is what is measured
    spent = (time.process_time() - cpu) / seconds * 1000
    database.close()
    return spent


def measure(plan: Plan) -> dict[str, Any]:
    """Both kinds of statements on every server of the plan, then instructions."""
    found: dict[str, Any] = {"servers": {}, "instructions": {}}
    count = len(plan.servers)
    for server in plan.servers:
        with stage(server, 1) as cluster:
            on_server = found["servers"][server] = {"version": cluster.version}
            each = dict.fromkeys(("reads", "writes"), plan.pick(20, 100))
            each["flushed writes"] = plan.pick(5, 20)
            for kind, make, pairs, share in (
                ("reads", reading, READS, 0.26),
                ("writes", writing, WRITES, 0.14),
                ("flushed writes", writing_to_disk, FLUSHED, 0.10),
            ):
                steps, databases = make(cluster)
                seconds = plan.pick(3.0, plan.seconds * share / count)
                on_server[kind] = compare(steps, pairs, plan.pick(3, 400), each[kind], seconds)
                cluster.sync(30)
                for database in databases:
                    database.close()
                plan.save(found)
                plan.say(f"{server}: {kind}, {len(steps)} forms")
            on_server["idle_ms"] = idle(cluster, plan.pick(1.0, 5.0))
            if plan.quick and server != plan.servers[0]:
                continue
            try:
                size = plan.pick((5, 1), (30, 3))
                seconds = plan.pick(40.0, plan.seconds * 0.55 / count)
                found["instructions"][server] = instructions.count(cluster, *size, seconds)
            except RuntimeError as exc:
                found["instructions"][server] = {"failed": str(exc)}
            plan.save(found)
            plan.say(f"{server}: instructions")
    found["asynchronous"] = {}
    for server in plan.servers:
        try:
            # Imported here: the driver it needs may be missing, which leaves the rest as it is.
            from .asynchronous import measure as measure_asynchronous

            size = plan.pick((2, 20), (15, 200))
            forms = measure_asynchronous(server, rounds=size[0], reads=size[1])
        except Exception as exc:
            forms = {"failed": f"{type(exc).__name__}: {exc}"[:300]}
        found["asynchronous"][server] = forms
        plan.save(found)
        plan.say(f"{server}: reads and writes under asyncio")
    return found
