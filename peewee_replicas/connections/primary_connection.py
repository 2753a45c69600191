"""This thread's own connection to the primary: open it, begin and end its transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from peewee import InterfaceError, OperationalError, PeeweeException, __exception_wrapper__

from ..concurrency import Clock, Here
from ..consistency.levels import Consistency
from ..nodes.cluster import PRIMARY, Cluster
from ..nodes.primary_state import UNKNOWN, PrimaryState
from ..scopes.frames import Frame, Steps
from ..servers.protocols import ServerConnection
from .checks import ConnectionChecks, LostByAsking
from .diagnosis import Diagnosis
from .peewee_types import ThreadState
from .peewee_version import kept_state
from .plain_database import PlainDatabase
from .primary_failures import PrimaryFailures
from .primary_session import PrimarySession
from .unknown_outcomes import UnknownOutcomes

Sending = Callable[[], None]


def _is_sql_error(exc: BaseException) -> bool:
    """Return whether a server has answered a statement with an error and kept the connection."""
    return isinstance(exc, PeeweeException) and not isinstance(exc, (OperationalError, InterfaceError))


def unwatched() -> None:
    """Do nothing, because nobody asked to know when a transaction's statement is sent."""


class PrimaryConnection:
    """The primary's connections for writing, one for each thread or task.

    Parameters:
        plain: the user's database without routing.
        cluster: the nodes.
        session: tracks the state of these connections' sessions.
        consistency: records what later reads must see.
        diagnosis: interprets errors.
        checks: checks each new connection.
        here: identifies the current thread or task.

    Attributes:
        unknown_outcomes: writes that a subclass's own methods must not repeat.
        failures: says what an error means for the program.
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
        # The error of a COMMIT that lost its connection: a second COMMIT must not look like a success.
        self._lost_commits = here.local()
        # Spares every transaction several look-ups in `_lost_commits` until the first loss.
        self._any_lost = False
        self.unknown_outcomes = UnknownOutcomes()
        self.failures = PrimaryFailures(plain, cluster, session, diagnosis, self.unknown_outcomes)
        session.raw_statement_failed = self.failures.raw_statement_failed
        self._connect_calls = here.local()

    def continue_from(self, before: PrimaryConnection) -> None:
        """Go on remembering what was remembered before a call of ``init()``."""
        self.unknown_outcomes = self.failures.unknown_outcomes = before.unknown_outcomes

    # For the routing rules

    def situation(self, state: ThreadState) -> tuple[str, str]:
        """Return in words why a transaction counts as open, and what state the session carries.

        Each is ``""`` if there is none.

        Parameters:
            state: peewee's state of this thread or task.
        """
        conn = state.conn
        if conn is None:
            return "a transaction is open" if state.transactions else "", self.session.carried
        transaction = "a transaction is open" if state.transactions else conn.transaction  # see `transaction`
        session = self.session
        # As `PrimarySession.state` does, without a call for each statement.
        return transaction, session.state(conn) if conn.changes else conn.session_state or session.carried

    def transaction(self, state: ThreadState) -> str:
        """Return in words why a transaction counts as open: peewee's stack or the server's last report."""
        if state.transactions:
            return "a transaction is open"
        transaction: str = state.conn.transaction if state.conn is not None else ""
        return transaction

    # Finding and opening

    def get(self, *, begins: bool = False, state: ThreadState | None = None) -> ServerConnection:
        """Return this thread's connection, and open it if needed.

        Parameters:
            begins: a transaction is about to begin, although peewee already counts it as open.
            state: peewee's state of this thread, if the caller has it.
        """
        if state is None:
            state = self.plain.state
        conn = state.conn
        if conn is not None:
            if conn.generation == self.cluster.generation:
                # Inside a transaction no other connection could take its place.
                if (state.transactions and not begins) or not conn.dropped():
                    return conn
            elif self.cluster.is_left_behind(conn.generation):
                conn.hang_up()  # if it cannot be replaced, the statement fails as on a lost connection
            if (state.transactions and not begins) or not self.is_spent(conn, begins=begins):
                return conn
            self.make_way(conn)
        return self.open()

    def make_way(self, conn: ServerConnection) -> None:
        """Drop this thread's connection; the caller opens another."""
        if conn.set_by_connect:
            # If the next cannot be opened, no read may go on at a replica without what ``connect()`` sets.
            self.plain.state.closed = True
        self.drop()

    def open(self) -> ServerConnection:
        """Open this thread's connection."""
        try:
            return self._open()
        except LostByAsking:
            # Our own question lost the connection before the user's statement was sent.
            return self._open()

    def _open(self) -> ServerConnection:
        state = self.plain.state
        # peewee's connect() resets the state; this thread's contexts and transactions must survive it.
        kept = kept_state(state)
        closed, state.closed = state.closed, True
        try:
            self._connect()
            conn = self.plain.open_conn
        except BaseException as exc:
            self.drop()
            if not isinstance(exc, Exception):
                self.plain.broken_off()
            raise
        else:
            closed = False
        finally:
            state.closed = closed
            for name, value in kept.items():
                setattr(state, name, value)
        return conn

    def _connect(self) -> None:
        """Connect, through the program's own ``connect()`` if it has one, because that may retry."""
        calls = self._connect_calls
        own = self.plain.db.own_connect
        if not own or getattr(calls, "running", False):
            self.connect()
            return
        calls.running = calls.for_primary = True
        frame = Frame(self.cluster, "primary")  # a ``readonly()`` of the program's would refuse what it sets
        try:
            with Steps(frame).step():
                self.plain.connect_own(own)
            if self.plain.conn is None:  # it has connected another task, such as one of `asyncio.wait_for()`
                self.plain.state.closed = True
                self.connect()
        finally:
            calls.running = calls.for_primary = False
            frame.end()

    @property
    def is_connecting(self) -> bool:
        """Whether this thread has called the program's own ``connect()`` to open its primary's connection."""
        return getattr(self._connect_calls, "for_primary", False)

    @contextmanager
    def own_connect_call(self) -> Iterator[None]:
        """Tell what the program's own ``connect()`` sets, during a call, from what the program sets later."""
        before = self.plain.conn
        kept = before if before is not None and before.has_own_state else None
        was_closed = not self.plain.is_open
        try:
            yield
        except BaseException as exc:
            if was_closed and not _is_sql_error(exc):
                self._not_connected()
            raise
        conn = self.plain.conn
        if conn is not None and conn is not kept:
            self.session.connected(conn)

    def _not_connected(self) -> None:
        """Count the database as closed after a failed call, unless it has left the primary's connection."""
        conn = self.plain.conn
        if conn is None or conn.dropped():
            # Else the next read would run, perhaps at a replica, without what was to be set.
            self.plain.state.closed = True
            self.drop()

    def connect(self) -> None:
        """Connect to the primary; peewee's state of this thread must be that of a closed database."""
        generation = self.cluster.generation
        try:
            self._connect_once(generation)
        except Exception:
            if not self.cluster.is_left_behind(generation):
                raise
        else:
            if not self.cluster.is_left_behind(generation):
                return
        # The primary has moved meanwhile, and no statement was sent to the old one.
        self.drop()
        self.plain.state.closed = True
        self.connect()

    def _connect_once(self, generation: int) -> None:
        state = self.plain.state
        try:
            self.plain.open()
            conn = self.plain.open_conn
            self.checks.check(PRIMARY, conn, self.plain.db.connect_params)
            self.checks.take_in(PRIMARY, conn)
            conn.listener = self.session.statement_ended
            conn.raw_statement_check = self._screen
        except BaseException as exc:
            self.drop()
            state.closed = True
            if self.cluster.is_left_behind(generation):
                raise
            if isinstance(exc, Exception) and self.diagnosis.bars(exc):
                cause = self.diagnosis.cause(exc)
                self.cluster.primary_state = PrimaryState(cause, found_at=Clock.monotonic())
            self.diagnosis.name_node(exc, self.cluster.primary_label)
            raise
        if self.cluster.primary_state.unreachable:
            self.cluster.primary_state = UNKNOWN
        # It answers again, perhaps as another server: what a read there shows, later reads must see.
        self.cluster.reader.back()

    def _screen(self, conn: ServerConnection, sql: str | bytes) -> None:
        """Check a raw cursor's statement; cut the connection first if it leads to the old primary."""
        if self.cluster.is_left_behind(conn.generation):
            conn.hang_up()
        self.session.screen_write(conn, sql)

    def get_within_connect(self) -> ServerConnection:
        """Like `get`, when the program, or its subclass, has called ``connect()`` already."""
        calls = self._connect_calls
        calls.running = True
        try:
            return self.get()
        finally:
            calls.running = False

    def is_spent(self, conn: ServerConnection, *, begins: bool = False) -> bool:
        """Return whether the connection is no longer usable and may be replaced.

        Parameters:
            begins: as for `get`.
        """
        outdated = conn.generation != self.cluster.generation and not conn.busy
        if not (outdated or conn.dropped()):
            return False
        return conn.renewable and (begins or not self.transaction(self.plain.state))

    def idle(self) -> ServerConnection | None:
        """Return this thread's connection if the library may query it without side effects, else None."""
        conn = self.plain.conn
        if conn is None or conn.busy or conn.transaction or conn.dropped():
            return None
        return None if conn.generation != self.cluster.generation else conn

    def drop(self) -> None:
        """Close this thread's connection without returning it to a pool."""
        state = self.plain.state
        # Forgotten first, so that nobody uses it even if closing it fails.
        conn, state.conn = state.conn, None
        if conn is not None:
            self.plain.drop(conn)

    def close(self) -> None:
        """Close this thread's connection, or return it to its pool."""
        self.forget_lost_commit()
        state = self.plain.state
        conn = state.conn
        if conn is not None and conn.transaction:
            self.consistency.abandoned()
        state.reset()
        if conn is not None:
            self.give_back(conn)

    def give_back(self, conn: ServerConnection) -> None:
        """Close a connection that this thread no longer needs, or return it to its pool."""
        with __exception_wrapper__:
            self.plain.close_connection(conn)

    # Transactions

    def begin(self, sending: Sending = unwatched, *args: object, **kwargs: object) -> None:
        """Begin a transaction, as peewee does.

        Parameters:
            sending: called just before anything is sent.
            args, kwargs: peewee's own arguments.
        """
        self.forget_lost_commit()
        conn = self.get(begins=True)
        sending()
        conn.executing = "transaction"
        try:
            self.plain.begin(*args, **kwargs)
        except PeeweeException as exc:
            self.failures.explain(conn, exc, "transaction", "BEGIN", transaction=False)
            raise
        finally:
            conn.executing = ""

    def commit(self, sending: Sending = unwatched) -> None:
        """Commit, as peewee does; send nothing if this thread has no connection.

        Parameters:
            sending: called just before anything is sent.

        Raises:
            OutcomeUnknown: the connection was lost after COMMIT was sent.
            OperationalError: the connection was lost before COMMIT was sent; nothing was committed.
        """
        if self._any_lost:
            error = getattr(self._lost_commits, "error", None)
            if error is not None:
                raise error[0](*error[1])
            self.unknown_outcomes.check("COMMIT", "transaction")
        self._end(self.plain.commit, sending, commits=True)

    def rollback(self, sending: Sending = unwatched) -> None:
        """Roll back, as peewee does; send nothing if there is no connection or it was lost.

        Parameters:
            sending: called just before anything is sent.
        """
        self.forget_lost_commit()
        self._end(self.plain.rollback, sending, commits=False)

    def break_off(self, *, commits: bool = False) -> None:
        """Clean up after a signal, time limit or cancellation in BEGIN, COMMIT or ROLLBACK, at any step.

        peewee cleans up only after an `Exception`, so otherwise nothing would end an open transaction.

        Parameters:
            commits: whether COMMIT was interrupted.
        """
        conn = self.plain.conn
        if self.plain.in_block() or conn is None:
            return  # peewee will end the block's transaction properly
        conn.interrupted()
        if not (conn.transaction or conn.dropped()):
            return  # the transaction had not begun, or has ended
        # Half an answer may still arrive, so the connection is no longer usable. Closing it makes the server
        # roll back.
        self.abandon(conn)
        self.consistency.abandoned()
        if commits:
            self.remember_lost_commit(self.failures.unsent_commit(conn))
        self._lost_transaction(conn)

    def abandon(self, conn: ServerConnection) -> None:
        """Close a connection in the middle of a statement."""
        conn.abort()

    def _end(self, end: Callable[[], None], sending: Sending, *, commits: bool) -> None:
        conn = self.plain.conn
        if conn is None:
            if not self.plain.is_open:
                end()  # raises peewee's own error
            return
        try:
            self.try_end(conn, end, sending, commits=commits)
        except PeeweeException as exc:
            if commits and conn.dropped():
                self.remember_lost_commit(exc)
            raise

    def try_end(
        self, conn: ServerConnection, end: Callable[[], None], sending: Sending = unwatched, *, commits: bool
    ) -> None:
        """End a transaction. If its connection is lost, the server rolls it back by itself.

        Parameters:
            end: sends COMMIT or ROLLBACK.
            sending: called just before `end`.
            commits: whether `end` commits.
        """
        # The first comparison is cheap, and runs at each end of a transaction.
        if conn.generation != self.cluster.generation and self.cluster.is_left_behind(conn.generation):
            conn.hang_up()  # COMMIT must not be acknowledged by a server that is no longer the primary
        if conn.dropped():
            self._lost_transaction(conn, commits=commits)
            if commits:
                raise self.failures.unsent_commit(conn)
            return
        sending()
        conn.executing = "transaction"
        try:
            end()
        except PeeweeException as exc:
            lost = conn.dropped()
            if lost:
                self._lost_transaction(conn, commits=commits)
            if commits or not lost:
                self.failures.explain(conn, exc, "transaction", "COMMIT", transaction=True)
                raise
        finally:
            conn.executing = ""

    def remember_lost_commit(self, exc: BaseException) -> None:
        """Remember an error of COMMIT, so that a second COMMIT of that transaction fails like the first."""
        if isinstance(exc, Exception):
            self.unknown_outcomes.remember("COMMIT", exc)
        self._lost_commits.error = (type(exc), exc.args)
        self._any_lost = True

    def forget_lost_commit(self) -> None:
        """Forget the lost COMMIT, since the program has left its transaction."""
        if self._any_lost:
            self._lost_commits.error = None

    def _lost_transaction(self, conn: ServerConnection, *, commits: bool = False) -> None:
        """Drop a connection lost in a transaction that the program has left, unless the session had state."""
        if conn.transaction:  # the server last reported an open transaction
            self.consistency.abandoned()
        # After commit() inside atomic(), later statements of that block must not run in autocommit.
        if commits and self.plain.in_block():
            return
        conn.forget_lost_transaction()
        if not conn.carries_state:
            self.drop()
        # Otherwise the next statement connects again, if that restores the state; if not, statements fail
        # until the database is closed, as with peewee.
