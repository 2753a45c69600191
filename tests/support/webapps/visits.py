"""A database without connections, and what a session has seen, for tests of both kinds of middleware."""

from __future__ import annotations

from typing import Any

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.scopes.frames import causal

SECRET = "a secret of sixteen bytes or more"


def unconnected() -> ReplicatedDatabase:
    """A fixture: a database that never connects. Tests tell its session of writes instead."""
    return ReplicatedDatabase("app", host="p", replicas=[{"host": "r"}])


def seen(db: Any) -> int:
    """The last transaction that this context must see; 0 if none, -1 outside a session."""
    frame = causal(db._parts.cluster)
    if frame is None:
        return -1
    position = frame.session.seen
    return 0 if position is None else next(iter(position.gtids()))[2]
