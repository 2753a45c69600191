"""Ready callables for the argument ``replicas``: they find out who the replicas are, again and again.

Each function here returns a callable. `dns` and `srv` ask name servers; the others ask the servers of the
database, over a short connection of their own, opened as the prober's are.
"""

from __future__ import annotations

from .names import dns, srv
from .servers import aurora, galera, group_replication, replicas_of_primary

__all__ = ["aurora", "dns", "galera", "group_replication", "replicas_of_primary", "srv"]
