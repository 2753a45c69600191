"""Connections, file paths and error meanings for SQLite."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlencode

from peewee import sqlite3  # the driver that peewee itself has chosen

from . import protocols, sqlite_dialect
from .error_meanings import Meaning

# Pragmas that write to the file, or lock it: a reading connection cannot run them, and need not.
_FILE_PRAGMAS = """
application_id auto_vacuum encoding incremental_vacuum journal_mode locking_mode optimize page_size
query_only schema_version user_version wal_checkpoint writable_schema
"""
FILE_PRAGMAS = frozenset(_FILE_PRAGMAS.split())

_MAY_CHANGE = re.compile(r"\b(?:temp|temporary|attach|pragma)\b", re.IGNORECASE)
_RETURNS = re.compile(r"\breturning\b", re.IGNORECASE)
_IN_MEMORY = frozenset({"", ":memory:"})

_READONLY, _CANTOPEN = 8, 14
_MISSING = (
    "no such collation sequence:",
    "no such column:",
    "no such function:",
    "no such module:",
    "no such table:",
)


class Cursor(sqlite3.Cursor):
    """A cursor that reports unread rows to its connection, because they keep a lock."""

    def __del__(self) -> None:
        connection = getattr(self, "connection", None)
        if connection is not None:
            connection.unfinished.discard(id(self))

    def _finished(self) -> None:
        self.connection.unfinished.discard(id(self))

    def execute(self, sql: str, parameters: object = ()) -> Cursor:
        """Run a statement, and record whether its rows keep a lock."""
        connection = self.connection
        connection.hear(sql)
        connection.unfinished.discard(id(self))
        super().execute(sql, parameters)
        if self.description is not None and (connection.guarded or _RETURNS.search(sql)):
            connection.unfinished.add(id(self))
        return self

    def executemany(self, sql: str, rows: Iterable[object]) -> sqlite3.Cursor:
        """Run a statement for each row, after the connection has examined it."""
        self.connection.hear(sql)
        return super().executemany(sql, rows)

    def executescript(self, script: str) -> sqlite3.Cursor:
        """Run a script, after the connection has examined it."""
        self.connection.hear(script)
        return super().executescript(script)

    def fetchone(self) -> object:
        """Fetch a row like sqlite3."""
        row = super().fetchone()
        if row is None:
            self._finished()
        return row

    def fetchmany(self, size: int | None = None) -> list[object]:
        """Fetch rows like sqlite3."""
        wanted = self.arraysize if size is None else size
        rows: list[object] = super().fetchmany(wanted)
        if len(rows) != wanted:
            self._finished()
        return rows

    def fetchall(self) -> list[object]:
        """Fetch all rows like sqlite3."""
        rows: list[object] = super().fetchall()
        self._finished()
        return rows

    def __next__(self) -> object:
        try:
            return super().__next__()
        except StopIteration:
            self._finished()
            raise

    def close(self) -> None:
        """Close the cursor like sqlite3."""
        super().close()
        self._finished()


class Connection(sqlite3.Connection):
    """A connection to the file, with the same members as a connection to a server.

    Attributes:
        guarded: whether it was opened for reading and refuses writes.
        unfinished: the ids of the cursors that hold a lock because they have unread rows.
        changes: statements of raw cursors that may have changed this connection, not examined yet.
        session_state: the changed state, in words, or ``""``; the owner of the connection sets it.
        executing: the kind of the statement that the owner runs; "" for a raw cursor's statement.
        effect_known: True while the text of that statement shows its effect.
        initialized: True once the owner has set it up; later changes count as state of the session.
        at_rest: always False.
        session_changed: True once its owner has set anything on it.
        set_by_connect: whether the program's own ``connect()`` has set something.
        connect_state: the part of `session_state` that it has set.
        unrepeatable: whether there may be more than the same statements would bring back on another one.
        named_locks: always None.
        raw_statement_check: raises if a raw cursor may not run a statement here.
        generation: always 0, because the file does not move.
        untracked: always ``""``.
        expires: always None.
        cluster_waits: always False.
        report_incomplete: always False, because SQLite has nothing to report after a statement has ended.
    """

    dialect: protocols.Dialect = sqlite_dialect
    session_state = connect_state = ""
    initialized = at_rest = False
    set_by_connect = unrepeatable = False
    named_locks = None
    effect_known = False
    executing = ""
    guarded = False
    session_changed = False
    raw_statement_check: Callable[..., None] | None = None
    report_incomplete = False
    generation = 0
    untracked = ""
    cluster_waits = False
    expires = None
    suspect_statement: str | bytes = ""
    server_version = ""  # there is no server

    comment = ""  # nobody would read it

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.changes: list[str] = []
        self.unfinished: set[int] = set()
        self._aside: list[Connection] = []
        self._closed = False
        super().__init__(*args, **kwargs)

    def interrupted(self) -> None:
        """Record that an interrupt ended whatever the owner was running here."""
        self.executing = ""
        self.effect_known = False

    def cursor(self, factory: Callable[[Connection], sqlite3.Cursor] = Cursor) -> sqlite3.Cursor:
        """Return a cursor like sqlite3, by default one of our own class."""
        return super().cursor(factory)

    # sqlite3's own shortcuts do not call the methods of our cursors.

    def execute(self, sql: str, parameters: object = ()) -> sqlite3.Cursor:
        """Run a statement on a new cursor, like sqlite3."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[object], /) -> sqlite3.Cursor:
        """Run a statement for each row on a new cursor, like sqlite3."""
        return self.cursor().executemany(sql, rows)

    def executescript(self, script: str) -> sqlite3.Cursor:
        """Run a script on a new cursor, like sqlite3."""
        return self.cursor().executescript(script)

    def close(self) -> None:
        """Close the connection, and those that were set aside for it."""
        self._closed = True
        for connection in self._aside:
            connection.close()
        self._aside.clear()
        super().close()

    def hear(self, sql: str) -> None:
        """Examine a statement before a cursor runs it, because SQLite reports no changes of a connection."""
        if self.executing:
            return
        if self.raw_statement_check is not None:
            self.raw_statement_check(self, sql)
        if not self.guarded and _MAY_CHANGE.search(sql):
            self.changes.append(sql)

    # For the owner of the connection

    def guard(self) -> None:
        """Refuse writes from now on."""
        self.run_setting(sqlite_dialect.GUARD)
        self.guarded = True

    def set_aside(self, connection: Connection) -> None:
        """Keep a connection with unread rows open until they are read or this connection is closed."""
        kept = []
        for other in (connection, *connection._aside):
            if other.busy:
                kept.append(other)
            else:
                other.close()
        connection._aside = []
        self._aside = kept

    @property
    def open(self) -> bool:
        """Whether the connection has not been closed."""
        return not self._closed

    @property
    def busy(self) -> bool:
        """Whether a cursor with unread rows keeps this connection at an old state of the data."""
        return bool(self.unfinished)

    @property
    def transaction(self) -> str:
        """The reason why this connection counts as inside a transaction, in words, or ``""``."""
        if self.in_transaction:
            return "the connection has an open transaction"
        if self.unfinished and not self.guarded:
            return "rows that a write returned are still to be read, so it is not committed"
        return ""

    @property
    def carries_state(self) -> bool:
        """Whether this connection has state that a new one would lack."""
        return bool(self.session_state or self.changes)

    @property
    def has_own_state(self) -> bool:
        """Whether it has state that even one set up by the program's own ``connect()`` would lack."""
        return self.carries_state

    @property
    def replaceable(self) -> bool:
        """Whether a new connection could replace this one without anybody noticing."""
        return not self.carries_state

    @property
    def renewable(self) -> bool:
        """Whether a new connection could replace this one, as above."""
        return not self.carries_state

    def forget_lost_transaction(self) -> None:
        """Do nothing, because the connection to a file is not lost."""

    def unanswered_statement(self) -> str:
        """Return ``""``, because SQLite never leaves an answer outstanding."""
        return ""

    def dropped(self) -> bool:
        """Return whether the connection was closed."""
        return self._closed

    def is_alive(self) -> bool:
        """Return whether the connection can still be used."""
        try:
            self.ask("SELECT 1")
        except sqlite3.Error:
            return False
        return True

    def ask(self, sql: str, timeout: float | None = None) -> tuple[protocols.Row, ...]:
        """Run one of the library's own queries; rows are tuples whatever the user's ``row_factory`` is.

        `timeout` is ignored, because a file answers at once.
        """
        cursor = sqlite3.Cursor(self)
        try:
            return tuple(cursor.execute(sql).fetchall())
        finally:
            cursor.close()

    def run_setting(self, sql: str) -> None:
        """Run one of the library's own settings."""
        self.ask(sql)

    def run_setting_when_idle(self, sql: str) -> None:
        """Run a setting at once, because SQLite accepts settings while rows are unread."""
        self.ask(sql)


if TYPE_CHECKING:
    _IMPLEMENTS: type[protocols.Connection] = Connection


class File:
    """The location of a database. A relative path is resolved once, so that all connections agree.

    Parameters:
        database: a path, or a ``file:`` URI if `uri` is true.
        uri: as for ``sqlite3.connect()``.

    Attributes:
        path: the absolute path of the file.
        writing: the path or URI to open for writing.
        reading: the URI to open for reading.
    """

    def __init__(self, database: str | bytes | os.PathLike[str], uri: bool) -> None:
        name, parameters = _parts(os.fsdecode(database), uri)
        self.path = os.path.abspath(name)
        where = Path(self.path).as_uri()
        own = urlencode(parameters)
        self.writing = (where + "?" * bool(own) + own) if uri else self.path
        # A shared cache would make readers wait for the writer's locks.
        kept = {key: value for key, value in parameters.items() if key not in ("mode", "cache")}
        self.reading = f"{where}?{urlencode({**kept, 'mode': 'ro'})}"

    def exists(self) -> bool:
        """Return whether there is anything to read.

        The file is not opened, because closing it would release SQLite's locks.
        """
        try:
            return os.stat(self.path).st_size > 0
        except OSError:
            return False


def in_memory(database: str | bytes | os.PathLike[str]) -> bool:
    """Return whether a database has no file: each connection would have a database of its own."""
    name = os.fsdecode(database)
    path, parameters = _parts(name, name.startswith("file:"))
    return path in _IN_MEMORY or parameters.get("mode") == "memory" or parameters.get("vfs") == "memdb"


def _parts(database: str, uri: bool) -> tuple[str, dict[str, str]]:
    if not uri or not database.startswith("file:"):
        return database, {}
    path, _, query = database.removeprefix("file:").partition("#")[0].partition("?")
    if path.startswith("//"):
        path = "/" + path[2:].partition("/")[2]
    return unquote(path), dict(parse_qsl(query, keep_blank_values=True))


def meaning(error: BaseException) -> Meaning:
    """Return what an exception of the driver means for a read.

    Before Python 3.11 the driver reports no code, so the few messages that matter are recognised by text.
    """
    text = str(error)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        code = {
            "attempt to write a readonly database": _READONLY,
            "unable to open database file": _CANTOPEN,
        }.get(text, 0)
    if code == _READONLY:
        return "refused"
    if code & 0xFF in (_READONLY, _CANTOPEN):
        return "unreachable"  # or, by their extended codes, its log cannot be opened or recovered
    return "missing" if text.startswith(_MISSING) else "statement"
