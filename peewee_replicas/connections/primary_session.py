"""What the primary's connections carry that a replica does not have, as the server reports it."""

from __future__ import annotations

import logging

from peewee import __exception_wrapper__

from ..consistency.levels import Consistency
from ..errors import ReadOnlyViolation
from ..events import Counters
from ..routing.router import Router
from ..servers.protocols import ServerConnection
from ..statements.kinds import NAMED_LOCK
from ..statements.redaction import redacted
from ..statements.tokens import first_word
from .named_locks import NamedLocks
from .questions import QUESTION_SECONDS

logger = logging.getLogger("peewee.replicas")

# Kinds whose text says all about what they leave behind in a session. A write is none: a procedure, a
# trigger or a function in it may do anything, and servers report a change only where there was one.
SELF_EXPLANATORY = frozenset({"read", "transaction", "session"})


class PrimarySession:
    """What is known of the sessions of the primary's connections, for all threads of one database.

    Parameters:
        router: whose classifier tells what a text is.
        consistency: what statements on the primary oblige later reads to.
        counters: where refusals are counted.

    Attributes:
        carried: what every connection of the primary carries that a replica does not have, or ``""``.
    """

    def __init__(self, router: Router, consistency: Consistency, counters: Counters) -> None:
        self.carried = ""
        self._said: set[str] = set()
        self._router = router
        self._consistency = consistency
        self._counters = counters

    def state(self, conn: ServerConnection) -> str:
        """What a connection of the primary carries that a replica does not have, or ``""``."""
        found: str = conn.session_state or self.carried
        if conn.changes:
            found = self._explain_changes(conn) or found
        return found

    def screen(self, conn: ServerConnection, sql: str | bytes) -> None:
        """Refuse what a raw cursor may not send to a reading node, where it could lift the server's guard."""
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

    def _explain_changes(self, conn: ServerConnection) -> str:
        """Turn what the server reported as changed into what the session carries."""
        changes, conn.changes = conn.changes, []
        for text in changes:
            statement = self._router.classifier.classify_sent(text)
            if statement.effect:
                self.mark(conn, statement.effect)
            elif statement.kind not in SELF_EXPLANATORY:
                self.mark(conn, f"what {redacted(text, 40)!r} changed in it")
        state: str = conn.session_state
        return state

    def mark(self, conn: ServerConnection, effect: str) -> None:
        """Remember that a connection of the primary carries something a replica does not have."""
        if conn.initialized and not conn.session_state:
            conn.session_state = effect
            self._say_once(effect)

    def _say_once(self, effect: str) -> None:
        """Warn of a cause once: programs that take a lock in each request are not told at each."""
        if effect not in self._said:
            self._said.add(effect)
            logger.warning(
                "a connection to the primary now carries %s: reads on it stay on the primary until it is "
                "closed; said once, though it may happen often",
                effect,
            )

    def named_locks_changed(self, conn: ServerConnection, takes: bool, had_changes: bool) -> None:
        """Take in that a statement about named locks has succeeded on a connection of the primary.

        Parameters:
            takes: whether it calls a function that takes a lock.
            had_changes: `conn.session_changed` as it was before.
        """
        text = _text(conn.last_statement)
        conn.changes = [change for change in conn.changes if change != text]
        if conn.named_locks is None:
            # A raw cursor may have taken one, of which nothing else is known.
            conn.named_locks = NamedLocks(uncertain=conn.session_state == NAMED_LOCK)
        locks = conn.named_locks
        locks.executed(text, takes, conn.single_value)
        if locks.any_held:
            self.mark(conn, NAMED_LOCK)
            return
        conn.session_changed = had_changes
        if conn.session_state == NAMED_LOCK:
            conn.session_state = ""

    def has_unread_results(self, conn: ServerConnection) -> bool:
        """Whether the last statement's results are still to be read, and may tell of writes and changes."""
        if not (conn.report_incomplete and conn.busy):
            return False
        return (
            conn.has_more_results
            or self._router.classifier.classify_sent(_text(conn.last_statement)).kind != "read"
        )

    def settle(self, conn: ServerConnection) -> None:
        """Find out what the server has not told yet of the session: later results, and what an error hid.

        Raises:
            PeeweeException: as the next statement on this connection would, for a later result that failed.
        """
        with __exception_wrapper__:
            if self.has_unread_results(conn):
                conn.drain()
            doubtful, conn.suspect_statement = _text(conn.suspect_statement), ""
            if not doubtful or conn.busy:
                return
            changes, conn.changes = conn.changes, []
            if self._left_something(conn, doubtful):
                changes.append(doubtful)
            conn.changes = changes

    def _left_something(self, conn: ServerConnection, text: str) -> bool:
        """Whether a statement that failed has changed the session, as the next statement's report tells.

        The question is the library's own, so no statement of the user's fails where it gets no answer.
        """
        try:
            conn.ask("DO 0", QUESTION_SECONDS)
        except Exception:
            # With a lost connection all that was set on it is gone. Else the server has refused to tell.
            return not conn.dropped()
        return bool(conn.changes) or (self._runs_code(text) and not conn.dialect.REPORTS_AFTER_ERRORS)

    def _runs_code(self, text: str) -> bool:
        return first_word(text) == "CALL" or self._router.classifier.classify_sent(text).kind == "unknown"

    def statement_ended(self, conn: ServerConnection, succeeded: bool, was_open: bool) -> None:
        """Take in that a statement on the primary has ended; connections to it call this."""
        if conn.suspect_statement or not succeeded:
            self._doubt(conn, succeeded)
        self._consistency.statement_ended(conn, succeeded, was_open)

    def _doubt(self, conn: ServerConnection, succeeded: bool) -> None:
        # The packet of an error tells neither of transactions nor of changes of the session.
        known = _text(conn.suspect_statement)
        grave = bool(known) and self._runs_code(known)
        if succeeded:
            conn.suspect_statement = ""
            silent = conn.effect_known or not conn.dialect.REPORTS_AFTER_ERRORS
            if grave and (silent or conn.changes):
                conn.changes.append(known)
        elif conn.open and not conn.effect_known and not grave:
            conn.suspect_statement = conn.last_statement


def _text(sql: str | bytes) -> str:
    return sql if isinstance(sql, str) else bytes(sql).decode("latin1")
