"""The database class for SQLite: one writer, and readers on the same file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from peewee import SENTINEL, OperationalError, __exception_wrapper__, sqlite3

from ..concurrency import Clock
from ..connections.checks import ConnectionChecks
from ..connections.diagnosis import Diagnosis
from ..connections.parts import Parts
from ..connections.peewee_types import ThreadState
from ..connections.peewee_version import SqliteDatabase
from ..connections.plain_database import NodeDatabase, PlainDatabase
from ..connections.primary_connection import PrimaryConnection
from ..connections.primary_session import PrimarySession
from ..connections.replica_connections import ReplicaConnections
from ..connections.user_database import UserDatabase, thread_state
from ..consistency.levels import Consistency
from ..errors import ConfigurationError
from ..events import CommentHook
from ..nodes.cluster import PRIMARY, Cluster
from ..nodes.node import Node
from ..nodes.replica_set import ReplicaSet
from ..nodes.spec import NodeSpec
from ..routing.router import Router
from ..routing.settings import OWN_ARGUMENTS, Settings
from ..servers import sqlite, sqlite_dialect
from ..servers.protocols import ServerConnection
from ..statements.redaction import shown
from .argument_names import names_taken
from .assembly import Assembly
from .replicated import Replicated
from .routed_members import RoutedMembers
from .signatures import declares_signature

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..routing.settings import Fallback, Level, OnTransactionEscape, ReadonlyInTransaction, Reads, Spread
    from .argument_types import PolicyArgument, SqliteArguments, SqliteDriverArguments

Pragmas = dict[str, object] | Sequence[tuple[str, object]]
"""SQLite's settings, as peewee takes them."""

_MOST_READERS = 100
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
    state: FileState = thread_state(db)  # type: ignore[assignment]  # `_SqlitePrimary.locate` adds the file
    return state


def file_connection(database: PlainDatabase) -> sqlite.Connection:
    """Return this thread's connection, which must be open."""
    conn = database.conn
    assert isinstance(conn, sqlite.Connection)  # `check` refuses any other
    return conn


class _Unopened:
    """The database with no open connection, so that peewee's register methods only store their arguments."""

    def __init__(self, database: object) -> None:
        self.__dict__ = database.__dict__

    def is_closed(self) -> bool:
        return True


def _carried(db: object) -> str:
    return "an attached database" if getattr(db, "_attached", None) else ""


class _SqlitePrimary(PlainDatabase):
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


class _SqliteNode(NodeDatabase):
    """A node that reads from the database file."""

    db: FileDatabase

    def follow(self, primary: FileDatabase) -> None:  # type: ignore[override]  # always the user's object
        super().follow(primary)
        db = self.db
        for name in _SHARED:
            setattr(db, name, getattr(primary, name))
        db._pragmas = [
            (name, value) for name, value in primary._pragmas if _bare(name) not in sqlite.FILE_PRAGMAS
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


class _SqliteChecks(ConnectionChecks):
    """Checks each new connection to the file."""

    primary: PrimaryConnection

    def check(self, label: str, conn: ServerConnection, parameters: Mapping[str, object]) -> None:
        _check_factory(label, conn)

    def take_in(self, name: str, conn: ServerConnection) -> None:
        super().take_in(name, conn)
        if conn.guarded and conn.ask("PRAGMA journal_mode")[0][0] != "wal":
            self.primary.get()  # switches the file to WAL permanently


class _Writer(PrimaryConnection):
    """The writer's connections. Unlike a server, a file cannot be lost."""

    plain: _SqlitePrimary

    def get(self, *, begins: bool = False) -> ServerConnection:
        conn = self.plain.conn
        if conn is not None:
            return conn
        self.plain.locate()
        return super().get(begins=begins)

    def abandon(self, conn: ServerConnection) -> None:
        """Close a connection whose transaction did not end, which makes SQLite roll back."""
        self.plain.drop(conn)


class _Readers(ReplicaConnections):
    """The readers' connections."""

    primary: _SqlitePrimary
    writer: PrimaryConnection

    def reach(self, node: Node, *, patient: bool = False) -> NodeDatabase:
        database = super().reach(node, patient=patient)
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


# Without the parameter that this library sets itself.
_taken = names_taken(sqlite3.connect)


class _SqliteAssembly(Assembly):
    """Builds the readers and the collaborators of one SQLite database."""

    plain: _SqlitePrimary
    node_database = _SqliteNode
    driver_parameters = _taken and _taken - {"isolation_level"}
    driver_name = "sqlite3"

    def known_parameters(self, parameters: Mapping[str, object]) -> frozenset[str] | None:
        """Return the parameters' names; None also if the connection class has its own constructor."""
        factory = parameters.get("factory", sqlite.Connection)
        plainly = getattr(factory, "__init__", None) is sqlite.Connection.__init__
        return super().known_parameters(parameters) if plainly else None

    def node_specs(
        self, given: Mapping[str, object], parameters: Mapping[str, object]
    ) -> tuple[NodeSpec, ...]:
        if given.get("replicas"):
            raise ConfigurationError("replicas: SQLite has one file and no replicas; pass readers=2 instead")
        if given.get("follow_primary"):
            raise ConfigurationError("follow_primary: SQLite has one file, which takes all writes")
        if given.get("max_connection_age") is not None:
            raise ConfigurationError("max_connection_age: SQLite has a file, and no address that may change")
        readers = given.get("readers", 2)
        if isinstance(readers, bool) or not isinstance(readers, int) or not 0 <= readers <= _MOST_READERS:
            raise ConfigurationError(
                f"readers={shown(readers)}: a whole number from 0 to {_MOST_READERS} is wanted"
            )
        return tuple(NodeSpec(f"reader-{number}", 1, {}) for number in range(1, readers + 1))

    def primary_endpoint(self) -> str:
        return f"sqlite:{self.plain.db.database!s}"

    def make_cluster(self, settings: Settings, specs: tuple[NodeSpec, ...]) -> Cluster:
        place = str(self.plain.db.database)
        nodes = [Node(spec, place, self.database_of) for spec in specs]
        for node in nodes:
            node.lag, node.role = 0.0, "replica"  # all read the same file
        reader = Node(NodeSpec(PRIMARY, 1, {}), place, self.database_of, is_primary=True)
        cluster = Cluster(ReplicaSet(nodes), reader, settings, timed=True, tagged=False)
        cluster.immovable = "SQLite has one file, which takes all writes"
        return cluster

    def assemble(self, settings: Settings, specs: tuple[NodeSpec, ...]) -> Parts:
        parts = super().assemble(settings, specs)
        parts.router.learn_server(sqlite_dialect.NAME, "")
        parts.session.carried = _carried(self.plain.db)
        return parts

    def make_diagnosis(self, router: Router) -> Diagnosis:
        return Diagnosis(lambda exc: sqlite.meaning(getattr(exc, "orig", exc)))

    def make_checks(self, cluster: Cluster, router: Router) -> ConnectionChecks:
        return _SqliteChecks(self.plain.db, cluster, router)

    def make_primary(
        self,
        cluster: Cluster,
        session: PrimarySession,
        consistency: Consistency,
        diagnosis: Diagnosis,
        checks: ConnectionChecks,
    ) -> PrimaryConnection:
        writer = _Writer(self.plain, cluster, session, consistency, diagnosis, checks, self.here)
        assert isinstance(checks, _SqliteChecks)
        checks.primary = writer
        return writer

    def make_replicas(
        self,
        cluster: Cluster,
        session: PrimarySession,
        diagnosis: Diagnosis,
        checks: ConnectionChecks,
        primary: PrimaryConnection,
    ) -> ReplicaConnections:
        readers = _Readers(self.plain, self.node_database, cluster, session, diagnosis, checks)
        readers.writer = primary
        return readers

    def make_prober(self, settings: Settings, cluster: Cluster) -> None:
        return None  # readers of one file are never behind


class _SqliteMembers(RoutedMembers):
    """The methods of a SQLite database."""

    plain: _SqlitePrimary

    def note_attached(self) -> None:
        """Keep reads on the writer while a database is attached."""
        self.parts.session.carried = _carried(self.db)

    def connect_file(self) -> sqlite.Connection:
        """Open the file for writing."""
        return self.plain.connect_file()

    def open_connections(self) -> list[sqlite.Connection]:
        """Return all open connections of this thread."""
        opened: list[PlainDatabase] = [*self.parts.replicas.opened()]
        if self.plain.conn is not None:
            opened.insert(0, self.plain)
        return [file_connection(database) for database in opened]


class ReplicatedSqliteDatabase(Replicated, SqliteDatabase):
    """peewee's `SqliteDatabase`, with reads served by read-only connections to the same file.

    SQLite has no replicas, so the readers are never behind. With them, long reads and the writer do not block
    each other, and a program written for servers can run on a file. The file is put into WAL mode.

    Parameters:
        database: the file's path, or a ``file:`` URI with ``uri=True``; None to call `init` later.
        pragmas: as in peewee; those that write to the file run on the writer only.
        regexp_function, rank_functions, lock_type: as in peewee.
        readers: the number of nodes that serve reads, 0 to 100; each has one connection per thread.
        kwargs: `ReplicatedDatabase`'s routing arguments except ``replicas``, and those of peewee and sqlite3.

    Raises:
        ConfigurationError: an argument cannot work, such as a database in memory, which has no file to share.
    """

    routing_arguments = (*OWN_ARGUMENTS, "readers")
    beneath = SqliteDatabase
    assembly = _SqliteAssembly
    members = _SqliteMembers
    _members: _SqliteMembers

    @declares_signature
    def __init__(
        self,
        database: str | bytes | os.PathLike[str] | None,
        pragmas: Pragmas | None = None,
        regexp_function: bool = False,
        rank_functions: bool = False,
        lock_type: str | None = None,
        *,
        readers: int = 2,
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
        **kwargs: Unpack[SqliteDriverArguments],
    ) -> None: ...

    def init(  # type: ignore[override]  # known arguments only
        self,
        database: str | bytes | os.PathLike[str] | None,
        pragmas: Pragmas | None = None,
        **kwargs: Unpack[SqliteArguments],
    ) -> None:
        """Like peewee's method; takes the routing arguments too.

        Raises:
            ConfigurationError: an argument cannot work; nothing was changed.
        """
        if database is not None and sqlite.in_memory(database):
            raise ConfigurationError(
                f"database={shown(database)}: a database in memory belongs to one connection, so readers "
                "would find it empty; pass the path of a file, or use peewee's SqliteDatabase"
            )
        given = self._pragmas if pragmas is None else pragmas
        for name, value in given.items() if isinstance(given, dict) else given or ():
            _check_pragma(name, value)
        chosen = {} if pragmas is None else {"pragmas": pragmas}
        super().init(database, **chosen, **kwargs)

    @property
    def comment_hooks(self) -> list[CommentHook]:
        """Refuse the use, because a file has no server whose log would show comments.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("comment_hooks: SQLite has no server whose log would show comments")

    def set_replicas(self, replicas: object) -> None:
        """Refuse the call, because SQLite has no replicas.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("set_replicas(): SQLite has one file and no replicas; pass readers= instead")

    def _connect(self) -> sqlite.Connection:
        return self._members.connect_file()

    def _as_primary(self) -> _SqlitePrimary:
        return _SqlitePrimary(self, self.beneath)

    # peewee's methods that use the database's one connection

    def _everywhere(self, apply: Callable[[sqlite.Connection], object]) -> None:
        """Call `apply` with each open connection of this thread; opens none."""
        connections = self._members.open_connections()
        with __exception_wrapper__:
            for conn in connections:
                apply(conn)

    def register_aggregate(self, *args: object, **kwargs: object) -> None:
        """Like peewee's method, for each connection of this thread."""
        SqliteDatabase.register_aggregate(_Unopened(self), *args, **kwargs)
        self._everywhere(self._load_aggregates)

    def register_collation(self, *args: object, **kwargs: object) -> None:
        """Like peewee's method, for each connection of this thread."""
        SqliteDatabase.register_collation(_Unopened(self), *args, **kwargs)
        self._everywhere(self._load_collations)

    def register_function(self, *args: object, **kwargs: object) -> None:
        """Like peewee's method, for each connection of this thread.

        A reader runs the function only inside ``readonly()``, or if ``pure_functions`` lists it.
        """
        SqliteDatabase.register_function(_Unopened(self), *args, **kwargs)
        self._everywhere(self._load_functions)

    def register_window_function(self, *args: object, **kwargs: object) -> None:
        """Like peewee's method, for each connection of this thread."""
        SqliteDatabase.register_window_function(_Unopened(self), *args, **kwargs)
        self._everywhere(self._load_window_functions)

    def load_extension(self, extension: str) -> None:
        """Like peewee's method, for each connection of this thread."""
        SqliteDatabase.load_extension(_Unopened(self), extension)
        self._everywhere(self._load_extensions)

    def attach(self, filename: object, name: str) -> bool:
        """Like peewee's method. While a database is attached, reads stay on the writer."""
        attached = bool(SqliteDatabase.attach(_Unopened(self), filename, name))
        if attached:
            try:
                if thread_state(self).conn is not None:
                    self.execute_sql("ATTACH DATABASE ? AS ?", (filename, name))
            except BaseException:
                del self._attached[name]
                raise
            self._note_attached()
        return attached

    def detach(self, name: str) -> bool:
        """Like peewee's method; this thread's reads stay on the writer until its connections are closed."""
        if name not in self._attached:
            return False
        if thread_state(self).conn is not None:
            self.execute_sql("DETACH DATABASE ?", (name,))
        del self._attached[name]
        self._note_attached()
        return True

    def _note_attached(self) -> None:
        self._members.note_attached()

    def pragma(
        self, key: str, value: object = SENTINEL, permanent: bool = False, schema: str | None = None
    ) -> Any:
        """Like peewee's method, on the writer. Raises `ConfigurationError` if it would lock readers out."""
        if value is not SENTINEL:
            _check_pragma(key, value)
        return super().pragma(key, value, permanent, schema)

    @property
    def timeout(self) -> float:
        """Seconds to wait for a lock."""
        seconds: float = self._timeout
        return seconds

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._timeout = seconds
        self._everywhere(lambda conn: conn.run_setting(f"PRAGMA busy_timeout = {int(seconds * 1000)}"))


def _bare(pragma: str) -> str:
    return pragma.rpartition(".")[2].strip('"').lower()


def _check_pragma(name: str, value: object) -> None:
    word = str(value).strip("'\"").lower()
    if _bare(name) == "journal_mode" and word != "wal":
        raise ConfigurationError(
            f"pragmas: journal_mode={shown(value)}: only WAL lets readers and the writer work at the same "
            "time; omit it"
        )
    if _bare(name) == "locking_mode" and word != "normal":
        raise ConfigurationError(f"pragmas: locking_mode={shown(value)} would shut the readers out; omit it")
