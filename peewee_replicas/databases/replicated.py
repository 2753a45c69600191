"""The database classes' own part: what peewee makes them override, and the members that users call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import peewee

from ..connections.parts import Parts
from ..connections.plain_database import PlainDatabase
from ..errors import ConfigurationError
from ..events import NodeHook, Route, RouteHook
from ..nodes.replica import Replica
from ..routing.settings import OWN_ARGUMENTS, Level, checked
from ..scopes.scope import Scope
from .assembly import Assembly
from .routed_members import RoutedMembers

if TYPE_CHECKING:
    from typing_extensions import Self


class Replicated(peewee.Database):
    """Routing over any of peewee's database classes.

    The object itself is the primary's: its connection, its pool, its parameters. Each node that serves reads
    has another instance of the same class, so that a subclass's own ``_connect()`` and
    ``_initialize_connection()`` open replicas too. What peewee's members do is decided by `_members`: routed
    for the object that a program holds, plain for that of a node.
    """

    routing_arguments: ClassVar[tuple[str, ...]] = OWN_ARGUMENTS
    beneath: ClassVar[type[peewee.Database]]
    """peewee's class beneath ours, which does the work when nothing is routed."""
    assembly: ClassVar[type[Assembly]] = Assembly
    members: ClassVar[type[RoutedMembers]] = RoutedMembers
    plain_cursor: ClassVar[bool] = True
    """Whether no subclass has a ``cursor()`` of its own."""

    at_primary: bool = False
    """Whether this is a database's `on_primary`."""
    _model_class: ClassVar[type[peewee.Model]] = peewee.Model
    _members: RoutedMembers
    _parts: Parts

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.plain_cursor = cls.cursor is Replicated.cursor

    def __init__(self, database: object, *args: object, **kwargs: object) -> None:
        plain = {name: value for name, value in kwargs.items() if name not in self.routing_arguments}
        self.plain_arguments: tuple[tuple[object, ...], dict[str, object]] = (args, plain)
        primary = self._as_primary()
        self._members = self.members(self, primary, self.assembly(primary))
        super().__init__(database, *args, **kwargs)

    def _as_primary(self) -> PlainDatabase:
        return PlainDatabase(self, self.beneath)

    def init(self, database: Any, **kwargs: Any) -> None:
        """As peewee's; takes the routing arguments too.

        Raises:
            ConfigurationError: one of them cannot work; nothing was changed.
        """
        self._members.init(database, **kwargs)

    def set_replicas(self, replicas: object) -> None:
        """Change the replicas of a running program; all or nothing.

        A node that is listed with the name and the connection parameters it has stays as it is, with its
        connections, state and counters; its weight may change. One that is new to the rotation is warmed up.
        One that is no longer listed gets no new reads, and what it is reading it reads to the end; each
        thread closes its own connection to it when it next uses or closes the database, a pool its idle
        ones at once. A ``readonly()`` on such a node goes on at one that has reached the primary's position.

        Parameters:
            replicas: as the argument of the same name. Not empty: what finds nodes may find none by mistake.
                To have all reads on the primary on purpose, give every node ``weight=0``; they fall back
                then, as ``fallback`` and ``max_fallback_share`` allow.

        Raises:
            ConfigurationError: the list is empty or cannot work; nothing was changed.
        """
        self._members.set_replicas(replicas)

    # peewee's members

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Open the node that the next plain read would use; the primary only if no replica answers.

        Raises:
            OperationalError: already open, or no node answers; then it names each and its reason.
            InterfaceError: the database is deferred and was not initialised.
        """
        return bool(self._members.connect(reuse_if_open, self.at_primary))

    def close(self) -> bool:
        """Close all of this thread's connections; True if there were any."""
        return bool(self._members.close())

    def dispose(self) -> None:
        """Forget all of this thread's connections without closing them; end the prober until the next use."""
        self._members.dispose()

    def connection(self) -> Any:
        """The primary's connection of this thread; inside ``readonly()`` that of the scope's node."""
        return self._members.connection(self.at_primary)

    def cursor(self, named_cursor: object = None) -> Any:
        """A cursor of the connection that `connection` gives."""
        return self._members.cursor(named_cursor, self.at_primary)

    def is_connection_usable(self) -> bool:
        """Whether this thread has connections, and each of them answers."""
        return bool(self._members.is_connection_usable())

    def begin(self, *args: object, **kwargs: object) -> None:
        """As peewee's, on the primary. Raises `ReadOnlyViolation` inside ``readonly()``."""
        self._members.begin(*args, **kwargs)

    def commit(self) -> None:
        """As peewee's; where the primary was never needed there is nothing to commit.

        Raises:
            OutcomeUnknown: the connection was lost after COMMIT had been sent.
            OperationalError: it was lost before; nothing was committed.
        """
        self._members.commit()

    def rollback(self) -> None:
        """As peewee's; where the primary was never needed, or is lost, there is nothing to roll back."""
        self._members.rollback()

    def push_transaction(self, transaction: object) -> None:
        """As peewee's. Raises `ReadOnlyViolation` inside ``readonly()``."""
        self._members.push_transaction(transaction)

    def pop_transaction(self) -> Any:
        """As peewee's."""
        return self._members.pop_transaction()

    def execute(self, query: object, **context_options: object) -> Any:
        """As peewee's; the server's version is known before the SQL is built."""
        if self.server_version is None and self.autoconnect and self.is_closed() and not self.deferred:
            self.connect()
        return super().execute(query, **context_options)

    def execute_sql(self, sql: str, params: object = None) -> Any:
        """Run one statement on the node that its kind and the scopes in force call for.

        Parameters:
            sql: the text.
            params: its parameters.

        Raises:
            ReadOnlyViolation: inside ``readonly()``, for anything but a read; nothing was sent.
            NoReplicaAvailable: no replica can serve a read and ``fallback="error"``, or nothing answers.
            OutcomeUnknown: the primary's connection was lost after a write of its own had been sent.
            PrimaryReadOnly: the primary does not take writes any more.
        """
        return self._members.execute_sql(sql, params, self.at_primary)

    # Scopes and routes

    def readonly(
        self, *, consistency: Level | None = None, max_lag: float | None = None, snapshot: bool = False
    ) -> Scope[Self]:
        """A scope, and a decorator, in which all reads go to one replica and nothing can be written.

        Parameters:
            consistency: a level for this scope, instead of the database's own.
            max_lag: seconds; the node that is picked was no further behind when it was last probed, which is
                ``probe_interval`` ago at most. A scope around this one leaves a node that was. Without a
                prober no lag is known, and the reads go where ``fallback`` says.
            snapshot: all reads see one consistent snapshot, on a connection of its own, for 60 seconds at
                most; if its node fails, reads fail. It belongs to the thread that makes the first read.

        Raises on entry:
            ReadOnlyViolation: a transaction is open and ``readonly_in_transaction="error"``, or a snapshot
                is asked for.
        """
        if consistency is not None:
            checked({"consistency": consistency}, ConfigurationError)
        if max_lag is not None:
            checked({"max_lag": max_lag}, ConfigurationError)
        return Scope(self, lambda: self._members.scopes.enter_readonly(consistency, snapshot, max_lag))

    def primary(self) -> Scope[Self]:
        """A scope, and a decorator, in which everything goes to the primary: the way out of readonly()."""
        return Scope(self, lambda: self._members.scopes.enter_primary())

    def causal_session(self, bookmark: str | None = None) -> Scope[Self]:
        """A scope, and a decorator, whose reads see at least what it wrote, and never go backwards.

        It follows the context into tasks and threads that copy it, which a thread's own session does not.

        Parameters:
            bookmark: what `bookmark` gave, in this process or another: reads see at least that too.

        Raises on entry:
            BookmarkError: the bookmark is malformed, of another database, or has expired.
        """
        return Scope(self, lambda: self._members.scopes.enter_causal(bookmark))

    def bookmark(self) -> str | None:
        """What this context has written, as a string for `causal_session`; None where that is nothing.

        Where a statement on the primary reported no position of its own, the primary is asked for it.
        """
        return self._members.bookmark()

    @property
    def on_primary(self) -> Self:
        """The same database and the same connections, always at its primary. A place, never a permission."""
        twin: Self | None = vars(self).get("_on_primary")
        if twin is None:
            twin = object.__new__(_at_primary_class(type(self)))
            twin.__dict__ = self.__dict__
            self._on_primary = twin
        return twin

    def shares_connections_with(self, other: object) -> bool:
        """Whether `other` is the same database, or its `on_primary`."""
        return isinstance(other, Replicated) and other._parts is self._parts

    @property
    def Model(self) -> Any:  # peewee's name
        """As peewee's: a base class for models bound to this database."""
        if not self.at_primary:
            return super().Model
        if "_primary_model" not in vars(self):
            meta = type("Meta", (), {"database": self})
            self._primary_model = type("BaseModel", (self._model_class,), {"Meta": meta})
        return self._primary_model

    def explain_route(self, sql_or_query: object) -> Route:
        """The `Route` that a statement would take now; does not send it and advances nothing.

        After a statement that failed on the primary, its connection is asked what that has left there, which
        the next statement would do otherwise.

        Parameters:
            sql_or_query: a text, or a peewee query.

        Raises:
            ReadOnlyViolation: as executing it would.
        """
        at_primary = self.at_primary
        if isinstance(sql_or_query, str):
            sql = sql_or_query
        else:
            sql = self.get_sql_context().sql(sql_or_query).query()[0]
            bound = getattr(sql_or_query, "_database", None)
            bound = getattr(bound, "obj", bound)  # what a proxy stands for
            if self.shares_connections_with(bound):
                at_primary = at_primary or bool(getattr(bound, "at_primary", False))
        return self._members.explain(sql, at_primary)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The nodes that serve reads, in the order they were given."""
        return tuple(node.handle for node in self._parts.cluster.replicas.all)

    @property
    def route_hooks(self) -> list[RouteHook]:
        """Callables that are given one `RouteEvent` per execution."""
        return self._members.route_hooks

    @property
    def node_hooks(self) -> list[NodeHook]:
        """Callables that are given one `NodeEvent` each time a node's state changes.

        They are called by whichever thread has found it out, the prober's too, and should return soon. What
        one raises is logged.
        """
        return self._parts.cluster.news.hooks

    def stats(self) -> dict[str, Any]:
        """Counters since the database was made, by name, and of each node its state, role and lag."""
        return self._parts.cluster.stats()


def _at_primary_class(cls: type[Replicated]) -> type[Replicated]:
    made: type[Replicated] | None = vars(cls).get("_at_primary_class")
    if made is None:
        if cls.at_primary:
            return cls
        made = type(cls.__name__, (cls,), {"at_primary": True, "__module__": cls.__module__})
        cls._at_primary_class = made
    return made
