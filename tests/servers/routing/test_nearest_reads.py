"""`Nearest` on real servers behind wires of different lengths: who serves, and when those of the zone fail.

What can happen to a node is in ``tests/unit/routing/test_nearest.py``, in simulated time; here is what only a
server and a wire can show: that latencies are measured, and that a lost node counts as gone.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from support.proxies.relay import Relay
from support.waiting import until

from peewee_replicas import Nearest

pytestmark = pytest.mark.usefixtures("form")

READ = "SELECT COUNT(*) FROM item"


@pytest.mark.parametrize("server", ["mariadb"])  # the client measures and chooses
def test_reads_stay_in_the_zone_until_it_is_slow_or_gone(cluster: Any, db: Any) -> None:
    near, far = cluster.replicas
    with Relay(near.port) as short, Relay(far.port, to_client=0.02) as long:
        replicas = [
            {"name": name, "host": "127.0.0.1", "port": relay.port, "tags": {"zone": zone}}
            for name, relay, zone in (("replica-1", short, "a"), ("replica-2", long, "b"))
        ]
        database = cluster.database(
            consistency="eventual", policy=Nearest("a", tolerance=0.1), replicas=replicas
        )
        served: deque[str] = deque(maxlen=5)
        database.route_hooks.append(lambda event: served.append(event.node))

        def all_by(name: str) -> bool:
            database.execute_sql(READ).fetchall()
            return set(served) == {name} and len(served) == served.maxlen

        before = cluster.counts()
        for _ in range(30):
            database.execute_sql(READ).fetchall()
        after = cluster.counts()
        counted = [after[name].reads - before[name].reads for name in ("primary", "replica-1", "replica-2")]
        assert (counted[0], sum(counted)) == (0, 30)
        assert counted[1] >= 20  # all of them, unless the machine itself has stood still

        short.to_client = 0.4
        until(lambda: all_by("replica-2"), 120)
        short.to_client = 0.0
        until(lambda: all_by("replica-1"), 120)  # tried again, once what is known of it has faded
    # The relays are gone, as if both wires were cut: nobody but the primary is left, and no read fails.
    until(lambda: all_by("primary"), 120)
    database.close()
