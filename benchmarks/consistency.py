"""Session guarantees on a real cluster with faults, checked for as long as it takes; prints what was found.

Every level of consistency works side by side with negative controls, which have to be caught in the same run:
a checker that finds nothing anywhere has shown nothing.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.guarantees.async_rounds import AsyncWork
from support.guarantees.checker import Report
from support.guarantees.faults import Faults
from support.guarantees.rounds import CONTROLS, OPTIONS, Work, table
from support.guarantees.setups import SETUPS, SetupFaults

from peewee_replicas.testing import LocalCluster

KINDS = {"freeze": 6.0, "pause": 2.0, "crash": 1.0, "delay": 0.5}


def sound(report: Report) -> tuple[int, int]:
    """Checks and violations at session, process and strong: without controls, and without `eventual`."""
    groups = [group for group in report.reads if group not in (*CONTROLS, "eventual, in scopes")]
    return (
        sum(report.total(report.checks, group) for group in groups),
        sum(report.total(report.violations, group) for group in groups),
    )


def main() -> int:
    """Run rounds until there are checks enough, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--checks", type=int, default=200_000, help="to make at session, process and strong")
    parser.add_argument("--seconds", type=float, default=480.0, help="stop after so long at the latest")
    parser.add_argument("--round", type=float, default=20.0, help="seconds of one round")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--no-faults", action="store_true")
    parser.add_argument(
        "--setup", action="store_true", help="several GTID domains (MariaDB), tagged and errant GTIDs (MySQL)"
    )
    parser.add_argument("--asyncio", action="store_true", help="drive the asyncio form")
    options = parser.parse_args()
    faulthandler.dump_traceback_later(options.seconds + 120, exit=True)
    total, befell = Report(), Counter[str]()
    began = time.monotonic()
    with LocalCluster(2, options.server, options=OPTIONS[options.server]) as cluster:
        setup = SETUPS[options.server](cluster) if options.setup else None
        more = setup.casts() if setup else []
        work = AsyncWork(cluster) if options.asyncio else Work(cluster, more=more)
        number = 0
        while time.monotonic() - began + options.round < options.seconds and sound(total)[0] < options.checks:
            number += 1
            faults = None
            if not options.no_faults:
                seed = f"{options.seed} {number}"
                often = {"kill_every": 0.4, "quiet": 0.6, "seed": seed}
                faults = SetupFaults(setup, KINDS, **often) if setup else Faults(cluster, KINDS, **often)
            found = work.round(options.round, f"{options.seed} {number}", faults)
            total.add(found)
            if faults is not None:
                befell += faults.done
            checks, violations = sound(total)
            print(
                f"round {number}, {time.monotonic() - began:.0f} s: {checks} checks, {violations} violations",
                flush=True,
            )
        seconds = time.monotonic() - began
        print(f"\n{options.server} {cluster.version}, {seconds:.0f} s, faults: {dict(befell)}")
        print(table(total, work.served))
        print("\n" + ", ".join(f"{name}: {number}" for name, number in work.counters().items()))
        print("\nnot counted, because a fault got in the way:")
        for trouble, times in sorted(work.troubles.items()):
            print(f"{times:>7}  {trouble}")
        for (group, _), examples in sorted(total.examples.items()):
            if group not in CONTROLS:
                print("\n".join(f"{group}: {example}" for example in examples))
    wrong = sum(number for (group, _), number in total.violations.items() if group not in CONTROLS)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
