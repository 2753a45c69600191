"""`AsyncReplicatedDatabase`: the synchronous form's routing, in greenlets over asyncio connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING, Any, Literal, overload

from greenlet import getcurrent
from peewee import BaseQuery
from playhouse.pwasyncio import AsyncModel, await_

from ..connections.peewee_types import Cursor, Parameters
from ..connections.plain_database import PlainDatabase
from ..databases.overrides import has_own
from ..databases.replicated import Replicated
from ..databases.signatures import declares_signature
from .connections import TaskPrimary
from .iterate import BATCH, Streamed
from .members import TaskAssembly, TaskMembers
from .places import bound, bound_for_prefetch, place_for
from .pooled_mysql import PooledMySQL

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ..databases.argument_types import AiomysqlArguments, AsyncArguments, PolicyArgument, ReplicasArgument
    from ..databases.transaction_types import AsyncTransactionScope
    from ..routing.settings import Fallback, Level, OnTransactionEscape, ReadonlyInTransaction, Reads, Spread
    from ..scopes.scope import Scope


class AsyncReplicatedDatabase(Replicated, PooledMySQL):
    """`playhouse.pwasyncio.AsyncMySQLDatabase`, with reads served by replicas.

    A read takes a connection from its node's pool and gives it back as soon as its rows have arrived. The
    connection to the primary is the task's own, from its first write or transaction until the task ends or
    closes the database, as in peewee.

    Parameters:
        database: the schema's name; None to call `init` later.
        pool_size: connections to each node, in each event loop; a replica's dict may have its own.
        pool_min_size: how many connections to open when the first is needed.
        acquire_timeout: seconds that a task waits for a connection, and that connecting may take if
            ``connect_timeout`` is not given.
        kwargs: the routing arguments of `ReplicatedDatabase`, and peewee's and aiomysql's own.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    beneath = PooledMySQL
    assembly = TaskAssembly
    members = TaskMembers
    _members: TaskMembers
    _model_class = AsyncModel
    reading_methods = (*Replicated.reading_methods, "_stream", "_execute_passed", "_connect_passed")
    # The models of the function that `run` calls have places of their own.
    placeless_methods = (*Replicated.placeless_methods, "run")

    @declares_signature
    def __init__(
        self,
        database: str | None,
        *,
        replicas: ReplicasArgument = (),
        refresh: float = 30.0,
        policy: PolicyArgument = "round-robin",
        reads: Reads = "replica",
        fallback: Fallback = "primary",
        spread: Spread = "statement",
        readonly_in_transaction: ReadonlyInTransaction = "error",
        pure_functions: Iterable[str] = (),
        consistency: Level = "session",
        catch_up_timeout: float = 0.5,
        sticky_seconds: float = 2.0,
        max_lag: float | None = 10.0,
        max_fallback_share: float | None = None,
        on_transaction_escape: OnTransactionEscape = "ignore",
        probe_interval: float | None = 1.0,
        heartbeat_table: str | None = None,
        follow_primary: bool = False,
        max_connection_age: float | None = None,
        pool_size: int = 10,
        pool_min_size: int = 1,
        acquire_timeout: float = 10,
        pool_recycle: float = -1,
        **kwargs: Unpack[AiomysqlArguments],
    ) -> None: ...

    if TYPE_CHECKING:

        def init(self, database: str | None, **kwargs: Unpack[AsyncArguments]) -> None: ...  # type: ignore[override]  # known arguments only

        @overload
        def atomic(self, *, read_only: Literal[True]) -> Scope[Self]: ...

        @overload
        def atomic(
            self, *args: object, read_only: Literal[False] = False, **kwargs: object
        ) -> AsyncTransactionScope: ...

        def atomic(self, *args: object, read_only: object = False, **kwargs: object) -> object: ...
        def transaction(self, *args: Any, **kwargs: Any) -> AsyncTransactionScope: ...
        def savepoint(self) -> AsyncTransactionScope: ...

    def _as_primary(self) -> PlainDatabase:
        return TaskPrimary(self, self.beneath)

    def connect(self, reuse_if_open: bool = True) -> bool:
        """Connect as the synchronous form does; do nothing if this task is already connected."""
        if self.own_connect == "aconnect" and self.is_closed():
            with self._members.own_connect_call():
                await_(self.aconnect())  # peewee's method does the same
            return True
        return super().connect(reuse_if_open)

    def _connect_for_statement(self) -> None:
        if self.own_connect == "aconnect":
            await_(self.aconnect())
        else:
            self.connect()

    def close(self) -> bool:
        """Give all of this task's connections back to their pools; return True if there were any."""
        if self.own_aclose and getcurrent().parent is not None:
            was_open = not self.is_closed()
            await_(self.aclose())  # peewee's method does the same
            return was_open
        return super().close()

    # pwasyncio's members

    async def abookmark(self) -> str | None:
        """Return this context's position as a string for `causal_session`; None if it has written nothing."""
        found: str | None = await self.run(self.bookmark)
        return found

    async def aconnect(self) -> TaskConnection:
        """Connect to the node that the next plain read would use; return a `TaskConnection`."""
        # `connect` calls a subclass's own method, which calls this one.
        await self.run(self._connect_passed if self.own_connect == "aconnect" else self.connect)
        return TaskConnection(self)

    def _connect_passed(self) -> bool:
        return super().connect(True)

    async def aclose(self) -> None:
        """Give all of this task's connections back to their pools."""
        if self.own_aclose:
            super().close()
        else:
            self.close()

    async def aexecute_sql(self, sql: str, params: object = None) -> Any:
        """Run `execute_sql` and await it."""
        # `execute_sql` calls a subclass's own method or a test's, which calls this one.
        passed = self.own_aexecute_sql
        return await self.run(self._execute_passed if passed else self.execute_sql, sql, params)

    @property
    def own_aexecute_sql(self) -> bool:
        """Whether the class or the object has another ``aexecute_sql()``, which then gets every statement."""
        return has_own(self, "aexecute_sql", _AEXECUTE_SQL)

    @property
    def own_aclose(self) -> bool:
        """Whether the class or the object has an ``aclose()`` of its own."""
        return has_own(self, "aclose", _ACLOSE)

    @property
    def own_connect(self) -> str:
        """The name of the class's or the object's own method that connects; ``""`` without one.

        Of two, it is the one that peewee's form calls for a statement.
        """
        if has_own(self, "aconnect", _ACONNECT):
            return "aconnect"
        return "connect" if has_own(self, "connect", _CONNECT) else ""

    def _execute_passed(self, sql: str, params: Parameters) -> Any:
        return self._members.execute_sql(sql, params, self.at_primary, passed=True)

    async def close_pool(self) -> None:
        """Close all connections of every node in this event loop, those in use once they come back.

        Connections not back within ``acquire_timeout`` seconds are cut. The database can be used again.
        """
        await self._members.close_pools()

    async def __aenter__(self) -> Self:
        await self.run(self.connect)
        return self

    async def aexecute(self, query: BaseQuery) -> Any:
        """Execute as peewee does; a query bound to `on_primary` or to an `on_replicas` stays there."""
        own = query._database
        try:
            if place_for(self, query) is not self:
                return await self.run(query.execute)
            return await super().aexecute(query)
        finally:
            if self.placed_from is not None:
                query.bind(own)  # it was bound to this place for this call only

    async def get(self, query: BaseQuery) -> Any:
        """Like peewee's method; on the nodes of the place it is called through."""
        return await super().get(bound(self, query))

    async def first(self, query: BaseQuery, n: int = 1) -> Any:
        """Like peewee's method; on the nodes of the place it is called through."""
        return await super().first(bound(self, query), n)

    async def list(self, query: BaseQuery) -> Any:
        """Like peewee's method; on the nodes of the place it is called through."""
        return await super().list(bound(self, query))

    async def scalar(self, query: BaseQuery) -> Any:
        """Like peewee's method; on the nodes of the place it is called through."""
        return await super().scalar(bound(self, query))

    async def count(self, query: BaseQuery) -> int:
        """Like peewee's method; on the nodes of the place it is called through."""
        number: int = await super().count(bound(self, query))
        return number

    async def exists(self, query: BaseQuery) -> bool:
        """Like peewee's method; on the nodes of the place it is called through."""
        found: bool = await super().exists(bound(self, query))
        return found

    async def aprefetch(self, query: BaseQuery, *subqueries: object) -> Any:
        """Like peewee's method; on the nodes of the place it is called through."""
        return await super().aprefetch(*(bound_for_prefetch(self, one) for one in (query, *subqueries)))

    async def iterate(self, query: BaseQuery, buffer_size: int | None = None) -> AsyncGenerator[Any, None]:
        """Iterate over a query's rows as they arrive, on a connection kept until the end.

        Parameters:
            query: the query, routed like any other.
            buffer_size: rows to fetch at a time.
        """
        place = place_for(self, query)
        query = query if place.placed_from is None else query.clone()
        query.bind(place)
        sql, params = query.sql()
        members = self._members
        streamed = await self.run(place._stream, sql, params)
        try:
            rows = streamed.rows(query)
            while batch := await self.run(streamed.take, rows, buffer_size or BATCH):
                for row in batch:
                    yield row
        finally:
            await self.run(members.end_stream, streamed, sql)

    def _stream(self, sql: str, params: Parameters) -> Streamed:
        return self._members.stream(sql, params, self.at_primary)


# Ours, whatever stands in their places later.
_AEXECUTE_SQL = AsyncReplicatedDatabase.aexecute_sql
_ACONNECT = AsyncReplicatedDatabase.aconnect
_ACLOSE = AsyncReplicatedDatabase.aclose
_CONNECT = AsyncReplicatedDatabase.connect


class TaskConnection:
    """A task's connection for raw statements: the primary's, or inside ``readonly()`` the scope's."""

    def __init__(self, database: AsyncReplicatedDatabase) -> None:
        self._database = database

    def cursor(self) -> Any:
        """Return a cursor; call it inside ``await db.run(…)``."""
        return self._database.cursor()

    async def execute(self, sql: str, params: object = None) -> Any:
        """Run a statement on the connection and return its cursor."""

        def execute() -> Cursor:
            cursor: Cursor = self.cursor()
            cursor.execute(sql, params or ())
            return cursor

        return await self._database.run(execute)
