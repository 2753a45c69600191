"""What the tests of both kinds of middleware share: a database, and what a visitor has seen of it."""

from __future__ import annotations

from typing import Any

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.scopes.frames import causal

SECRET = "a secret of sixteen bytes or more"


def unconnected() -> ReplicatedDatabase:
    """To be a fixture: one that is never connected. What would be written is told to its session instead."""
    return ReplicatedDatabase("app", host="p", replicas=[{"host": "r"}])


def seen(db: Any) -> int:
    """The number of the last transaction that this context has to see; 0: none; -1: it is in no session."""
    frame = causal(db._parts.cluster)
    if frame is None:
        return -1
    position = frame.session.seen
    return 0 if position is None else next(iter(position.gtids()))[2]
