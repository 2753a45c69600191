"""The router of one database: applies the routing rules in a context, and adds what a read must see."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..concurrency import Here
from ..consistency.catch_up import CatchUp, Late
from ..consistency.levels import ASK, Consistency
from ..events import Role, Route
from ..nodes.cluster import PRIMARY, Cluster
from ..nodes.node import Node
from ..nodes.selector import accepts, in_words
from ..scopes.frames import Frame, selecting, tightest_lag
from ..servers.protocols import DialectName
from ..statements.classifier import Classifier, Statement
from .choice import Choice
from .fallback_budget import FallbackBudget
from .plan import READER, REPLICA, Plan, make_plan, plan_without_writes
from .settings import Reads, Settings, Writes

_ALL_LATE = "no replica is expected to show the last write soon"


class Router:
    """Decides where the statements of one database run.

    Parameters:
        settings: the checked arguments.
        cluster: the nodes.
        consistency: decides what reads must see.
        here: identifies the current thread or task.

    Attributes:
        classifier: finds a statement's kind.
        dialect: the servers' dialect, once known.
        choice: chooses among the usable replicas.
        consistency: decides what reads must see.
        reads: where plain reads go; may change while the program runs.
        budget: limits the share of reads that fall back to the primary.
    """

    def __init__(self, settings: Settings, cluster: Cluster, consistency: Consistency, here: Here) -> None:
        self.settings = settings
        self.reads: Reads = settings.reads
        self._rules: Callable[..., Plan] = make_plan
        self._falls_back = settings.fallback == "primary"
        self.classifier = Classifier(None, settings.pure_functions)
        self.dialect: DialectName | None = None
        self.choice = Choice(cluster, settings.policy, here)
        self.budget = FallbackBudget(settings.max_fallback_share)
        self._cluster = cluster
        self.consistency = consistency

    def learn_server(self, dialect: DialectName, version: str) -> None:
        """Record the dialect and version of a server that was just connected to."""
        self.dialect = dialect
        self.classifier.learn_server(dialect, version)

    @property
    def writes(self) -> Writes:
        """Whether writes are sent now: ``"allow"`` or ``"refuse"``."""
        return "refuse" if self._rules is plan_without_writes else "allow"

    @writes.setter
    def writes(self, value: Writes) -> None:
        # Other rules instead of one more question in each of them: nobody pays for writes that are allowed.
        self._rules = plan_without_writes if value == "refuse" else make_plan

    def plan(
        self,
        statement: Statement,
        frame: Frame | None,
        transaction: str,
        session_state: str,
        at_primary: bool,
    ) -> Plan:
        """Return where a statement may run, by the rules alone; ask no server, take no turn of the policy.

        Parameters:
            statement: the classified statement.
            frame: the innermost ``readonly()`` or ``primary()`` in force.
            transaction: why a transaction counts as open in this context, or ``""``.
            session_state: the state that the primary's connection carries and a replica lacks, or ``""``.
            at_primary: whether it came through ``on_primary``.
        """
        scope = frame.place if frame is not None else ""
        return self._rules(
            statement.kind,
            statement.reason,
            scope == "readonly",
            transaction,
            session_state,
            "on_primary" if at_primary else "primary" if scope == "primary" else "",
            self.reads,
            self._falls_back or not self._cluster.replicas.all,
        )

    def plan_read(self, plan: Plan, frame: Frame | None, *, scoped: bool) -> Plan:
        """Add to a plan for replicas what the read must see there; ask the primary if a debt is open.

        Parameters:
            plan: the plan made by the rules.
            frame: the innermost ``readonly()`` or ``primary()`` in force.
            scoped: whether this context may be inside a scope.

        Raises:
            OperationalError: the primary must be asked, and cannot be reached.
        """
        if scoped:
            plan = self._for_nodes(plan)
        position = ASK if scoped else self.consistency.need_outside_scopes()
        if position is ASK:
            needs = self.consistency.needs(frame)
            if needs.primary:
                return plan.on_primary(needs.primary, needs.cause, excused=needs.excused)
            return plan if needs.position is None else plan.seeing(needs.position)
        return plan if position is None else plan.seeing(position)

    def foresee(self, plan: Plan, frame: Frame | None) -> Plan:
        """Return where the plan will lead as far as is known now, without asking a server.

        If chance decides between the replicas and the primary, that is where most of such reads go.
        """
        plan = plan.likely()
        if plan.refusal or plan.place != REPLICA:
            return plan
        plan = self._for_nodes(plan)
        if not self.choice.within_scope(self._cluster.replicas.usable):
            reason = f"no replica can serve it: {self.reasons(set())}"
            alone = not self._cluster.replicas.all
            return plan.without_replicas(reason).because("no_replicas" if alone else "fallback")
        stays = self.consistency.stays(frame)
        if stays:
            return plan.on_primary(stays, "sticky")
        return plan.on_primary(_ALL_LATE, "behind") if self._are_late(plan, frame) else plan

    def _are_late(self, plan: Plan, frame: Frame | None) -> bool:
        """Return whether a read would leave the replicas alone, because waiting there is not worth it."""
        readonly = frame is not None and frame.place == "readonly"
        position = self.consistency.known_need(frame)
        if position is None or readonly or plan.places == (REPLICA,):
            return False
        catch_up = CatchUp(position, self.settings.catch_up_timeout, self.consistency, frame)
        foreseen = self.choice.foreseen()
        usable = self._cluster.replicas.usable
        return not any(
            catch_up.known(replica, replica.progress.server)
            or catch_up.judge(replica, foresee=True) is not Late.LEAVE
            for replica in (self.choice.within_scope(usable) if foreseen is None else (foreseen,))
        )

    def _for_nodes(self, plan: Plan) -> Plan:
        selector = selecting(self._cluster)
        return plan.on(in_words(selector)) if selector else plan

    def route(self, plan: Plan, kind: str) -> Route:
        """Return the plan as users see it. Its node is None if the policy would have to be asked."""
        if plan.place == READER:
            return Route("primary", self._cluster.reader.name, kind, plan.reason, plan.cause)
        if plan.place != REPLICA:
            return Route("primary", PRIMARY, kind, plan.reason, plan.cause)
        replica = self.choice.foreseen()
        if replica is None:
            return Route("replica", None, kind, plan.reason)
        role: Role = "primary" if replica.is_primary else "replica"
        return Route(role, replica.name, kind, plan.reason)

    def reasons(self, tried: set[Node]) -> str:
        """Return in words why each replica except those tried cannot serve a read here."""
        replicas, selector = self._cluster.replicas, selecting(self._cluster)
        if not selector or not replicas.all:
            return replicas.reasons(tried, tightest_lag(self._cluster))
        wanted = f"wanted: {in_words(selector)}"
        if not any(accepts(selector, replica) for replica in replicas.all):
            return f"{wanted}; no replica matches"
        why = replicas.reasons(tried, tightest_lag(self._cluster), partial(accepts, selector))
        return f"{wanted}; {why}" if why else wanted
