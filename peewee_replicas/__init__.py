"""Read/write splitting for peewee: reads go to the replicas, writes to the primary."""

from .errors import ConfigurationError, NoReplicaAvailable, ReadOnlyViolation
from .events import Route, RouteEvent
from .mysql import PooledReplicatedDatabase, ReplicatedDatabase
from .policies import LeastBusy, Random, RoundRobin
from .replicas import Replica

__all__ = [
    "ConfigurationError",
    "LeastBusy",
    "NoReplicaAvailable",
    "PooledReplicatedDatabase",
    "Random",
    "ReadOnlyViolation",
    "Replica",
    "ReplicatedDatabase",
    "RoundRobin",
    "Route",
    "RouteEvent",
]
