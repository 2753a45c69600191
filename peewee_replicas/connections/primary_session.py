"""Track, from the server's reports, which session state on the primary's connections a replica lacks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from peewee import __exception_wrapper__

from ..consistency.levels import Consistency
from ..errors import ReadOnlyViolation
from ..events import Counters
from ..log import log_event
from ..routing.plan import refuse_raw_write
from ..routing.router import Router
from ..servers.protocols import ServerConnection
from ..statements.kinds import NAMED_LOCK, NEXT_TRANSACTION, TEMPORARY_TABLE
from ..statements.redaction import redacted
from ..statements.tokens import OP, QUOTED, WORD, QuotingMode, first_word, lex
from .named_locks import NamedLocks
from .questions import QUESTION_SECONDS, ask

# Statements of these kinds change nothing in a session but what their text shows. A write may run a
# procedure, trigger or function that does anything, so the server's report is needed for it.
SELF_EXPLANATORY = frozenset({"read", "transaction", "session"})


class PrimarySession:
    """Tracks the sessions of the primary's connections, for all threads of one database.

    Parameters:
        router: its classifier finds a statement's kind.
        consistency: records what later reads must see.
        counters: counts refusals.

    Attributes:
        carried: the state that every connection to the primary carries and a replica lacks, or ``""``.
        raw_statement_failed: called with the connection after a raw cursor's statement on it has failed.
    """

    raw_statement_failed: Callable[[ServerConnection], None]

    def __init__(self, router: Router, consistency: Consistency, counters: Counters) -> None:
        self.carried = ""
        self._router = router
        self._consistency = consistency
        self._counters = counters

    def state(self, conn: ServerConnection) -> str:
        """Return the state that this connection to the primary carries and a replica lacks, or ``""``."""
        found: str = conn.session_state or self.carried
        if conn.changes:
            found = self._explain_changes(conn) or found
        return found

    def screen(self, conn: ServerConnection, sql: str | bytes) -> None:
        """Refuse a raw cursor's statement on a node for reading, if it is a write or could lift the guard."""
        text = _text(sql)
        if self.has_unread_results(conn):
            conn.drain()
        if conn.changes:
            self._counters.add("refused")
            raise ReadOnlyViolation(
                f"the server's guard may be off after {redacted(conn.changes[0])!r}; "
                f"take a new cursor for {redacted(text)!r}"
            )
        statement = self._router.classifier.classify_sent(text)
        conn.suspect_statement = "" if statement.kind == "read" else text
        if statement.kind not in ("read", "query"):
            self._counters.add("refused")
            raise ReadOnlyViolation(
                f"a {statement.kind} statement is not allowed inside readonly(): {statement.reason} "
                f"({redacted(text)})"
            )

    def screen_write(self, conn: ServerConnection, sql: str | bytes) -> None:
        """Refuse a raw cursor's statement on the primary, unless it is a read, while ``writes="refuse"``."""
        # A subclass sets its connections up whether or not writes are refused. The program may also have kept
        # one that has gone back to its pool.
        if self._router.writes == "allow" or not (conn.initialized or conn.at_rest):
            return
        text = _text(sql)
        statement = self._router.classifier.classify_sent(text)
        refusal = refuse_raw_write(statement.kind, statement.reason)
        if refusal:
            self._counters.add("refused")
            raise ReadOnlyViolation(f"{refusal} ({redacted(text)})")

    def _explain_changes(self, conn: ServerConnection) -> str:
        """Turn the reported changes into the session's state in words."""
        changes, conn.changes = conn.changes, []
        for text in changes:
            statement = self._router.classifier.classify_sent(text)
            if statement.effect:
                self.mark(conn, statement.effect)
                if statement.effect == NAMED_LOCK:
                    conn.unrepeatable = True  # nobody counts a raw cursor's locks
            elif statement.kind not in SELF_EXPLANATORY:
                kind = f"what {first_word(text)} changed"
                self.mark(conn, f"what {redacted(text, 40)!r} changed in it", kind)
        state: str = conn.session_state
        return state

    def mark(self, conn: ServerConnection, effect: str, kind: str = "") -> None:
        """Record that a connection to the primary carries state a replica lacks.

        Parameters:
            effect: the state in words.
            kind: of many states that differ in their words, what they have in common.
        """
        if not conn.initialized:
            return
        if effect == TEMPORARY_TABLE or kind:  # what cannot be told from the text may be one too
            conn.unrepeatable = True
        if conn.set_by_connect and effect != NAMED_LOCK:
            conn.session_changed = True
        if conn.session_state in _replaced_by(effect, conn.connect_state):
            conn.session_state = effect
            if effect != NEXT_TRANSACTION:
                self._warn_once(effect, kind or effect)

    def connected(self, conn: ServerConnection) -> None:
        """Record that the program's own ``connect()`` has ended on a connection to the primary.

        What it has set there, it sets again on another connection.
        """
        state = self.state(conn)
        locked = conn.named_locks is not None and conn.named_locks.any_held
        if conn.unrepeatable or locked or not (state or conn.session_changed):
            return
        conn.set_by_connect, conn.connect_state = True, conn.session_state
        conn.session_changed = False

    def _warn_once(self, effect: str, kind: str) -> None:
        """Log each kind once for a primary, because some programs take a lock in every request."""
        warned = self._consistency.history.warned_of
        if kind not in warned:
            warned.add(kind)
            log_event(
                "session_state",
                "a connection to the primary now carries %s: reads on it stay on the primary until it is "
                "closed; logged once, though it may happen often",
                effect,
                node="primary",
                cause=effect,
            )

    def named_locks_changed(self, conn: ServerConnection, takes: bool, had_changes: bool) -> None:
        """Record a statement about named locks that succeeded on a connection to the primary.

        Parameters:
            takes: whether the statement calls a function that takes a lock.
            had_changes: `conn.session_changed` before the statement.
        """
        text = _text(conn.last_statement)
        conn.changes = [change for change in conn.changes if change != text]
        if conn.named_locks is None:
            # A raw cursor may have taken a lock of unknown name.
            conn.named_locks = NamedLocks(uncertain=conn.session_state == NAMED_LOCK)
        locks = conn.named_locks
        locks.executed(text, takes, conn.single_value)
        if locks.any_held:
            self.mark(conn, NAMED_LOCK)
            return
        conn.session_changed = had_changes
        if conn.session_state == NAMED_LOCK:
            conn.session_state = conn.connect_state

    def has_unread_results(self, conn: ServerConnection) -> bool:
        """Return whether the last statement has unread results that may report writes or changes."""
        if not (conn.report_incomplete and conn.busy):
            return False
        return (
            conn.has_more_results
            or self._router.classifier.classify_sent(_text(conn.last_statement)).kind != "read"
        )

    def settle(self, conn: ServerConnection) -> None:
        """Find out what the server has not reported yet: unread results, and changes hidden by an error.

        Raises:
            PeeweeException: an unread result was an error; the next statement would raise it too.
        """
        with __exception_wrapper__:
            if self.has_unread_results(conn):
                conn.drain()
            doubtful, changes = _text(conn.suspect_statement), conn.changes
            if not doubtful or conn.busy:
                conn.suspect_statement = ""
                return
            try:
                conn.suspect_statement, conn.changes = "", []
                conn.changes = [*changes, doubtful] if self._left_something(conn, doubtful) else changes
            except BaseException:  # an interrupt: the next statement must ask again
                if not conn.dropped():
                    conn.suspect_statement = doubtful
                    conn.changes = [*changes, doubtful] if conn.changes else changes
                raise

    def _left_something(self, conn: ServerConnection, text: str) -> bool:
        """Return whether a failed statement changed the session, from the report of a following statement.

        It asks the server, and never raises: a user's statement must not fail because there is no answer.
        """
        try:
            ask(conn, "DO 0", QUESTION_SECONDS)
        except Exception:
            # A lost connection takes its settings with it. Otherwise there may be a change, so assume one.
            return not conn.dropped()
        return bool(conn.changes) or (self._runs_code(text) and not conn.dialect.REPORTS_AFTER_ERRORS)

    def _runs_code(self, text: str) -> bool:
        return first_word(text) == "CALL" or self._router.classifier.classify_sent(text).kind == "unknown"

    def kind_sent(self, text: str) -> str:
        """Return the kind of a statement as it was sent to the server."""
        return self._router.classifier.classify_sent(text).kind

    def statement_ended(self, conn: ServerConnection, succeeded: bool, was_open: bool) -> None:
        """Record that a statement on the primary has ended; called by the primary's connections."""
        if conn.suspect_statement or not succeeded:
            self._doubt(conn, succeeded)
        if conn.session_state == NEXT_TRANSACTION and succeeded and _was_a_transaction(conn, was_open):
            conn.session_state = conn.connect_state = ""  # the latter if ``connect()`` has set it
        self._consistency.statement_ended(conn, succeeded, was_open)

    def _doubt(self, conn: ServerConnection, succeeded: bool) -> None:
        if not succeeded and not conn.executing:
            self.raw_statement_failed(conn)
        # An error packet reports neither the transaction's state nor session changes.
        known = _text(conn.suspect_statement)
        grave = bool(known) and self._runs_code(known)
        if succeeded:
            conn.suspect_statement = ""
            silent = conn.effect_known or not conn.dialect.REPORTS_AFTER_ERRORS
            if grave and (silent or conn.changes):
                conn.changes.append(known)
        elif conn.open and not conn.effect_known and not grave:
            conn.suspect_statement = conn.last_statement


def _replaced_by(effect: str, connect_state: str) -> tuple[str, ...]:
    """Return the states in whose place a new one is recorded: those that end earlier, or come back."""
    if effect == NEXT_TRANSACTION:
        return ("",)  # it ends with the next transaction, and then what else there is still holds
    if effect == NAMED_LOCK:
        return ("", connect_state, NEXT_TRANSACTION)  # a lock may be released
    return ("", connect_state, NEXT_TRANSACTION, NAMED_LOCK)


def _was_a_transaction(conn: ServerConnection, was_open: bool) -> bool:
    """Return whether a transaction has just ended: one that was open, or a statement that is one itself."""
    if was_open or conn.transaction:
        return not conn.transaction
    # For the server only what uses a table is a transaction. In doubt the settings are taken to be in force.
    text = _text(conn.last_statement)
    return first_word(text) in _USES_A_TABLE or _reads_a_table(text)


_USES_A_TABLE = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "TABLE"})
_NO_TABLES = frozenset({"DUAL", "INFORMATION_SCHEMA", "PERFORMANCE_SCHEMA"})


def _reads_a_table(text: str) -> bool:
    """Return whether a query surely reads a table; ``TRIM('a' FROM 'b')`` and ``FROM (SELECT 1)`` do not."""
    tokens = [(token.kind, token.text.upper()) for token in lex(text, None, QuotingMode())]
    begins = next((word for _, word in tokens if word != "("), "")
    if begins not in ("SELECT", "WITH"):
        return False
    pairs = list(pairwise([*tokens, (OP, "")]))
    others = set(_NO_TABLES)
    if begins == "WITH":
        others.update(name for (_, word), (_, name) in pairs if word in ("WITH", "RECURSIVE", ","))
    return any(
        before == (WORD, "FROM") and kind in (WORD, QUOTED) and name not in others and after != "("
        for (before, (kind, name)), (_, (_, after)) in pairwise(pairs)
    )


def _text(sql: str | bytes) -> str:
    return sql if isinstance(sql, str) else bytes(sql).decode("latin1")
