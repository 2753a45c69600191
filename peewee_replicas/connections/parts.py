"""What one database consists of: the collaborators that its class hands everything on to."""

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
        consistency: what reads must see.
        session: what the primary's connections carry.
        primary: this thread's own connection to the primary.
        replicas: this thread's connections to the nodes that serve reads.
        diagnosis: reads errors.
        here: tells threads, or tasks, apart.
    """

    router: Router
    cluster: Cluster
    consistency: Consistency
    session: PrimarySession
    primary: PrimaryConnection
    replicas: ReplicaConnections
    diagnosis: Diagnosis
    here: Here

    @property
    def counters(self) -> Counters:
        """The numbers of ``db.stats()`` that belong to no single node."""
        return self.cluster.counters
