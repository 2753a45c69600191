"""A peewee database without routing, as the collaborators use it: the primary's own, or a node's.

The object that a program holds is the primary's: its state, its lock, its pool. Each node that serves reads
has another instance of the same class, so that a subclass's own ``_connect()`` and
``_initialize_connection()`` open replicas too. What either does when nothing is routed is here.
"""

from __future__ import annotations

from typing import Any

from peewee import Database, __exception_wrapper__

from ..nodes.node import Node
from ..nodes.spec import overlay
from ..servers.protocols import ServerConnection
from .opening import NodeOpening
from .peewee_types import Cursor, Parameters, ThreadState
from .user_database import UserDatabase

# What an instance has from this library, and a node's does not take over from the primary's.
_OURS = frozenset(
    {"_members", "_parts", "_own", "plain_arguments", "_on_primary", "_primary_model", "opening"}
)


class PlainDatabase:
    """One peewee database, with the members of the class beneath ours.

    Parameters:
        db: the peewee database.
        beneath: the class that does the work when nothing is routed.
    """

    def __init__(self, db: UserDatabase, beneath: type[Database]) -> None:
        self.db = db
        self.beneath = beneath

    @property
    def state(self) -> ThreadState:
        """What peewee keeps for this thread: its connection, the open transactions, the contexts."""
        return self.db._state

    @property
    def conn(self) -> ServerConnection | None:
        """This thread's connection; None where it has none."""
        return self.db._state.conn

    @property
    def open_conn(self) -> ServerConnection:
        """This thread's connection, where it is known to have one."""
        conn = self.db._state.conn
        assert conn is not None  # the caller has opened it
        return conn

    @property
    def is_open(self) -> bool:
        """Whether this thread has a connection."""
        return not self.db._state.closed

    def send(self, sql: str, params: Parameters) -> Cursor:
        """Send a statement of the user's on this thread's connection; returns the driver's cursor."""
        db = self.db
        with __exception_wrapper__:
            # A subclass's own cursor() is honoured; peewee's would only find the connection again.
            conn = db._state.conn
            cursor: Cursor = conn.cursor() if conn is not None and db.plain_cursor else db.cursor()
            cursor.execute(sql, params or ())
        return cursor

    def close_connection(self, conn: ServerConnection) -> None:
        """Close a connection, or give it back to its pool."""
        self.db._close(conn)

    def drop(self, conn: ServerConnection) -> None:
        """Close a connection for good; a pool does not get it back."""
        # The user may have closed it already, and to PyMySQL closing twice is an error.
        if getattr(conn, "open", True):
            self.db._close(conn)

    def discard(self) -> None:
        """Drop this thread's connection for good, whatever state it is in."""
        state = self.db._state
        conn = state.conn
        state.reset()
        if conn is not None:
            self.drop(conn)

    def open(self, *, waits: bool = True) -> None:
        """Connect; `waits` says whether to wait for a connection of the client's own pool."""
        self.beneath.connect(self.db)

    @property
    def waits_without_end(self) -> bool:
        """Whether waiting for a connection of the client's own pool has no time limit."""
        return False

    def close_unused(self) -> None:
        """Close the connections that nobody uses, where there is a pool."""

    def raw_cursor(self, named_cursor: object) -> Cursor:
        """A cursor for the user, of a subclass's own ``cursor()`` if it has one."""
        return self.db.cursor(named_cursor)

    # peewee's members, not routed

    def execute_sql(self, sql: str, params: Parameters = None, _at_primary: bool = False) -> Cursor:
        """As peewee's."""
        cursor: Cursor = self.beneath.execute_sql(self.db, sql, params)
        return cursor

    def connect(self, reuse_if_open: bool = False, _at_primary: bool = False) -> bool:
        """As peewee's."""
        return bool(self.beneath.connect(self.db, reuse_if_open))

    def close(self) -> bool:
        """As peewee's."""
        return bool(self.beneath.close(self.db))

    def dispose(self) -> None:
        """As peewee's."""
        self.beneath.dispose(self.db)

    def connection(self, _at_primary: bool = False) -> ServerConnection:
        """As peewee's."""
        conn: ServerConnection = self.beneath.connection(self.db)
        return conn

    def cursor(self, named_cursor: object = None, _at_primary: bool = False) -> Cursor:
        """As peewee's."""
        cursor: Cursor = self.beneath.cursor(self.db, named_cursor)
        return cursor

    def is_connection_usable(self) -> bool:
        """As peewee's."""
        return bool(self.beneath.is_connection_usable(self.db))

    def begin(self, *args: object, **kwargs: object) -> None:
        """As peewee's."""
        self.beneath.begin(self.db, *args, **kwargs)

    def commit(self) -> None:
        """As peewee's."""
        self.beneath.commit(self.db)

    def rollback(self) -> None:
        """As peewee's."""
        self.beneath.rollback(self.db)

    def push_transaction(self, transaction: object) -> None:
        """As peewee's."""
        self.beneath.push_transaction(self.db, transaction)

    def pop_transaction(self) -> object:
        """As peewee's."""
        return self.beneath.pop_transaction(self.db)

    def init(self, database: object, **kwargs: object) -> None:
        """As peewee's."""
        self.beneath.init(self.db, database, **kwargs)


class NodeDatabase(PlainDatabase):
    """The peewee database of one node that serves reads.

    Parameters:
        primary: the user's database, whose class and arguments it shares.
        beneath: the class that does the work when nothing is routed.
        opening: how its connections are opened, and whose they are.
    """

    def __init__(self, primary: UserDatabase, beneath: type[Database], opening: NodeOpening) -> None:
        # Without the constructor of a user's class, which may open, log or register what exists only once.
        db = object.__new__(type(primary))
        super().__init__(db, beneath)
        self.node: Node = opening.node
        db.opening = opening
        vars(db)["_members"] = self
        args, kwargs = primary.plain_arguments
        self.prepare(primary)
        beneath.__init__(db, primary.database, *args, **kwargs)
        # What peewee's constructor has just made is this node's own, such as its state and its lock.
        self._by_itself = frozenset(vars(db)) | _OURS

    def prepare(self, primary: UserDatabase) -> None:
        """Called before the node's database is initialised."""

    def follow(self, primary: UserDatabase) -> None:
        """Take over what a subclass keeps on its instance, and its parameters as they are now."""
        db = self.db
        for name, value in vars(primary).items():
            if name not in self._by_itself:
                setattr(db, name, value)
        parameters = overlay(primary.connect_params, self.node.overrides)
        db.database = parameters.pop("database", primary.database)
        db.connect_params = parameters

    def limit_waits(self, seconds: float) -> None:
        """Let no step of connecting or asking take longer than so many seconds."""
        parameters: dict[str, Any] = self.db.connect_params
        for name in ("connect_timeout", "read_timeout", "write_timeout"):
            parameters[name] = min(parameters.get(name) or seconds, seconds)

    def log_nothing(self) -> None:
        """Keep what is sent while connecting out of peewee's log of queries: it is nobody's query."""
        vars(self.db)["_log_query"] = lambda *_: None
