"""The database classes: `execute_sql` is where every route is decided."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

import peewee
from peewee import PeeweeException, __exception_wrapper__

from .. import bookmarks
from ..concurrency import Clock
from ..connections.snapshot import Snapshot
from ..consistency.sessions import Session
from ..errors import BookmarkError, ConfigurationError, ReadOnlyViolation
from ..events import NodeHook, Route, RouteHook
from ..execution.execution import Execution
from ..nodes.replica import Replica
from ..nodes.replica_set import within
from ..positions import MySQLPosition
from ..routing.decision import REPLICA, WRITER, Decision
from ..routing.settings import checked
from ..scopes.frames import Frame, causal, innermost, pinning
from ..scopes.scope import Scope
from ..statements.classifier import Statement
from .lifecycle import Connections

if TYPE_CHECKING:
    from typing_extensions import Self


# A bookmark older than this is refused.
BOOKMARK_SECONDS = 24 * 3600.0

# So long a scope with a bound on lag waits for what is known of it, where nothing is yet.
_FIRST_LOOK_SECONDS = 0.5

# Inside a test's own transaction the program's transactions are savepoints of this name.
_REHEARSED = "peewee_replicas_rehearsal"


class Replicated(Connections):
    """Routing over any of peewee's database classes."""

    _model_class = peewee.Model

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """As peewee's, on the primary. Raises `ReadOnlyViolation` inside ``readonly()``."""
        self._refuse_transaction()
        core = self._replication
        if core.escapes is not None:
            core.escapes.check(self._state.transactions, "BEGIN")
        self._check_open()
        self._forget_lost_commit()
        conn = self._state.conn
        if conn is not None and self._writer_is_spent(conn, begins=True):
            self._drop_writer()
        conn = self._writer()
        if core.rehearsal is not None and core.rehearsal.conn is not None:
            conn.run_setting(f"SAVEPOINT {_REHEARSED}")
            return
        conn.executing = True
        try:
            super().begin(*args, **kwargs)
        except PeeweeException as exc:
            self._explain_failure(conn, exc, "transaction", "BEGIN", transaction=False)
            raise
        finally:
            conn.executing = False

    def push_transaction(self, transaction: Any) -> None:
        """As peewee's. Raises `ReadOnlyViolation` inside ``readonly()``."""
        self._refuse_transaction()
        super().push_transaction(transaction)
        if self._replication.escapes is not None:
            self._replication.escapes.enter(transaction)

    def pop_transaction(self) -> Any:
        """As peewee's."""
        self._forget_lost_commit()
        transaction = super().pop_transaction()
        if self._replication.escapes is not None:
            self._replication.escapes.leave(transaction)
        return transaction

    def _refuse_transaction(self) -> None:
        frame = innermost(self._replication)
        if frame is not None and frame.place == "readonly":
            self._replication.counters.add("refused")
            raise ReadOnlyViolation("a transaction cannot start inside readonly(); primary() is the way out")

    def commit(self) -> None:
        """As peewee's; where the primary was never needed there is nothing to commit.

        Raises:
            OutcomeUnknown: the connection was lost after COMMIT had been sent.
            OperationalError: it was lost before; nothing was committed.
        """
        self._end_transaction(super().commit, f"RELEASE SAVEPOINT {_REHEARSED}", commits=True)

    def rollback(self) -> None:
        """As peewee's; where the primary was never needed, or is lost, there is nothing to roll back."""
        self._end_transaction(super().rollback, f"ROLLBACK TO SAVEPOINT {_REHEARSED}")

    def _end_transaction(self, end: Any, rehearsed: str, *, commits: bool = False) -> None:
        if commits:
            self._refuse_lost_commit()
        else:
            self._forget_lost_commit()
        conn = self._state.conn
        if conn is None:
            if self.is_closed():
                end()  # raises peewee's own error
            return
        rehearsal = self._replication.rehearsal
        if rehearsal is not None and rehearsal.conn is conn:
            conn.run_setting(rehearsed)
            return
        self._send_end(conn, end, commits=commits)

    # Executing

    def execute(self, query: Any, **context_options: Any) -> Any:
        """As peewee's; the server's version is known before the SQL is built."""
        if self.server_version is None and self.autoconnect and self.is_closed() and not self.deferred:
            self.connect()
        return super().execute(query, **context_options)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run one statement on the node that its kind and the scopes in force call for.

        Parameters:
            sql: the text.
            params: its parameters.

        Raises:
            ReadOnlyViolation: inside ``readonly()``, for anything but a read; nothing was sent.
            NoReplicaAvailable: no replica can serve a read and ``fallback="error"``, or nothing answers.
            OutcomeUnknown: the primary's connection was lost after a write of its own had been sent.
            PrimaryReadOnly: the primary does not take writes any more.
        """
        if self._node is not None:  # a subclass's _initialize_connection() on a replica
            return super().execute_sql(sql, params)
        core = self._replication
        statement = core.classifier.classify(sql)
        frame = innermost(core)
        state = self._state
        if core.escapes is not None:
            core.escapes.check(state.transactions, sql)
        decision = core.decide(statement, state, frame, self._at_primary)
        conn = state.conn
        if conn is not None and conn.report_incomplete and (decision.target != WRITER or decision.guard):
            core.make_sure(conn)
            decision = core.decide(statement, state, frame, self._at_primary)
        if decision.refusal:
            core.counters.add("refused")
            raise ReadOnlyViolation(f"{decision.refusal} ({sql[:200]})")
        if state.closed:
            self._check_open()
        if core.replicas.unsettled:
            self._attend(reads=decision.target == REPLICA)
        self._log_query(sql, params)
        execution = Execution(self, core, statement, decision, frame, sql, params)
        if not self.query_hooks and not core.route_hooks:
            return execution.run()
        started = Clock.monotonic()
        try:
            cursor = execution.run()
        except Exception as exc:
            execution.report(started, exc)
            raise
        execution.report(started, None)
        return cursor

    def _send(self, sql: str, params: Any) -> Any:
        with __exception_wrapper__:
            # A subclass's own cursor() is honoured; peewee's would only find the connection again.
            cursor = self._state.conn.cursor() if self._plain_cursor else self.cursor()
            cursor.execute(sql, params or ())
        return cursor

    def _place(self, statement: Statement, decision: Decision, frame: Frame) -> Any:
        return Execution(self, self._replication, statement, decision, frame, "", None).place()

    # Scopes and routes

    def readonly(
        self, *, consistency: str | None = None, max_lag: float | None = None, snapshot: bool = False
    ) -> Scope[Self]:
        """A scope, and a decorator, in which all reads go to one replica and nothing can be written.

        Parameters:
            consistency: a level for this scope, instead of the database's own.
            max_lag: seconds; the node that is picked was no further behind when it was last probed, which is
                ``probe_interval`` ago at most. A scope around this one leaves a node that was. Without a
                prober no lag is known, and the reads go where ``fallback`` says.
            snapshot: all reads see one consistent snapshot, on a connection of its own, for 60 seconds at
                most; if its node fails, reads fail. It belongs to the thread that makes the first read.

        Raises on entry:
            ReadOnlyViolation: a transaction is open and ``readonly_in_transaction="error"``, or a snapshot
                is asked for.
        """
        if consistency is not None:
            checked({"consistency": consistency}, ConfigurationError)
        if max_lag is not None:
            checked({"max_lag": max_lag}, ConfigurationError)
        return Scope(self, lambda: self._enter_readonly(consistency, snapshot, max_lag))

    def primary(self) -> Scope[Self]:
        """A scope, and a decorator, in which everything goes to the primary: the way out of readonly()."""
        return Scope(self, lambda: Frame(self._replication, "primary"))

    def causal_session(self, bookmark: str | None = None) -> Scope[Self]:
        """A scope, and a decorator, whose reads see at least what it wrote, and never go backwards.

        It follows the context into tasks and threads that copy it, which a thread's own session does not.

        Parameters:
            bookmark: what `bookmark` gave, in this process or another: reads see at least that too.

        Raises on entry:
            BookmarkError: the bookmark is malformed, of another database, or has expired.
        """
        return Scope(self, lambda: self._enter_causal(bookmark))

    def _enter_causal(self, bookmark: str | None) -> Frame:
        return self._causal_frame([] if bookmark is None else [self._position_of(bookmark)])

    def _causal_frame(self, positions: list[Any], *, apart: bool = False) -> Frame:
        """A ``causal_session()`` that begins with `positions`.

        Parameters:
            apart: what this thread did outside of such sessions is none of its business, nor the other way.
        """
        core = self._replication
        outer = None if apart and causal(core) is None else core.consistency.session()
        session = Session(outer=outer)
        if outer is not None:
            session.take_over(outer)
        for position in positions:
            session.saw(position)
            session.bookmarked = True
        return Frame(core, "causal", session=session)

    def _position_of(self, bookmark: str, max_age: float = BOOKMARK_SECONDS) -> Any:
        core = self._replication
        mark = bookmarks.decode(bookmark, Clock.wall(), max_age)
        if mark.history != self.database:
            raise BookmarkError(f"the bookmark is of {mark.history!r}, not of {self.database!r}")
        kind = "mysql" if isinstance(mark.position, MySQLPosition) else "mariadb"
        if core.dialect not in (None, kind):
            raise BookmarkError(f"the bookmark is of a {kind} server, and this is {core.dialect}")
        return mark.position

    def bookmark(self) -> str | None:
        """What this context has written, as a string for `causal_session`; None where that is nothing.

        Where a statement on the primary reported no position of its own, the primary is asked for it.
        """
        core = self._replication
        return self._bookmark_of(core.consistency.session())

    def _bookmark_of(self, session: Session) -> str | None:
        position = self._replication.consistency.settled(session)
        return None if position is None else bookmarks.encode(position, self.database, Clock.wall())

    def _enter_readonly(
        self, consistency: str | None = None, snapshot: bool = False, max_lag: float | None = None
    ) -> Frame:
        core = self._replication
        transaction = core.transaction(self._state)
        if transaction and core.settings.readonly_in_transaction == "error":
            raise ReadOnlyViolation(
                f"readonly() inside a transaction ({transaction}); "
                'readonly_in_transaction="join" lets its reads stay in the transaction'
            )
        if transaction and snapshot:
            raise ReadOnlyViolation(f"a snapshot cannot join a transaction ({transaction})")
        if max_lag is not None:
            self._hold_to(max_lag)
        frame = Frame(core, "readonly", level=consistency)
        frame.max_lag = max_lag
        if snapshot:
            frame.snapshot = Snapshot(self._here)
        return frame

    def _hold_to(self, max_lag: float) -> None:
        """Before a scope with a bound of its own: know how far replicas are behind, and leave one that is."""
        core = self._replication
        if core.prober is not None and core.rehearsal is None:
            core.prober.use(self)
            core.prober.looked.wait(_FIRST_LOOK_SECONDS)
        pin = pinning(core)
        if pin is not None:
            with pin.lock:
                if pin.node is not None and not within((cast(Replica, pin.node),), max_lag):
                    pin.node = None

    @property
    def on_primary(self) -> Self:
        """The same database and the same connections, always at its primary. A place, never a permission."""
        twin: Any = vars(self).get("_on_primary")
        if twin is None:
            twin = object.__new__(_at_primary_class(type(self)))
            twin.__dict__ = self.__dict__
            self._on_primary = twin
        return twin  # type: ignore[no-any-return]  # an instance of a subclass made at run time

    @property
    def Model(self) -> Any:  # peewee's name
        """As peewee's: a base class for models bound to this database."""
        if not self._at_primary:
            return super().Model
        if "_primary_model" not in vars(self):
            meta = type("Meta", (), {"database": self})
            self._primary_model = type("BaseModel", (self._model_class,), {"Meta": meta})
        return self._primary_model

    def explain_route(self, sql_or_query: Any) -> Route:
        """The `Route` that a statement would take now; does not send it and advances nothing.

        After a statement that failed on the primary, its connection is asked what that has left there, which
        the next statement would do otherwise.

        Parameters:
            sql_or_query: a text, or a peewee query.

        Raises:
            ReadOnlyViolation: as executing it would.
        """
        core = self._replication
        at_primary = self._at_primary
        if isinstance(sql_or_query, str):
            sql = sql_or_query
        else:
            sql = self.get_sql_context().sql(sql_or_query).query()[0]
            bound = getattr(sql_or_query, "_database", None)
            bound = getattr(bound, "obj", bound)  # what a proxy stands for
            if isinstance(bound, Replicated) and bound._replication is core:
                at_primary = at_primary or bound._at_primary
        statement = core.classifier.classify(sql)
        frame = innermost(core)
        conn = self._state.conn
        if conn is not None and conn.report_incomplete and not conn.busy:
            # What a lost connection has left is nothing; the statement itself will say that it is lost.
            with contextlib.suppress(PeeweeException):
                core.make_sure(conn)
        decision = core.decide(statement, self._state, frame, at_primary)
        if decision.refusal:
            raise ReadOnlyViolation(f"{decision.refusal} ({sql[:200]})")
        return core.route(decision, statement, frame)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The nodes that serve reads, in the order they were given."""
        return self._replication.replicas.all

    @property
    def route_hooks(self) -> list[RouteHook]:
        """Callables that are given one `RouteEvent` per execution."""
        return self._replication.route_hooks

    @property
    def node_hooks(self) -> list[NodeHook]:
        """Callables that are given one `NodeEvent` each time a node's state changes.

        They are called by whichever thread has found it out, the prober's too, and should return soon. What
        one raises is logged.
        """
        return self._replication.news.hooks

    def stats(self) -> dict[str, Any]:
        """Counters since the database was made, by name, and of each node its state, role and lag."""
        return self._replication.stats()


def _at_primary_class(cls: type[Replicated]) -> type[Replicated]:
    made: type[Replicated] | None = vars(cls).get("_at_primary_class")
    if made is None:
        if cls._at_primary:
            return cls
        made = type(cls.__name__, (cls,), {"_at_primary": True, "__module__": cls.__module__})
        cls._at_primary_class = made
    return made
