"""Each line marked ``refused`` has a mistake, and the word that a checker's message names."""

from typing import Any

from peewee_replicas import Nearest, PooledReplicatedDatabase, ReplicatedDatabase, ReplicatedSqliteDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase

# Names
ReplicatedDatabase("app", polcy="random")  # refused: polcy
ReplicatedDatabase("app", max_connections=3)  # refused: max_connections
ReplicatedDatabase("app", pool_size=3)  # refused: pool_size
ReplicatedDatabase("app", hots="primary")  # refused: hots
ReplicatedDatabase("app", autocommmit=True)  # refused: autocommmit
ReplicatedDatabase("app", readers=2)  # refused: readers
PooledReplicatedDatabase("app", polcy="random")  # refused: polcy
PooledReplicatedDatabase("app", max_conections=3)  # refused: max_conections
AsyncReplicatedDatabase("app", maxlag=3)  # refused: maxlag
AsyncReplicatedDatabase("app", pool_sise=3)  # refused: pool_sise
AsyncReplicatedDatabase("app", max_connections=3)  # refused: max_connections
ReplicatedSqliteDatabase("app", reders=3)  # refused: reders
ReplicatedSqliteDatabase("app", replicas=[])  # refused: replicas
ReplicatedSqliteDatabase("app", host="primary")  # refused: host
ReplicatedDatabase("app", ["r1"])  # refused: positional
PooledReplicatedDatabase("app", 20)  # refused: positional
AsyncReplicatedDatabase("app", 20)  # refused: positional

# Words
ReplicatedDatabase("app", policy="fastest")  # refused: policy
ReplicatedDatabase("app", reads="replicas")  # refused: reads
ReplicatedDatabase("app", fallback="none")  # refused: fallback
ReplicatedDatabase("app", spread="request")  # refused: spread
ReplicatedDatabase("app", readonly_in_transaction="warn")  # refused: readonly_in_transaction
ReplicatedDatabase("app", consistency="sesion")  # refused: consistency
ReplicatedDatabase("app", on_transaction_escape="warning")  # refused: on_transaction_escape
PooledReplicatedDatabase("app", consistency="sesion")  # refused: consistency
AsyncReplicatedDatabase("app", consistency="sesion")  # refused: consistency
ReplicatedSqliteDatabase("app", consistency="sesion")  # refused: consistency
Nearest("a", then="randm")  # refused: then


def of_any_word(word: str) -> None:
    ReplicatedDatabase("app", policy=word)  # refused: policy


# Types
ReplicatedDatabase("app", replicas="r")  # refused: replicas
ReplicatedDatabase("app", replicas={"host": "r"})  # refused: replicas
ReplicatedDatabase("app", replicas=b"r")  # refused: replicas
ReplicatedDatabase("app", replicas=None)  # refused: replicas
ReplicatedDatabase("app", replicas=[5])  # refused: int
ReplicatedDatabase("app", replicas=[{5: "r"}])  # refused: int
PooledReplicatedDatabase("app", replicas="r")  # refused: replicas
AsyncReplicatedDatabase("app", replicas="r")  # refused: replicas
one: dict[str, Any] = {"host": "r"}
ReplicatedDatabase("app", replicas=one)  # refused: replicas
ReplicatedDatabase("app", replicas=len)  # refused: replicas
ReplicatedDatabase("app", replicas=int)  # refused: replicas
ReplicatedDatabase("app", refresh="30")  # refused: refresh
ReplicatedSqliteDatabase("app", refresh=30)  # refused: refresh
ReplicatedDatabase("app", policy=None)  # refused: policy
ReplicatedDatabase("app", policy=len)  # refused: policy
ReplicatedDatabase("app", policy=int)  # refused: policy
Nearest(1)  # refused: str
Nearest()  # refused: zone
Nearest("a", tolerance="1")  # refused: tolerance
ReplicatedDatabase("app", pure_functions=5)  # refused: pure_functions
ReplicatedDatabase("app", catch_up_timeout=None)  # refused: catch_up_timeout
ReplicatedDatabase("app", sticky_seconds="2")  # refused: sticky_seconds
ReplicatedDatabase("app", max_lag="10")  # refused: max_lag
ReplicatedDatabase("app", max_fallback_share="all")  # refused: max_fallback_share
ReplicatedDatabase("app", probe_interval="1")  # refused: probe_interval
ReplicatedDatabase("app", heartbeat_table=5)  # refused: heartbeat_table
ReplicatedDatabase("app", follow_primary="yes")  # refused: follow_primary
ReplicatedDatabase("app", max_connection_age="300")  # refused: max_connection_age
ReplicatedSqliteDatabase("app", max_connection_age=300)  # refused: max_connection_age
ReplicatedDatabase("app", host=5)  # refused: host
ReplicatedDatabase("app", password=5)  # refused: password
AsyncReplicatedDatabase("app", password=5)  # refused: password
ReplicatedDatabase("app", port="3306")  # refused: port
PooledReplicatedDatabase("app", max_connections="20")  # refused: max_connections
AsyncReplicatedDatabase("app", pool_size="20")  # refused: pool_size
ReplicatedSqliteDatabase("app", readers="2")  # refused: readers
ReplicatedDatabase()  # refused: database
ReplicatedDatabase(5)  # refused: str

# Later
db = ReplicatedDatabase(None)
db.reads = "replicas"  # refused: replicas
db.writes = "deny"  # refused: deny
db.init("app", polcy="random")  # refused: polcy
db.init("app", consistency="sesion")  # refused: consistency
db.init("app", replicas="r")  # refused: replicas
db.set_replicas("r")  # refused: replicas
db.set_replicas(lambda: ["r"])  # refused: replicas
db.set_primary({"host": "r"})  # refused: set_primary
db.set_replicas({"host": "r"})  # refused: replicas
db.set_replicas(["r"], policy="random")  # refused: policy
PooledReplicatedDatabase(None).init("app", max_conections=3)  # refused: max_conections
AsyncReplicatedDatabase(None).init("app", pool_sise=3)  # refused: pool_sise
ReplicatedSqliteDatabase(None).init("app", reders=3)  # refused: reders
