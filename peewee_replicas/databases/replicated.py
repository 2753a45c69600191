"""The common part of the database classes: overrides of peewee's methods, and the methods for users."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

import peewee

from ..connections.parts import Parts
from ..connections.peewee_version import HAS_HOOKS, cursor_takes_commit, execute_takes_commit, takes_commit
from ..connections.plain_database import PlainDatabase, make_reentrant
from ..errors import ConfigurationError
from ..events import CommentHook, NodeHook, Route, RouteHook
from ..nodes.health import Health
from ..nodes.replica import Replica
from ..nodes.selector import narrowed, selector_from
from ..routing.settings import OWN_ARGUMENTS, Level, Reads, Writes
from ..scopes.frames import Selector, here, outside_places, place_here
from ..scopes.scope import Scope
from .assembly import Assembly
from .counting import Counts
from .overrides import behind, check_order, guard_retries, has_own, is_ours, own_function, watch_connecting
from .places import PlaceClasses
from .routed_members import RoutedMembers
from .scope_entry import check_read_only, check_readonly
from .signatures import by_name

if TYPE_CHECKING:
    from typing_extensions import Self

    from .argument_types import Replicas, TagsArgument
    from .transaction_types import TransactionScope

NO_TAGS_GIVEN = "on_replicas(): tags are wanted, such as on_replicas(use='report')"


class Replicated(peewee.Database):
    """Adds routing to any of peewee's database classes.

    The program's object belongs to the primary: its connection, its pool, its parameters. Each node that
    serves reads has another instance of the same class, so that a subclass's own ``_connect()`` and
    ``_initialize_connection()`` open replicas too. peewee's methods delegate to `_members`, which routes
    for the program's object and calls peewee's own methods for a node's.
    """

    routing_arguments: ClassVar[tuple[str, ...]] = OWN_ARGUMENTS
    beneath: ClassVar[type[peewee.Database]]
    """The peewee class below ours, whose methods do not route."""
    assembly: ClassVar[type[Assembly]] = Assembly
    members: ClassVar[type[RoutedMembers]] = RoutedMembers
    behind: ClassVar[type[peewee.Database]] = peewee.Database
    """The class behind ours, whose ``execute()`` ours calls. Each time, `super()` would cost more."""
    peewees_execute_sql: ClassVar[object] = None
    """Its ``execute_sql()``, which tools replace, for our classes too; None if one has already."""

    at_primary: bool = False
    """Whether this object is the `on_primary` of a database."""
    selector: Selector = ()
    """Which nodes the reads of this object use, if it is an `on_replicas` of a database."""
    placed_from: ClassVar[type[Self] | None] = None
    """The class of the database whose `on_primary` or `on_replicas` this object is; None if it is neither."""
    place_classes: ClassVar[PlaceClasses[Any]]
    """The classes of these objects."""
    reading_methods: ClassVar[tuple[str, ...]] = (
        "execute_sql", "_execute_cursor", "connect", "connection", "cursor", "explain_route",
    )  # fmt: skip
    """The methods that choose a node."""
    placeless_methods: ClassVar[tuple[str, ...]] = (
        "get_sql_context", "get_context_options", "conflict_statement", "conflict_update", "last_insert_id",
        "rows_affected",
    )  # fmt: skip
    """Methods that lead to no node, and that each query calls."""
    replaced: Mapping[str, object] = MappingProxyType({})
    """What a program has put in the place of methods of this `on_primary` or `on_replicas` alone."""
    _model_class: ClassVar[type[peewee.Model]] = peewee.Model
    _members: RoutedMembers
    _parts: Parts

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.placed_from is not None:
            return  # its methods are those of the database's class
        check_order(cls, cls.beneath)
        guard_retries(cls)
        watch_connecting(cls)
        cls.behind = behind(cls, Replicated)
        if is_ours(cls):
            # A static method, because a function would be bound at each look-up.
            found = own_function(cls.behind, "execute_sql")
            cls.peewees_execute_sql = found and staticmethod(found)
        cls.place_classes = PlaceClasses(cls, cls.reading_methods, cls.placeless_methods)

    def __init__(self, database: object, *args: object, **kwargs: object) -> None:
        for given in args:
            if isinstance(given, str) and not given.isdigit():  # a pool takes digits for its sizes
                # peewee would take a host for `thread_safe`, and connect to localhost.
                raise ConfigurationError(
                    f"{type(self).__name__}: only the database's name is given by position; "
                    "give what follows it by name, such as host=…"
                )
        plain = {name: value for name, value in kwargs.items() if name not in self.routing_arguments}
        self.plain_arguments: tuple[tuple[object, ...], dict[str, object]] = (args, plain)
        primary = self._as_primary()
        assembly = self.assembly(primary)
        assembly.check_pool(kwargs)  # peewee's constructor takes these before it calls init()
        self._members = self.members(self, primary, assembly)
        super().__init__(database, *args, **kwargs)
        make_reentrant(self)

    def _as_primary(self) -> PlainDatabase:
        return PlainDatabase(self, self.beneath)

    def init(self, database: Any, *args: object, **kwargs: Any) -> None:
        """Like peewee's method; takes the routing arguments too.

        Raises:
            ConfigurationError: an argument cannot work; nothing was changed.
        """
        if args:
            kwargs.update(by_name(self.beneath.init, self, database, *args, **kwargs))
        self._members.init(database, **kwargs)

    def set_replicas(self, replicas: Replicas) -> None:
        """Change the replicas of a running program; all or nothing.

        A node listed with the same name and connection parameters keeps its connections, state and counters;
        its weight may change. A new node is warmed up. A node that is no longer listed gets no new reads, and
        finishes those it has begun. Each thread closes its own connection to such a node when it next uses or
        closes the database; a pool closes its idle ones at once. A ``readonly()`` on such a node moves to one
        that has reached the primary's position. A callable given as ``replicas`` is not called any more.

        Parameters:
            replicas: like the argument of the same name, but not empty, because discovery may find no nodes
                by mistake. To send all reads to the primary on purpose, give every node ``weight=0``; they
                then fall back as ``fallback`` and ``max_fallback_share`` allow.

        Raises:
            ConfigurationError: the list is empty or cannot work; nothing was changed.
        """
        self._members.set_replicas(replicas)

    def set_primary(self, name: str) -> None:
        """Let writes go to another of the nodes from now on, after a failover by hand; asks no server.

        Connections to the old primary are replaced between statements. A transaction that is open there
        fails as on a lost connection, and so does a session with state of its own. A statement that still
        runs there after a second is cut off. Nothing is sent twice. If ``replicas`` does not list the
        primary, the two nodes trade places: the old primary serves reads from now on, as soon as it
        replicates from the new one. A later `init` returns to the configured primary.

        Parameters:
            name: the node's name, as in `replicas`; for the configured primary, if it is not listed, its
                ``host:port``.

        Raises:
            ConfigurationError: no node has this name; the message lists those there are.
            OperationalError: a transaction is open in this thread or task.
        """
        self._members.set_primary(name)

    # peewee's methods

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Connect to the node that the next plain read would use; to the primary only if no replica answers.

        Raises:
            OperationalError: the database is already open, or no node answers; then the message names each
                node and its reason.
            InterfaceError: the database is deferred and was not initialised.
        """
        try:
            return bool(self._members.connect(reuse_if_open, self.at_primary))
        except BaseException as exc:
            if not isinstance(exc, Exception):
                self._members.broken_off()
            raise

    def close(self) -> bool:
        """Close all of this thread's connections; True if there were any."""
        try:
            return bool(self._members.close())
        except BaseException as exc:
            if not isinstance(exc, Exception):
                self._members.broken_off()
            raise

    def dispose(self) -> None:
        """Forget this thread's connections without closing them; stop the background threads."""
        self._members.dispose()

    def connection(self) -> Any:
        """Return this thread's connection to the primary; inside ``readonly()``, to the scope's node."""
        return self._members.connection(self.at_primary)

    @cursor_takes_commit
    def cursor(self, named_cursor: object = None) -> Any:
        """Return a cursor of the connection that `connection` returns."""
        return self._members.cursor(named_cursor, self.at_primary)

    routed_cursor = staticmethod(cursor)
    """Our ``cursor()``, whatever stands in its place later."""

    def is_connection_usable(self) -> bool:
        """Return whether this thread has connections and all of them answer."""
        return bool(self._members.is_connection_usable())

    def begin(self, *args: object, **kwargs: object) -> None:
        """Like peewee's method, on the primary. Raises `ReadOnlyViolation` inside ``readonly()``."""
        try:
            self._members.transactions.begin(*args, **kwargs)
        except BaseException as exc:
            if not isinstance(exc, Exception):
                self._members.transactions.transaction_not_ended()
            raise

    def commit(self) -> None:
        """Like peewee's method; does nothing if the primary was not used.

        Raises:
            OutcomeUnknown: the connection was lost after COMMIT was sent.
            OperationalError: the connection was lost before COMMIT was sent; nothing was committed.
        """
        try:
            self._members.transactions.commit()
        except BaseException as exc:
            if not isinstance(exc, Exception):
                self._members.transactions.transaction_not_ended(commits=True)
            raise

    def rollback(self) -> None:
        """Like peewee's method; does nothing if the primary was not used, or its connection is lost."""
        try:
            self._members.transactions.rollback()
        except BaseException as exc:
            if not isinstance(exc, Exception):
                self._members.transactions.transaction_not_ended()
            raise

    def push_transaction(self, transaction: object) -> None:
        """Like peewee's method. Raises `ReadOnlyViolation` inside ``readonly()``."""
        try:
            self._members.transactions.push_transaction(transaction)
        except BaseException as exc:
            if not isinstance(exc, Exception):
                self._members.transactions.transaction_not_entered(transaction)
            raise

    def pop_transaction(self) -> Any:
        """Like peewee's method."""
        depth = self.transaction_depth()
        try:
            return self._members.transactions.pop_transaction()
        except BaseException as exc:
            if not isinstance(exc, Exception):
                self._members.transactions.transaction_not_left(depth)
            raise

    @execute_takes_commit
    def execute(self, query: object, **context_options: object) -> Any:
        """Like peewee's method; connects first if needed, as building SQL needs the server's version."""
        if self.server_version is None and self.autoconnect and self.is_closed() and not self.deferred:
            self._connect_for_statement()
        if here():
            frame = place_here(self._parts.cluster)
            if frame is not None and not frame.executes(query):
                # A wrapper of a method, or a hook, asks something of its own meanwhile.
                with outside_places(self._parts.cluster):
                    return self.behind.execute(self, query, **context_options)
        if not context_options:
            return self.behind.execute(self, query)  # a call with `**` costs twice as much
        return self.behind.execute(self, query, **context_options)

    def _connect_for_statement(self) -> None:
        self.connect()

    @takes_commit
    def execute_sql(self, sql: str, params: object = None) -> Any:
        """Run one statement on the node that its kind and the scopes in force require.

        Parameters:
            sql: the statement's text.
            params: its parameters.

        Raises:
            ReadOnlyViolation: inside ``readonly()``, for anything but a read; nothing was executed.
            NoReplicaAvailable: no replica can serve a read and ``fallback="error"``, or nothing answers.
            OutcomeUnknown: the connection to the primary was lost after a write was sent.
            PrimaryReadOnly: the primary no longer accepts writes.
        """
        if self.behind.execute_sql is not self.peewees_execute_sql and HAS_HOOKS:
            # Before 4.5, peewee's method would bypass the routes.
            # If what replaces peewee's method calls it, that calls `_execute_cursor`.
            return super().execute_sql(sql, params)
        return self._members.execute_sql(sql, params, self.at_primary)

    def _execute_cursor(self, sql: str, params: object, **cursor_options: object) -> Any:
        return self._members.execute_cursor(sql, params, self.at_primary)

    @overload
    def atomic(self, *, read_only: Literal[True]) -> Scope[Self]: ...

    @overload
    def atomic(
        self, *args: object, read_only: Literal[False] = False, **kwargs: object
    ) -> TransactionScope: ...

    def atomic(self, *args: object, read_only: object = False, **kwargs: object) -> object:
        """Like peewee's method, and with ``read_only=True`` the same as ``readonly(snapshot=True)``.

        Parameters:
            read_only: whether all reads see one snapshot of one replica, and nothing can be written.
            args, kwargs: peewee's own arguments, such as ``isolation_level``; not with `read_only`.

        Raises:
            ConfigurationError: `read_only` is neither True nor False, or comes with other arguments.
        """
        if read_only is not False:
            check_read_only(read_only, args, kwargs)
            return self.readonly(snapshot=True)
        return super().atomic(*args, **kwargs)

    if TYPE_CHECKING:

        def transaction(self, *args: Any, **kwargs: Any) -> TransactionScope: ...
        def savepoint(self) -> TransactionScope: ...

    # Scopes and routes

    def readonly(
        self,
        *,
        consistency: Level | None = None,
        max_lag: float | None = None,
        snapshot: bool = False,
        tags: TagsArgument | None = None,
        node: str | None = None,
    ) -> Scope[Self]:
        """Return a scope, also a decorator, in which all reads go to one replica and nothing can be written.

        Parameters:
            consistency: the level for this scope, instead of the database's own.
            max_lag: the highest lag, in seconds, that the node may have had at its last probe, which was at
                most ``probe_interval`` ago. If the scope around this one is on a node with more lag, that
                scope leaves the node. Without a prober no lag is known, and reads follow ``fallback``.
            snapshot: all reads see one consistent snapshot, on a separate connection, for 60 seconds at
                most; if its node fails, reads fail. It belongs to the thread that makes the first read.
            tags: the tags that a node must have: a dict, or a list of dicts tried in order, in which ``{}``
                stands for any node. A scope inside another narrows it: a node needs the tags of both. If the
                scope around this one is on a node without the tags, it moves to one that has them and has
                reached the primary's position. Inside a snapshot, tags have no effect.
            node: the name of one node to use.

        Raises:
            ConfigurationError: an argument cannot work.

        Raises on entry:
            ReadOnlyViolation: a transaction is open, and ``readonly_in_transaction="error"`` or
                ``snapshot=True``.
        """
        check_readonly(consistency, max_lag, snapshot)
        selector = narrowed(self._here().selector, selector_from(tags, node, ConfigurationError))
        given = (consistency, snapshot, max_lag, selector)
        return Scope(self, lambda: self._members.scopes.enter_readonly(*given))

    def primary(self) -> Scope[Self]:
        """Return a scope, also a decorator, in which everything goes to the primary, even in readonly()."""
        return Scope(self, lambda: self._members.scopes.enter_primary())

    def causal_session(self, bookmark: str | None = None) -> Scope[Self]:
        """Return a scope, also a decorator, whose reads see at least its writes and never go backwards.

        The scope extends to tasks and threads that copy the context; a thread's own session does not.

        Parameters:
            bookmark: a result of `bookmark`, from this process or another; reads see at least that position.

        Raises on entry:
            BookmarkError: the bookmark is malformed, belongs to another database, or has expired.
        """
        return Scope(self, lambda: self._members.scopes.enter_causal(bookmark))

    def bookmark(self) -> str | None:
        """Return this context's position as a string for `causal_session`, or None if it has none.

        Asks the primary for its position if a statement there did not report one.
        """
        return self._members.bookmark()

    @property
    def on_primary(self) -> Self:
        """The same database and connections, always on the primary. A scope's restrictions still apply."""
        place: Self = self._base().place_classes.place_of(self, "on_primary", at_primary=True)
        return place

    def on_replicas(self, **tags: str) -> Self:
        """Return the same database and connections, whose reads use the nodes with these tags.

        For the ``Meta`` of a model, or for one query's ``execute()``. It is a place and no permission:
        what is no read, and reads in transactions, go to the primary as usual. Inside a ``readonly()`` with
        tags, a node needs both. A ``readonly()`` of it holds for all reads inside, also through the database
        itself. If no node has the tags, reads follow ``fallback``.

        Parameters:
            tags: names and values; a node needs all of them.

        Raises:
            ConfigurationError: the tags cannot work.
        """
        if not tags:
            raise ConfigurationError(NO_TAGS_GIVEN)
        selector = narrowed(self._here().selector, selector_from(tags, None, ConfigurationError))
        place: Self = self._base().place_classes.place_of(self, selector, selector=selector)
        return place

    def _here(self) -> Self:
        """Return the place through which a method was called that a program has replaced in the object."""
        frame = None if self.placed_from is not None else place_here(self._parts.cluster)
        place: Self = self if frame is None else frame.through  # type: ignore[assignment]  # it is one of ours
        return place

    def _base(self) -> type[Self]:
        return self.placed_from or type(self)

    def shares_connections_with(self, other: object) -> bool:
        """Return whether `other` is the same database, its `on_primary` or an `on_replicas` of it."""
        return isinstance(other, Replicated) and other._parts is self._parts

    @property
    def own_connect(self) -> str:
        """The name of the class's or this object's own method that connects; ``""`` without one."""
        return "connect" if has_own(self, "connect", _CONNECT) else ""

    @property
    def Model(self) -> Any:  # peewee's name
        """A base class for models bound to this database, as in peewee."""
        if self.placed_from is None:
            return super().Model
        models: dict[type, type[peewee.Model]] = self.__dict__.setdefault("_place_models", {})
        if type(self) not in models:
            meta = type("Meta", (), {"database": self})
            models[type(self)] = type("BaseModel", (self._model_class,), {"Meta": meta})
        return models[type(self)]

    def explain_route(self, sql_or_query: object) -> Route:
        """Return the `Route` that a statement would take now; send nothing, and take no turn of the policy.

        After a statement failed on the primary, this asks its connection which session changes remain, as
        the next statement would.

        Parameters:
            sql_or_query: SQL text, or a peewee query.

        Raises:
            ReadOnlyViolation: executing the statement would raise it too.
        """
        at_primary = self.at_primary
        if isinstance(sql_or_query, str):
            sql = sql_or_query
        else:
            sql = self.get_sql_context().sql(sql_or_query).query()[0]
            bound = getattr(sql_or_query, "_database", None)
            bound = getattr(bound, "obj", bound)  # the database of a proxy
            if bound is not self and isinstance(bound, Replicated) and self.shares_connections_with(bound):
                at_primary = at_primary or bound.at_primary
                if bound.selector and self.placed_from is None:
                    return bound.explain_route(sql)
        return self._members.explain(sql, at_primary)

    @property
    def reads(self) -> Reads:
        """Where a read outside scopes goes: the argument of that name, which may be changed at any time.

        An assignment applies to the statements that begin after it, in all threads and tasks of this
        process, and until `init` is called; there ``PEEWEE_REPLICAS_READS`` in the environment wins again.

        Raises:
            ConfigurationError: the assigned value is not allowed.
        """
        return self._members.reads

    @reads.setter
    def reads(self, value: Reads) -> None:
        self._members.reads = value

    @property
    def writes(self) -> Writes:
        """Whether writes are sent: ``"allow"``, or ``"refuse"`` for maintenance. May be changed at any time.

        While it is ``"refuse"``, every write, locking read and beginning of a transaction raises
        `ReadOnlyViolation` before anything is sent, in all threads and tasks of this process, in every scope
        and through `on_primary`. Reads go on. So do unproven queries and settings of the session, under the
        server's guard. A transaction that is already open may read, and ends as usual; its further writes are
        refused.

        Raises:
            ConfigurationError: the assigned value is not allowed.
        """
        return self._members.writes

    @writes.setter
    def writes(self, value: Writes) -> None:
        self._members.writes = value

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The nodes that serve reads, in the order they were given."""
        return tuple(node.handle for node in self._parts.cluster.replicas.all)

    @property
    def route_hooks(self) -> list[RouteHook]:
        """Callables that get one `RouteEvent` per execution."""
        return self._members.reports.route_hooks

    @property
    def comment_hooks(self) -> list[CommentHook]:
        """Callables that get each statement's text before it is sent, and return tags for a comment, or None.

        The tags of all of them are added to the text that is sent, in the form of sqlcommenter. They change
        neither the route nor what is remembered of the statement. A text with a comment gets no second one.
        """
        return self._members.comment_hooks

    @property
    def node_hooks(self) -> list[NodeHook]:
        """Callables that get one `NodeEvent` each time a node's state changes.

        The thread that notices the change calls them, which may be the prober's, so they should return
        quickly. Their errors are logged.
        """
        return self._parts.cluster.news.hooks

    def counting(self) -> AbstractContextManager[Counts]:
        """Return a context manager that counts what its block executes through this database.

        It binds a `Counts`. Tasks and threads that copy the block's context count too, and so does each
        of several nested blocks.
        """
        return self._members.reports.counting.block()

    def health(self) -> Health:
        """Return whether reads and writes can be served, and by whom, from what is known; sends nothing.

        What is not known yet counts as working. A prober at work goes on while this is called regularly.
        """
        return self._members.health()

    def stats(self) -> dict[str, Any]:
        """Return counters since the database was created, by name, and each node's state, role and lag."""
        return self._parts.cluster.stats()


_CONNECT = Replicated.connect  # ours, whatever stands in its place later
