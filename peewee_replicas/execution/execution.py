"""One execution of a statement: its plan, its progress, and the event that is sent when it ends."""

from __future__ import annotations

from typing import Literal

from ..connections.diagnosis import named, number_of
from ..connections.parts import Parts
from ..connections.peewee_types import Parameters, ThreadState
from ..connections.plain_database import PlainDatabase
from ..consistency.catch_up import CatchUp
from ..events import Cause, Role, RouteEvent
from ..nodes.cluster import PRIMARY
from ..nodes.node import Node
from ..nodes.spec import host_and_port
from ..routing.plan import REPLICA, Plan
from ..scopes.frames import Frame
from ..statements.classifier import Statement


class Execution:
    """The state of one execution of one statement, which the modules of this room share.

    Attributes:
        parts: the database's collaborators.
        statement: the classified statement.
        plan: where it may run, in which order, and why.
        frame: the innermost ``readonly()`` or ``primary()`` in force.
        sql, params: the text and its parameters.
        state: peewee's state of this thread or task.
        comment: a comment to add to the text when it is sent, or ``""``.
        role, reason: where it last ran, and why; as in `RouteEvent`.
        served_by: the node that it last ran on; None: the primary's own connection.
        attempts: how often a node was tried for it.
        observed: with ``reads="observe"``, the node where it would have run.
        scoped: whether this context may be inside a scope.
        catch_up: lets nodes catch up to the position it must see, if any.
        waited: seconds spent waiting for replicas, without those in `catch_up`.
        tried: the replicas that could not serve it, with their errors.
        unsent: the replicas where sending failed once and was tried again.
        lost: the error of the attempt that lost its connection after sending.
        lost_at: the node of that attempt, if it still answers.
        unreadable: the error of the first node that could not read its own data.
        returned: whether the read went back to `lost_at`, because no other node could serve it.
        restarted: whether it started over, because the position it waited for was lost.
        discarded: how many of the attempts had their result thrown away, because the node was behind.
        may_fall_back: whether `max_fallback_share` has already allowed that the primary serves it.
        waits_in_full: whether it waits for late replicas whatever that takes, because the primary is down.
        resent: how often sending to the primary failed and was tried again.
        sends: False if a raw cursor only needs the node.
        found: the database of the last node that was tried.
    """

    role: Role = PRIMARY
    served_by: Node | None = None
    attempts = 0
    comment = ""
    observed: str | None = None
    scoped = True
    catch_up: CatchUp | None = None
    waited = 0.0
    lost: Exception | None = None
    lost_at: Node | None = None
    unreadable: Exception | None = None
    returned = False
    discarded = 0
    may_fall_back = False
    waits_in_full = False
    resent = 0
    restarted = False
    sends = True
    found: PlainDatabase | None = None
    unsent: frozenset[Node] = frozenset()

    def __init__(
        self,
        parts: Parts,
        statement: Statement,
        plan: Plan,
        frame: Frame | None,
        sql: str,
        params: Parameters,
        state: ThreadState,
    ) -> None:
        self.parts = parts
        self.statement = statement
        self.plan = plan
        self.frame = frame
        self.sql = sql
        self.params = params
        self.state = state
        self.reason = plan.reason
        self.tried: dict[Node, BaseException] = {}

    @property
    def node(self) -> str:
        """The name of the node that it last ran on."""
        return PRIMARY if self.served_by is None else self.served_by.name

    @property
    def in_readonly(self) -> bool:
        """Whether the innermost scope is ``readonly()``."""
        return self.frame is not None and self.frame.place == "readonly"

    def sending(self) -> None:
        """Count one attempt; called just before it."""
        self.attempts += 1

    def why_no_replica(self) -> str:
        """Return why no replica can serve it: the errors of those tried, and why the others are out."""
        return self.parts.diagnosis.reasons(self.tried, self.parts.router.reasons(set(self.tried)))

    def event(self, database: str, duration: float, error: BaseException | None) -> RouteEvent:
        """Return the event for the user's hooks.

        Parameters:
            database: the database's name.
            duration: seconds since the execution began.
            error: the error it raised, or None.
        """
        parts = self.parts
        where = parts.cluster.reader if self.served_by is None else self.served_by
        flavour = parts.router.dialect or ""
        address, port = (where.address, None) if flavour == "sqlite" else host_and_port(where.address)
        return RouteEvent(
            database=database,
            sql=self.sql,
            role=self.role,
            node=self.node,
            kind=self.statement.kind,
            reason=self.reason,
            attempts=self.attempts,
            observed=self.observed,
            duration=duration,
            error=None if error is None else named(error),
            cause=self._cause(),
            flavour=flavour,
            address=address,
            port=port,
            error_type=None if error is None else type(error).__name__,
            error_number=None if error is None else number_of(error),
            waited=self.waited + (0.0 if self.catch_up is None else self.catch_up.waited),
        )

    def _cause(self) -> Cause | Literal[""]:
        # The primary may be listed as a replica; only then does it have another name.
        chosen = self.plan.place == REPLICA and self.node != PRIMARY
        return "" if self.role == "replica" or chosen else self.plan.cause
