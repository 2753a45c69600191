"""A thousand tasks over ten connections to each node, while replicas are killed and started again.

``python -m support.load.async_load`` does the same for as long as is asked for.
"""

from __future__ import annotations

from support.clusters import own_cluster
from support.load.async_load import run


def test_a_thousand_tasks_lose_no_read_and_leave_nothing(server: str) -> None:
    with own_cluster(server) as cluster:
        found = run(cluster, tasks=1000, seconds=3.0, seed=7, pool_size=10, acquire_timeout=60)
    assert not [what for what in found.failures if what.startswith("read")]
    assert found.reads > 500
    assert found.writes
    assert found.stale == found.left == found.tasks == 0
    assert found.faults["crash"]
    assert found.served > 100
