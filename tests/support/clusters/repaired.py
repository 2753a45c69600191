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

from pymysql.err import MySQLError
from support.clusters import as_in_another_process, own_cluster, write_nothing
from support.clusters.promoting import Topology
from support.databases.renewed import COUNTED

from peewee_replicas.testing import LocalCluster


@dataclass
class _Shared:
    """One of these clusters.

    Attributes:
        spoilt: to repair its nodes is not enough.
        left_by: the test that used it last; "" where none has.
        made: the contents of its database when that was made; None where it has to be made again.
    """

    cluster: LocalCluster
    spoilt: bool = False
    left_by: str = ""
    made: list[str] | None = None


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
        _empty(shared, models)
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


def _empty(shared: _Shared, models: list[Any]) -> None:
    """Have empty tables of the models in the database, and nothing else."""
    cluster = shared.cluster
    schema = cluster.database_name
    tables = [f"{schema}.{model._meta.table_name}" for model in models]
    with cluster.primary._control.session() as cursor:
        found = _contents(cursor, schema, tables)
        if [COUNTED.sub("", text) for text in found] == shared.made:
            for table in reversed(tables):  # which takes a third of making them again
                cursor.execute(f"DELETE FROM {table}")
            for table, text in zip(reversed(tables), reversed(found), strict=False):
                if COUNTED.search(text):
                    cursor.execute(f"ALTER TABLE {table} AUTO_INCREMENT = 1")
            write_nothing(cluster)  # to delete no rows is not replicated
        else:
            cursor.execute(f"DROP DATABASE IF EXISTS {schema}")
            cursor.execute(f"CREATE DATABASE {schema}")
            with as_in_another_process():  # or the tests would begin with what this has written
                database = cluster.database(replicas=(), probe_interval=None)
            with database.bind_ctx(models):
                database.create_tables(models)
            database.close()
            shared.made = [COUNTED.sub("", text) for text in _contents(cursor, schema, tables)]
    cluster.sync()
    cluster.reset_counts()


_HOW_MANY = "SELECT COUNT(*) FROM information_schema.{0}s WHERE {0}_schema = %s"


def _contents(cursor: Any, schema: str, tables: list[str]) -> list[str]:
    """How much a database has of each kind, and how it and its tables are made; nothing if one is missing."""
    found: list[str] = []
    for kind in ("table", "routine", "trigger", "event"):
        cursor.execute(_HOW_MANY.format(kind), (schema,))
        found.append(f"{cursor.fetchone()[0]} {kind}s")
    for what in (f"DATABASE {schema}", *(f"TABLE {table}" for table in tables)):
        try:
            cursor.execute(f"SHOW CREATE {what}")
        except MySQLError:
            return []
        found.append(cursor.fetchone()[1])
    return found


def _mend(shared: _Shared) -> None:
    """Make it whole: only when a test wants it, since nobody needs what the last of the tests leaves."""
    if shared.spoilt:
        _begin_anew(shared.cluster)
        shared.spoilt, shared.made = False, None
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
        if not _follows(node):
            # It tries to reach a primary that was away once per second; now it does so at once.
            node.execute(node._statements.stop)
            node.execute(node._statements.start)
    cluster.sync(60)


def _follows(node: Any) -> bool:
    """Whether both threads of a replica are at work."""
    status = {
        name.lower().replace("slave", "replica"): value for name, value in node.replication_status().items()
    }
    return status.get("replica_io_running") == status.get("replica_sql_running") == "Yes"
