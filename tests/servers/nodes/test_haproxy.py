"""HAProxy before the primary and before all replicas: nothing stale, and nothing lost that is not documented.

Behind one address of replicas, each connection may lead to another server, which may be late, restart or be
gone. The members of the kind are these three, for reads; for writes, the primary that restarts behind its
address. In both, the connection ends in mid-use, or new ones cannot be opened for a while.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest
from support.clusters.lagging import Slot, bound, n_of, watched
from support.proxies.haproxy import Ports, haproxy
from support.waiting import until

pytestmark = pytest.mark.once

PAIRS = 60
READS = 100


@pytest.fixture
def balanced(own_three: Any, tmp_path: Path) -> Iterator[tuple[Any, Ports]]:
    with haproxy(own_three, tmp_path) as ports:
        yield own_three, ports


@pytest.mark.parametrize("probe_interval", [None, 0.1])
def test_no_read_is_stale_with_a_late_replica_behind_the_balancer(
    balanced: tuple[Any, Ports], probe_interval: float | None
) -> None:
    cluster, ports = balanced
    late, _ = cluster.replicas
    late.freeze()
    try:
        with (
            bound(cluster, catch_up_timeout=0.1, probe_interval=probe_interval, **ports.arguments()) as db,
            watched(db) as events,
        ):
            for n in range(2, PAIRS):
                Slot.update(n=n).execute()
                assert n_of() == n
                if n % 3 == 0:
                    db.close()  # the next connection leads to the other replica
            assert {event.role for event in events if event.kind == "read"} >= {"replica"}
    finally:
        late.thaw()


@pytest.mark.parametrize("server", ["mariadb"], indirect=True)
def test_restarts_behind_the_balancer_lose_nothing(balanced: tuple[Any, Ports]) -> None:
    cluster, ports = balanced
    with bound(cluster, probe_interval=0.1, **ports.arguments()):
        Slot.update(n=7).execute()
        for node in cluster.replicas:
            for number in range(READS):
                if number == READS // 4:
                    node.kill()
                if number == READS // 2:
                    node.start()
                assert n_of() == 7
            until(lambda: ports.serving() >= {"replica-1", "replica-2"})  # or both would be away at once
        acknowledged, refused = 7, 0
        cluster.primary.kill()
        for n in range(8, 12):
            try:
                Slot.update(n=n).execute()
                acknowledged = n
            except peewee.OperationalError:  # as with plain peewee: a write is never repeated
                refused += 1
            assert n_of() >= 7
            if refused == 2 and cluster.primary.state == "stopped":
                cluster.primary.start()
        assert refused
        until(lambda: ports.serving() >= {"primary"})
        while acknowledged < 12:
            try:
                Slot.update(n=12).execute()
            except peewee.OperationalError:  # the connection may still be to the server that was killed
                continue
            acknowledged = 12
        assert n_of() == 12
