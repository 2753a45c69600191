"""Clusters that tests use one after the other. Repairing one after a test is faster than starting another.

A test may stop, kill, pause or freeze their nodes. One that writes on replicas, changes who follows whom or
replaces a server says that it `spoils` the cluster. What a test sets on a server it sets back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from support.clusters import as_in_another_process, own_cluster
from support.clusters.promoting import Topology

from peewee_replicas.testing import LocalCluster


@dataclass
class _Shared:
    """One of these clusters.

    Attributes:
        spoilt: to repair its nodes is not enough.
        left_by: the test that used it last; "" where none has.
    """

    cluster: LocalCluster
    spoilt: bool = False
    left_by: str = ""


_running: dict[tuple[str, int], _Shared] = {}


@contextmanager
def repaired(
    server: str, replicas: int, models: list[Any], *, spoils: bool = False
) -> Iterator[LocalCluster]:
    """A healthy cluster with empty tables of the models on all nodes."""
    shared = _running.get((server, replicas))
    if shared is None:
        cluster = own_cluster(server, replicas)
        cluster.start()
        shared = _running[server, replicas] = _Shared(cluster)
    try:
        _mend(shared)
        _empty(shared.cluster, models)
    except Exception as exc:
        del _running[server, replicas]
        shared.cluster.stop()
        last = shared.left_by or "its start"
        raise RuntimeError(f"the cluster cannot be repaired after {last}") from exc
    shared.spoilt = spoils
    shared.left_by = os.environ.get("PYTEST_CURRENT_TEST", "a test").removesuffix(" (setup)")
    try:
        yield shared.cluster
    finally:
        shared.cluster._stopping.close()  # the databases that the test has made


def stop_all() -> None:
    """Stop all of these clusters."""
    with ExitStack() as stack:
        while _running:
            stack.callback(_running.popitem()[1].cluster.stop)


def _empty(cluster: LocalCluster, models: list[Any]) -> None:
    cluster.primary.execute(f"DROP DATABASE IF EXISTS {cluster.database_name}")
    cluster.primary.execute(f"CREATE DATABASE {cluster.database_name}")
    with as_in_another_process():  # or the tests would begin with what this has written
        database = cluster.database(replicas=(), probe_interval=None)
    with database.bind_ctx(models):
        database.create_tables(models)
    database.close()
    cluster.sync()
    cluster.reset_counts()


def _mend(shared: _Shared) -> None:
    """Make it whole: only when a test wants it, since nobody needs what the last of the tests leaves."""
    if shared.spoilt:
        _begin_anew(shared.cluster)
        shared.spoilt = False
    elif shared.left_by:
        _repair(shared.cluster)


def _begin_anew(cluster: LocalCluster) -> None:
    Topology(cluster).begin_anew()
    for node in cluster.replicas:
        node._frozen = False
        node._following = True  # also when it is started again
        if cluster.server == "mysql":
            node.execute("SET GLOBAL super_read_only = OFF")  # it stays as read-only as after its start


def _repair(cluster: LocalCluster) -> None:
    for node in cluster.nodes:
        node.resume()
        node.start()
    for node in cluster.replicas:
        node.thaw()
        # A replica tries to reach a primary that was away once per second; now it does so at once.
        node.execute(node._statements.stop)
        node.execute(node._statements.start)
    cluster.sync(60)
