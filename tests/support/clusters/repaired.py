"""Clusters that the tests of one module share. Repairing one after a test is faster than starting another.

A test may stop, kill, pause or freeze their nodes. A test that replaces a server or changes its settings
needs a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.clusters import as_in_another_process, own_cluster

from peewee_replicas.testing import LocalCluster

_running: dict[tuple[str, int], LocalCluster] = {}


@contextmanager
def repaired(server: str, replicas: int, models: list[Any]) -> Iterator[LocalCluster]:
    """A healthy cluster with empty tables of the models on all nodes. It is repaired afterwards."""
    cluster = _running.get((server, replicas))
    if cluster is None:
        cluster = own_cluster(server, replicas)
        cluster.start()
        _running[server, replicas] = cluster
    _empty(cluster, models)
    try:
        yield cluster
    finally:
        try:
            _repair(cluster)
        except BaseException:
            del _running[server, replicas]
            cluster.stop()
            raise


def stop_all() -> None:
    """Stop all of these clusters."""
    while _running:
        _running.popitem()[1].stop()


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


def _repair(cluster: LocalCluster) -> None:
    cluster._stopping.close()  # the databases that the test has made
    for node in cluster.nodes:
        node.resume()
        node.start()
    for node in cluster.replicas:
        node.thaw()
        # A replica tries to reach a primary that was away once per second; now it does so at once.
        node.execute(node._statements.stop)
        node.execute(node._statements.start)
    cluster.sync(60)
