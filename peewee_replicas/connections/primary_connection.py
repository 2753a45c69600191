"""The primary's own connection when it fails: what is told of it, and when a new one takes its place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from peewee import OperationalError, PeeweeException, __exception_wrapper__, _transaction

from ..errors import NoReplicaAvailable, OutcomeUnknown, PrimaryReadOnly
from ..nodes.replica import Replica
from ..servers.error_meanings import NO_CONNECTION, explained
from .failures import may_have_happened
from .replica_connections import Nodes

logger = logging.getLogger("peewee.replicas")

_GONE = 2006  # CR_SERVER_GONE_ERROR
_UNKNOWN = (
    "it was sent and not acknowledged, so whether it took effect is unknown, and it was not repeated; "
    "look at the data before doing it again"
)


class Primary(Nodes):
    """What befalls this thread's own connection to the primary."""

    @property
    def _primary_label(self) -> str:
        return f"the primary ({self._replication.reader.address})"

    # Another connection in its place

    def _writer_is_spent(self, conn: Any, *, begins: bool = False) -> bool:
        """Whether the connection is of no more use, and nobody would notice another in its place.

        Parameters:
            conn: the connection.
            begins: a transaction is only about to begin on it, whatever peewee calls open.
        """
        core = self._replication
        outdated = conn.generation != core.generation and not conn.busy
        if not (outdated or conn.dropped()) or core.rehearsal is not None:
            return False
        return conn.replaceable and (begins or not core.transaction(self._state))

    def _drop_writer(self) -> None:
        conn, self._state.conn = self._state.conn, None
        if conn is not None:
            self._drop(conn)

    def _send_end(self, conn: Any, end: Callable[[], None], *, commits: bool) -> None:
        """End a transaction. Where its connection is lost the server has rolled it back, or will.

        Parameters:
            conn: the connection.
            end: sends COMMIT or ROLLBACK.
            commits: which of them.
        """
        try:
            self._try_end(conn, end, commits=commits)
        except PeeweeException as exc:
            if commits and conn.dropped():
                self._replication.lost_commits.error = (type(exc), exc.args)
            raise

    def _try_end(self, conn: Any, end: Callable[[], None], *, commits: bool) -> None:
        if conn.dropped():
            self._lost_transaction(conn, commits=commits)
            if commits and _may_have_ended(conn):
                text = conn.unanswered_statement()[:200]
                raise OutcomeUnknown(_GONE, f"{self._primary_label}: {text!r} was broken off: {_UNKNOWN}")
            if commits:
                raise OperationalError(
                    _GONE,
                    f"{self._primary_label}: its connection was lost before COMMIT was sent, so nothing of "
                    "the transaction is kept; run it again",
                )
            return
        conn.executing = True
        try:
            end()
        except PeeweeException as exc:
            lost = conn.dropped()
            if lost:
                self._lost_transaction(conn, commits=commits)
            if commits or not lost:
                self._explain_failure(conn, exc, "transaction", "COMMIT", transaction=True)
                raise
        finally:
            conn.executing = False

    def _refuse_lost_commit(self) -> None:
        error = getattr(self._replication.lost_commits, "error", None)
        if error is not None:
            raise error[0](*error[1])

    def _forget_lost_commit(self) -> None:
        self._replication.lost_commits.error = None

    def _lost_transaction(self, conn: Any, *, commits: bool = False) -> None:
        """The connection was lost inside a transaction that has been left since, so that is over."""
        core = self._replication
        if conn.transaction:  # the server has not been heard of since
            core.consistency.abandoned()
        # After a commit() inside of atomic() what follows in that block is no statement of its own.
        inside = commits and any(isinstance(one, _transaction) for one in self._state.transactions)
        if (
            not conn.carries_state and not inside
        ):  # else statements fail until it is left or closed, as peewee's do
            self._drop_writer()

    # What is told

    def _name_reader(self, exc: PeeweeException) -> None:
        if self._has_no_connection(exc):
            exc.args = explained(exc.args, self._replication.reader.label, self._remedy(exc))

    def _explain_failure(
        self, conn: Any, exc: PeeweeException, kind: str, text: str | bytes, *, transaction: bool
    ) -> None:
        """Raise what an error on this connection means, where that is more than it says; else only name it.

        Parameters:
            conn: the connection.
            exc: what it raised.
            kind, text: the statement.
            transaction: whether a transaction was open.
        """
        found = self._meaning(exc)
        if found == "refused":
            self._look_for_changed_roles(conn, exc)
        elif may_have_happened(found, kind, text, transaction=transaction):
            raise OutcomeUnknown(*explained(exc.args, self._primary_label, _UNKNOWN)) from exc
        elif found in NO_CONNECTION:
            kept = not transaction or _may_have_ended(conn)
            words = "" if kept else "nothing of its transaction is kept"
            if not conn.replaceable:
                words = f"{words or 'what was set on it is gone'}; leave the transaction, or close() it"
            exc.args = explained(exc.args, self._primary_label, words)

    def _look_for_changed_roles(self, conn: Any, exc: PeeweeException) -> None:
        question = conn.dialect.READ_ONLY_NOW
        if not question:
            return
        try:
            with __exception_wrapper__:
                answer = conn.ask(question)[0][0]
        except PeeweeException:
            return  # what it has refused is raised by the caller
        if str(answer).upper() in ("0", "OFF"):
            return  # another of its options refuses it
        core = self._replication
        words = (
            "it is read-only now, so the roles have changed: nothing was executed; the next statement "
            "outside a transaction connects anew, so let host lead to the new primary, or make it writable"
        )
        if not core.demoted:
            core.demoted = True
            logger.warning("%s is read-only now, so the roles have changed: %s", self._primary_label, exc)
        # From now on no thread uses a connection that it has to the primary as it was.
        core.generation = max(core.generation, conn.generation + 1)
        raise PrimaryReadOnly(*explained(exc.args, self._primary_label, words)) from exc

    def _reasons(self, tried: dict[Replica, BaseException]) -> str:
        """Why no replica can serve a read: those that were tried now, and those that are out of rotation."""
        reasons = []
        for replica, exc in tried.items():
            words = self._remedy(exc)
            reasons.append(f"{replica.label}: {exc}" + (f"; {words}" if words else ""))
        return "; ".join(text for text in (*reasons, self._replication.reasons(set(tried))) if text)

    def _nobody_answers(
        self,
        tried: dict[Replica, BaseException],
        exc: PeeweeException,
        kind: type[OperationalError] = NoReplicaAvailable,
    ) -> OperationalError:
        """The error to raise when no node at all can be had.

        Parameters:
            tried: the replicas tried now, and why they could not be had.
            exc: the primary's error, which names it.
            kind: its class.
        """
        reasons = self._reasons(tried)
        return kind(*exc.args[:-1], f"no node answers: {reasons}; {exc.args[-1]}")


def _may_have_ended(conn: Any) -> bool:
    """Whether a transaction may have been committed by the statement that was broken off on a connection."""
    text = conn.unanswered_statement()
    return bool(text) and may_have_happened("lost", "transaction", text, transaction=True)
