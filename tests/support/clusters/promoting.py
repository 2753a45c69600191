"""Promotions as an operator makes them by hand, or an orchestrator: only with statements on the servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from support.clusters import own_cluster

from peewee_replicas.testing import LocalCluster
from peewee_replicas.testing.control import REPLICATION
from peewee_replicas.testing.replication_sql import STATEMENTS


def set_read_only(cluster: LocalCluster, node: Any, on: bool) -> None:
    """Let a server refuse writes, or take them."""
    name = "super_read_only" if cluster.server == "mysql" and on else "read_only"
    if cluster.server == "mysql" and not on:
        node.execute("SET GLOBAL super_read_only = OFF")
    node.execute(f"SET GLOBAL {name} = {'ON' if on else 'OFF'}")


def detach(cluster: LocalCluster, node: Any) -> None:
    """Let a server follow nobody."""
    words = "SLAVE" if cluster.server == "mariadb" else "REPLICA"
    node.execute(f"STOP {words}")
    node.execute(f"RESET {words} ALL")


def attach(cluster: LocalCluster, node: Any, primary: Any) -> None:
    """Let a server follow another, from all that it has itself."""
    detach(cluster, node)
    if cluster.server == "mariadb" and node.execute("SELECT @@gtid_binlog_pos")[0][0]:
        node.execute("SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_current_pos")
    where = (primary.host, primary.port, REPLICATION, cluster.password)
    node.execute(STATEMENTS[cluster.server].follow, where)
    node.execute(STATEMENTS[cluster.server].start)


def caught_up(cluster: LocalCluster, node: Any, primary: Any, seconds: float = 60.0) -> None:
    """Wait until a server has everything that another has now."""
    words = STATEMENTS[cluster.server]
    position = primary.execute(words.position)[0][0]
    if position:
        assert node.execute(words.wait, (position, seconds)) == [(0,)]


def promote(cluster: LocalCluster, node: Any, old: Any, others: Sequence[Any] = ()) -> None:
    """Let a server take the place of another, without a loss: all other servers follow it."""
    set_read_only(cluster, old, True)
    for one in (node, *others):
        caught_up(cluster, one, old)
    detach(cluster, node)
    set_read_only(cluster, node, False)
    for one in (*others, old):
        attach(cluster, one, node)


def promote_alone(cluster: LocalCluster, node: Any, others: Sequence[Any] = ()) -> None:
    """Let a server take the place of one that cannot be asked: what it has not received is lost."""
    detach(cluster, node)
    set_read_only(cluster, node, False)
    for one in others:
        attach(cluster, one, node)


class Topology:
    """Who is the primary of a cluster now, and who follows it."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.primary, *self.others = cluster.nodes

    def begin_anew(self, *models: Any) -> None:
        """Make it a healthy cluster with empty tables, whatever a test has left: faster than another."""
        cluster = self.cluster
        self.primary, *self.others = cluster.nodes
        forget = "RESET MASTER" if cluster.server == "mariadb" else "RESET BINARY LOGS AND GTIDS"
        for node in cluster.nodes:
            node.resume()
            node._following = False  # or it would start what a promotion has removed
            node.start()
            detach(cluster, node)
            set_read_only(cluster, node, False)
            node.execute(f"DROP DATABASE IF EXISTS {cluster.database_name}")
            node.execute(forget)
            if cluster.server == "mariadb":
                node.execute("SET GLOBAL gtid_slave_pos = ''")
        for node in self.others:
            self.join(node)
        self.primary.execute(f"CREATE DATABASE {cluster.database_name}")
        database = self.database(replicas=())
        with database.bind_ctx(models):
            database.create_tables(models)
        database.close()
        self.sync()

    def sync(self) -> None:
        """Wait until all others have everything that the primary has."""
        for node in self.others:
            caught_up(self.cluster, node, self.primary)

    @staticmethod
    def name(node: Any) -> str:
        """The name of a server in databases, whatever its role."""
        return f"at-{node.port}"

    def listed(self, *nodes: Any) -> list[dict[str, Any]]:
        """The argument ``replicas``."""
        return [{"name": self.name(node), "host": node.host, "port": node.port} for node in nodes]

    def database(self, cls: Any = None, **options: Any) -> Any:
        """A database over the cluster as it is now."""
        usual = {"port": self.primary.port, "replicas": self.listed(*self.others)}
        return self.cluster.database(cls, **{**usual, **options})

    def promote(self) -> Any:
        """Let the first replica take the primary's place, without a loss; it is returned."""
        old, new = self.primary, self.others.pop(0)
        promote(self.cluster, new, old, self.others)
        self.primary = new
        self.others.append(old)
        return new

    def promote_alone(self) -> Any:
        """Let the first replica take the place of a primary that cannot be asked; it is returned."""
        old, new = self.primary, self.others.pop(0)
        promote_alone(self.cluster, new, self.others)
        self.primary = new
        self.others.append(old)
        return new

    def join(self, node: Any) -> None:
        """Let a server that is no longer the primary follow who is; what only it has is lost."""
        set_read_only(self.cluster, node, True)
        attach(self.cluster, node, self.primary)


@contextmanager
def promotable(server: str, replicas: int = 2, **options: Any) -> Iterator[Topology]:
    """A cluster whose application user may see whom a server follows."""
    with own_cluster(server, replicas, **options) as cluster:
        right = "SLAVE MONITOR" if server == "mariadb" else "REPLICATION CLIENT"
        cluster.primary.execute(f"GRANT {right} ON *.* TO {cluster.user}@'%'")
        cluster.sync()
        yield Topology(cluster)
