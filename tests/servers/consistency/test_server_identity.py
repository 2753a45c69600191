"""Servers are told apart even if MariaDB's `server_uid` does not, or is missing.

`server_uid` is a hash of a network card and a port. It is missing in some releases (here 10.5.23), and
servers that listen on no port share it. Where a node is asked for its identity can be found with
`grep -r in_sql peewee_replicas`: in the waits of both dialects. The prober has it from `PROBE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pymysql
import pytest
from support.clusters import require
from support.clusters.lagging import SHORT, Slot, bound, held_back, n_of, watched
from support.proxies.relay import Relay

pytestmark = pytest.mark.once


@contextmanager
def behind_sockets(version: str | None) -> Iterator[Any]:
    """Start a MariaDB primary and two replicas that can be reached by Unix sockets only."""
    require("mariadb", version)
    closed = {"skip_networking": True}
    with held_back(
        "mariadb", 2, version=version, options={"replica-1": closed, "replica-2": closed}
    ) as found:
        yield found


@pytest.mark.parametrize("version", [None, "10.5.23"])
def test_servers_with_one_uid_behind_one_address_are_told_apart(version: str | None) -> None:
    with behind_sockets(version) as cluster, ThreadPoolExecutor(1) as other:
        first, second = cluster.replicas
        assert _uid(first) == _uid(second)
        sockets = [str(node.datadir.parent / "socket") for node in cluster.replicas]
        with Relay(0) as relay:
            endpoint = [{"name": "readers", "host": "127.0.0.1", "port": relay.port}]
            with (
                bound(cluster, replicas=endpoint, catch_up_timeout=SHORT, consistency="process") as db,
                watched(db) as events,
            ):
                relay.lead_to(sockets[0])
                Slot.update(n=2).execute()
                cluster.sync()
                assert n_of() == 2  # this thread's connection leads to the first
                relay.lead_to(sockets[1])
                assert other.submit(n_of).result() == 2  # the other thread's to the second
                assert [event.role for event in events if event.kind == "read"] == ["replica", "replica"]
                second.freeze()
                Slot.update(n=3).execute()
                cluster.sync()
                assert n_of() == 3  # so the node is known to show this
                assert other.submit(n_of).result() == 3
                roles = [event.role for event in events if event.kind == "read"]
                assert roles[2:] == ["replica", "primary"]
                other.submit(db.close).result()


def _uid(node: Any) -> object:
    try:
        return node.execute("SELECT @@server_uid")
    except pymysql.err.OperationalError as error:
        return error.args[0]
