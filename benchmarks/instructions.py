"""Machine instructions per statement, by callgrind: a number that no other load on the machine moves.

The program runs under valgrind; servers do not. Only instructions of the program itself are counted, so
waiting costs nothing, and every answer has arrived whole before the slowed program looks for it. A call of
``os.getpgrp()`` marks where one stretch ends and the next begins.

    python -m benchmarks.instructions --rev main --rev .

counts two revisions on the same servers and puts them beside each other; ``.`` is this checkout.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .stage import stage
from .timing import spread

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from revisions import tree

ROOT = Path(__file__).resolve().parents[1]

PAIRS = {
    "session": "plain",
    "eventual": "plain",
    "pooled session": "pooled plain",
    "write": "plain write",
    "write in atomic()": "plain write in atomic()",
    "asyncio session": "asyncio plain",
    "asyncio readonly()": "asyncio plain",
    "asyncio write": "asyncio plain write",
}


_above = itertools.count(0, 100_000)  # what each process writes is above what the one before wrote


def count(
    cluster: Any, reads: int, turns: int, seconds: float, package: Path = ROOT, *, of_tasks: bool = False
) -> dict[str, Any]:
    """Instructions per statement of each contender, and ratios, in `turns` stretches of `reads` each.

    `package` is the folder whose `peewee_replicas` is counted; `of_tasks`: the asyncio forms as well, whose
    hundred connections take minutes to open under valgrind.

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
        "asyncio": of_tasks,
        "above": next(_above),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, root in (("peewee_replicas", package), ("benchmarks", ROOT)):
            (Path(folder) / name).symlink_to(root / name)
        command = [
            valgrind, "--tool=callgrind", "--dump-before=getpgrp", f"--callgrind-out-file={folder}/out",
            sys.executable, "-m", "benchmarks.counted", json.dumps(task),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"callgrind was not done within {seconds:.0f} s") from None
        if done.returncode:
            raise RuntimeError(f"callgrind: {done.stderr[-500:]}")
        order = json.loads(done.stdout.splitlines()[-1])
        counted = [_total(Path(folder) / f"out.{number}") for number in range(1, len(order) + 2)]
    # The first dump holds all that came before the first mark.
    taken: dict[str, list[float]] = {}
    for (name, statements), instructions in zip(order, counted[1:], strict=True):
        taken.setdefault(name, []).append(instructions / statements)
    return {
        "each": {name: spread(values) for name, values in taken.items()},
        "ratios": {
            name: spread([mine / theirs for mine, theirs in zip(taken[name], taken[base], strict=True)])
            for name, base in PAIRS.items()
            if name in taken
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


def beside(counted: dict[str, dict[str, Any]]) -> str:
    """One row for each form: its ratio to plain peewee and its instructions, at each revision."""
    revisions = list(counted)
    lines = [f"{'':20}" + "".join(f"{revision:>27}" for revision in revisions) + f"{'change':>10}"]
    for form in next(iter(counted.values()))["each"]:
        cells, each = "", [counted[revision]["each"][form]["median"] for revision in revisions]
        for revision, instructions in zip(revisions, each, strict=True):
            ratio = counted[revision]["ratios"].get(form)
            cells += f"{'' if ratio is None else format(ratio['median'], '.3f'):>13}{instructions:14,.0f}"
        lines.append(f"{form:20}{cells}{100 * (each[-1] / each[0] - 1):+9.1f}%")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions", description="Count instructions."
    )
    parser.add_argument("--rev", action="append", help="a git revision, or . for this checkout; repeatable")
    parser.add_argument("--server", choices=("mariadb", "mysql"), action="append", help="default: both")
    parser.add_argument("--reads", type=int, default=30, help="statements in one stretch")
    parser.add_argument("--turns", type=int, default=5, help="stretches of each form")
    parser.add_argument("--asyncio", action="store_true", help="count the asyncio forms too")
    options = parser.parse_args()
    for server in options.server or ("mariadb", "mysql"):
        counted = {}
        with stage(server, 1) as cluster:
            for revision in options.rev or ["."]:
                with tree(revision) as package:
                    counted[revision] = count(
                        cluster, options.reads, options.turns, 3600.0, package, of_tasks=options.asyncio
                    )
            print(f"{server} {cluster.version}\n{beside(counted)}\n", flush=True)


if __name__ == "__main__":
    main()
