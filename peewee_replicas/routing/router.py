"""What a database and its `on_primary` share: settings, nodes, classifier, counters. No I/O of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from peewee import __exception_wrapper__

from ..concurrency import THREADS, Here, new_lock
from ..consistency.catch_up import CatchUp
from ..consistency.levels import Consistency
from ..errors import ConfigurationError, ReadOnlyViolation
from ..events import Counters, NodeNews, Role, Route, RouteHook
from ..nodes.replica import Replica
from ..nodes.replica_set import ReplicaSet, within
from ..nodes.setting_differences import Comparison
from ..scopes.frames import Frame, pinning, tightest_lag
from ..scopes.transaction_escapes import Escapes
from ..statements.classifier import Classifier, Statement
from ..statements.tokens import first_word
from .decision import READER, REPLICA, Decision, decide
from .fallback_budget import FallbackBudget
from .policies import POLICIES
from .settings import Settings

logger = logging.getLogger("peewee.replicas")

PRIMARY = "primary"

# Kinds whose text says all about what they leave behind in a session. A write is none: a procedure, a
# trigger or a function in it may do anything, and servers report a change only where there was one.
TELLING = frozenset({"read", "transaction", "session"})


class Rehearsal(NamedTuple):
    """A test during which the primary plays all roles, while routes and refusals stay as in production.

    Attributes:
        conn: the connection on which the test has opened a transaction around itself; or None.
    """

    conn: Any


class Replication:
    """The routing state of one database.

    Attributes:
        settings: the checked arguments.
        replicas: the nodes that serve reads.
        reader: the primary, as a node for reading under the guard.
        classifier: what tells a statement's kind; replaced once the server is known.
        escapes: tells of statements that escape their transaction; None where they are ignored.
        route_hooks: callables that are given one `RouteEvent` per execution.
        news: tells the callables of ``node_hooks``.
        prober: what looks how the nodes are; None: their health is learned from traffic alone.
        carried: what every connection of the primary carries that a replica does not have, or ``""``.
        generation: how often the primary was found to be none any more; connections to it from before that
            are not used again.
        demoted: the primary was found to be none, and no write has worked since.
        lost_commits: by thread or task, the error with which COMMIT met a lost connection, as ``error``: to
            send it again is not to seem a success.
        rehearsal: set by the testing mode, in which the primary plays all roles; else None.
    """

    def __init__(
        self, settings: Settings, replicas: ReplicaSet, reader: Replica, here: Here = THREADS
    ) -> None:
        self.settings = settings
        self.replicas = replicas
        self.reader = reader
        self.classifier = Classifier(None, settings.pure_functions)
        self.dialect: str | None = None
        self.counters = Counters(
            "primary",
            "fallbacks",
            "fallbacks_refused",
            "retries",
            "reruns",
            "refused",
            "observed",
            "asked",
            "unasked",
            "waits",
            "behind",
            "snapshots_lost",
            "hung_up",
        )
        self.carried = ""
        self.generation = 0
        self.demoted = False
        self.lost_commits = here.local()
        self.rehearsal: Rehearsal | None = None
        self.consistency = Consistency(
            self,
            settings.consistency,
            settings.catch_up_timeout,
            settings.sticky_seconds,
            self.counters,
            here,
        )
        action = settings.on_transaction_escape
        self.escapes = None if action == "ignore" else Escapes(self, action)
        self.route_hooks: list[RouteHook] = []
        self.news = NodeNews()
        self.prober: Any = None
        self.peek = getattr(settings.policy, "peek", None)
        self._trusted = type(settings.policy) in POLICIES.values()
        self._reserved = here.local()
        self.comparison = Comparison()
        self._lock = new_lock()
        self.membership_lock = new_lock()
        self.budget = FallbackBudget(settings.max_fallback_share)
        self._time(replicas.all)

    def _time(self, replicas: Iterable[Replica]) -> None:
        # A policy of the user's own may look at latencies; the built-in ones tell.
        timed = getattr(self.settings.policy, "uses_latency", True)
        for replica in replicas:
            replica.timed = timed
            replica.on_event = self.news.tell

    def nodes(self) -> list[Replica]:
        """Every node that a thread may have a connection to for reading."""
        return list(dict.fromkeys((*self.replicas.all, *self.replicas.leaving, self.reader)))

    def change_replicas(self, nodes: Sequence[tuple[Replica, int]], reader: Replica) -> None:
        """Put these nodes, with these weights, in the place of the present ones."""
        before, self.reader = self.reader, reader
        self._time(replica for replica, _ in nodes)
        self.replicas.replace(nodes, besides=() if before is reader else (before,))
        if self.prober is not None:
            self.replicas.watch(True)
        self.comparison.keep({PRIMARY, *(replica.name for replica in (*self.replicas.all, reader))})

    def know_dialect(self, dialect: Any) -> None:
        """Take the server's own rules into use, once it is known which server it is."""
        self.dialect = dialect
        self.classifier = Classifier(dialect, self.settings.pure_functions)

    # Deciding

    def transaction(self, state: Any) -> str:
        """Why a transaction counts as open in this context, or ``""``."""
        if state.transactions:
            return "a transaction is open"
        conn = state.conn
        if conn is None or (self.rehearsal is not None and conn is self.rehearsal.conn):
            # What a test opened around itself does not exist in production.
            return ""
        transaction: str = conn.transaction
        return transaction

    def decide(self, statement: Statement, state: Any, frame: Frame | None, at_primary: bool) -> Decision:
        """Decide one execution in this context."""
        conn = state.conn
        session_state = self.carried
        if conn is not None:
            session_state = conn.session_state or session_state
            if conn.changes:
                session_state = self.explain_changes(conn) or session_state
        place = frame.place if frame is not None else ""
        scoped = "primary" if place == "primary" else ""
        return decide(
            statement.kind,
            statement.reason,
            readonly=place == "readonly",
            transaction=self.transaction(state),
            session_state=session_state,
            place="on_primary" if at_primary else scoped,
            reads=self.settings.reads,
        )

    def screen(self, conn: Any, sql: str | bytes) -> None:
        """Refuse what a raw cursor may not send to a reading node, where it could lift the server's guard."""
        text = _text(sql)
        if self.unheard(conn):
            conn.drain()
        if conn.changes:
            self.counters.add("refused")
            raise ReadOnlyViolation(
                f"the server's guard may be off after {conn.changes[0][:200]!r}; "
                f"take a new cursor for {text[:200]!r}"
            )
        statement = self.classifier.classify_sent(text)
        conn.suspect_statement = "" if statement.kind == "read" else text
        if statement.kind not in ("read", "query"):
            self.counters.add("refused")
            raise ReadOnlyViolation(
                f"a {statement.kind} statement is not allowed inside readonly(): {statement.reason} "
                f"({text[:200]})"
            )

    def explain_changes(self, conn: Any) -> str:
        """Turn what the server reported as changed into what the session carries."""
        changes, conn.changes = conn.changes, []
        for text in changes:
            statement = self.classifier.classify_sent(text)
            if statement.effect:
                self.mark(conn, statement.effect)
            elif statement.kind not in TELLING:
                self.mark(conn, f"what {' '.join(text.split())[:40]!r} changed in it")
        state: str = conn.session_state
        return state

    def mark(self, conn: Any, effect: str) -> None:
        """Remember that a connection of the primary carries something a replica does not have."""
        if conn.initialized and not conn.session_state:
            conn.session_state = effect
            logger.warning(
                "the primary's connection now carries %s: reads stay on the primary until it is closed",
                effect,
            )

    def unheard(self, conn: Any) -> Any:
        """Whether the last statement's results are still to be read, and may tell of writes and changes."""
        if not (conn.report_incomplete and conn.busy):
            return False
        return (
            conn.has_more_results or self.classifier.classify_sent(_text(conn.last_statement)).kind != "read"
        )

    def make_sure(self, conn: Any) -> None:
        """Hear what the server has not told yet of the primary's session: later results, what an error hid.

        Raises:
            PeeweeException: as the next statement on this connection would, for a later result that failed.
        """
        with __exception_wrapper__:
            if self.unheard(conn):
                conn.drain()
            doubtful, conn.suspect_statement = _text(conn.suspect_statement), ""
            if not doubtful or conn.busy:
                return
            changes, conn.changes = conn.changes, []
            conn.ask("DO 0")
            if conn.changes or (self._runs_code(doubtful) and not conn.dialect.REPORTS_AFTER_ERRORS):
                changes.append(doubtful)
            conn.changes = changes

    def _runs_code(self, text: str) -> bool:
        return first_word(text) == "CALL" or self.classifier.classify_sent(text).kind == "unknown"

    def _doubt(self, conn: Any, succeeded: bool) -> None:
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

    def heard(self, conn: Any, succeeded: bool, was_open: bool) -> None:
        """Take in that a statement on the primary has ended; connections to it call this."""
        if conn.suspect_statement or not succeeded:
            self._doubt(conn, succeeded)
        self.consistency.statement_ended(conn, succeeded, was_open)

    # Choosing

    def choose(self, catch_up: CatchUp | None = None, *, scoped: bool = True) -> Replica | None:
        """The replica for a read, or None when none is usable; takes one turn of the policy.

        Parameters:
            catch_up: what the read must see; a replica that is known to show it is preferred.
            scoped: whether this context may be inside a scope.
        """
        usable = self.replicas.usable
        pin = pinning(self) if scoped else None
        if pin is not None:
            return self._pinned(pin, usable, catch_up)
        chosen = self._next(usable)
        if catch_up is not None and chosen is not None:
            chosen = catch_up.prefer(chosen, usable)
        return chosen

    def _next(self, usable: tuple[Replica, ...]) -> Replica | None:
        if self.peek is None:
            reserved = getattr(self._reserved, "replica", None)
            if reserved is not None:
                self._reserved.replica = None
                if reserved in usable:
                    return reserved  # type: ignore[no-any-return]  # a thread-local has no types
        return self.pick(usable)

    def pick(self, usable: tuple[Replica, ...]) -> Replica | None:
        """Ask the policy."""
        if not usable:
            return None
        chosen = self.settings.policy(usable)
        if not self._trusted and chosen not in usable:
            raise ConfigurationError(
                f"the policy returned {chosen!r}, which is none of the replicas it was given: "
                + ", ".join(replica.name for replica in usable)
            )
        return chosen  # type: ignore[no-any-return]  # the user's own callable

    def _pinned(
        self, pin: Frame, usable: tuple[Replica, ...], catch_up: CatchUp | None = None
    ) -> Replica | None:
        with pin.lock:
            node = pin.node
            if node is None or (node not in usable and node is not self.reader):
                if pin.served:
                    return None  # leaving a node that has served needs the primary's position first
                usable = self._within_scope(usable)
                node = self.pick(usable)
                if catch_up is not None and node is not None:
                    node = catch_up.prefer(node, usable)
                pin.node = node
            return node

    def next_for_connect(self) -> Replica | None:
        """Which replica the next plain read would use, without taking its turn."""
        usable = self.replicas.usable
        if not usable:
            return None
        pin = pinning(self)
        if pin is not None:
            return self._pinned(pin, usable)
        if self.peek is not None:
            peeked: Replica = self.peek(usable)
            return peeked
        self._reserved.replica = chosen = self.pick(usable)
        return chosen

    def another(self, tried: set[Replica]) -> Replica | None:
        """A usable replica that was not tried yet, for a read that failed on the others."""
        for replica in self._within_scope(self.replicas.usable):
            if replica not in tried:
                pin = pinning(self)
                if pin is not None:
                    with pin.lock:
                        pin.node = replica
                return replica
        return None

    def _within_scope(self, usable: tuple[Replica, ...]) -> tuple[Replica, ...]:
        return usable if self.rehearsal is not None else within(usable, tightest_lag(self))

    def reasons(self, tried: set[Replica]) -> str:
        """Why each replica besides those tried cannot serve a read here, in words."""
        return self.replicas.reasons(tried, tightest_lag(self))

    def known_positions(self) -> list[Any]:
        """What replicas are known to have executed, as far as they were asked."""
        return [replica.progress.reached for replica in self.replicas.all]

    # Telling

    def route(self, decision: Decision, statement: Statement, frame: Frame | None) -> Route:
        """The route of a decision, as far as it is known without asking the policy."""
        role: Role = "primary"
        node: str | None = PRIMARY
        reason = decision.reason
        if decision.target == READER:
            node = self.reader.name
        elif decision.target == REPLICA:
            replica = self._foreseen()
            usable = self._within_scope(self.replicas.usable)
            stays = self.consistency.stays(frame) if usable else ""
            if stays:
                node, reason = (self.reader.name if frame is not None else PRIMARY), stays
            elif replica is not None:
                role, node = ("primary" if replica.is_primary else "replica"), replica.name
            elif usable:
                role, node = "replica", None
            elif self.replicas.all and self.settings.fallback == "error":
                role, node = "replica", None
                reason = f"no replica can serve it: {self.reasons(set())}"
            else:
                node = self.reader.name if frame is not None else PRIMARY
                reason = f"no replica can serve it: {self.reasons(set())}"
        return Route(role, node, statement.kind, reason)

    def _foreseen(self) -> Replica | None:
        usable = self._within_scope(self.replicas.usable)
        pin = pinning(self)
        if pin is not None and (pin.node in usable or pin.node is self.reader):
            return pin.node
        return usable[0] if len(usable) == 1 else None

    def stats(self) -> dict[str, Any]:
        """The counters of ``db.stats()``."""
        numbers: dict[str, Any] = self.counters.snapshot()
        nodes = {replica.name: replica for replica in (*self.replicas.all, self.reader)}
        numbers["replicas"] = self.replicas.reads()
        for replica in nodes.values():
            numbers.update(replica.counters())
        return numbers


def _text(sql: str | bytes) -> str:
    return sql if isinstance(sql, str) else bytes(sql).decode("latin1")
