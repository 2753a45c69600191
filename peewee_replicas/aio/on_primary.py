"""Queries that are awaited through `on_primary`, or whose model is bound to it."""

from __future__ import annotations

from typing import Any

import peewee
from playhouse.pwasyncio import AsyncMySQLDatabase


class Placing(AsyncMySQLDatabase):
    """peewee's awaited members, for which `on_primary` is a place."""

    _at_primary: bool
    _replication: Any

    def _bound(self, query: Any) -> Any:
        return query.clone().bind(self) if self._at_primary else query

    def _bound_for_prefetch(self, query: Any) -> Any:
        if isinstance(query, tuple):
            return (self._bound_for_prefetch(query[0]), *query[1:])
        return self._bound(query if isinstance(query, peewee.Query) else query.select())

    def _stays_at_primary(self, query: Any) -> bool:
        """Whether a query is bound to `on_primary`, as those of a model may be that never reads elsewhere."""
        own = getattr(query, "_database", None)
        own = getattr(own, "obj", own)  # what a proxy stands for
        return bool(isinstance(own, Placing) and own._at_primary and own._replication is self._replication)

    async def aexecute(self, query: Any) -> Any:
        """As peewee's; what is bound to `on_primary` stays there."""
        own = query._database
        try:
            return await (
                self.run(query.execute) if self._stays_at_primary(query) else super().aexecute(query)
            )
        finally:
            if self._at_primary:
                query.bind(own)  # it was there for this once

    async def get(self, query: Any) -> Any:
        """As peewee's."""
        return await super().get(self._bound(query))

    async def first(self, query: Any, n: int = 1) -> Any:
        """As peewee's."""
        return await super().first(self._bound(query), n)

    async def list(self, query: Any) -> Any:
        """As peewee's."""
        return await super().list(self._bound(query))

    async def scalar(self, query: Any) -> Any:
        """As peewee's."""
        return await super().scalar(self._bound(query))

    async def count(self, query: Any) -> Any:
        """As peewee's."""
        return await super().count(self._bound(query))

    async def exists(self, query: Any) -> Any:
        """As peewee's."""
        return await super().exists(self._bound(query))

    async def aprefetch(self, query: Any, *subqueries: Any) -> Any:
        """As peewee's."""
        queries = [query, *subqueries]
        if self._at_primary:
            queries = [self._bound_for_prefetch(one) for one in queries]
        return await super().aprefetch(*queries)
