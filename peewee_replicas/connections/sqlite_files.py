"""The connections to a SQLite file: one that writes, and those of the readers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from peewee import OperationalError, sqlite3

from ..concurrency import Clock
from ..errors import ConfigurationError
from ..nodes.node import Node
from ..positions import Position
from ..servers import sqlite
from ..servers.protocols import ServerConnection
from .checks import ConnectionChecks
from .peewee_types import ThreadState
from .plain_database import NodeDatabase, PlainDatabase
from .primary_connection import PrimaryConnection
from .replica_connections import ReplicaConnections
from .user_database import UserDatabase, thread_state

_RETRY_PAUSE = 0.01

# Attributes copied to the readers: everything registered with the database. Attached databases are not
# copied, because a reader could open another file, or none; reads stay on the writer while one is attached.
_SHARED = (
    "_aggregates",
    "_collations",
    "_extensions",
    "_functions",
    "_timeout",
    "_window_functions",
)


class FileDatabase(UserDatabase, Protocol):
    """A SQLite database of this library's class, or of a user's own subclass."""

    database: str | bytes | os.PathLike[str]
    _timeout: float
    _pragmas: Sequence[tuple[str, object]]
    _attached: dict[str, object]

    def _add_conn_hooks(self, conn: sqlite.Connection, /) -> object: ...


class FileState(ThreadState, Protocol):
    """A thread's state. `file` is the file that its connections use, until all of them are closed."""

    file: sqlite.File


def file_state(db: FileDatabase) -> FileState:
    """Return this thread's state."""
    state: FileState = thread_state(db)  # type: ignore[assignment]  # `SqlitePrimary.locate` adds the file
    return state


def file_connection(database: PlainDatabase) -> sqlite.Connection:
    """Return this thread's connection, which must be open."""
    conn = database.conn
    assert isinstance(conn, sqlite.Connection)  # `check` refuses any other
    return conn


class SqlitePrimary(PlainDatabase):
    """The writer."""

    db: FileDatabase

    def locate(self) -> sqlite.File:
        """Return the file of this thread's connections, which stays the same until all are closed."""
        state = file_state(self.db)
        db = self.db
        if state.closed or not hasattr(state, "file"):
            state.file = sqlite.File(db.database, bool(db.connect_params.get("uri")))
        return state.file

    def connect_file(self) -> sqlite.Connection:
        """Open the file for writing."""
        found: sqlite.File = getattr(self.state, "file", None) or self.locate()
        return _open_file(self.db, found.writing, _use_wal)


class SqliteNode(NodeDatabase):
    """A node that reads from the database file."""

    db: FileDatabase

    def follow(self, primary: FileDatabase) -> None:  # type: ignore[override]  # always the user's object
        super().follow(primary)
        db = self.db
        for name in _SHARED:
            setattr(db, name, getattr(primary, name))
        db._pragmas = [
            (name, value) for name, value in primary._pragmas if bare_name(name) not in sqlite.FILE_PRAGMAS
        ]
        db.database = file_state(primary).file.reading
        db.connect_params["uri"] = True

    def connect_file(self) -> sqlite.Connection:
        """Open the file for reading."""
        return _open_file(self.db, self.db.database, lambda _db, conn: conn.guard())

    def open_connections(self) -> list[sqlite.Connection]:
        """Return this thread's connection, if it has one, in a list."""
        return [] if self.conn is None else [file_connection(self)]


def _open_file(
    db: FileDatabase,
    place: str | bytes | os.PathLike[str],
    prepare: Callable[[FileDatabase, sqlite.Connection], None],
) -> sqlite.Connection:
    parameters = {"factory": sqlite.Connection, **db.connect_params}
    conn: sqlite.Connection = sqlite3.connect(place, timeout=db._timeout, isolation_level=None, **parameters)
    try:
        _check_factory(str(db.database), conn)
        db._add_conn_hooks(conn)
        prepare(db, conn)
    except BaseException:
        conn.close()
        raise
    return conn


def _use_wal(db: FileDatabase, conn: sqlite.Connection) -> None:
    # If two connections switch at the same time, SQLite refuses one immediately, whatever the timeout.
    until = Clock.monotonic() + db._timeout
    while True:
        try:
            found = conn.ask("PRAGMA journal_mode = WAL")[0][0]
            break
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc) or Clock.monotonic() >= until:
                raise _no_wal(db, str(exc)) from exc
            time.sleep(_RETRY_PAUSE)  # SQLite does not wait for this lock
    if found != "wal":
        raise _no_wal(db, f"its journal mode stays {found!r}")


def _no_wal(db: FileDatabase, cause: str) -> OperationalError:
    return OperationalError(
        f"{db.database!s} cannot be put into WAL mode: {cause}; readers and the writer would block each "
        "other without it. "
        "The file must be writable, on a local file system and not in exclusive use"
    )


def _check_factory(label: str, conn: object) -> None:
    if not isinstance(conn, sqlite.Connection):
        raise ConfigurationError(
            f"{label}: the connection is a {type(conn).__name__}; a factory or a _connect() of your own "
            "must make a subclass of peewee_replicas.servers.sqlite.Connection"
        )


class SqliteChecks(ConnectionChecks):
    """Checks each new connection to the file."""

    primary: PrimaryConnection

    def check(self, label: str, conn: ServerConnection, parameters: Mapping[str, object]) -> None:
        _check_factory(label, conn)

    def take_in(self, name: str, conn: ServerConnection) -> None:
        super().take_in(name, conn)
        if conn.guarded and conn.ask("PRAGMA journal_mode")[0][0] != "wal":
            self.primary.get()  # switches the file to WAL permanently


class SqliteWriter(PrimaryConnection):
    """The writer's connections. Unlike a server, a file cannot be lost."""

    plain: SqlitePrimary

    def get(self, *, begins: bool = False, state: ThreadState | None = None) -> ServerConnection:
        conn = self.plain.conn if state is None else state.conn
        if conn is not None:
            return conn
        self.plain.locate()
        return super().get(begins=begins, state=state)

    def abandon(self, conn: ServerConnection) -> None:
        """Close a connection whose transaction did not end, which makes SQLite roll back."""
        self.plain.drop(conn)


class SqliteReaders(ReplicaConnections):
    """The readers' connections."""

    primary: SqlitePrimary
    writer: PrimaryConnection

    def reach(self, node: Node, *, patient: bool = False, state: ThreadState | None = None) -> NodeDatabase:
        database = super().reach(node, patient=patient, state=state)
        conn = file_connection(database)
        if conn.busy:
            # While rows are being read, this connection keeps seeing the data as it was for that query.
            database.state.reset()
            self.open(node, database)
            file_connection(database).set_aside(conn)
        return database

    def open(self, node: Node, database: NodeDatabase, *, patient: bool = False) -> None:
        if not self.primary.locate().exists():
            self.writer.get()  # creates the file
        super().open(node, database, patient=patient)


def bare_name(pragma: str) -> str:
    """Return a pragma's name in lower case, without its schema and quotes."""
    return pragma.rpartition(".")[2].strip('"').lower()


class OnePosition:
    """Stands in for the questions about positions: all connections read the same file, so none is behind.

    Attributes:
        without_gtids: why there are none, in words.
    """

    without_gtids = "SQLite has one file and no positions"

    def may_ask(self) -> bool:
        """Return False, because there is nothing to ask for."""
        return False

    def asked(self, answered: bool) -> None:
        """Do nothing."""

    def current(self) -> None:
        """Return None."""

    def missing(self, positions: Sequence[Position]) -> list[Position | None]:
        """Return that nothing is missing."""
        return [None for _ in positions]

    def is_unreachable(self, exc: BaseException) -> bool:
        """Return False."""
        return False
