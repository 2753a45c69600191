# pyright: strict
"""What a program's own tests use."""

from typing import Any

from typing_extensions import assert_type

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.testing import LocalCluster, one_server


class InRegion(ReplicatedDatabase):
    """A subclass with an argument of its own."""

    def __init__(self, *args: Any, region: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


with LocalCluster(replicas=1, server="mysql") as cluster:
    assert_type(cluster, LocalCluster)
    assert_type(cluster.database(), ReplicatedDatabase)
    assert_type(cluster.database(policy="random", user="admin", database="other"), ReplicatedDatabase)
    assert_type(cluster.database(AsyncReplicatedDatabase), AsyncReplicatedDatabase)
    assert_type(cluster.database(AsyncReplicatedDatabase, pool_size=2), AsyncReplicatedDatabase)
    assert_type(cluster.database(PooledReplicatedDatabase, max_connections=2), PooledReplicatedDatabase)
    assert_type(cluster.database(InRegion, region="eu", policy="random"), InRegion)

    given: dict[str, Any] = {}
    cluster.database(**given).readonly()
    assert_type(cluster.database(PooledReplicatedDatabase, **given), PooledReplicatedDatabase)

with one_server(PooledReplicatedDatabase("app"), transaction=True) as db:
    assert_type(db, PooledReplicatedDatabase)


async def use(asynchronous: AsyncReplicatedDatabase) -> None:
    async with one_server(asynchronous) as db:
        assert_type(db, AsyncReplicatedDatabase)
