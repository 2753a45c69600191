"""Session guarantees under faults, on real servers; `benchmarks/consistency.py` checks them for longer."""

from __future__ import annotations

from collections import Counter

import pytest
from support.clusters import own_cluster
from support.guarantees.checker import FOLLOWS, MONOTONIC, OWN_WRITES, PREFIX, PRIMARY, STRONG, TRUE, Report
from support.guarantees.faults import Faults
from support.guarantees.rounds import CONTROLS, OPTIONS, Work, table
from support.guarantees.setups import HIGHEST, LAST_POSITION, NO_TAGS, SETUPS, SetupFaults

pytestmark = pytest.mark.judges

SECONDS = 1.5
# The first are always done; the others only until enough was seen, which takes a slow machine longer.
ROUNDS, MOST_ROUNDS = 2, 20
ENOUGH_READS, ENOUGH_CHECKS = 500, 2000
KINDS = {"freeze": 6.0, "pause": 2.0, "crash": 1.0}
WANTED = (*KINDS, "killed connection of primary")
# The window in which a binary log runs ahead of its rows is too small to be met in so short a run.
SURE_TO_BE_CAUGHT = CONTROLS[:2]


@pytest.fixture
def found(server: str) -> Report:
    """What sessions at work with faults around them have seen."""
    total, befell = Report(), Counter[str]()
    with own_cluster(server, options=OPTIONS[server]) as cluster:
        work = Work(cluster)
        for number in range(MOST_ROUNDS):
            faults = Faults(cluster, KINDS, kill_every=0.3, quiet=0.4, seed=number + 10)
            total.add(work.round(SECONDS, number, faults))
            befell += faults.done
            served = sum(reads for who, reads in work.served.items() if who.endswith(": replica"))
            caught = all(total.total(total.violations, control) for control in SURE_TO_BE_CAUGHT)
            enough = served > ENOUGH_READS and checks(total) > ENOUGH_CHECKS and caught
            if number + 1 >= ROUNDS and enough and all(befell[kind] for kind in WANTED):
                break
        assert all(befell[kind] for kind in WANTED), befell
        assert served > ENOUGH_READS
        print(table(total, work.served))
    return total


def checks(found: Report) -> int:
    """How often a guarantee was checked, controls aside."""
    return sum(found.total(found.checks, group) for group in found.reads if group not in CONTROLS)


@pytest.mark.lesson(17)
def test_the_guarantees_hold_and_the_controls_are_caught(found: Report) -> None:
    groups = {group for group in found.reads if group not in CONTROLS}
    examples = [str(one) for (group, _), some in found.examples.items() if group in groups for one in some]
    assert not examples
    held = {guarantee for group, guarantee in found.checks if group in groups}
    assert held == {OWN_WRITES, PRIMARY, MONOTONIC, FOLLOWS, PREFIX, STRONG, TRUE}
    assert checks(found) > ENOUGH_CHECKS
    for control in SURE_TO_BE_CAUGHT:
        assert found.total(found.violations, control), f"{control} was not caught"


OF_SETUP = {"mariadb": (LAST_POSITION,), "mysql": (NO_TAGS, HIGHEST)}


def test_the_guarantees_hold_where_no_single_number_says_how_far_a_server_is(server: str) -> None:
    """Several GTID domains on MariaDB; on MySQL tagged GTIDs, and replicas with writes of their own."""
    found = Report()
    with own_cluster(server, options=OPTIONS[server]) as cluster:
        setup = SETUPS[server](cluster)
        work = Work(cluster, more=setup.casts())
        befell = Counter[str]()
        for number in range(MOST_ROUNDS):
            faults = SetupFaults(setup, KINDS, kill_every=0.5, quiet=0.4, seed=number + 10)
            found.add(work.round(SECONDS, number, faults))
            befell += faults.done
            caught = all(found.total(found.violations, control) for control in OF_SETUP[server])
            if number + 1 >= ROUNDS and caught and all(befell[kind] for kind in KINDS):
                break
        assert all(befell[kind] for kind in KINDS), befell
        print(table(found, work.served))
    groups = {group for group in found.reads if group not in CONTROLS}
    assert not [str(one) for (group, _), some in found.examples.items() if group in groups for one in some]
    for control in OF_SETUP[server]:
        assert found.total(found.violations, control), f"{control} was not caught"
