"""Load on a primary and three replicas while nodes fail in turn; prints what the load saw of each fault."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.load.faults import FAULTS, Found, States, befall, follow_again, table, until_written
from support.load.ledger import Group, Load, audit, prepare
from support.load.programs import Flapping, Prefork, Program, connections, settles

from peewee_replicas import PooledReplicatedDatabase
from peewee_replicas.testing import LocalCluster

FLAPS = ("killed", "paused", "restarted")


def groups_of(cluster: Any, kinds: str, **options: Any) -> list[Group]:
    """The databases to put under load: ``plain``, ``pooled`` or ``both``."""
    options.setdefault("probe_interval", 1.0)
    made = []
    if kinds in ("plain", "both"):
        made.append(Group("plain", cluster.database(**options), per_request=False))
    if kinds in ("pooled", "both"):
        database = cluster.database(PooledReplicatedDatabase, max_connections=20, **options)
        made.append(Group("pooled", database, per_request=True))
    return made


def replicas(cluster: Any, options: argparse.Namespace) -> int:
    """Each replica in turn meets each fault in turn."""
    prepare(cluster)
    groups = groups_of(cluster, options.kind, max_lag=options.max_lag)
    found: list[Found] = []
    faults = options.faults.split(",")
    turns: Iterator[tuple[str, Any]] = zip(cycle(faults), cycle(cluster.replicas), strict=False)
    began = time.monotonic()
    with Load(groups, options.threads) as load, States(load) as states:
        while len(found) < len(faults) or time.monotonic() - began < options.seconds:
            fault, node = next(turns)
            found.append(befall(load, states, cluster, fault, node, hold=options.hold))
            print(table(found[-1:]).splitlines()[-1], flush=True)
    seconds = time.monotonic() - began
    print(f"\n{cluster.server} {cluster.version}, {options.threads} threads, {options.kind}, {seconds:.0f} s")
    print(table(found))
    return report(cluster, groups, load)


def primary(cluster: Any, options: argparse.Namespace) -> int:
    """The primary is killed, then paused; a share of the threads goes on writing."""
    prepare(cluster)
    groups = groups_of(cluster, options.kind, read_timeout=2)
    failed = 0
    with Load(groups, options.threads, writers=options.threads // 2) as load:
        load.wait(2.0)
        for fault in ("killed", "paused", "restarted"):
            with ExitStack() as stack:
                # What was written and is nowhere else, its writer cannot read without the primary.
                with load.everything_replicated(cluster):
                    began = time.monotonic()
                    stack.enter_context(FAULTS[fault](cluster, cluster.primary))
                load.wait(options.hold)
                lifted = time.monotonic()
            ended = time.monotonic()
            working = until_written(load, ended, 45.0)
            follow_again(cluster)
            reads = [read for read in load.reads if read.ended >= began]
            writes = [write for write in load.writes if began <= write.began < lifted]
            after = [write for write in load.writes if write.began >= ended]
            print(
                f"{fault:10} reads {len(reads)}, failed {sum(bool(read.error) for read in reads)}, longest "
                f"{max(read.took for read in reads):.3f} s; writes while it was away {len(writes)}, failed "
                f"{sum(bool(write.error) for write in writes)}, longest "
                f"{max((write.took for write in writes), default=0):.3f} s; after its return failed "
                f"{sum(bool(write.error) for write in after)} of {len(after)}, first success "
                + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in working.items()),
                flush=True,
            )
            load.wait(1.0)
    return failed + report(cluster, groups, load)


def prefork(cluster: Any, options: argparse.Namespace) -> int:
    """Requests to gunicorn's preloaded workers."""
    return each_kind(cluster, options, gunicorn_requests)


def forks(cluster: Any, options: argparse.Namespace) -> int:
    """Requests of short-lived workers, forked by a parent that goes on itself."""
    return each_kind(cluster, options, forked_requests)


def gevent(cluster: Any, options: argparse.Namespace) -> int:
    """Requests of greenlets in a patched program."""
    return each_kind(cluster, options, greenlet_requests)


def each_kind(cluster: Any, options: argparse.Namespace, run: Any) -> int:
    """Run a program with each of the database classes, and count what it leaves."""
    wrong = 0
    for kind in ("plain", "pooled") if options.kind == "both" else (options.kind,):
        prepare(cluster)
        began = time.monotonic()
        outcome, before, after, flapped = run(cluster, kind, options)
        seconds = time.monotonic() - began
        left = settles(lambda: connections(cluster), lambda found: not any(found.values()))
        sql = f"SELECT COUNT(*), COUNT(DISTINCT token) FROM {cluster.database_name}.ledger"
        tokens, different = cluster.primary.execute(sql)[0]
        wrong += len(outcome["errors"]) + tokens - different + sum(left.values())
        print(
            f"{options.what}, {cluster.server} {cluster.version}, {kind}: {outcome['done']} requests well, "
            f"failed {outcome['errors']}, in {seconds:.0f} s; failing: {dict(flapped)}; tokens {tokens}, "
            f"different {different}\n  before: {before}\n  after:  {after}\n  sessions when ended: {left}",
            flush=True,
        )
    return wrong


def gunicorn_requests(cluster: Any, kind: str, options: argparse.Namespace) -> Any:
    """Through HTTP, to four workers."""
    with TemporaryDirectory() as folder, Prefork(cluster, kind, Path(folder), workers=4) as served:
        served.warm(10_000_000)
        before = served.sockets(), connections(cluster)
        with Flapping(cluster, FLAPS, hold=1.0, rest=1.0) as faults:
            counted = served.serve(options.requests, clients=6)
        served.warm(20_000_000)
        after = settles(
            lambda: (served.sockets(), connections(cluster)),
            lambda found: all(found[0][pid] <= number for pid, number in before[0].items()),
        )
    done = counted.pop("done")
    return {"done": done, "errors": dict(counted)}, before, after, faults.done


def forked_requests(cluster: Any, kind: str, options: argparse.Namespace) -> Any:
    """Four workers at a time, 100 requests each."""
    with Program("forking_program.py", cluster, kind) as program:
        order = {"workers": 4, "requests": 100, "write_every": 20}
        program.ask(generations=1, first=10_000_000, **order)
        before = program.ask(count=True), connections(cluster)
        with Flapping(cluster, FLAPS, hold=1.0, rest=1.0) as faults:
            outcome = program.ask(generations=options.requests // 400, first=0, **order)
        after = program.ask(count=True), connections(cluster)
    print(program.errors, end="")
    return outcome, before, after, faults.done


def greenlet_requests(cluster: Any, kind: str, options: argparse.Namespace) -> Any:
    """Twenty greenlets at a time."""
    with Program("gevent_program.py", cluster, kind) as program:
        program.ask(warm=True, greenlets=1, requests=10)
        before = program.ask(count=True), connections(cluster)
        with Flapping(cluster, FLAPS, hold=1.0, rest=1.0) as faults:
            outcome = program.ask(greenlets=20, requests=options.requests, write_every=20, first=0)
        program.ask(empty=True)
        program.ask(warm=True, greenlets=1, requests=10)
        after = settles(
            lambda: (program.ask(count=True), connections(cluster)), lambda found: found == before
        )
    print(program.errors, end="")
    return outcome, before, after, faults.done


def report(cluster: Any, groups: list[Group], load: Load) -> int:
    """The ledger, the counters and the errors; how much is wrong."""
    cluster.sync()
    found = audit(cluster, load.writes)
    print(f"\nledger: {found}")
    wrong = int(not found.sound)
    for group in groups:
        took = sorted(read.took for read in group.reads)
        served = Counter(read.node for read in group.reads)
        failed = [read for read in group.reads if read.error]
        wrong += len(failed) + len(group.wrong)
        print(
            f"{group.name}: {len(took)} reads, failed {len(failed)}, wrong {len(group.wrong)}, median "
            f"{took[len(took) // 2] * 1e3:.2f} ms, p99 {took[len(took) * 99 // 100] * 1e3:.1f} ms, longest "
            f"{took[-1]:.3f} s; by node {dict(served)}"
        )
        numbers = group.database.stats()
        print("  " + ", ".join(f"{name}: {number}" for name, number in numbers.items() if number))
        for error, number in Counter(read.error for read in failed).most_common(8):
            print(f"  read failed {number} times: {error[:600]}")
        for text in group.wrong[:5]:
            print(f"  WRONG: {text}")
    errors = Counter(write.error.split(" (port")[0][:400] for write in load.writes if write.error)
    for error, number in errors.most_common(12):
        print(f"write failed {number} times: {error}")
    return wrong


def main() -> int:
    """Run one kind of load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=tuple(KINDS), nargs="?", default="replicas")
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--seconds", type=float, default=60.0, help="at least; each fault befalls once")
    parser.add_argument("--requests", type=int, default=20_000, help="of prefork, forks and gevent")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--hold", type=float, default=5.0, help="seconds that one fault lasts")
    parser.add_argument("--kind", choices=("plain", "pooled", "both"), default="both")
    parser.add_argument("--max-lag", type=float, default=2.0, help="seconds; a frozen replica passes it")
    parser.add_argument("--faults", default=",".join(FAULTS))
    options = parser.parse_args()
    faulthandler.dump_traceback_later(options.seconds * 3 + 900, exit=True)
    with ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster(3, options.server))
        return KINDS[options.what](cluster, options)


KINDS = {"replicas": replicas, "primary": primary, "prefork": prefork, "forks": forks, "gevent": gevent}

if __name__ == "__main__":
    sys.exit(main())
