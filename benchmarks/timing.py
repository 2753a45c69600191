"""Comparing programs by paired rounds: short, in random order, one ratio per pair.

A machine whose speed drifts drifts for all contenders of a round alike, so the ratio holds where the times do
not. Each ratio is told by its median, its quartiles, and an interval in which the median lies with 95 %.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Work = Callable[[], Any]


def wait_until(moment: float) -> None:
    """Let time pass up to that reading of `time.monotonic`: a load has its pace, and a fault its moment."""
    time.sleep(max(0.0, moment - time.monotonic()))  # there is nothing to wait for but time


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, and the 95 % interval of the median, by order statistics."""
    ordered = sorted(values)
    count = len(ordered)
    if count < 2:
        only = ordered[0]
        return dict.fromkeys(("median", "low", "high", "from", "to"), only) | {"rounds": count}
    low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
    reach = 0.98 * math.sqrt(count)
    first = max(0, math.floor(count / 2 - reach) - 1)
    last = min(count - 1, math.ceil(count / 2 + reach))
    return {
        "median": middle,
        "low": low,
        "high": high,
        "from": ordered[first],
        "to": ordered[last],
        "rounds": count,
    }


def rounds(
    contenders: Mapping[str, Work], number: int, *, seed: int = 1, until: float = math.inf
) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each contender in each round; the first round, which warms up, is left out.

    Parameters:
        contenders: what to time, by name.
        number: how many rounds.
        seed: of their order.
        until: a time of `time.monotonic` at which no further round begins.
    """
    chance = random.Random(seed)
    names = list(contenders)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(number + 1):
        if turn > 2 and time.monotonic() > until:
            break
        chance.shuffle(names)
        gc.collect()
        for name in names:
            work = contenders[name]
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            spent = (time.perf_counter() - wall, time.process_time() - cpu)
            if turn:
                taken[name].append(spent)
    return taken


def ratios(
    taken: Mapping[str, Sequence[tuple[float, float]]], pairs: Mapping[str, str], each: int
) -> dict[str, Any]:
    """Ratios of each contender to the one it is held against, and its own times.

    Parameters:
        taken: what `rounds` gave.
        pairs: who is held against whom.
        each: operations in one round.
    """
    found = {}
    for name, base in pairs.items():
        found[name] = {
            "base": base,
            "wall": spread(
                [mine[0] / theirs[0] for mine, theirs in zip(taken[name], taken[base], strict=True)]
            ),
            "cpu": spread(
                [mine[1] / theirs[1] for mine, theirs in zip(taken[name], taken[base], strict=True)]
            ),
            "wall_us": statistics.median(mine[0] for mine in taken[name]) / each * 1e6,
            "cpu_us": statistics.median(mine[1] for mine in taken[name]) / each * 1e6,
            "base_wall_us": statistics.median(theirs[0] for theirs in taken[base]) / each * 1e6,
            "base_cpu_us": statistics.median(theirs[1] for theirs in taken[base]) / each * 1e6,
        }
    return found


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
