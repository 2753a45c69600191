"""This thread's own connection to the primary: opening it, ending its transactions, and when it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable

from peewee import InterfaceError, OperationalError, PeeweeException, __exception_wrapper__, _transaction

from ..concurrency import Here
from ..consistency.levels import Consistency
from ..errors import OutcomeUnknown, PrimaryReadOnly
from ..nodes.cluster import PRIMARY, Cluster
from ..servers.error_meanings import NO_CONNECTION, explained
from ..servers.protocols import ServerConnection
from ..statements.redaction import redacted
from .checks import ConnectionChecks, LostByAsking
from .diagnosis import Diagnosis
from .failures import may_have_happened
from .peewee_types import ThreadState
from .plain_database import PlainDatabase
from .primary_session import PrimarySession
from .questions import QUESTION_SECONDS, first_row

logger = logging.getLogger("peewee.replicas")

_GONE = 2006  # CR_SERVER_GONE_ERROR
_UNKNOWN = (
    "it was sent and not acknowledged, so whether it took effect is unknown, and it was not repeated; "
    "look at the data before doing it again"
)


class PrimaryConnection:
    """The primary's connections for writing, of which each thread or task has one.

    Parameters:
        plain: the user's database, as the primary's.
        cluster: the nodes.
        session: what these connections carry.
        consistency: what statements on them oblige later reads to.
        diagnosis: reads errors.
        checks: what is checked and taken in of each new connection.
        here: tells threads, or tasks, apart.
    """

    def __init__(
        self,
        plain: PlainDatabase,
        cluster: Cluster,
        session: PrimarySession,
        consistency: Consistency,
        diagnosis: Diagnosis,
        checks: ConnectionChecks,
        here: Here,
    ) -> None:
        self.plain = plain
        self.cluster = cluster
        self.session = session
        self.consistency = consistency
        self.diagnosis = diagnosis
        self.checks = checks
        # The error with which COMMIT met a lost connection: to send it again must not look like a success.
        self._lost_commits = here.local()
        # Whether there ever was one: transactions, which look for it several times each, need not.
        self._any_lost = False

    # What the routing rules look at

    def situation(self, state: ThreadState) -> tuple[str, str]:
        """Why a transaction counts as open here, and what the connection carries; ``""`` for neither.

        Parameters:
            state: what peewee keeps for this thread or task.
        """
        conn = state.conn
        if conn is None:
            return "a transaction is open" if state.transactions else "", self.session.carried
        return self.transaction(state), self.session.state(conn)

    def transaction(self, state: ThreadState) -> str:
        """Why a transaction counts as open here: peewee's stack, or what the server reported last."""
        if state.transactions:
            return "a transaction is open"
        transaction: str = state.conn.transaction if state.conn is not None else ""
        return transaction

    # Finding and opening

    def get(self, *, begins: bool = False) -> ServerConnection:
        """This thread's connection, opened now if this is its first use.

        Parameters:
            begins: a transaction is only about to begin on it, whatever peewee calls open.
        """
        conn = self.plain.conn
        if conn is not None:
            if not self.is_spent(conn, begins=begins):
                return conn
            self.drop()
        return self.open()

    def open(self) -> ServerConnection:
        """Open this thread's connection."""
        try:
            return self._open()
        # The connection was lost by a question of ours, and the user's statement was not sent.
        except LostByAsking:
            return self._open()

    def _open(self) -> ServerConnection:
        state = self.plain.state
        # peewee's connect() starts a new state; what is in progress in this thread has to survive that.
        kept = (state.closed, state.ctx, state.transactions, state.commit_callbacks)
        state.closed = True
        generation = self.cluster.generation
        try:
            self.plain.open()
            conn = self.plain.open_conn
            conn.generation = generation
            self.checks.check(PRIMARY, conn, self.plain.db.connect_params)
            self.checks.take_in(PRIMARY, conn)
            conn.listener = self.session.statement_ended
        except BaseException as exc:
            self.drop()
            self.diagnosis.name_node(exc, self.cluster.primary_label)
            raise
        else:
            kept = (False, *kept[1:])
        finally:
            state.closed, state.ctx, state.transactions, state.commit_callbacks = kept
        return conn

    def is_spent(self, conn: ServerConnection, *, begins: bool = False) -> bool:
        """Whether the connection is of no more use, and nobody would notice another in its place.

        Parameters:
            begins: as for `get`.
        """
        outdated = conn.generation != self.cluster.generation and not conn.busy
        if not (outdated or conn.dropped()):
            return False
        return conn.replaceable and (begins or not self.transaction(self.plain.state))

    def idle(self) -> ServerConnection | None:
        """This thread's connection, if a question of the library's own would disturb nothing on it."""
        conn = self.plain.conn
        if conn is None or conn.busy or conn.transaction or conn.dropped():
            return None
        return None if conn.generation != self.cluster.generation else conn

    def drop(self) -> None:
        """Close this thread's connection for good."""
        state = self.plain.state
        # Taken out first, so that it is not in use any more even if closing it fails.
        conn, state.conn = state.conn, None
        if conn is not None:
            self.plain.drop(conn)

    def close(self) -> None:
        """Close this thread's connection, or give it back to its pool."""
        self.forget_lost_commit()
        state = self.plain.state
        conn = state.conn
        if conn is not None and conn.transaction:
            self.consistency.abandoned()
        state.reset()
        if conn is not None:
            self.give_back(conn)

    def give_back(self, conn: ServerConnection) -> None:
        """Close a connection that this thread has no more use for, or give it back to its pool."""
        with __exception_wrapper__:
            self.plain.close_connection(conn)

    # Transactions

    def begin(self, *args: object, **kwargs: object) -> None:
        """Begin a transaction, as peewee does."""
        self.forget_lost_commit()
        conn = self.get(begins=True)
        conn.executing = "transaction"
        try:
            self.send_begin(conn, *args, **kwargs)
        except PeeweeException as exc:
            self.explain_failure(conn, exc, "transaction", "BEGIN", transaction=False)
            raise
        finally:
            conn.executing = ""

    def send_begin(self, conn: ServerConnection, *args: object, **kwargs: object) -> None:
        """Send what begins a transaction."""
        self.plain.begin(*args, **kwargs)

    def commit(self) -> None:
        """Commit, as peewee does; where the primary was never needed there is nothing to commit.

        Raises:
            OutcomeUnknown: the connection was lost after COMMIT had been sent.
            OperationalError: it was lost before; nothing was committed.
        """
        if self._any_lost:
            error = getattr(self._lost_commits, "error", None)
            if error is not None:
                raise error[0](*error[1])
        self._end_or_abandon(self.plain.commit, commits=True)

    def rollback(self) -> None:
        """Roll back, as peewee does; nothing to do where the primary was never needed, or is lost."""
        self.forget_lost_commit()
        self._end_or_abandon(self.plain.rollback, commits=False)

    def _end_or_abandon(self, end: Callable[[], None], *, commits: bool) -> None:
        try:
            self._end(end, commits=commits)
        except Exception:
            raise
        except BaseException:
            self._interrupted(commits=commits)
            raise

    def _interrupted(self, *, commits: bool) -> None:
        """The end of a transaction was broken off by a signal, a time limit or a cancellation.

        peewee cleans up after an `Exception` only: it neither rolls back nor forgets callbacks here. Half an
        answer may be on its way, so the connection is of no more use, and the server rolls back with it.
        """
        state = self.plain.state
        conn = state.conn
        if conn is None or state.transactions:
            return  # another block is open on it, which peewee will leave in order
        self.abandon(conn)
        self.plain.db._clear_commit_callbacks()
        try:
            self.try_end(conn, self.plain.commit, commits=commits)  # sends nothing any more
        except PeeweeException as exc:
            self.remember_lost_commit(exc)
        self.drop()

    def abandon(self, conn: ServerConnection) -> None:
        """Close a connection in the middle of a statement."""
        conn.abort()

    def _end(self, end: Callable[[], None], *, commits: bool) -> None:
        conn = self.plain.conn
        if conn is None:
            if not self.plain.is_open:
                end()  # raises peewee's own error
            return
        try:
            self.try_end(conn, end, commits=commits)
        except PeeweeException as exc:
            if commits and conn.dropped():
                self.remember_lost_commit(exc)
            raise

    def try_end(self, conn: ServerConnection, end: Callable[[], None], *, commits: bool) -> None:
        """End a transaction. Where its connection is lost the server has rolled it back, or will.

        Parameters:
            end: sends COMMIT or ROLLBACK.
            commits: which of them.
        """
        if conn.dropped():
            self._lost_transaction(conn, commits=commits)
            if commits:
                self._raise_unsent_commit(conn)
            return
        conn.executing = "transaction"
        try:
            end()
        except PeeweeException as exc:
            lost = conn.dropped()
            if lost:
                self._lost_transaction(conn, commits=commits)
            if commits or not lost:
                self.explain_failure(conn, exc, "transaction", "COMMIT", transaction=True)
                raise
        finally:
            conn.executing = ""

    def _raise_unsent_commit(self, conn: ServerConnection) -> None:
        label = self.cluster.primary_label
        if _may_have_ended(conn):
            raise OutcomeUnknown(
                _GONE, f"{label}: {redacted(conn.unanswered_statement())!r} was broken off: {_UNKNOWN}"
            )
        raise OperationalError(
            _GONE,
            f"{label}: its connection was lost before COMMIT was sent, so nothing of "
            "the transaction is kept; run it again",
        )

    def remember_lost_commit(self, exc: BaseException) -> None:
        """Let a second COMMIT of the same transaction fail as the first did."""
        self._lost_commits.error = (type(exc), exc.args)
        self._any_lost = True

    def forget_lost_commit(self) -> None:
        """The transaction whose COMMIT was lost has been left."""
        if self._any_lost:
            self._lost_commits.error = None

    def _lost_transaction(self, conn: ServerConnection, *, commits: bool = False) -> None:
        """The connection was lost inside a transaction that has been left since, so that is over."""
        if conn.transaction:  # the server has not been heard of since
            self.consistency.abandoned()
        # After a commit() inside of atomic() what follows in that block is no statement of its own.
        inside = commits and any(isinstance(one, _transaction) for one in self.plain.state.transactions)
        if not conn.carries_state and not inside:
            self.drop()
        # Else statements fail until the block is left or the database closed, as peewee's do.

    # What is told

    def explain_failure(
        self, conn: ServerConnection, exc: PeeweeException, kind: str, text: str | bytes, *, transaction: bool
    ) -> None:
        """Raise what an error on this connection means, where that is more than it says; else only name it.

        Parameters:
            exc: what it raised.
            kind, text: the statement.
            transaction: whether a transaction was open.
        """
        found = self.diagnosis.meaning(exc)
        label = self.cluster.primary_label
        if found == "refused":
            self._look_for_changed_roles(conn, exc)
        elif may_have_happened(found, kind, text, transaction=transaction):
            raise OutcomeUnknown(*explained(exc.args, label, _UNKNOWN)) from exc
        elif found in NO_CONNECTION:
            kept = not transaction or _may_have_ended(conn)
            words = "" if kept else "nothing of its transaction is kept"
            if not conn.replaceable:
                words = f"{words or 'what was set on it is gone'}; leave the transaction, or close() it"
            exc.args = explained(exc.args, label, words)

    def _look_for_changed_roles(self, conn: ServerConnection, exc: PeeweeException) -> None:
        question = conn.dialect.READ_ONLY_NOW
        if not question:
            return
        try:
            answer = first_row(conn, question, QUESTION_SECONDS)[0]
        except PeeweeException:
            return  # what it has refused is raised by the caller
        if str(answer).upper() in ("0", "OFF"):
            return  # another of its options refuses it
        cluster = self.cluster
        before = cluster.writes
        cluster.writes = "lost" if before in ("taken", "lost") else "refused"
        if cluster.writes == "lost":
            found, remedy = "is read-only now, so the roles have changed", "let host lead to the new primary"
        else:
            found, remedy = "is read-only, so host may lead to a replica", "let host lead to the primary"
        if cluster.writes != before:
            logger.warning("%s %s: %s", cluster.primary_label, found, exc)
        words = (
            f"it {found}: nothing was executed; the next statement outside a transaction connects anew, "
            f"so {remedy}, or make it writable"
        )
        # From now on no thread uses a connection that it has to the primary as it was.
        cluster.generation = max(cluster.generation, conn.generation + 1)
        raise PrimaryReadOnly(*explained(exc.args, cluster.primary_label, words)) from exc


def check_open(plain: PlainDatabase) -> None:
    """Raise peewee's own error where the database is closed and does not connect by itself."""
    if not plain.is_open:
        db = plain.db
        if db.deferred:
            raise InterfaceError(NOT_INITIALIZED)
        if not db.autoconnect:
            raise InterfaceError("Error, database connection not opened.")


NOT_INITIALIZED = "Error, database must be initialized before opening a connection."


def _may_have_ended(conn: ServerConnection) -> bool:
    """Whether a transaction may have been committed by the statement that was broken off on a connection."""
    text = conn.unanswered_statement()
    return bool(text) and may_have_happened("lost", "transaction", text, transaction=True)
