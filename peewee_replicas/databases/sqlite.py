"""The database class for SQLite: one writer, and readers on the same file."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from peewee import SENTINEL, OperationalError, SqliteDatabase, __exception_wrapper__, sqlite3

from ..concurrency import Clock
from ..errors import ConfigurationError
from ..nodes.replica import Replica
from ..nodes.replica_set import ReplicaSet
from ..nodes.spec import NodeSpec
from ..routing.router import PRIMARY, Replication
from ..routing.settings import OWN_ARGUMENTS, Settings
from ..servers import sqlite, sqlite_dialect
from ..servers.error_meanings import Meaning
from .lifecycle import Connections
from .replicated import Replicated

_MOST_READERS = 100
_RETRY_PAUSE = 0.01

# What is registered with the database is the readers' too. Attached databases are not: what a reader
# would open of them could be another file, or nothing, so reads stay on the writer while there are any.
_SHARED = (
    "_aggregates",
    "_collations",
    "_extensions",
    "_functions",
    "_timeout",
    "_window_functions",
)


class _Unopened:
    """What peewee's registering members see of a database, so that they only note what they are given."""

    def __init__(self, database: Any) -> None:
        self.__dict__ = database.__dict__

    def is_closed(self) -> bool:
        return True


class ReplicatedSqliteDatabase(Replicated, SqliteDatabase):
    """peewee's `SqliteDatabase`, with reads served by read-only connections to the same file.

    SQLite has no replicas: the readers are never behind. They keep long reads and the writer out of each
    other's way, and let a program that is meant for servers run on a file. The file is put into WAL mode.

    Parameters:
        database: the file's path, or a ``file:`` URI with ``uri=True``; None to call `init` later.
        pragmas: as peewee's; those that write to the file are run by the writer alone.
        regexp_function, rank_functions, lock_type: as peewee's.
        readers: how many nodes serve reads, 0 to 100; each has one connection per thread.
        kwargs: the routing arguments of `ReplicatedDatabase` but ``replicas``, peewee's and sqlite3's own.

    Raises:
        ConfigurationError: an argument cannot work; a database in memory, for one, has no file to share.
    """

    _own_arguments = (*OWN_ARGUMENTS, "readers")

    def __init__(
        self,
        database: Any,
        pragmas: Any = None,
        regexp_function: bool = False,
        rank_functions: bool = False,
        lock_type: str | None = None,
        *,
        readers: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            database,
            pragmas=pragmas,
            regexp_function=regexp_function,
            rank_functions=rank_functions,
            lock_type=lock_type,
            readers=readers,
            **kwargs,
        )

    def init(self, database: Any, pragmas: Any = None, **kwargs: Any) -> None:
        """As peewee's; takes the routing arguments too. Raises `ConfigurationError` and changes nothing
        when one of them cannot work."""
        if self._node is None:
            if database is not None and sqlite.in_memory(database):
                raise ConfigurationError(
                    f"database={database!r}: a database in memory belongs to one connection, so readers "
                    "would find it empty; give the path of a file, or use peewee's SqliteDatabase"
                )
            given = self._pragmas if pragmas is None else pragmas
            for name, value in given.items() if isinstance(given, dict) else given or ():
                _check_pragma(name, value)
        if pragmas is not None:
            kwargs["pragmas"] = pragmas
        super().init(database, **kwargs)

    # Nodes

    def _node_specs(self, given: dict[str, Any], parameters: dict[str, Any]) -> tuple[NodeSpec, ...]:
        if given.get("replicas"):
            raise ConfigurationError("replicas: SQLite has one file and no replicas; give readers=2 instead")
        readers = given["readers"]
        whole = isinstance(readers, int) and not isinstance(readers, bool)
        if not whole or not 0 <= readers <= _MOST_READERS:
            raise ConfigurationError(f"readers={readers!r}: wanted is a whole number, 0 to {_MOST_READERS}")
        return tuple(NodeSpec(f"reader-{number}", 1, {}) for number in range(1, readers + 1))

    def set_replicas(self, replicas: Any) -> None:
        """Not for SQLite, whose readers are all the same.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("set_replicas(): SQLite has one file and no replicas; give readers= instead")

    def _assemble(self, settings: Settings, specs: tuple[NodeSpec, ...]) -> Replication:
        place = str(self.database)
        reader = Replica(NodeSpec(PRIMARY, 1, {}), place, self._make_node, is_primary=True)
        core = Replication(
            settings, ReplicaSet([Replica(spec, place, self._make_node) for spec in specs]), reader
        )
        core.know_dialect(sqlite_dialect.NAME)
        for replica in core.replicas.all:
            replica.lag, replica.role = 0.0, "replica"  # it is one file
        core.carried = self._carried()
        return core

    def _carried(self) -> str:
        return "an attached database" if getattr(self, "_attached", None) else ""

    def _adopt(self, owner: Connections, replica: Replica) -> None:
        super()._adopt(owner, replica)
        for name in _SHARED:
            setattr(self, name, getattr(owner, name))
        self._pragmas = [
            (name, value) for name, value in owner._pragmas if _bare(name) not in sqlite.FILE_PRAGMAS
        ]
        self.database = owner._state.file.reading
        self.connect_params["uri"] = True
        self._guarded = True

    def _locate(self) -> sqlite.File:
        """The file that this thread's connections lead to, until all of them are closed."""
        state = self._state
        if state.closed or not hasattr(state, "file"):
            state.file = sqlite.File(self.database, bool(self.connect_params.get("uri")))
        found: sqlite.File = state.file
        return found

    def _writer(self) -> Any:
        conn = self._state.conn
        if conn is not None:
            return conn
        self._locate()
        return super()._writer()

    def _reach(self, replica: Replica) -> Any:
        node = super()._reach(replica)
        conn = node._state.conn
        if conn.busy:
            # Rows still being read keep that connection at the state the data had when they were asked for.
            node._state.reset()
            self._open_node(replica, node)
            node._state.conn.set_aside(conn)
        return node

    def _open_node(self, replica: Replica, node: Any) -> None:
        if not self._locate().exists():
            self._writer()  # creates the file
        super()._open_node(replica, node)

    def _connect(self) -> Any:
        parameters = {"factory": sqlite.Connection, **self.connect_params}
        database = self.database
        if self._node is None:
            database = (getattr(self._state, "file", None) or self._locate()).writing
        conn = sqlite3.connect(database, timeout=self._timeout, isolation_level=None, **parameters)
        try:
            self._check_connection(str(self.database), conn, parameters)
            self._add_conn_hooks(conn)
            if self._guarded:
                conn.guard()
            else:
                self._use_wal(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def _check_connection(self, label: str, conn: Any, parameters: dict[str, Any]) -> None:
        if not isinstance(conn, sqlite.Connection):
            raise ConfigurationError(
                f"{label}: the connection is a {type(conn).__name__}; a factory or a _connect() of your own "
                "must make a subclass of peewee_replicas.servers.sqlite.Connection"
            )

    def _after_connect(self, name: str, conn: Any) -> None:
        super()._after_connect(name, conn)
        if conn.guarded and conn.ask("PRAGMA journal_mode")[0][0] != "wal":
            self._writer()  # switches the file to WAL, which it keeps

    def _use_wal(self, conn: Any) -> None:
        # Two connections that switch at once refuse each other at once, whatever the timeout.
        until = Clock.monotonic() + self._timeout
        while True:
            try:
                found = conn.ask("PRAGMA journal_mode = WAL")[0][0]
                break
            except sqlite3.OperationalError as exc:
                if "locked" not in str(exc) or Clock.monotonic() >= until:
                    raise self._no_wal(str(exc)) from exc
                time.sleep(_RETRY_PAUSE)  # SQLite does not wait for this lock
        if found != "wal":
            raise self._no_wal(f"its journal mode stays {found!r}")

    def _no_wal(self, cause: str) -> OperationalError:
        return OperationalError(
            f"{self.database} cannot be put into WAL mode: {cause}; readers beside a writer need it. "
            "The file must be writable, on a local file system and not in exclusive use"
        )

    def _meaning(self, exc: BaseException) -> Meaning:
        return sqlite.meaning(getattr(exc, "orig", exc))

    # peewee's members that reach for the one connection

    def _everywhere(self, apply: Callable[[Any], object]) -> None:
        """Do something to each connection that this thread has open, without opening one."""
        connections = [self._state.conn]
        if self._node is None:
            connections += [node._state.conn for node in self._open_nodes()]
        with __exception_wrapper__:
            for conn in connections:
                if conn is not None:
                    apply(conn)

    def register_aggregate(self, *args: Any, **kwargs: Any) -> None:
        """As peewee's, on each connection of this thread."""
        SqliteDatabase.register_aggregate(_Unopened(self), *args, **kwargs)
        self._everywhere(self._load_aggregates)

    def register_collation(self, *args: Any, **kwargs: Any) -> None:
        """As peewee's, on each connection of this thread."""
        SqliteDatabase.register_collation(_Unopened(self), *args, **kwargs)
        self._everywhere(self._load_collations)

    def register_function(self, *args: Any, **kwargs: Any) -> None:
        """As peewee's, on each connection of this thread. A function is read from a reader only inside
        ``readonly()``, or where ``pure_functions`` vouches for it."""
        SqliteDatabase.register_function(_Unopened(self), *args, **kwargs)
        self._everywhere(self._load_functions)

    def register_window_function(self, *args: Any, **kwargs: Any) -> None:
        """As peewee's, on each connection of this thread."""
        SqliteDatabase.register_window_function(_Unopened(self), *args, **kwargs)
        self._everywhere(self._load_window_functions)

    def load_extension(self, extension: str) -> None:
        """As peewee's, on each connection of this thread."""
        SqliteDatabase.load_extension(_Unopened(self), extension)
        self._everywhere(self._load_extensions)

    def attach(self, filename: Any, name: str) -> bool:
        """As peewee's. While a database is attached, reads stay on the writer."""
        attached = bool(SqliteDatabase.attach(_Unopened(self), filename, name))
        if attached:
            try:
                if self._state.conn is not None:
                    self.execute_sql("ATTACH DATABASE ? AS ?", (filename, name))
            except BaseException:
                del self._attached[name]
                raise
            self._replication.carried = self._carried()
        return attached

    def detach(self, name: str) -> bool:
        """As peewee's; this thread's reads stay on the writer until its connections are closed."""
        if name not in self._attached:
            return False
        if self._state.conn is not None:
            self.execute_sql("DETACH DATABASE ?", (name,))
        del self._attached[name]
        self._replication.carried = self._carried()
        return True

    def pragma(
        self, key: str, value: Any = SENTINEL, permanent: bool = False, schema: str | None = None
    ) -> Any:
        """As peewee's, on the writer. Raises `ConfigurationError` for what would shut the readers out."""
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


def _check_pragma(name: str, value: Any) -> None:
    word = str(value).strip("'\"").lower()
    if _bare(name) == "journal_mode" and word != "wal":
        raise ConfigurationError(
            f"pragmas: journal_mode={value!r}: only WAL lets readers work beside a writer; leave it out"
        )
    if _bare(name) == "locking_mode" and word != "normal":
        raise ConfigurationError(f"pragmas: locking_mode={value!r} would shut the readers out; leave it out")
