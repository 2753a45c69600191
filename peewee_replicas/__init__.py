"""Read/write splitting for peewee: reads go to the replicas, writes to the primary."""

from .databases.mysql import PooledReplicatedDatabase, ReplicatedDatabase
from .databases.proxy import ReplicatedDatabaseProxy
from .databases.sqlite import ReplicatedSqliteDatabase
from .databases.urls import register
from .errors import (
    BookmarkError,
    ConfigurationError,
    NoReplicaAvailable,
    OutcomeUnknown,
    PrimaryReadOnly,
    ReadOnlyViolation,
    TransactionEscapeError,
    TransactionEscapeWarning,
)
from .events import NodeEvent, Route, RouteEvent
from .nodes.health import Health, NodeHealth
from .nodes.replica import Replica
from .routing.policies import LeastBusy, Random, RoundRobin

__all__ = [
    "BookmarkError",
    "ConfigurationError",
    "Health",
    "LeastBusy",
    "NoReplicaAvailable",
    "NodeEvent",
    "NodeHealth",
    "OutcomeUnknown",
    "PooledReplicatedDatabase",
    "PrimaryReadOnly",
    "Random",
    "ReadOnlyViolation",
    "Replica",
    "ReplicatedDatabase",
    "ReplicatedDatabaseProxy",
    "ReplicatedSqliteDatabase",
    "RoundRobin",
    "Route",
    "RouteEvent",
    "TransactionEscapeError",
    "TransactionEscapeWarning",
]

register(
    {
        "mysql+replicas": ReplicatedDatabase,
        "mysql+replicas+pool": PooledReplicatedDatabase,
        "sqlite+replicas": ReplicatedSqliteDatabase,
    }
)
