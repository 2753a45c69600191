"""Session guarantees under faults in the asyncio form; for longer: `benchmarks/consistency.py --asyncio`."""

from __future__ import annotations

from collections import Counter

import pytest
from support.async_rounds import AsyncWork
from support.checker import FOLLOWS, MONOTONIC, OWN_WRITES, PREFIX, PRIMARY, STRONG, TRUE, Report
from support.clusters import own_cluster
from support.faults import Faults
from support.rounds import CONTROLS, OPTIONS, table

pytestmark = pytest.mark.once

SECONDS = 4.0
ROUNDS = 2
KINDS = {"freeze": 6.0, "pause": 2.0, "crash": 1.0}


def test_the_guarantees_hold_and_the_controls_are_caught(server: str) -> None:
    total = Report()
    befell: Counter[str] = Counter()
    with own_cluster(server, options=OPTIONS[server]) as cluster:
        work = AsyncWork(cluster)
        for number in range(ROUNDS):
            faults = Faults(cluster, KINDS, kill_every=0.3, quiet=0.4, seed=number)
            total.add(work.round(SECONDS, number, faults))
            befell += faults.done
        print(table(total, work.served))
    assert befell["freeze"]
    groups = {group for group in total.reads if group not in CONTROLS}
    examples = [str(one) for (group, _), some in total.examples.items() if group in groups for one in some]
    assert not examples
    held = {guarantee for group, guarantee in total.checks if group in groups}
    assert held == {OWN_WRITES, PRIMARY, MONOTONIC, FOLLOWS, PREFIX, STRONG, TRUE}
    assert sum(total.total(total.checks, group) for group in groups) > 1000
    for control in CONTROLS[:2]:
        assert total.total(total.violations, control), f"{control} was not caught"
