"""The library's own view of the nodes, of which users see a part as `Replica`."""

from __future__ import annotations

from typing import Any


def nodes_of(database: Any) -> tuple[Any, ...]:
    """The nodes that serve reads, in the order of ``database.replicas``."""
    nodes: tuple[Any, ...] = database._parts.cluster.replicas.all
    return nodes
