"""Handles queries awaited through `on_primary` or an `on_replicas`, or whose model is bound to one."""

from __future__ import annotations

from typing import TypeVar

import peewee

from ..databases.replicated import Replicated

D = TypeVar("D", bound=Replicated)


def bound(database: Replicated, query: peewee.BaseQuery) -> peewee.BaseQuery:
    """Return the query, bound to the place through which it is awaited, if it is awaited through one."""
    return query if database.placed_from is None else query.clone().bind(database)


def bound_for_prefetch(database: Replicated, query: peewee.BaseQuery) -> peewee.BaseQuery:
    """Do the same as `bound` for one query of a prefetch, which may also be a model or a pair."""
    if database.placed_from is None:
        return query
    if isinstance(query, tuple):
        return (bound_for_prefetch(database, query[0]), *query[1:])
    return bound(database, query if isinstance(query, peewee.Query) else query.select())


def place_for(database: D, query: object) -> D:
    """Return the place to which a query is bound, for example because its model is; else `database`.

    Through a place, only a query bound to `on_primary` goes elsewhere.
    """
    own = getattr(query, "_database", None)
    own = getattr(own, "obj", own)  # a proxy's database
    base = database.placed_from or type(database)
    if not (isinstance(own, base) and database.shares_connections_with(own)):
        return database
    return own if own.at_primary or database.placed_from is None else database
