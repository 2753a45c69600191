"""What an error on the primary's connections means for the program: what happened, and what may have."""

from __future__ import annotations

from peewee import OperationalError, PeeweeException

from ..concurrency import Clock
from ..errors import OutcomeUnknown, PrimaryReadOnly
from ..log import log_event
from ..nodes.cluster import PRIMARY, Cluster
from ..nodes.primary_state import PrimaryState
from ..servers.error_meanings import NO_CONNECTION, explained
from ..servers.protocols import ServerConnection
from ..statements.redaction import redacted
from .diagnosis import Diagnosis
from .failures import may_have_happened
from .plain_database import PlainDatabase
from .primary_session import PrimarySession
from .questions import QUESTION_SECONDS, first_row
from .unknown_outcomes import UnknownOutcomes

_GONE = 2006  # CR_SERVER_GONE_ERROR
_UNKNOWN = (
    "it was sent and not acknowledged, so whether it took effect is unknown, and it was not repeated; "
    "look at the data before doing it again"
)


class PrimaryFailures:
    """Explains the errors on one database's connections to the primary.

    Parameters:
        plain: the user's database without routing.
        cluster: the nodes.
        session: knows a statement's kind.
        diagnosis: interprets errors.
        unknown_outcomes: remembers writes that a subclass's own methods must not repeat.
    """

    def __init__(
        self,
        plain: PlainDatabase,
        cluster: Cluster,
        session: PrimarySession,
        diagnosis: Diagnosis,
        unknown_outcomes: UnknownOutcomes,
    ) -> None:
        self._plain = plain
        self._cluster = cluster
        self._session = session
        self._diagnosis = diagnosis
        self.unknown_outcomes = unknown_outcomes

    def explain(
        self, conn: ServerConnection, exc: PeeweeException, kind: str, text: str | bytes, *, transaction: bool
    ) -> None:
        """Raise a clearer error in place of `exc` if there is one; else add the node's name to `exc`.

        Parameters:
            exc: the error on this connection.
            kind, text: the statement's kind and text.
            transaction: whether a transaction was open.
        """
        found = self._diagnosis.meaning(exc)
        label = self._cluster.primary_label
        if found == "refused":
            self._look_for_changed_roles(conn, exc)
        elif may_have_happened(found, kind, text, transaction=transaction):
            unknown = OutcomeUnknown(*explained(exc.args, label, _UNKNOWN))
            self.unknown_outcomes.remember(text, unknown)
            raise unknown from exc
        elif found in NO_CONNECTION:
            kept = not transaction or _may_have_ended(conn)
            words = "" if kept else "nothing of its transaction is kept"
            if not conn.renewable:
                words = f"{words or 'what was set on it is gone'}; leave the transaction, or close() it"
            exc.args = explained(exc.args, label, words)

    def _look_for_changed_roles(self, conn: ServerConnection, exc: PeeweeException) -> None:
        question = conn.dialect.READ_ONLY_NOW
        if not question:
            return
        try:
            answer = first_row(conn, question, QUESTION_SECONDS)[0]
        except PeeweeException:
            return  # the caller raises the original error
        if str(answer).upper() in ("0", "OFF"):
            return  # the server is writable and refused the statement for another reason
        cluster = self._cluster
        if cluster.is_left_behind(conn.generation):
            words = (
                f"it is no longer the primary, which is {cluster.reader.address} now: nothing was executed"
            )
            raise PrimaryReadOnly(*explained(exc.args, "the primary of before", words)) from exc
        cluster.primary_state = PrimaryState(read_only=True, found_at=Clock.monotonic())
        before = cluster.writes
        cluster.writes = "lost" if before in ("taken", "lost") else "refused"
        if cluster.writes == "lost":
            found, remedy = "is read-only now, so the roles have changed", "point host to the new primary"
        else:
            found, remedy = "is read-only, so host may lead to a replica", "point host to the primary"
        if cluster.writes != before:
            log_event(
                "primary_read_only", "%s %s: %s", cluster.primary_label, found, exc, node=PRIMARY, cause=found
            )
        cluster.news.tell_of_primary("read_only", found)
        words = (
            f"it {found}: nothing was executed; the next statement outside a transaction reconnects, "
            f"so {remedy}, or make it writable ({cluster.roles_in_words()})"
        )
        # Outdates every thread's connections to this server.
        cluster.outdate_connections(conn.generation)
        raise PrimaryReadOnly(*explained(exc.args, cluster.primary_label, words)) from exc

    def unsent_commit(self, conn: ServerConnection) -> OperationalError:
        """Return the error for a COMMIT whose connection was already lost."""
        label = self._cluster.primary_label
        if _may_have_ended(conn):
            return self._interrupted_outcome(conn)
        return OperationalError(
            _GONE,
            f"{label}: its connection was lost before COMMIT was sent, so nothing of "
            "the transaction is kept; run it again",
        )

    def remember_interrupted(
        self, conn: ServerConnection, kind: str, text: str | bytes, *, transaction: bool
    ) -> None:
        """Remember a statement that an interrupt ended, such as a time limit's, if it may have happened."""
        if conn.unanswered_statement() and may_have_happened("lost", kind, text, transaction=transaction):
            self.unknown_outcomes.remember(text, self._interrupted_outcome(conn))

    def raw_statement_failed(self, conn: ServerConnection) -> None:
        """Remember a raw cursor's statement that has failed, if it may have happened."""
        text = conn.unanswered_statement()  # "" if the server has answered
        if not text:
            return
        kind = self._session.kind_sent(text)
        if may_have_happened("lost", kind, text, transaction=self._plain.in_block()):
            self.unknown_outcomes.remember_raw(self._interrupted_outcome(conn))

    def _interrupted_outcome(self, conn: ServerConnection) -> OutcomeUnknown:
        text = redacted(conn.unanswered_statement())
        return OutcomeUnknown(_GONE, f"{self._cluster.primary_label}: {text!r} was interrupted: {_UNKNOWN}")


def _may_have_ended(conn: ServerConnection) -> bool:
    """Return whether the statement that was interrupted on a connection may have committed."""
    text = conn.unanswered_statement()
    return bool(text) and may_have_happened("lost", "transaction", text, transaction=True)
