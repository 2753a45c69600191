"""The interface of servers for the other rooms: the types of a dialect and of a connection.

Everything a database, a router or a node does with a server goes through these members, so that both forms of
the library and all kinds of servers are interchangeable. `tests/unit/servers` checks that the dialects and
the connections have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from .position import Position

DialectName = Literal["mysql", "mariadb", "sqlite"]


Row = tuple[Any, ...]
"""A row as the driver returns it. Only the author of the query knows the types of its values."""

Record = dict[str, Any]
"""A row by column names; its values are untyped too."""


Parameters = object
"""A statement's parameters, in any form that the driver accepts."""


class Cursor(Protocol):
    """A DB-API cursor, with the members that this library and peewee use."""

    @property
    def connection(self) -> object:
        """The connection it reads from."""

    def execute(self, sql: str, params: Parameters, /) -> object:
        """Run a statement."""

    def fetchone(self) -> Row | None:
        """Return the next row."""

    def fetchall(self) -> Sequence[Row]:
        """Return all remaining rows."""

    def close(self) -> object:
        """Close the cursor."""

    def __iter__(self) -> Iterator[Row]: ...


class Socket(Protocol):
    """The socket of a connection, with the members that other rooms may use."""

    def fileno(self) -> int:
        """Return the socket's file descriptor, to wait on."""


class Dialect(Protocol):
    """Statements with the same meaning that each kind of server spells differently, as names of a module."""

    @property
    def NAME(self) -> DialectName:
        """The name of the dialect."""

    @property
    def GUARD(self) -> str:
        """The statement after which the connection refuses writes."""

    @property
    def UNGUARD(self) -> str:
        """The statement that reverses `GUARD`."""

    @property
    def SNAPSHOT(self) -> tuple[str, ...]:
        """The statements that begin a read-only snapshot; ``{seconds}`` is replaced by its longest life."""

    @property
    def COMPARE(self) -> str:
        """A query for ``(name, value)`` of each setting that changes what a SELECT returns, or ``""``."""

    @property
    def READY(self) -> str:
        """A query for ``wsrep_ready`` and ``wsrep_reject_queries`` of a Galera node; ``""``: always ready."""

    @property
    def IN_CLUSTER(self) -> str:
        """A query for whether this connection leads to a member of a Galera cluster; or ``""``."""

    @property
    def CLUSTER_WAIT(self) -> str:
        """The setting that makes reads on such a member wait for the cluster; or ``""``."""

    @property
    def READ_ONLY_NOW(self) -> str:
        """A query for whether the server refuses users' writes now; ``""`` if it never does."""

    @property
    def REPORTS_AFTER_ERRORS(self) -> bool:
        """Whether session changes of a failed statement are reported with the next statement."""


class ServerDialect(Dialect, Protocol):
    """The dialect of a server with replication, which has positions."""

    @property
    def WITHOUT_GTIDS(self) -> str:
        """The setting that a server without GTIDs has, and what to set instead, in words."""

    @property
    def TRACKERS(self) -> tuple[str, ...]:
        """Assignments for one SET that turn on the session trackers."""

    @property
    def READ_ONLY(self) -> str:
        """`GUARD` as an assignment for one SET."""

    @property
    def NOW(self) -> str:
        """A query for the primary's current position; `now` reads its row."""

    @property
    def HISTORY(self) -> str:
        """A query for everything the primary has ever executed; `missing` reads its row."""

    @property
    def COMMIT_COVERS_READS(self) -> bool:
        """Whether the position that a commit reports covers what its transaction has read."""

    @property
    def EXACT_POSITIONS(self) -> bool:
        """Whether a position identifies each transaction, so that it cannot match another topology's."""

    @property
    def PROBE(self) -> str:
        """The statement that probes a node; it lists variables by name."""

    @property
    def NO_LIMITS(self) -> str:
        """The statement that lifts the session's limits on queries; for the prober's own connections."""

    @property
    def REACHED(self) -> str:
        """The variable in `PROBE` that holds the applied position."""

    @property
    def LONG_VALUES(self) -> tuple[str, ...]:
        """The variables in `PROBE` that the server truncates at 1,024 characters."""

    @property
    def GROUP_MEMBER(self) -> str:
        """A query for ``state`` and ``role`` of a member of a replication group; ``""`` if there are none."""

    @property
    def CHANNELS(self) -> tuple[str, ...]:
        """The statements that list the sources of a node's replication, newest spelling first."""

    def now(self, row: Row) -> Position | None:
        """Return the position in a row of `NOW`; None if the server keeps no GTIDs."""

    def missing(self, row: Row, wanted: Position) -> Position | None:
        """Return the part of `wanted` that is missing in `row`, the row of `HISTORY`; None if nothing is."""

    def position(self, text: str) -> Position:
        """Parse a position from the server's text. Raises ``ValueError`` if malformed."""

    def wait(self, target: str, seconds: float) -> str:
        """Return a query that waits for a position; its row: outcome, server identity, server position."""

    def settle(self, target: str, seconds: float) -> str:
        """Return a statement that waits like `wait`, but has no result and does not count as a SELECT."""

    def sampled(self, variables: Mapping[str, str]) -> Position | None:
        """Return the primary's position from the answer to `PROBE`; None if it keeps no GTIDs."""

    def has_all_of(self, node: Mapping[str, str], primary: Mapping[str, str]) -> bool:
        """Return whether a node has everything the primary has, including writes of the primary itself.

        Parameters:
            node, primary: their answers to `PROBE`.
        """

    def unshared(self, node: Mapping[str, str], primary: Mapping[str, str]) -> tuple[str, str]:
        """Return what a node has executed and the primary has not: its own writes, and others' writes.

        Parameters:
            node, primary: their answers to `PROBE`.
        """


class Connection(Protocol):
    """A connection, as its owner sees it: to MySQL or MariaDB in both forms, or to SQLite.

    Attributes:
        changes: statements that changed the session; the owner examines and empties the list.
        session_state: the state that they left on the session, in words, or ``""``; the owner sets it.
        executing: the kind of the statement that the owner runs; "" for a raw cursor's statement.
        effect_known: True while the text of that statement shows its effect, so that no report is needed.
        initialized: True once the owner has set it up; later changes count as state of the session.
        at_rest: whether it has gone back to a pool and nobody has taken it from there.
        session_changed: True once anything was set on the session, even if it does not affect reads; not by
            the program's own ``connect()``, once that has ended.
        set_by_connect: whether the program's own ``connect()`` has set something, as on each new connection.
        connect_state: the part of `session_state` that it has set.
        unrepeatable: whether there is, or may be, what the same statements would not bring back on another
            connection, such as the rows of a temporary table.
        suspect_statement: the text of a statement that failed, or may fail, after changing the session; or
            ``""``.
        comment: a comment for the texts that are sent, and not for what is remembered of them; or ``""``.
        generation: how many primaries the owner had seen lose their role when the connection was opened.
        untracked: why the server does not report positions and session changes, in words; or ``""``.
        cluster_waits: whether each read here waits until the node shows what its cluster has committed.
        expires: when it is older than it should get, on a monotonic clock in seconds; None: never.
        raw_statement_check: called with the connection and each text that the owner did not send itself;
            may raise.
    """

    changes: list[str]
    session_state: str
    executing: str
    effect_known: bool
    initialized: bool
    at_rest: bool
    session_changed: bool
    set_by_connect: bool
    connect_state: str
    unrepeatable: bool
    suspect_statement: str | bytes
    comment: str
    generation: int
    untracked: str
    cluster_waits: bool
    expires: float | None
    raw_statement_check: Callable[..., None] | None

    @property
    def dialect(self) -> Dialect:
        """The server's dialect."""

    @property
    def guarded(self) -> bool:
        """Whether the connection was opened for reading only."""

    @property
    def open(self) -> bool:
        """Whether the connection has not been closed."""

    @property
    def transaction(self) -> str:
        """The reason why this session counts as inside a transaction, in words, or ``""``."""

    @property
    def busy(self) -> bool:
        """Whether rows or results of the last statement are unread."""

    @property
    def report_incomplete(self) -> bool:
        """Whether the server may have more to report about the last statement."""

    @property
    def carries_state(self) -> bool:
        """Whether the session has state that a new connection would lack."""

    @property
    def has_own_state(self) -> bool:
        """Whether it has state that even one set up by the program's own ``connect()`` would lack."""

    @property
    def replaceable(self) -> bool:
        """Whether a new connection could replace this one without anybody noticing."""

    @property
    def renewable(self) -> bool:
        """Whether a new one could replace it on which the program's own ``connect()`` has run, if any."""

    def forget_lost_transaction(self) -> None:
        """Record that the session has ended in a transaction that the program has left."""

    def cursor(self) -> Cursor:
        """Return a DB-API cursor."""

    def close(self) -> None:
        """Close the connection, and tell the server."""

    def ask(self, sql: str, timeout: float | None = None) -> tuple[Row, ...]:
        """Run one of the library's own queries; return its rows as tuples.

        Parameters:
            timeout: seconds after which a server that has not answered counts as lost (2013).
        """

    def run_setting(self, sql: str) -> None:
        """Run one of the library's own settings, which does not count as a change of the session.

        A server that does not answer within ``connect_timeout`` counts as lost (2006).
        """

    def run_setting_when_idle(self, sql: str) -> None:
        """Run a setting like `run_setting`, or, if rows are unread, before the next statement."""

    def interrupted(self) -> None:
        """Record that an interrupt ended whatever the owner or the library was running here."""

    def dropped(self) -> bool:
        """Return whether the connection is known to be no longer usable; costs no round trip."""

    def is_alive(self) -> bool:
        """Return whether the server answers on this connection; costs a round trip."""

    def unanswered_statement(self) -> str:
        """Return the statement whose answer had not arrived when the connection ended, or ``""``."""


class NamedLocks(Protocol):
    """The named locks of one connection."""

    @property
    def any_held(self) -> bool:
        """Whether a lock is held, or may be."""

    def executed(self, text: str, takes: bool, value: object) -> None:
        """Record that a statement about named locks has succeeded."""


class ServerConnection(Connection, Protocol):
    """A connection to a server over the network, in either form.

    Attributes:
        cursorclass: the class of its cursors, as the user gave it.
        generated_key: whether an INSERT of a database whose connections age has generated a key on it.
        listener: called after each statement that was not the library's own, with the connection, whether
            the statement succeeded, and whether a transaction was open when it was sent.
        internal: True while one of the library's own statements runs.
        server_identity: the server's identity, once it is known.
        position: what the last statement reported as its own GTID; None if it reported none.
        changed_rows: how many rows the last statement has changed, by its answer; 0 if it returned rows.
        transaction_has_read: whether the open transaction has read something, or a statement in it failed.
        more_results: whether the server announced further results with the last one.
        named_locks: the named locks that it holds, as its owner counts them; None if it never had any.
        greeted: whether the server's greeting has arrived.
        opened_at: when it had been opened, on a monotonic clock in seconds; infinite before.
        answer_ahead: the answer to the query of `send_ahead`: its first row, its error, or None.
        ahead_answered_at: when that answer had arrived, on the monotonic clock; 0.0 before.
    """

    cursorclass: type[object]
    generated_key: bool
    listener: Callable[..., None] | None
    internal: bool
    server_identity: str | None
    position: Position | None
    changed_rows: int
    transaction_has_read: bool
    more_results: bool
    answer_ahead: Row | Exception | None
    ahead_answered_at: float
    named_locks: NamedLocks | None
    greeted: bool
    opened_at: float

    @property
    def dialect(self) -> ServerDialect:
        """The server's dialect."""

    def report_to_tools(self) -> None:
        """Let tools that have wrapped the driver's entry point report the statements of this connection."""

    @property
    def server_version(self) -> str:
        """The server's version, as in its greeting."""

    @property
    def last_statement(self) -> str | bytes:
        """The text of the last statement sent, whether by the program or by the library."""

    @property
    def single_value(self) -> object:
        """The value that the last statement returned, if it was one row of one column; else None."""

    @property
    def has_more_results(self) -> bool:
        """Whether another result of the last statement is unread."""

    @property
    def connect_timeout(self) -> float | None:
        """The limit for connecting, in seconds; None for no limit."""

    @property
    def read_timeout(self) -> float | None:
        """The limit for an answer, in seconds; None for no limit."""

    def insert_id(self) -> int:
        """Return the key that the last statement has generated, or 0."""

    def connect(self) -> None:
        """Open the connection, which the constructor leaves closed."""

    @property
    def socket(self) -> Socket | None:
        """The socket, or None while the connection is closed."""

    def send_ahead(self, sql: str, seconds: float | None) -> None:
        """Send one of the library's own queries together with the next statement, before it, in one packet.

        Parameters:
            seconds: the limit for the whole answer to `sql`, in seconds.
        """

    def recall_ahead(self) -> None:
        """Withdraw the query of `send_ahead`, if no statement followed."""

    def start_query(self, sql: str) -> None:
        """Send one of the library's own queries without waiting; call `finish_query` next."""

    def finish_query(self) -> list[Record] | Exception:
        """Return the rows of the query that `start_query` sent, by column name, or the server's error."""

    def within(self, seconds: float | None) -> AbstractContextManager[None]:
        """Return a context manager that limits everything sent and read in it to `seconds` in all."""

    def drain(self) -> None:
        """Read and discard the rest of the last statement's results."""

    def hang_up(self) -> bool:
        """End the connection and wake the thread that waits on it; return whether it was open."""

    def heard_within(self, seconds: float) -> bool:
        """Return whether anything has arrived from the server in this time; from any thread."""

    def abort(self) -> None:
        """Close the connection without telling the server."""

    def leave_to_parent(self) -> None:
        """Close the socket without telling the server. For a forked child."""
