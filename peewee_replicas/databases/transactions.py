"""peewee's methods for the transactions of a database whose statements are routed."""

from __future__ import annotations

from collections.abc import Callable

from ..connections.aging import close_old
from ..connections.parts import Parts
from ..connections.peewee_version import IS_PEEWEE_3
from ..connections.plain_database import PlainDatabase
from ..connections.primary_connection import Sending, unwatched
from ..errors import ReadOnlyViolation
from ..execution.execution import Execution
from ..scopes.frames import innermost
from ..scopes.transaction_escapes import Escapes
from .execution_reports import ExecutionReports


class Transactions:
    """The transactions of one database, all of which are on the primary.

    Parameters:
        plain: the user's database without routing.
        parts: its collaborators.
        escapes: reports statements that escape their transaction; None if they are ignored.
        reports: tells who wants to know what was executed.

    Attributes:
        refused: whether none may begin, because ``writes="refuse"``.
    """

    def __init__(
        self, plain: PlainDatabase, parts: Parts, escapes: Escapes | None, reports: ExecutionReports
    ) -> None:
        self.refused = parts.router.writes == "refuse"
        self._plain = plain
        self._parts = parts
        self._escapes = escapes
        self._reports = reports
        self._unended = parts.here.local()
        # Spares every transaction a look-up in `_unended` until the first interrupt.
        self._any_unended = False

    def begin(self, *args: object, **kwargs: object) -> None:
        """Like peewee's method, on the primary. Raises `ReadOnlyViolation` inside ``readonly()``."""
        parts, reports = self._parts, self._reports
        self._check_allowed()
        state = self._plain.state
        if self._escapes is not None:
            self._escapes.check(state.transactions, "BEGIN")
        if state.closed:
            self._plain.autoconnect(anyway=IS_PEEWEE_3)
        if parts.cluster.replicas.unsettled:
            parts.replicas.attend(reads=False)
            if parts.cluster.replicas.ages:
                close_old(parts, state, "transaction")
        begin = parts.primary.begin
        if reports.route_hooks or reports.counting.in_use:
            self._report("BEGIN", lambda sending: begin(sending, *args, **kwargs))
        else:
            begin(unwatched, *args, **kwargs)

    def commit(self) -> None:
        """Like peewee's method; does nothing if the primary was not used."""
        commit, reports = self._parts.primary.commit, self._reports
        if reports.route_hooks or reports.counting.in_use:
            self._report("COMMIT", commit)
        else:
            commit()

    def rollback(self) -> None:
        """Like peewee's method; does nothing if the primary was not used, or its connection is lost."""
        rollback, reports = self._parts.primary.rollback, self._reports
        if reports.route_hooks or reports.counting.in_use:
            self._report("ROLLBACK", rollback)
        else:
            rollback()

    def _report(self, sql: str, send: Callable[[Sending], None]) -> None:
        """Call a method that sends one of peewee's own statements, and report it if it sent something."""
        parts, state = self._parts, self._plain.state
        statement = parts.router.classifier.classify(sql)
        plan = parts.router.plan(statement, None, *parts.primary.situation(state), at_primary=False)
        execution = Execution(parts, statement, plan, None, sql, None, state)
        self._reports.run_transaction_statement(execution, send)

    def push_transaction(self, transaction: object) -> None:
        """Like peewee's method. Raises `ReadOnlyViolation` inside ``readonly()``."""
        self._check_allowed()
        self._plain.push_transaction(transaction)
        if self._escapes is not None:
            self._escapes.enter(transaction)

    def pop_transaction(self) -> object:
        """Like peewee's method."""
        transaction = self._plain.pop_transaction()
        self._parts.primary.forget_lost_commit()
        if self._escapes is not None:
            self._escapes.leave(transaction)
        if self._any_unended:
            self._end_interrupted()
        return transaction

    def _end_interrupted(self) -> None:
        """End the transaction of a block that was left after COMMIT or ROLLBACK was interrupted inside it."""
        if getattr(self._unended, "commits", None) is not None and not self._plain.in_block():
            commits, self._unended.commits = self._unended.commits, None
            self._parts.primary.break_off(commits=commits)

    def _check_allowed(self) -> None:
        """Raise `ReadOnlyViolation` if no transaction may begin here."""
        parts = self._parts
        frame = innermost(parts.cluster)
        if self.refused:
            why = 'a transaction cannot start while writes="refuse"'
        elif frame is not None and frame.place == "readonly":
            why = "a transaction cannot start inside readonly(); start it inside primary()"
        else:
            return
        parts.counters.add("refused")
        raise ReadOnlyViolation(why)

    def transaction_not_entered(self, transaction: object) -> None:
        """Clean up after an interrupt in `push_transaction`: peewee will neither run nor leave the block."""
        stack = self._plain.state.transactions
        if stack and stack[-1] is transaction:
            self.pop_transaction()
        self._parts.primary.break_off()

    def transaction_not_left(self, depth: int) -> None:
        """Clean up after an interrupt in `pop_transaction`: peewee will neither commit nor roll back.

        Parameters:
            depth: the number of open transactions before.
        """
        if depth and len(self._plain.state.transactions) == depth:
            self.pop_transaction()
        self.transaction_not_ended()

    def transaction_not_ended(self, *, commits: bool = False) -> None:
        """Clean up after an interrupt in BEGIN, COMMIT or ROLLBACK.

        Parameters:
            commits: whether it was COMMIT.
        """
        if not self._plain.in_block():
            self._parts.primary.break_off(commits=commits)
            self._plain.db._clear_commit_callbacks()
        elif IS_PEEWEE_3:
            # This release rolls back inside the block, and not again if it is interrupted in that.
            self._unended.commits = commits
            self._any_unended = True
