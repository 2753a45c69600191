"""The database class for SQLite: one writer, and readers on the same file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peewee import SENTINEL, __exception_wrapper__, sqlite3

from ..connections.checks import ConnectionChecks
from ..connections.diagnosis import Diagnosis
from ..connections.parts import Parts
from ..connections.peewee_version import SqliteDatabase
from ..connections.plain_database import PlainDatabase
from ..connections.primary_connection import PrimaryConnection
from ..connections.primary_session import PrimarySession
from ..connections.replica_connections import ReplicaConnections
from ..connections.sqlite_files import (
    OnePosition,
    SqliteChecks,
    SqliteNode,
    SqlitePrimary,
    SqliteReaders,
    SqliteWriter,
    bare_name,
    file_connection,
)
from ..connections.user_database import thread_state
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
from ..statements.redaction import shown
from .argument_names import names_taken
from .assembly import Assembly
from .replicated import Replicated
from .routed_members import RoutedMembers
from .signatures import by_name, declares_signature

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..routing.settings import Fallback, Level, OnTransactionEscape, ReadonlyInTransaction, Reads, Spread
    from .argument_types import PolicyArgument, SqliteArguments, SqliteDriverArguments

Pragmas = dict[str, object] | Sequence[tuple[str, object]]
"""SQLite's settings, as peewee takes them."""

_MOST_READERS = 100
_NO_REPLICAS = "replicas: SQLite has one file and no replicas; pass readers=2 instead"


class _Unopened:
    """The database with no open connection, so that peewee's register methods only store their arguments."""

    def __init__(self, database: object) -> None:
        self.__dict__ = database.__dict__

    def is_closed(self) -> bool:
        return True


def _carried(db: object) -> str:
    return "an attached database" if getattr(db, "_attached", None) else ""


# Without the parameter that this library sets itself.
_taken = names_taken(sqlite3.connect)


class _SqliteAssembly(Assembly):
    """Builds the readers and the collaborators of one SQLite database."""

    plain: SqlitePrimary
    node_database = SqliteNode
    driver_parameters = _taken and _taken - {"isolation_level"}
    driver_name = "sqlite3"

    def known_parameters(self, parameters: Mapping[str, object]) -> frozenset[str] | None:
        """Return the parameters' names; None also if the connection class has its own constructor."""
        factory = parameters.get("factory", sqlite.Connection)
        plainly = getattr(factory, "__init__", None) is sqlite.Connection.__init__
        return super().known_parameters(parameters) if plainly else None

    def check_database(self, database: object, parameters: Mapping[str, object]) -> None:
        pass  # a path, which peewee and the driver take in several forms

    def check_discovery(self, ask: Callable[..., object]) -> None:
        raise ConfigurationError(_NO_REPLICAS)

    def node_specs(
        self, given: Mapping[str, object], parameters: Mapping[str, object], database: object = None
    ) -> tuple[NodeSpec, ...]:
        if given.get("replicas"):
            raise ConfigurationError(_NO_REPLICAS)
        if "refresh" in given:
            raise ConfigurationError("refresh: SQLite has one file and no replicas to ask for")
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
        parts.consistency.attach(OnePosition(), self.primary_endpoint())
        return parts

    def make_diagnosis(self, router: Router) -> Diagnosis:
        return Diagnosis(lambda exc: sqlite.meaning(getattr(exc, "orig", exc)))

    def make_checks(self, cluster: Cluster, router: Router) -> ConnectionChecks:
        return SqliteChecks(self.plain.db, cluster, router)

    def make_primary(
        self,
        cluster: Cluster,
        session: PrimarySession,
        consistency: Consistency,
        diagnosis: Diagnosis,
        checks: ConnectionChecks,
    ) -> PrimaryConnection:
        writer = SqliteWriter(self.plain, cluster, session, consistency, diagnosis, checks, self.here)
        assert isinstance(checks, SqliteChecks)
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
        readers = SqliteReaders(self.plain, self.node_database, cluster, session, diagnosis, checks)
        readers.writer = primary
        return readers

    def make_prober(self, settings: Settings, cluster: Cluster) -> None:
        return None  # readers of one file are never behind


class _SqliteMembers(RoutedMembers):
    """The methods of a SQLite database."""

    plain: SqlitePrimary

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
        *args: object,
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
        chosen = by_name(SqliteDatabase.init, self, database, pragmas, *args)
        if pragmas is None:
            del chosen["pragmas"]
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

    def _as_primary(self) -> SqlitePrimary:
        return SqlitePrimary(self, self.beneath)

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


def _check_pragma(name: str, value: object) -> None:
    word = str(value).strip("'\"").lower()
    if bare_name(name) == "journal_mode" and word != "wal":
        raise ConfigurationError(
            f"pragmas: journal_mode={shown(value)}: only WAL lets readers and the writer work at the same "
            "time; omit it"
        )
    if bare_name(name) == "locking_mode" and word != "normal":
        raise ConfigurationError(f"pragmas: locking_mode={shown(value)} would shut the readers out; omit it")
