"""One execution of one statement: its plan, what has become of it so far, and the report at its end."""

from __future__ import annotations

from ..connections.parts import Parts
from ..connections.peewee_types import Parameters
from ..connections.plain_database import PlainDatabase
from ..consistency.catch_up import CatchUp
from ..events import Role, RouteEvent
from ..nodes.cluster import PRIMARY
from ..nodes.node import Node
from ..routing.plan import Plan
from ..scopes.frames import Frame
from ..statements.classifier import Statement


class Execution:
    """One execution of one statement. The modules of this room send it; this keeps what they find.

    Attributes:
        parts: the database's collaborators.
        statement: what the text is.
        plan: where it may run, in which order, and why.
        frame: the innermost ``readonly()`` or ``primary()`` in force.
        sql, params: the text and its parameters.
        role, node, reason: where it went last, and why; as in `RouteEvent`.
        attempts: how often it was handed to a node.
        observed: with ``reads="observe"``, where it would have gone.
        scoped: whether this context may be inside a scope.
        catch_up: the way to a node that shows what it must see, if it must see anything.
        tried: the replicas that could not serve it, and why.
        unsent: the replicas to which it could not be sent once, and which were given a second try.
        lost: the error of the attempt that was sent and lost its connection.
        lost_at: the node of that attempt, if it still answers.
        unreadable: the error of the first node that could not read its own data for it.
        returned: the read went back to that node, as no other could serve it.
        restarted: it has begun anew, because what it waited for on replicas was lost.
        resent: it could not be sent to the primary once, and was tried there again.
        sends: False where only its node is looked for, for a raw cursor.
        found: the database of the node it was handed to last.
    """

    role: Role = PRIMARY
    node: str = PRIMARY
    attempts = 0
    observed: str | None = None
    scoped = True
    catch_up: CatchUp | None = None
    lost: Exception | None = None
    lost_at: Node | None = None
    unreadable: Exception | None = None
    returned = False
    resent = False
    restarted = False
    sends = True
    found: PlainDatabase | None = None

    def __init__(
        self,
        parts: Parts,
        statement: Statement,
        plan: Plan,
        frame: Frame | None,
        sql: str,
        params: Parameters,
    ) -> None:
        self.parts = parts
        self.statement = statement
        self.plan = plan
        self.frame = frame
        self.sql = sql
        self.params = params
        self.reason = plan.reason
        self.tried: dict[Node, BaseException] = {}
        self.unsent: set[Node] = set()

    @property
    def in_readonly(self) -> bool:
        """Whether the innermost scope is ``readonly()``."""
        return self.frame is not None and self.frame.place == "readonly"

    def why_no_replica(self) -> str:
        """Why no replica can serve it: what those tried now have raised, and why the others are out."""
        return self.parts.diagnosis.reasons(self.tried, self.parts.router.reasons(set(self.tried)))

    def event(self, database: str, duration: float, error: BaseException | None) -> RouteEvent:
        """What became of it, for the user's hooks.

        Parameters:
            database: the database's name.
            duration: seconds since it began.
            error: what it raised, or None.
        """
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
            error=None if error is None else f"{type(error).__name__}: {error}",
        )
