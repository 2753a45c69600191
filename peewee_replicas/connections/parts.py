"""The collaborators to which the database classes delegate all work."""

from __future__ import annotations

from dataclasses import dataclass

from ..concurrency import Here
from ..consistency.levels import Consistency
from ..events import Counters
from ..nodes.cluster import Cluster
from ..routing.router import Router
from .diagnosis import Diagnosis
from .primary_connection import PrimaryConnection
from .primary_session import PrimarySession
from .replica_connections import ReplicaConnections


@dataclass
class Parts:
    """The collaborators of one database. A database and its `on_primary` share them.

    Attributes:
        router: decides where statements run.
        cluster: the nodes.
        consistency: decides what reads must see.
        session: tracks the state of the primary's sessions.
        primary: this thread's own connection to the primary.
        replicas: this thread's connections to the nodes that serve reads.
        diagnosis: interprets errors.
        here: identifies the current thread or task.
    """

    router: Router
    cluster: Cluster
    consistency: Consistency
    session: PrimarySession
    primary: PrimaryConnection
    replicas: ReplicaConnections
    diagnosis: Diagnosis
    here: Here

    def broken_off(self) -> None:
        """Clean up this thread's connections after an interrupt, which may have arrived at any step."""
        self.primary.plain.broken_off()
        for database in self.replicas.made():
            database.broken_off()

    @property
    def counters(self) -> Counters:
        """The counters of ``db.stats()`` that belong to no single node."""
        return self.cluster.counters
