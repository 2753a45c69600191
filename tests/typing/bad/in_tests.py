"""Mistakes in a program's own tests."""

from peewee_replicas import PooledReplicatedDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.testing import LocalCluster, one_server

LocalCluster(server="postgres")  # refused: server
LocalCluster(replica=2)  # refused: replica
cluster = LocalCluster()
cluster.database(polcy="random")  # refused:
cluster.database(consistency="sesion")  # refused:
cluster.database(PooledReplicatedDatabase, consistency="sesion")  # refused:
cluster.database(PooledReplicatedDatabase, pool_size=2)  # refused:
cluster.database(AsyncReplicatedDatabase, max_connections=2)  # refused:
cluster.database(AsyncReplicatedDatabase).connect("now")  # refused: connect
cluster.database(dict)  # refused:
one_server(PooledReplicatedDatabase("app"), transactoin=True)  # refused: transactoin
