"""Session guarantees under faults in the asyncio form; for longer: `benchmarks/consistency.py --asyncio`."""

from __future__ import annotations

from collections import Counter

import pytest
from support.clusters import own_cluster
from support.guarantees.async_rounds import AsyncWork
from support.guarantees.checker import FOLLOWS, MONOTONIC, OWN_WRITES, PREFIX, PRIMARY, STRONG, TRUE, Report
from support.guarantees.faults import Faults
from support.guarantees.rounds import CONTROLS, OPTIONS, table

pytestmark = pytest.mark.judges

SECONDS = 1.5
# The first are always done; the others only until enough was seen, which takes a slow machine longer.
ROUNDS, MOST_ROUNDS = 2, 20
ENOUGH_CHECKS = 1000
SURE_TO_BE_CAUGHT = CONTROLS[:2]
KINDS = {"freeze": 6.0, "pause": 2.0, "crash": 1.0}


def checks(found: Report) -> int:
    """How often a guarantee was checked, controls aside."""
    return sum(found.total(found.checks, group) for group in found.reads if group not in CONTROLS)


@pytest.mark.lesson(17)
def test_the_guarantees_hold_and_the_controls_are_caught(server: str) -> None:
    total = Report()
    befell: Counter[str] = Counter()
    with own_cluster(server, options=OPTIONS[server]) as cluster:
        work = AsyncWork(cluster)
        for number in range(MOST_ROUNDS):
            faults = Faults(cluster, KINDS, kill_every=0.3, quiet=0.4, seed=number + 10)
            total.add(work.round(SECONDS, number, faults))
            befell += faults.done
            caught = all(total.total(total.violations, control) for control in SURE_TO_BE_CAUGHT)
            enough = checks(total) > ENOUGH_CHECKS and caught and all(befell[kind] for kind in KINDS)
            if number + 1 >= ROUNDS and enough:
                break
        print(table(total, work.served))
    assert all(befell[kind] for kind in KINDS), befell
    groups = {group for group in total.reads if group not in CONTROLS}
    examples = [str(one) for (group, _), some in total.examples.items() if group in groups for one in some]
    assert not examples
    held = {guarantee for group, guarantee in total.checks if group in groups}
    assert held == {OWN_WRITES, PRIMARY, MONOTONIC, FOLLOWS, PREFIX, STRONG, TRUE}
    assert checks(total) > ENOUGH_CHECKS
    for control in SURE_TO_BE_CAUGHT:
        assert total.total(total.violations, control), f"{control} was not caught"
