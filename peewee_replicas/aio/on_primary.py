"""Handles queries that are awaited through `on_primary`, or whose model is bound to it."""

from __future__ import annotations

from typing import Protocol

import peewee


class Placed(Protocol):
    """A database, or its `on_primary`."""

    at_primary: bool

    def shares_connections_with(self, other: object) -> bool:
        """Return whether `other` is the same database, or its `on_primary`."""


def bound(database: Placed, query: peewee.BaseQuery) -> peewee.BaseQuery:
    """Return the query, bound to `on_primary` if it is awaited through `on_primary`."""
    return query.clone().bind(database) if database.at_primary else query


def bound_for_prefetch(database: Placed, query: peewee.BaseQuery) -> peewee.BaseQuery:
    """Do the same as `bound` for one query of a prefetch, which may also be a model or a pair."""
    if not database.at_primary:
        return query
    if isinstance(query, tuple):
        return (bound_for_prefetch(database, query[0]), *query[1:])
    return bound(database, query if isinstance(query, peewee.Query) else query.select())


def stays_at_primary(database: Placed, query: object) -> bool:
    """Return whether a query is bound to `on_primary`, for example because its model is."""
    own = getattr(query, "_database", None)
    own = getattr(own, "obj", own)  # a proxy's database
    return database.shares_connections_with(own) and bool(getattr(own, "at_primary", False))
