"""Read/write splitting for peewee: reads go to the replicas, writes to the primary."""

from typing import TYPE_CHECKING

from .databases.mysql import PooledReplicatedDatabase, ReplicatedDatabase
from .databases.proxy import ReplicatedDatabaseProxy
from .databases.urls import register
from .errors import (
    BookmarkError,
    ConfigurationError,
    NoReplicaAvailable,
    OutcomeUnknown,
    PasswordUnavailable,
    PrimaryReadOnly,
    ReadOnlyViolation,
    TransactionEscapeError,
    TransactionEscapeWarning,
)
from .events import NodeEvent, Route, RouteEvent
from .nodes.health import Health, NodeHealth
from .nodes.replica import Replica
from .routing.nearest import Nearest
from .routing.policies import LeastBusy, Random, RoundRobin

if TYPE_CHECKING:
    from .databases.sqlite import ReplicatedSqliteDatabase

__all__ = [
    "BookmarkError",
    "ConfigurationError",
    "Health",
    "LeastBusy",
    "Nearest",
    "NoReplicaAvailable",
    "NodeEvent",
    "NodeHealth",
    "OutcomeUnknown",
    "PasswordUnavailable",
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


def __getattr__(name: str) -> object:
    # Few programs use the SQLite form, so none pays for importing it before.
    if name == "ReplicatedSqliteDatabase":
        from .databases.sqlite import ReplicatedSqliteDatabase

        globals()[name] = ReplicatedSqliteDatabase
        return ReplicatedSqliteDatabase
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _sqlite_from_url(*args: object, **kwargs: object) -> "ReplicatedSqliteDatabase":
    from .databases.sqlite import ReplicatedSqliteDatabase

    return ReplicatedSqliteDatabase(*args, **kwargs)  # type: ignore[arg-type]  # as playhouse read the URL


register(
    {
        "mysql+replicas": ReplicatedDatabase,
        "mysql+replicas+pool": PooledReplicatedDatabase,
        "sqlite+replicas": _sqlite_from_url,
    }
)
