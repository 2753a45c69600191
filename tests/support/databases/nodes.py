"""The library's own view of the nodes, of which users see a part as `Replica`."""

from __future__ import annotations

from typing import Any

from peewee_replicas.nodes import prober


def nodes_of(database: Any) -> tuple[Any, ...]:
    """The nodes that serve reads, in the order of ``database.replicas``."""
    nodes: tuple[Any, ...] = database._parts.cluster.replicas.all
    return nodes


def stop_probers() -> None:
    """Stop the probers of all databases, also of those that earlier tests have left."""
    for left in prober._probers.all():
        left.stop()
