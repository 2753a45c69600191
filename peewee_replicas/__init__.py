"""Read/write splitting for peewee: reads go to the replicas, writes to the primary."""

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
from .mysql import PooledReplicatedDatabase, ReplicatedDatabase
from .policies import LeastBusy, Random, RoundRobin
from .proxy import ReplicatedDatabaseProxy
from .replicas import Replica
from .sqlite import ReplicatedSqliteDatabase
from .urls import register

__all__ = [
    "BookmarkError",
    "ConfigurationError",
    "LeastBusy",
    "NoReplicaAvailable",
    "NodeEvent",
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
