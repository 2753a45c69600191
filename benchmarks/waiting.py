"""Reads after writes on late replicas: waiting where it is worth it, against waiting always, never, and the
usual remedies. All in turn in one run, round by round, so that a busy machine disturbs all of them alike.
"eventual" promises nothing, and shows what reading from replicas costs here without any wait.

Run it as ``python -m benchmarks.waiting``. The users are those of `price`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from .price import mix
from .stage import late, stage

MEASURED = (
    "primary only",
    "primary for 2 s",
    "eventual",
    "session, waits always",
    "session, catch_up_timeout=0",
    "session",
)
# Seconds that do not count: each round has a database of its own, which opens connections and learns how late
# its replicas are.
WARM_UP = 1.0
COLUMNS = (
    "| lag, writes | reads go | by replicas | median ms | 95 % ms | longest ms | 95 % wait ms | thrown away "
    "| stale |"
)


def cell(rounds: list[dict[str, Any]], name: str, form: str, scale: float = 1.0) -> str:
    """The median of the rounds, with the smallest and the largest."""
    values = sorted(one[name] * scale for one in rounds)
    return f"{statistics.median(values):{form}} ({values[0]:{form}}–{values[-1]:{form}})"


def row(title: str, strategy: str, rounds: list[dict[str, Any]]) -> str:
    """One strategy's line of the table."""
    shown = (
        cell(rounds, "by_replicas", ".0f", 100) + " %",
        cell(rounds, "p50_ms", ".1f"),
        cell(rounds, "p95_ms", ".1f"),
        cell(rounds, "longest_ms", ".0f"),
        cell(rounds, "waited_p95_ms", ".1f"),
        cell(rounds, "discarded", ".2f"),
        f"{sum(one['stale'] for one in rounds)} of {sum(one['reads'] for one in rounds)}",
    )
    return f"| {title} | {strategy} | {' | '.join(shown)} |"


def main() -> None:
    """Measure every strategy at each lag and share of writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--lags", type=int, nargs="+", default=[0, 20, 200], help="milliseconds")
    parser.add_argument(
        "--writes", type=float, nargs="+", default=[0.1, 0.3], help="shares of the statements"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one round of one strategy")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--output", type=Path, help="file for all figures, as JSON")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    with stage(options.server, 2) as cluster, late(cluster, *cluster.replicas) as relay:
        print(f"{cluster.server} {cluster.version}\n\n{COLUMNS}\n|{' --- |' * 9}", flush=True)
        for behind in options.lags:
            relay.to_client = behind / 1000
            for writes in options.writes:
                title = f"{behind} ms, {writes:.0%}"
                for number in range(options.rounds):
                    print(f"{title}, round {number + 1}", file=sys.stderr, flush=True)
                    for strategy in MEASURED:
                        taken = mix(cluster, strategy, writes, options.seconds, options.users, WARM_UP)
                        found.setdefault(f"{title} {strategy}", []).append(taken)
                for strategy in MEASURED:
                    print(row(title, strategy, found[f"{title} {strategy}"]), flush=True)
                if options.output is not None:
                    options.output.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
