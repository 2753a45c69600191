"""Make a cluster as good as new between two tests."""

from __future__ import annotations

import pymysql

from peewee_replicas.testing.cluster import LocalCluster

_SYNC_SECONDS = 60.0
# A transaction that an earlier test has left open would keep the database from being dropped.
_OPEN_TRANSACTIONS = (
    "SELECT p.id FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
    "ON p.id = t.trx_mysql_thread_id WHERE p.user = %s"
)


def empty(cluster: LocalCluster) -> None:
    """Repair a cluster's nodes, empty its database, and start counting from zero.

    If the nodes cannot be repaired, the cluster is started anew, with other ports and another password.
    """
    try:
        _repair(cluster)
        _empty(cluster)
    except (RuntimeError, TimeoutError, pymysql.err.MySQLError):
        cluster.stop()
        cluster.start()


def _repair(cluster: LocalCluster) -> None:
    for node in cluster.nodes:
        node.resume()
        node.start()
    for node in cluster.replicas:
        if node.frozen:
            node.thaw()
        status = {name.lower(): value for name, value in node.replication_status().items()}
        if status.get("sql_delay"):
            node.delay(0)


def _empty(cluster: LocalCluster) -> None:
    for node in cluster.nodes:
        for (session,) in node.execute(_OPEN_TRANSACTIONS, (cluster.user,)):
            try:
                node.execute("KILL %s", (session,))
            except pymysql.err.MySQLError as exc:
                if exc.args[:1] != (pymysql.constants.ER.NO_SUCH_THREAD,):
                    raise  # else it has ended by itself
    name = cluster.database_name
    cluster.primary.execute(f"DROP DATABASE IF EXISTS `{name}`")
    cluster.primary.execute(f"CREATE DATABASE `{name}`")
    cluster.sync(_SYNC_SECONDS)
    cluster.reset_counts()
