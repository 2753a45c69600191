"""What the rooms above may ask of a server: the types of its dialect and of a connection to it.

Everything a database, a router or a node does with a server goes through these members, so that the two
forms of the library and all kinds of servers are interchangeable there. `tests/unit/servers` holds that
the dialects and the connections have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from .position import Position

DialectName = Literal["mysql", "mariadb", "sqlite"]


Row = tuple[Any, ...]
"""A row as the driver gives it: only who has written the query knows what type a value has."""

Record = dict[str, Any]
"""A row by the names of its columns; of its values holds the same."""


Parameters = object
"""A statement's parameters, whatever the driver takes."""


class Cursor(Protocol):
    """A DB-API cursor, as far as this library and peewee look at it."""

    @property
    def connection(self) -> object:
        """The connection it reads from."""

    def execute(self, sql: str, params: Parameters, /) -> object:
        """Run a statement."""

    def fetchone(self) -> Row | None:
        """The next row."""

    def fetchall(self) -> Sequence[Row]:
        """All rows that are left."""

    def close(self) -> object:
        """Be done with it."""

    def __iter__(self) -> Iterator[Row]: ...


class Socket(Protocol):
    """What is under a connection, as far as others may look at it."""

    def fileno(self) -> int:
        """The number of the socket, to wait for."""


class Dialect(Protocol):
    """The statements that mean the same everywhere and are spelled differently. A module has these names."""

    @property
    def NAME(self) -> DialectName:
        """What the dialect is called."""

    @property
    def GUARD(self) -> str:
        """The statement after which the connection refuses writes."""

    @property
    def UNGUARD(self) -> str:
        """The statement that takes `GUARD` back."""

    @property
    def SNAPSHOT(self) -> tuple[str, ...]:
        """The statements that begin a read-only snapshot; ``{seconds}`` stands for its longest life."""

    @property
    def COMPARE(self) -> str:
        """A query for ``(name, value)`` of the settings that change what a SELECT returns, or ``""``."""

    @property
    def READY(self) -> str:
        """A query for ``wsrep_ready`` and ``wsrep_reject_queries`` of a Galera node; ``""``: always ready."""

    @property
    def READ_ONLY_NOW(self) -> str:
        """A query for whether the server refuses users' writes now; ``""``: it never does."""

    @property
    def REPORTS_AFTER_ERRORS(self) -> bool:
        """Whether the next statement reports what a failed one had changed in the session."""


class ServerDialect(Dialect, Protocol):
    """The dialect of a server that replicates: it has positions, and can be asked for them."""

    @property
    def TRACKERS(self) -> tuple[str, ...]:
        """Assignments for one SET that switch the session trackers on."""

    @property
    def READ_ONLY(self) -> str:
        """`GUARD` as an assignment for one SET."""

    @property
    def NOW(self) -> str:
        """A query for the primary's current position, whose row goes to `now`."""

    @property
    def HISTORY(self) -> str:
        """A query for all that the primary ever had, whose row goes to `missing`."""

    @property
    def COMMIT_COVERS_READS(self) -> bool:
        """Whether the position that a commit reports covers what its transaction had read."""

    @property
    def EXACT_POSITIONS(self) -> bool:
        """Whether a position names each transaction, so that another server's can never be taken for it."""

    @property
    def PROBE(self) -> str:
        """The statement with which a node is probed; it lists variables by name."""

    @property
    def REACHED(self) -> str:
        """The variable in `PROBE` that says what has been applied."""

    @property
    def LONG_VALUES(self) -> tuple[str, ...]:
        """The variables in `PROBE` that the server cuts at 1,024 characters."""

    @property
    def CHANNELS(self) -> tuple[str, ...]:
        """The statements that list what a node replicates from, newest spelling first."""

    def now(self, row: Row) -> Position | None:
        """The position in a row of `NOW`; None where the server keeps no GTIDs."""

    def missing(self, row: Row, wanted: Position) -> Position | None:
        """What of `wanted` the primary that answered `HISTORY` with `row` does not have; None: nothing."""

    def position(self, text: str) -> Position:
        """A position from the server's text. Raises ``ValueError`` if malformed."""

    def wait(self, target: str, seconds: float) -> str:
        """A query that waits for a position; its row is the outcome, the server's identity and position."""

    def settle(self, target: str, seconds: float) -> str:
        """As `wait`, but a statement that returns no rows and counts as no SELECT on the server."""

    def sampled(self, variables: Mapping[str, str]) -> Position | None:
        """The primary's position from `PROBE`; None where it keeps no GTIDs."""

    def has_all_of(self, node: Mapping[str, str], primary: Mapping[str, str]) -> bool:
        """Whether a node has all that the primary has, with writes of that very server among it.

        Parameters:
            node, primary: their answers to `PROBE`.
        """

    def unshared(self, node: Mapping[str, str], primary: Mapping[str, str]) -> tuple[str, str]:
        """What a node has executed and the primary has not: its own writes, and those of other servers.

        Parameters:
            node, primary: their answers to `PROBE`.
        """


class Connection(Protocol):
    """A connection, as its owner sees it: MySQL's and MariaDB's in both forms, and SQLite's.

    Attributes:
        changes: texts after which the session had changed; its owner explains and empties the list.
        session_state: what they left behind, in words, or ``""``; its owner sets it.
        executing: the kind of the statement that the owner runs; "" where a raw cursor sends one.
        effect_known: True while that statement's text tells its effect, so that no report is needed.
        initialized: True once its owner has finished setting it up; what changes later is state of its own.
        session_changed: True once anything was set on the session, however harmless to what is read.
        suspect_statement: the text of a statement that failed, or may fail, after changing the session;
            or ``""``.
        generation: the owner's count of primaries when it was opened.
        raw_statement_check: called with the connection and each text that its owner did not send itself;
            may raise.
    """

    changes: list[str]
    session_state: str
    executing: str
    effect_known: bool
    initialized: bool
    session_changed: bool
    suspect_statement: str | bytes
    generation: int
    raw_statement_check: Callable[..., None] | None

    @property
    def dialect(self) -> Dialect:
        """What is spoken here."""

    @property
    def guarded(self) -> bool:
        """Whether it was opened for reading only."""

    @property
    def open(self) -> bool:
        """Whether it has not been closed."""

    @property
    def transaction(self) -> str:
        """In words why this session counts as inside a transaction, or ``""``."""

    @property
    def busy(self) -> bool:
        """Whether rows or results of the last statement are still to be read."""

    @property
    def report_incomplete(self) -> bool:
        """Whether the server may have more to report of the last statement."""

    @property
    def carries_state(self) -> bool:
        """Whether something was set on the session that a new connection would lack."""

    @property
    def replaceable(self) -> bool:
        """Whether a new connection could take this one's place and nobody would notice."""

    def cursor(self) -> Cursor:
        """A DB-API cursor."""

    def close(self) -> None:
        """End the session in order."""

    def ask(self, sql: str, timeout: float | None = None) -> tuple[Row, ...]:
        """Run a query of the library's own; returns its rows as tuples.

        Parameters:
            timeout: seconds after which a server that has not answered counts as lost (2013).
        """

    def run_setting(self, sql: str) -> None:
        """Run a setting of the library's own, which does not count as a change of the session.

        A server that does not answer within ``connect_timeout`` counts as lost (2006).
        """

    def run_setting_when_idle(self, sql: str) -> None:
        """As `run_setting`; while rows are still to be read, only before the next statement."""

    def dropped(self) -> bool:
        """Whether the connection is known to be of no more use; costs no round trip."""

    def is_alive(self) -> bool:
        """Whether the server answers on this connection; costs a round trip."""

    def unanswered_statement(self) -> str:
        """The statement whose answer had not arrived when the connection ended, or ``""``."""


class NamedLocks(Protocol):
    """The named locks of one connection."""

    @property
    def any_held(self) -> bool:
        """Whether a lock is held, or may be."""

    def executed(self, text: str, takes: bool, value: object) -> None:
        """Take in that a statement about named locks has succeeded."""


class ServerConnection(Connection, Protocol):
    """A connection to a server over the network, in either form.

    Attributes:
        cursorclass: the class of its cursors, as the user gave it.
        listener: called with the connection after each statement that was not the library's own:
            whether it succeeded, and whether a transaction was open when it was sent.
        internal: True while a statement of the library's own runs.
        server_identity: the server's identity, once it was asked for.
        gtid: the GTID that the last statement reported as its own, or None.
        position: the same as a position; None also where the text is empty.
        transaction_has_read: whether the open transaction has read or failed at something.
        more_results: whether the server has just said, with a result, that further ones follow it.
        named_locks: the named locks it holds, as its owner counts them; None: it never had any.
        answer_ahead: the answer to `send_ahead`: its first row, the error it ended in, or None.
    """

    cursorclass: type[object]
    listener: Callable[..., None] | None
    internal: bool
    server_identity: str | None
    gtid: str | None
    position: Position | None
    transaction_has_read: bool
    more_results: bool
    answer_ahead: Row | Exception | None
    named_locks: NamedLocks | None

    @property
    def dialect(self) -> ServerDialect:
        """What is spoken here."""

    @property
    def server_version(self) -> str:
        """What the server calls itself in its greeting."""

    @property
    def last_statement(self) -> str | bytes:
        """The text of the last statement sent, whoever sent it."""

    @property
    def single_value(self) -> object:
        """What the last statement has returned, if that was one row of one column; else None."""

    @property
    def has_more_results(self) -> bool:
        """Whether another result of the last statement is still to be read."""

    @property
    def connect_timeout(self) -> float | None:
        """Seconds that connecting may take; None: no limit."""

    @property
    def read_timeout(self) -> float | None:
        """Seconds an answer may take; None: no limit."""

    def connect(self) -> None:
        """Open it; until then it was only made."""

    @property
    def socket(self) -> Socket | None:
        """The socket, or None while the connection is closed."""

    def send_ahead(self, sql: str, seconds: float | None) -> None:
        """Let a query of the library's own leave with the next statement, before it, in one packet.

        Parameters:
            seconds: how long its own answer may take in all.
        """

    def recall_ahead(self) -> None:
        """Take back what `send_ahead` was given, if no statement followed."""

    def start_query(self, sql: str) -> None:
        """Send a query of the library's own without waiting; `finish_query` has to follow."""

    def finish_query(self) -> list[Record] | Exception:
        """The rows of the query that `start_query` sent, by column name, or the server's refusal."""

    def within(self, seconds: float | None) -> AbstractContextManager[None]:
        """A context manager: what is sent and read in it may take so many seconds in all."""

    def drain(self) -> None:
        """Read the rest of the last statement's results, and throw it away."""

    def hang_up(self) -> bool:
        """End the connection and wake the thread that waits for it; returns whether it was open."""

    def abort(self) -> None:
        """Close the connection without telling the server."""

    def leave_to_parent(self) -> None:
        """In a forked child: close the socket, and tell nobody."""
