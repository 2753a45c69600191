"""A peewee database without routing, as the collaborators use it: the primary's or a node's.

The database object in a program is the primary's: its state, its lock, its pool. Each node that serves reads
has another instance of the same class, so that a subclass's own ``_connect()`` and
``_initialize_connection()`` open replicas too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Lock, RLock
from typing import Any, ClassVar

from peewee import Database, InterfaceError, __exception_wrapper__, _manual

from ..nodes.cluster import Cluster
from ..nodes.node import Node
from ..nodes.spec import overlay
from ..servers.protocols import ServerConnection
from .opening import NodeOpening
from .passwords import password_errors
from .peewee_types import Cursor, Parameters, ThreadState
from .unknown_outcomes import UnknownOutcomes
from .user_database import UserDatabase

# Attributes of this library, which a node's database does not copy from the primary's.
_OURS = frozenset({"_members", "_parts", "_own", "plain_arguments", "_places", "_place_models", "opening"})

NOT_INITIALIZED = "Error, database must be initialized before opening a connection."
"""peewee's own words."""

_LOCK = type(Lock())  # until Python 3.13, `threading.Lock` is a function


class PlainDatabase:
    """One peewee database, with peewee's own methods instead of ours.

    Parameters:
        db: the peewee database.
        beneath: the peewee class below ours, whose methods do not route.

    Attributes:
        unknown_outcomes: None, because users' own methods write nothing on a node; see `RoutedMembers`.
        own_connect_call: returns a context manager to be around each call of the program's own ``connect()``.
    """

    unknown_outcomes: UnknownOutcomes | None = None
    own_connect_call: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)

    def __init__(self, db: UserDatabase, beneath: type[Database]) -> None:
        self.db = db
        self.beneath = beneath
        self._attributes = vars(db)
        self._routed_cursor = db.routed_cursor

    @property
    def state(self) -> ThreadState:
        """peewee's state of this thread: its connection, open transactions and contexts."""
        return self.db._state

    @property
    def conn(self) -> ServerConnection | None:
        """This thread's connection, or None."""
        return self.db._state.conn

    @property
    def open_conn(self) -> ServerConnection:
        """This thread's connection, which must be open."""
        conn = self.db._state.conn
        assert conn is not None  # the caller has opened it
        return conn

    @property
    def is_open(self) -> bool:
        """Whether this thread has a connection."""
        return not self.db._state.closed

    @property
    def own_cursor(self) -> bool:
        """Whether the class or the object has a ``cursor()`` of the program's; `send` asks the same."""
        return type(self.db).cursor is not self._routed_cursor or "cursor" in self._attributes

    def in_block(self) -> bool:
        """Return whether a block is open that ends its own transaction, unlike ``manual_commit()``."""
        return any(not isinstance(one, _manual) for one in self.state.transactions)

    def send(self, conn: ServerConnection, sql: str, params: Parameters, comment: str = "") -> Cursor:
        """Send a user's statement on this thread's connection; returns the driver's cursor.

        Parameters:
            conn: that connection, which the caller has looked up already.
            sql, params: the statement's text and parameters.
            comment: a comment to add to the text that is sent.
        """
        if comment:
            return self._send_with_comment(conn, sql, params, comment)
        try:
            # A program's own cursor() is called; ours would only look up the connection again.
            if type(self.db).cursor is self._routed_cursor and "cursor" not in self._attributes:
                cursor: Cursor = conn.cursor()
            else:
                cursor = self.db.cursor()
            cursor.execute(sql, params or ())
        except Exception:
            with __exception_wrapper__:  # only now, because entering it costs more than one would think
                raise
        return cursor

    def _send_with_comment(
        self, conn: ServerConnection, sql: str, params: Parameters, comment: str
    ) -> Cursor:
        conn.comment = comment
        try:
            return self.send(conn, sql, params)
        finally:
            conn.comment = ""

    def close_connection(self, conn: ServerConnection) -> None:
        """Close a connection, or return it to its pool."""
        self.db._close(conn)

    def drop(self, conn: ServerConnection) -> None:
        """Close a connection without returning it to a pool."""
        # The user may have closed it already, and PyMySQL raises when a connection is closed twice.
        if getattr(conn, "open", True):
            self.db._close(conn)

    def discard(self) -> None:
        """Drop this thread's connection, whatever state it is in."""
        state = self.db._state
        conn = state.conn
        state.reset()
        if conn is not None:
            self.drop(conn)

    def broken_off(self) -> None:
        """Clean up after an interrupt, which may have arrived at any step of this thread's work."""
        conn = self.db._state.conn
        if conn is not None:
            conn.interrupted()

    def open(self, *, waits: bool = True) -> None:
        """Connect.

        Parameters:
            waits: whether to wait for a free connection in the client's pool.
        """
        with password_errors():
            self.beneath.connect(self.db)

    @property
    def waits_without_end(self) -> bool:
        """Whether waiting for a connection from the client's pool has no time limit."""
        return False

    def autoconnect(self, *, anyway: bool = False) -> bool:
        """Call the program's own ``connect()``, if it has one and the database is closed, as peewee does.

        Returns whether it was called. Without one, connections open when they are needed.

        Parameters:
            anyway: whether to connect even if the database does not connect automatically.

        Raises:
            InterfaceError: peewee's own, if the database is closed and does not connect automatically.
        """
        if self.is_open:
            return False
        db = self.db
        if db.deferred:
            raise InterfaceError(NOT_INITIALIZED)
        if not (db.autoconnect or anyway):
            raise InterfaceError("Error, database connection not opened.")
        own = db.own_connect
        if own:
            self.connect_own(own)
        return bool(own)

    def connect_own(self, method: str) -> None:
        """Connect through the program's own method.

        Parameters:
            method: its name, `own_connect` of the database.
        """
        with self.own_connect_call():
            getattr(self.db, method)()

    def close_unused(self) -> None:
        """Close the idle connections, if there is a pool."""

    def raw_cursor(self, named_cursor: object) -> Cursor:
        """Return a cursor for the user, from a subclass's own ``cursor()`` if it has one."""
        # peewee 3 has another parameter before this one.
        return self.db.cursor() if named_cursor is None else self.db.cursor(named_cursor=named_cursor)

    @property
    def transactions(self) -> PlainDatabase:
        """What has peewee's methods for transactions."""
        return self

    # peewee's methods, not routed

    def execute_sql(self, sql: str, params: Parameters = None, _at_primary: bool = False) -> Cursor:
        """Call peewee's method."""
        cursor: Cursor = self.beneath.execute_sql(self.db, sql, params)
        return cursor

    def execute_cursor(self, sql: str, params: Parameters, _at_primary: bool = False) -> Cursor:
        """Call peewee's method."""
        cursor: Cursor = self.beneath._execute_cursor(self.db, sql, params)
        return cursor

    def connect(self, reuse_if_open: bool = False, _at_primary: bool = False) -> bool:
        """Call peewee's method."""
        return bool(self.beneath.connect(self.db, reuse_if_open))

    def close(self) -> bool:
        """Call peewee's method."""
        return bool(self.beneath.close(self.db))

    def dispose(self) -> None:
        """Call peewee's method."""
        self.beneath.dispose(self.db)

    def connection(self, _at_primary: bool = False) -> ServerConnection:
        """Call peewee's method."""
        conn: ServerConnection = self.beneath.connection(self.db)
        return conn

    def cursor(self, named_cursor: object = None, _at_primary: bool = False) -> Cursor:
        """Call peewee's method."""
        cursor: Cursor = self.beneath.cursor(self.db, named_cursor=named_cursor)
        return cursor

    def is_connection_usable(self) -> bool:
        """Call peewee's method."""
        return bool(self.beneath.is_connection_usable(self.db))

    def begin(self, *args: object, **kwargs: object) -> None:
        """Call peewee's method."""
        self.beneath.begin(self.db, *args, **kwargs)

    def commit(self) -> None:
        """Call peewee's method."""
        self.beneath.commit(self.db)

    def rollback(self) -> None:
        """Call peewee's method."""
        self.beneath.rollback(self.db)

    def push_transaction(self, transaction: object) -> None:
        """Call peewee's method."""
        self.beneath.push_transaction(self.db, transaction)

    def pop_transaction(self) -> object:
        """Call peewee's method."""
        return self.beneath.pop_transaction(self.db)

    def transaction_not_entered(self, transaction: object) -> None:
        """Do nothing, because users open no transactions on a node; see `Transactions`."""

    def transaction_not_left(self, depth: int) -> None:
        """Do nothing, for the same reason."""

    def transaction_not_ended(self, *, commits: bool = False) -> None:
        """Do nothing, for the same reason."""

    def init(self, database: object, **kwargs: object) -> None:
        """Call peewee's method."""
        self.beneath.init(self.db, database, **kwargs)


def node_parameters(primary: UserDatabase, cluster: Cluster, node: Node) -> tuple[Any, dict[str, Any]]:
    """Return a node's schema, and its other connection parameters; the sizes of its pool are among them."""
    present, database = primary.connect_params, primary.database
    moved = cluster.moved  # read after the parameters; a move sets it before them
    if moved is not None:
        present, database = moved.configured(present), moved.database
    parameters = overlay(present, node.overrides)
    return parameters.pop("database", database), parameters


def _is_method(cls: type, name: str) -> bool:
    return inspect.isfunction(getattr(cls, name, None))


def make_reentrant(db: UserDatabase) -> None:
    """Let a thread take peewee's lock for connecting again.

    Otherwise a signal handler that uses the database while its thread connects would wait for itself.
    """
    if isinstance(db._lock, _LOCK):  # not with ``thread_safe=False``
        db._lock = RLock()  # no `new_lock`: peewee calls the user's ``_connect()`` under it


class NodeDatabase(PlainDatabase):
    """The peewee database of one node that serves reads.

    Parameters:
        primary: the user's database, whose class and arguments this one shares.
        beneath: the peewee class below ours, whose methods do not route.
        opening: opens the connections.
    """

    pool_arguments: ClassVar[frozenset[str]] = frozenset()
    """The arguments of peewee's constructor that a replica may have for itself."""

    def __init__(self, primary: UserDatabase, beneath: type[Database], opening: NodeOpening) -> None:
        # Skips the constructor of a user's class, which may open or register things that exist only once.
        db = object.__new__(type(primary))
        super().__init__(db, beneath)
        self.node: Node = opening.node
        db.opening = opening
        vars(db)["_members"] = self
        args, kwargs = primary.plain_arguments
        overrides = self.node.overrides
        kwargs = {**kwargs, **{name: overrides[name] for name in self.pool_arguments if name in overrides}}
        self.prepare(primary)
        beneath.__init__(db, primary.database, *args, **kwargs)
        make_reentrant(db)
        # Attributes that peewee's constructor just created, such as state and lock, belong to this node.
        self._by_itself = frozenset(vars(db)) | _OURS

    @property
    def is_lent(self) -> bool:
        """Whether the user keeps this thread's connection for raw statements."""
        return False

    def prepare(self, primary: UserDatabase) -> None:
        """Prepare the node's database before it is initialised; for subclasses to override."""

    def follow(self, primary: UserDatabase) -> None:
        """Copy a subclass's own attributes and the current connection parameters from the primary's."""
        db = self.db
        for name, value in vars(primary).items():
            # What replaces one of peewee's methods in the primary's object alone acts on that object.
            if name not in self._by_itself and (name.startswith("_") or not _is_method(self.beneath, name)):
                setattr(db, name, value)
        db.database, parameters = node_parameters(primary, db.opening.cluster, self.node)
        for name in self.pool_arguments:
            parameters.pop(name, None)
        db.connect_params = parameters

    def limit_waits(self, seconds: float) -> None:
        """Limit each step of connecting and asking to this many seconds."""
        parameters: dict[str, Any] = self.db.connect_params
        for name in ("connect_timeout", "read_timeout", "write_timeout"):
            parameters[name] = min(parameters.get(name) or seconds, seconds)

    def log_nothing(self) -> None:
        """Keep the library's own statements while connecting out of peewee's query log."""
        vars(self.db)["_log_query"] = lambda *_: None
