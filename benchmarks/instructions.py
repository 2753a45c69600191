"""Machine instructions per statement, by callgrind: a number that no other load on the machine moves.

The program runs under valgrind; servers do not. Only instructions of the program itself are counted, so
waiting costs nothing, and every answer has arrived whole before the slowed program looks for it. A call of
``os.getpgrp()`` marks where one stretch ends and the next begins.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peewee import MySQLDatabase
from playhouse.pool import PooledMySQLDatabase

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase

from .stage import ROWS, on
from .timing import spread

ROOT = Path(__file__).resolve().parents[1]
PAIRS = {
    "session": "plain",
    "eventual": "plain",
    "pooled session": "pooled plain",
    "write": "plain write",
    "write in atomic()": "plain write in atomic()",
}


def count(cluster: Any, reads: int, turns: int, seconds: float) -> dict[str, Any]:
    """Instructions per statement of each contender, and ratios, in `turns` stretches of `reads` each.

    Raises `RuntimeError` where valgrind is missing, or does not manage in `seconds`.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise RuntimeError("valgrind is not installed")
    # Making a TLS context, which nobody uses here, would take most of the time.
    task = {
        "primary": {**cluster.parameters("primary"), "ssl_disabled": True},
        "replica": {**cluster.parameters(cluster.replicas[0]), "ssl_disabled": True},
        "reads": reads,
        "turns": turns,
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [
            valgrind, "--tool=callgrind", "--dump-before=getpgrp", f"--callgrind-out-file={folder}/out",
            sys.executable, "-m", f"{__package__}.instructions", json.dumps(task),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"callgrind was not done within {seconds:.0f} s") from None
        if done.returncode:
            raise RuntimeError(f"callgrind: {done.stderr[-500:]}")
        order = json.loads(done.stdout.splitlines()[-1])
        counted = [_total(Path(folder) / f"out.{number}") for number in range(1, len(order) + 2)]
    # The first dump holds all that came before the first mark.
    taken: dict[str, list[float]] = {}
    for name, instructions in zip(order, counted[1:], strict=True):
        taken.setdefault(name, []).append(instructions / reads)
    return {
        "each": {name: spread(values) for name, values in taken.items()},
        "ratios": {
            name: spread([mine / theirs for mine, theirs in zip(taken[name], taken[base], strict=True)])
            for name, base in PAIRS.items()
        },
        "valgrind": _version(valgrind),
    }


def _total(file: Path) -> int:
    found = re.search(r"^(?:summary|totals): (\d+)", file.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no total in {file.name}")
    return int(found[1])


def _version(valgrind: str) -> str:
    return subprocess.run([valgrind, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def contenders(task: dict[str, Any]) -> dict[str, Callable[[int], Any]]:
    """What is counted, each with all connections open."""
    primary, replica = task["primary"], task["replica"]
    # Probes come once a second, which here is once in a few statements.
    ours: dict[str, Any] = {
        **primary,
        "replicas": [{"name": "replica-1", "host": replica["host"], "port": replica["port"]}],
        "probe_interval": None,
    }
    databases = {
        "plain": MySQLDatabase(**replica),
        "session": ReplicatedDatabase(**ours),
        "eventual": ReplicatedDatabase(**ours, consistency="eventual"),
        "pooled plain": PooledMySQLDatabase(**replica),
        "pooled session": PooledReplicatedDatabase(**ours),
    }
    found: dict[str, Callable[[int], Any]] = {}
    for name, database in databases.items():
        found[name] = on(database).get_by_id
    writers = {
        "plain write": MySQLDatabase(**primary),
        "write": ReplicatedDatabase(**ours),
    }
    for name, database in writers.items():
        row = on(database)
        found[name] = lambda number, row=row: (
            row.update(n=number).where(row.id == number % ROWS + 1).execute()
        )
        found[f"{name} in atomic()"] = database.atomic()(found[name])
    return found


def main() -> None:
    """Run under valgrind: every contender in turn, with a mark after each; their order goes to stdout."""
    task = json.loads(sys.argv[1])
    work = contenders(task)
    names = list(work)
    for run in work.values():
        for number in range(1, 6):
            run(number)
    order = []
    numbers = itertools.count(6)  # an update is never a no-op
    gc.collect()
    gc.disable()  # when it runs is chance, and one run of it costs as much as many statements
    os.getpgrp()
    for turn in range(task["turns"]):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            run = work[name]
            for _ in range(task["reads"]):
                run(next(numbers) % ROWS + 1)
            order.append(name)
            os.getpgrp()
    print(json.dumps(order), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
