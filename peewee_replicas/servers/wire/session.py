"""The state of a session, as the server reports it in the packets that end statements. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from pymysql.constants import SERVER_STATUS

from ...statements.tokens import first_word
from ..position import Position
from ..protocols import NamedLocks, Row, ServerDialect
from .trackers import TRACK_CHANGE, TRACK_GTIDS, TRACK_TRANSACTION, TRACK_VARIABLE, session_trackers, take

_IN_TRANSACTION = SERVER_STATUS.SERVER_STATUS_IN_TRANS
AUTOCOMMIT = SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT
_MORE_RESULTS = SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS
_STATUS_MASK = _IN_TRANSACTION | AUTOCOMMIT
SESSION_STATE_CHANGED = 1 << 14  # the tail of the packet carries session trackers

NO_QUERY = "SET"  # used as the text of a command that has none
OVERHEARD_LIMIT = 1 << 16
_CHANGES_KEPT = 8
_TAILS_KEPT = 16


class _Tail(NamedTuple):
    """A parsed tail of a packet, remembered: the bytes around its GTID's number, and what it reported."""

    head: bytes
    rest: bytes
    locked: bool | None
    number: slice | None
    position: Position | None


class Unread(Protocol):
    """A result, with the members that show whether part of it is unread."""

    unbuffered_active: bool
    has_next: int


class SessionState:
    """The session of a connection, as far as the server has reported it.

    Attributes:
        transaction: why the server counts this session as inside a transaction, in words, or ``""``.
        changes: statements after which the server reported a changed session, not examined yet.
        session_state: the changed state, in words, or ``""``; the owner of the connection sets it.
        executing: the kind of the statement that the owner runs; "" for a raw cursor's statement.
        more_results: whether the last packet that ended a statement announced further results.
        effect_known: True while the text of that statement shows its effect, so that no report is needed.
        initialized: True once the owner has set it up; later changes count as state of the session.
        generated_key: whether an INSERT of a database whose connections age has generated a key on it.
        at_rest: whether it has gone back to a pool and nobody has taken it from there.
        position: what the last statement reported as its own GTID; None if it reported none.
        changed_rows: how many rows the last statement has changed, by its answer; 0 if it returned rows.
        complaint: why a report of the server could not be read, until it has been logged; or ``""``.
        cluster_waits: whether each read here waits until the node shows what its cluster has committed.
        untracked: why the server does not report positions and session changes, in words; or ``""``.
        listener: called after each statement that was not the library's own, with the connection, whether
            the statement succeeded, and whether a transaction was open when it was sent.
        internal: True while one of the library's own statements runs.
        answer_ahead: the answer to the query of `send_ahead`.
        ahead_answered_at: when that answer had arrived, on the monotonic clock; 0.0 before.
        server_identity: the server's identity, once it is known.
        transaction_has_read: whether the open transaction has read something, or a statement in it failed.
        holder: identifies the thread that has taken it from a pool; None without a pool.
        generation: how many primaries the owner had seen lose their role when the connection was opened.
        opened_at: when it had been opened, on a monotonic clock in seconds; infinite before.
        session_changed: True once anything was set on the session, even if it does not affect reads; not by
            the program's own ``connect()``, once that has ended.
        set_by_connect: whether the program's own ``connect()`` has set something, as on each new connection.
        connect_state: the part of `session_state` that it has set.
        unrepeatable: whether there is, or may be, what the same statements would not bring back on another
            connection, such as the rows of a temporary table.
        raw_statement_check: called with the connection and each text that the owner did not send itself;
            may raise.
        comment: a comment for the texts that are sent, and not for what is remembered of them; or ``""``.
        suspect_statement: the text of a statement that failed, or may fail, after changing the session; or
            ``""``.
    """

    transaction = session_state = connect_state = ""
    set_by_connect = unrepeatable = False
    suspect_statement: str | bytes = ""
    comment = ""
    effect_known = initialized = at_rest = generated_key = session_changed = False
    executing = ""
    more_results = False
    position: Position | None = None
    changed_rows = 0
    complaint = untracked = ""
    cluster_waits = False
    dialect: ServerDialect
    listener: Callable[..., None] | None = None
    internal = False
    holder: object = None
    generation = 0
    answer_ahead: Row | Exception | None = None
    ahead_answered_at = 0.0
    server_identity: str | None = None
    transaction_has_read = False
    named_locks: NamedLocks | None = None
    raw_statement_check: Callable[..., None] | None = None
    expires: float | None = None
    opened_at = math.inf
    tracks = False
    guarded = False
    _ready = False
    last_statement: str | bytes = ""
    _seen_tails: dict[int, _Tail]
    _tables_locked = False
    _lost_state = _lost_transaction = False
    server_status: int
    changes: list[str]
    _result: Unread | None

    def begin_anew(self) -> None:
        """Reset everything, because a new session begins."""
        self.transaction = self.session_state = self.connect_state = self.suspect_statement = ""
        self._tables_locked = self.transaction_has_read = self.session_changed = self._lost_state = (
            self._lost_transaction
        ) = self.set_by_connect = self.unrepeatable = False
        self.server_identity = self.position = self.named_locks = None
        self.untracked = ""
        self.cluster_waits = False

    def interrupted(self) -> None:
        """Record that an interrupt ended whatever the owner or the library was running here."""
        self.executing = ""
        self.internal = self.effect_known = False

    def end_session(self) -> None:
        """Record that the session has ended and its state is lost."""
        # Remembered after the end, because no new connection may silently replace such a session.
        self._lost_state = self.has_own_state
        self._lost_transaction = self._lost_transaction or bool(self.transaction)
        # `session_state` stays: no replica may serve a read in place of such a session either.
        self.transaction = self.suspect_statement = ""
        self._tables_locked = False
        self.changes.clear()

    def forget_lost_transaction(self) -> None:
        """Record that the session has ended in a transaction that the program has left."""
        self.end_session()
        self._lost_transaction = False

    def statement_ended(self, status: int, tail: bytes) -> None:
        """Record the status word and the tail of a packet that ends a statement."""
        self.server_status = status
        self.more_results = status & _MORE_RESULTS != 0
        was_open = self.transaction
        self.position = None
        if tail and status & SESSION_STATE_CHANGED and self.tracks:
            self._read_tail(tail)
        if self._tables_locked:
            self.transaction = "LOCK TABLES is in force"
        elif status & _STATUS_MASK == AUTOCOMMIT:
            self.transaction = ""
        elif status & _IN_TRANSACTION:
            self.transaction = "the server reports an open transaction"
        else:
            self.transaction = "autocommit is off"
        if self.listener is not None and not self.internal:
            self.listener(self, True, was_open != "")

    def _read_tail(self, tail: bytes) -> None:
        seen = self._seen_tails.get(len(tail))
        if seen is not None:
            head, rest, locked, number, position = seen
            # It has the same bytes and lengths as an earlier tail, except for the number of the GTID.
            if tail[: len(head)] == head and tail.endswith(rest):
                if number is not None and position is not None:
                    self.position = position.numbered(tail[number])
                if number is None or self.position is not None:
                    if locked is not None:
                        self._tables_locked = locked
                    return
        locked, changed, gtid = self._parse_trackers(tail)
        if locked is not None:
            self._tables_locked = locked
        if changed:
            self.note_change(self.last_statement)
        elif not self.complaint:
            self._keep(tail, locked, gtid)

    def _keep(self, tail: bytes, locked: bool | None, gtid: bytes) -> None:
        if len(self._seen_tails) >= _TAILS_KEPT:
            self._seen_tails.clear()
        if not gtid:
            self._seen_tails[len(tail)] = _Tail(tail, b"", locked, None, None)
            return
        position = self.position
        if tail.count(gtid) == 1 and position is not None and position.size == 1:  # else it is ambiguous
            end = tail.index(gtid) + len(gtid)
            start = end - len(gtid) + len(gtid.rstrip(b"0123456789"))
            if position == position.numbered(tail[start:end]):
                self._seen_tails[len(tail)] = _Tail(
                    tail[:start], tail[end:], locked, slice(start, end), position
                )

    def _parse_trackers(self, tail: bytes) -> tuple[bool | None, bool, bytes]:
        locked, changed = None, False
        gtid = None
        try:
            for kind, payload in session_trackers(tail):
                if kind == TRACK_CHANGE:
                    changed = True
                elif kind == TRACK_TRANSACTION:
                    state, _ = take(payload, 0)
                    locked = state[7:8] == b"L"  # the last of eight flags: LOCK TABLES is in force
                elif kind == TRACK_GTIDS:
                    gtid, _ = take(payload, 1)
                elif kind == TRACK_VARIABLE:
                    name, at = take(payload, 0)
                    value, _ = take(payload, at)
                    if name == b"last_gtid":
                        gtid = value
        except ValueError as exc:
            self._unreadable(exc)
        else:
            if gtid:
                self._reported(gtid)
        return locked, changed, gtid or b""

    def _reported(self, gtid: bytes) -> None:
        """Record the GTID that was reported for the statement."""
        try:
            self.position = self.dialect.position(gtid.decode("ascii"))
        except ValueError as exc:
            self._unreadable(exc)

    def _unreadable(self, exc: ValueError) -> None:
        # The statement has been executed, so this is no error: an unreadable report counts as no report.
        self.complaint = str(exc)

    def note_change(self, text: str | bytes) -> None:
        """Record that the statement `text` has changed the session, or may have."""
        self.session_changed = self.session_changed or (self.initialized and not self.internal)
        if self._ready and not self.effect_known and len(self.changes) < _CHANGES_KEPT:
            self.changes.append(text if isinstance(text, str) else bytes(text).decode("latin1"))

    def note_failure(self) -> None:
        """Record that the last statement has failed."""
        if self.guarded and self.suspect_statement and not self.internal:
            self.note_change(self.suspect_statement)  # an error does not report changes made before it
        if self.listener is not None and not self.internal and self.last_statement is not NO_QUERY:
            self.listener(self, False, bool(self.transaction))

    @property
    def in_transaction(self) -> bool:
        """Whether the server counts this session as inside a transaction (also read by playhouse's pool)."""
        return bool(self.transaction)

    @property
    def has_own_state(self) -> bool:
        """Whether it has state that even one set up by ``connect()`` would lack, or had when it was lost."""
        return bool(
            self._lost_state
            or self.session_changed
            or self.session_state != self.connect_state
            or self.changes
            or (self.suspect_statement and _may_leave(self.suspect_statement))
        )

    @property
    def carries_state(self) -> bool:
        """Whether the session has state that a new one would lack, or had such state when it was lost."""
        return bool(  # as `has_own_state` does, without a call: the asyncio form asks after each read
            self._lost_state
            or self.set_by_connect
            or self.session_changed
            or self.session_state
            or self.changes
            or (self.suspect_statement and _may_leave(self.suspect_statement))
        )

    @property
    def replaceable(self) -> bool:
        """Whether a new connection could replace this one without anybody noticing."""
        return not (self.transaction or self._lost_transaction or self.carries_state)

    @property
    def renewable(self) -> bool:
        """Whether a new one could replace it on which the program's own ``connect()`` has run, if any."""
        return not (self.transaction or self._lost_transaction or self.has_own_state)

    @property
    def busy(self) -> bool:
        """Whether rows of an unbuffered result, or further results, are unread."""
        result = self._result
        return result is not None and bool(result.unbuffered_active or result.has_next)

    @property
    def report_incomplete(self) -> bool:
        """Whether the server may have more to report about the last statement."""
        result = self._result  # repeats `busy`, which would cost another call
        return bool(self.suspect_statement) or (
            result is not None and bool(result.unbuffered_active or result.has_next)
        )


def _may_leave(failed: str | bytes) -> bool:
    # Other statements, such as a procedure call, may have set something before they failed.
    return first_word(failed) not in _LEAVES_NOTHING


_LEAVES_NOTHING = frozenset(
    {
        "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "BEGIN", "START", "COMMIT", "ROLLBACK",
        "SAVEPOINT", "RELEASE",
    }
)  # fmt: skip


def goes_unreported(sql: str | bytes) -> bool:
    # The server does not report a query's named locks, handlers and user variables, nor what SET TRANSACTION
    # sets for the next transaction, but every other change.
    text = (sql if isinstance(sql, str) else bytes(sql).decode("latin1")).lower()
    return (
        "get_lock" in text
        or "handler" in text
        or ("@" in text and (":=" in text or "into" in text))
        or ("transaction" in text and first_word(sql) == "SET")
    )
