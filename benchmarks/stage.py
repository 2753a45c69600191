"""The servers and the rows that the measurements share.

Every node keeps its own value in the column `node` (written there behind replication's back), so that a read
tells by what it returns who has served it; no client is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peewee import CharField, IntegerField, Model

from peewee_replicas.testing import LocalCluster

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.proxies.relay import Relay

ROWS = 1000

# Only the columns that a write changes are replicated, so that each node keeps its own `node`. A write to
# disk at each commit would measure the disk.
OPTIONS: dict[str, dict[str, object]] = {
    "*": {
        "binlog_format": "ROW",
        "binlog_row_image": "MINIMAL",
        "innodb_flush_log_at_trx_commit": 0,
        "sync_binlog": 0,
    }
}


class Row(Model):
    """What is read and written."""

    n = IntegerField(default=0)
    node = IntegerField(default=0)
    name = CharField(default="")

    class Meta:
        table_name = "bench_row"


def on(database: Any) -> Any:
    """The model on one database."""
    meta = type("Meta", (), {"database": database, "table_name": Row._meta.table_name})
    return type("Row", (Row,), {"Meta": meta})


@contextmanager
def stage(server: Any, replicas: int) -> Iterator[LocalCluster]:
    """A cluster with the rows in place on every node, and each node's own number in them."""
    with LocalCluster(replicas, server, options=OPTIONS) as cluster:
        database = cluster.database(consistency="eventual")
        model = on(database)
        with database.primary():
            database.create_tables([model])
            model.insert_many([{"name": f"row {number}"} for number in range(1, ROWS + 1)]).execute()
        database.close()
        cluster.sync()
        for number, node in enumerate(cluster.replicas, 1):
            mark(cluster, node, number)
        yield cluster


def mark(cluster: LocalCluster, node: Any, number: int) -> None:
    """Write a node's own number into its rows, on that node alone."""
    with node._control.session() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(f"UPDATE {cluster.database_name}.bench_row SET node = %s", (number,))


_MOVE = {
    "mariadb": ("STOP SLAVE", "CHANGE MASTER TO MASTER_PORT = %s", "START SLAVE"),
    "mysql": ("STOP REPLICA", "CHANGE REPLICATION SOURCE TO SOURCE_PORT = %s", "START REPLICA"),
}


@contextmanager
def late(cluster: LocalCluster, *nodes: Any) -> Iterator[Relay]:
    """A relay through which some replicas receive; its `to_client` is how many seconds they are behind."""
    stop, move, start = _MOVE[cluster.server]

    def receive_from(port: int) -> None:
        for node in nodes:
            for sql, params in ((stop, None), (move, (port,)), (start, None)):
                node.execute(sql, params)

    with Relay(cluster.primary.port) as relay:
        receive_from(relay.port)
        try:
            yield relay
        finally:
            relay.to_client = 0.0
            receive_from(cluster.primary.port)
