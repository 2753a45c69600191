# pyright: strict
"""All ways to give arguments that work."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from typing_extensions import assert_type

from peewee_replicas import (
    LeastBusy,
    Nearest,
    PooledReplicatedDatabase,
    Random,
    Replica,
    ReplicatedDatabase,
    ReplicatedSqliteDatabase,
    RoundRobin,
)
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.discover import aurora, dns, galera, group_replication, replicas_of_primary, srv

ReplicatedDatabase(
    "app",
    host="primary",
    user="app",
    password="secret",
    replicas=[{"host": "r1"}, {"host": "r2", "weight": 2}, "r3:3307"],
    policy="least-busy",
    reads="observe",
    fallback="error",
    spread="unit",
    readonly_in_transaction="join",
    pure_functions=["tax"],
    consistency="process",
    catch_up_timeout=1,
    sticky_seconds=0.5,
    max_lag=None,
    max_fallback_share=0.1,
    on_transaction_escape="warn",
    probe_interval=None,
    heartbeat_table="percona.heartbeat",
    follow_primary=False,
    max_connection_age=300,
    thread_safe=True,
    charset="utf8mb4",
    read_timeout=3,
    ssl={"ca": "/ca.pem"},
)
ReplicatedDatabase(None)
ReplicatedDatabase("app", reads=0.01)


def password_of(node: Replica, refused: bool = False) -> str:
    return f"{node.host}{node.port}{refused}"


ReplicatedDatabase("app", password=password_of)
PooledReplicatedDatabase("app", password=lambda node: b"secret")
AsyncReplicatedDatabase("app", password=password_of)

# replicas
hosts = ["r1", "r2"]
by_name: dict[str, dict[str, str]] = {}
ReplicatedDatabase("app", replicas=hosts)
ReplicatedDatabase("app", replicas=tuple(hosts))
ReplicatedDatabase("app", replicas=deque(hosts))
ReplicatedDatabase("app", replicas=set(hosts))
ReplicatedDatabase("app", replicas=by_name.keys())
ReplicatedDatabase("app", replicas=by_name.values())
ReplicatedDatabase("app", replicas=({"host": host} for host in hosts))
ReplicatedDatabase("app", replicas=[{"host": host, "port": 3307} for host in hosts])
ReplicatedDatabase("app", replicas=("r1", {"host": "r2"}))


# replicas from a callable
def found() -> list[dict[str, Any]]:
    return [{"host": "r1"}]


def found_with(database: ReplicatedDatabase) -> list[str]:
    return [str(database.database)]


ReplicatedDatabase("app", replicas=found, refresh=5)
PooledReplicatedDatabase("app", replicas=found_with)
AsyncReplicatedDatabase("app", replicas=lambda: ["r1", "r2"], refresh=0.5)

# policies


def newest(replicas: Sequence[Replica]) -> Replica:
    return replicas[-1]


class Sorted:
    """A policy of one's own."""

    def __call__(self, replicas: Sequence[Replica]) -> Replica:
        return min(replicas, key=lambda replica: replica.name)


for policy in (RoundRobin, Random, LeastBusy, Sorted):
    ReplicatedDatabase("app", policy=policy)
ReplicatedDatabase("app", policy=RoundRobin())
ReplicatedDatabase("app", policy=Nearest("a", then="random", tolerance=None))
ReplicatedDatabase("app", policy=Nearest("a", Sorted))
ReplicatedDatabase("app", policy=Nearest("a", then=newest, tolerance=0.1))
ReplicatedDatabase("app", policy=Sorted())
ReplicatedDatabase("app", policy=newest)
ReplicatedDatabase("app", policy=lambda replicas: replicas[0])

# the other classes
pooled = PooledReplicatedDatabase("app", max_connections=None, stale_timeout=30, timeout=0, reads="primary")
assert_type(pooled, PooledReplicatedDatabase)
AsyncReplicatedDatabase("app", pool_size=3, pool_min_size=0, acquire_timeout=2, pool_recycle=60, echo=True)
ReplicatedSqliteDatabase("app.db", {"cache_size": -1000}, readers=1, timeout=3, consistency="strong")
ReplicatedSqliteDatabase("app.db", pragmas=[("cache_size", -1000)])

# from a file of settings
settings: dict[str, Any] = {}
ReplicatedDatabase("app", **settings)

# later
deferred = ReplicatedDatabase(None, policy="random")
deferred.init("app", host="primary", replicas=["r1"], consistency="eventual")
deferred.init("app", replicas=found, refresh=10)
deferred.set_replicas(["r1", {"host": "r2"}])
deferred.set_primary("r1:3306")
pooled.init("app", max_connections=5)

# ready callables
for source in (
    replicas_of_primary(),
    group_replication(seconds=1),
    galera(),
    aurora("abc.rds.amazonaws.com"),
):
    ReplicatedDatabase("app", replicas=source)
PooledReplicatedDatabase("app", replicas=dns("replicas", port=3307))
AsyncReplicatedDatabase("app", replicas=srv("_mysql._tcp.replicas", seconds=1))
