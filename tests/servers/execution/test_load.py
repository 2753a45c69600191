"""Load on three replicas while they fail in turn, in both database classes at once.

`benchmarks/faults.py replicas` and `primary` are the long forms.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from support.clusters import own_cluster
from support.load.faults import FAULTS, States, befall, follow_again, until_served, until_written
from support.load.ledger import Group, Load, audit, prepare

from peewee_replicas import PooledReplicatedDatabase

THREADS = 8
REST = 0.05
"""Seconds between two rounds of one thread: many meet each fault, and a core is left for the servers."""
HOLD = {"paused": 4.0, "frozen": 1.0, "refusing": 1.0}
"""Seconds that a fault lasts: a node that hangs has to be found out."""


def groups_of(cluster: Any, **options: Any) -> list[Group]:
    options["probe_interval"] = 1.0
    pooled = cluster.database(PooledReplicatedDatabase, max_connections=20, **options)
    return [
        Group("plain", cluster.database(**options), per_request=False),
        Group("pooled", pooled, per_request=True),
    ]


def errors(load: Load) -> dict[str, int]:
    return dict(Counter(read.error for read in load.reads if read.error))


@pytest.mark.lesson(20, 22)
def test_no_read_fails_and_no_write_is_doubled_while_replicas_fail(server: str) -> None:
    with own_cluster(server, replicas=3) as cluster:
        prepare(cluster)
        groups = groups_of(cluster)
        found = []
        with Load(groups, THREADS, rest=REST) as load, States(load) as states:
            for number, fault in enumerate(FAULTS):
                node = cluster.replicas[number % 3]
                found.append(befall(load, states, cluster, fault, node, hold=HOLD.get(fault, 0.5)))
        assert errors(load) == {}
        assert [group.wrong for group in groups] == [[], []]
        counted = audit(cluster, load.writes)
        assert counted.sound, counted
        assert counted.acknowledged > 100
        assert counted.unknown == 0, {write.error for write in load.writes if write.error}
        for one in found:
            assert one.again is not None, one
            # Two replicas were there all the time, but a read that has waited at the third may have no time
            # left to wait for one of them.
            assert one.fallbacks <= THREADS, one
        gone = {one.fault: one for one in found}
        for fault in ("killed", "paused", "restarted"):
            assert gone[fault].noticed is not None, gone[fault]


@pytest.mark.lesson(26)
def test_reads_outlive_the_primary_and_writes_come_back_with_it(server: str) -> None:
    with own_cluster(server) as cluster:
        prepare(cluster)
        groups = groups_of(cluster, read_timeout=2)
        names = [node.name for node in cluster.replicas]
        with Load(groups, THREADS, writers=4, rest=REST) as load:
            for fault in ("killed", "paused"):
                assert until_served(load, names, load.now(), 30.0, reads=5)
                with ExitStack() as stack:
                    # What was written and is nowhere else, its writer cannot read without the primary.
                    with load.everything_replicated(cluster):
                        stack.enter_context(FAULTS[fault](cluster, cluster.primary))
                    began = load.now()
                    assert until_served(load, names, began, 30.0, reads=20)
                    assert load.wait_until(partial(refused, groups, began), 30.0)
                follow_again(cluster)
                until_written(load, load.now(), 30.0)
        assert errors(load) == {}
        assert [group.wrong for group in groups] == [[], []]
        counted = audit(cluster, load.writes)
        assert counted.sound, counted
        for write in load.writes:
            assert not write.error or "OperationalError" in write.error or "OutcomeUnknown" in write.error


def refused(groups: list[Group], began: float) -> bool:
    """Whether a write of each group has failed since."""
    return all(any(write.error and write.began >= began for write in list(group.writes)) for group in groups)
