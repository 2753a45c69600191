"""Make a cluster as good as new between two tests."""

from __future__ import annotations

import pymysql

from peewee_replicas.testing.cluster import LocalCluster
from peewee_replicas.testing.control import ADMIN, APP
from peewee_replicas.testing.node import ClusterNode

_SYNC_SECONDS = 60.0
# Locks such as those of LOCK TABLES do not show whose they are. After this time all sessions are ended.
_LOCK_SECONDS = 3
_SESSIONS = "SELECT id FROM information_schema.processlist WHERE user IN %s"
# A transaction that an earlier test has left open would keep the database from being dropped.
_OPEN_TRANSACTIONS = (
    "SELECT p.id FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
    "ON p.id = t.trx_mysql_thread_id WHERE p.user IN %s"
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
        _end_sessions(node, _OPEN_TRANSACTIONS)
    name = cluster.database_name
    try:
        cluster.primary.drop_schema(name, _LOCK_SECONDS)
    except pymysql.err.OperationalError as exc:
        if exc.args[0] != pymysql.constants.ER.LOCK_WAIT_TIMEOUT:
            raise
        _end_sessions(cluster.primary, _SESSIONS)
        cluster.primary.drop_schema(name, _LOCK_SECONDS)
    cluster.primary.execute(f"CREATE DATABASE `{name}`")
    try:
        cluster.sync(_LOCK_SECONDS)
    except TimeoutError:  # a session on a replica may hold a lock that the applier needs
        for node in cluster.replicas:
            _end_sessions(node, _SESSIONS)
        cluster.sync(_SYNC_SECONDS)
    cluster.reset_counts()


def _end_sessions(node: ClusterNode, question: str) -> None:
    for (session,) in node.execute(question, ((APP, ADMIN),)):
        try:
            node.execute("KILL %s", (session,))
        except pymysql.err.MySQLError as exc:
            if exc.args[:1] != (pymysql.constants.ER.NO_SUCH_THREAD,):
                raise  # else it has ended by itself
