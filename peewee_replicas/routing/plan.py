"""The routing rules: where a statement may run, in which order, and why.

Makes decisions only: no I/O, no clock, no driver, so that every form of the library uses the same rules.
Their result is both executed and shown by `explain_route`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from ..events import Cause
from ..positions import Position, Unmeasured
from .settings import Reads

Place = Literal["writer", "reader", "replica", "either"]

WRITER: Place = "writer"
"""The primary's own connection: transactions, writes, session state."""
READER: Place = "reader"
"""The primary as a node for reading: a separate connection, guarded (the server refuses writes on it)."""
REPLICA: Place = "replica"
"""One of the usable replicas, chosen by the policy."""
EITHER: Place = "either"
"""A replica or the writer: a share of the reads goes to replicas, and chance decides at each execution."""


class Plan(NamedTuple):
    """Where one statement may run, or why it may not.

    Attributes:
        places: where it may run, in order; a later place is used only if the earlier ones cannot serve it.
        reason: the first rule that applied, in words.
        refusal: why ``readonly()`` does not allow the statement, or ``""``.
        guard: whether to make the server refuse writes while it runs on the writer's connection.
        observed: whether it would have gone to a replica without ``reads="observe"``.
        must_see: the position that a replica must have reached to serve it, as in `Needs`; None for any.
        excused: whether it creates no debt for later reads when the primary serves it.
        cause: the reason in one word, if the primary serves it. For a plan that begins with the replicas,
            that they could not.
        share: how many of such reads replicas serve, from 0 to 1, if its place is `EITHER`.
    """

    places: tuple[Place, ...]
    reason: str
    refusal: str = ""
    guard: bool = False
    observed: bool = False
    must_see: Position | Unmeasured | None = None
    excused: bool = False
    cause: Cause = "fallback"
    share: float = 1.0

    @property
    def place(self) -> Place:
        """The place to try first; meaningless for a refused statement."""
        return self.places[0]

    @property
    def primary_place(self) -> Place:
        """The primary's connection that serves it if no replica does."""
        return READER if READER in self.places else WRITER

    def on_primary(self, reason: str, cause: Cause, *, excused: bool = False) -> Plan:
        """Return this plan for the primary only, for another reason."""
        return Plan((self.primary_place,), reason, excused=excused, cause=cause)

    def because(self, cause: Cause) -> Plan:
        """Return this plan with another cause."""
        return self._replace(cause=cause)

    def without_replicas(self, reason: str) -> Plan:
        """Return this plan without replicas, for when none is usable."""
        return Plan(self.places[1:] or self.places, reason)

    def by_share(self, *, to_replicas: bool) -> Plan:
        """Return this plan, whose place is `EITHER`, for the replicas or for the primary."""
        if to_replicas:
            return Plan(self.places[1:], f"a proven read, within the share of {self.reason}")
        return Plan((WRITER,), f"outside the share of {self.reason}", cause="setting")

    def likely(self) -> Plan:
        """Return this plan for the place to which most of such reads go."""
        return self.by_share(to_replicas=self.share >= 0.5) if self.places[0] == EITHER else self

    def under_guard(self) -> Plan:
        """Return this plan for the writer's connection, under the server's guard."""
        return Plan((WRITER,), self.reason, guard=True, cause=self.cause)

    def on(self, nodes: str) -> Plan:
        """Return this plan for some of the replicas only.

        Parameters:
            nodes: which, in words.
        """
        return self._replace(reason=f"{self.reason}, on {nodes}")

    def seeing(self, position: Position | Unmeasured) -> Plan:
        """Return this plan, limited to replicas that have reached `position`."""
        return Plan(self.places, self.reason, must_see=position)


_BOUND = {"on_primary": "bound to on_primary", "primary": "inside primary()"}
_BINDS: dict[str, Cause] = {"on_primary": "on_primary", "primary": "scope"}
_NOT_READS: dict[str, Cause] = {
    "write": "write",
    "locking": "locking",
    "session": "session",
    "transaction": "transaction",
    "query": "unproven",
    "unknown": "unproven",
}
_OBSERVED = 'reads="observe"'
_READS_PRIMARY = 'reads="primary"'


# There are few distinct arguments, and finding the plan of an earlier statement takes no step of Python.
@lru_cache(maxsize=512)
def make_plan(
    kind: str,
    why: str,
    readonly: bool,
    transaction: str,
    session_state: str,
    bound: str,
    reads: Reads,
    falls_back: bool,
) -> Plan:
    """Apply the routing rules to one execution; the first that applies decides.

    Parameters:
        kind: the statement's kind.
        why: why the statement has that kind, in words.
        readonly: whether the innermost scope is ``readonly()``.
        transaction: why a transaction counts as open in this context, or ``""``.
        session_state: the state that the primary's session carries and a replica lacks, or ``""``.
        bound: what binds it to the primary: ``"on_primary"``, ``"primary"`` (the scope) or ``""``.
        reads: the database's setting: ``"replica"``, ``"primary"``, ``"observe"`` or a share.
        falls_back: whether the primary may serve reads that no replica can.
    """
    refusal = _refusal(kind, why, transaction) if readonly else ""
    if refusal:
        return Plan((WRITER,), why, refusal)
    if transaction:
        return Plan((WRITER,), transaction, cause="transaction")
    if session_state:
        reason = f"the primary's connection carries {session_state}"
        return Plan((WRITER,), reason, guard=readonly and kind != "read", cause="session_state")
    primary = READER if readonly else WRITER
    if bound:
        return Plan((WRITER if bound == "primary" else primary,), _BOUND[bound], cause=_BINDS[bound])
    if not (kind == "read" or (readonly and kind == "query")):
        return _not_a_read(why, kind)
    if reads == "observe":
        return Plan((primary,), _OBSERVED, observed=True, cause="setting")
    if reads == "primary" and not readonly:
        return Plan((WRITER,), _READS_PRIMARY, cause="setting")
    places = (REPLICA, primary) if falls_back else (REPLICA,)
    if not readonly:
        if isinstance(reads, str):
            return Plan(places, "a proven read")
        return Plan((EITHER, *places), f"reads={reads}", share=reads)
    if kind == "read":
        return Plan(places, "a read inside readonly()")
    return Plan(places, "inside readonly(), under the server's guard")


def plan_without_writes(
    kind: str,
    why: str,
    readonly: bool,
    transaction: str,
    session_state: str,
    bound: str,
    reads: Reads,
    falls_back: bool,
) -> Plan:
    """Apply the routing rules while ``writes="refuse"``. The parameters are those of `make_plan`.

    What ends a transaction is allowed, because one may have been open when writes began to be refused. So are
    settings of the session, which programs make before they read.
    """
    plan = make_plan(kind, why, readonly, transaction, session_state, bound, reads, falls_back)
    if kind == "read" or plan.refusal or (kind == "transaction" and _ends_transaction(why, transaction)):
        return plan
    refusal = _refusal_of_write(kind, why, transaction)
    if refusal:
        return Plan((WRITER,), why, refusal)
    return plan if readonly else plan.under_guard()


def refuse_raw_write(kind: str, why: str) -> str:
    """Return why a raw cursor's statement on the primary is refused while ``writes="refuse"``, or ``""``."""
    if kind == "read" or (kind == "transaction" and _ends_transaction(why, "")):
        return ""
    if kind in _GUARDED:
        return f"{_NO_WRITES} allows it only in execute_sql(), where the server can guard it: {why}"
    return _refusal_of_write(kind, why, "")


_NO_WRITES = 'writes="refuse"'
# The server finds out whether they write.
_GUARDED = ("query", "session")
_ENDS = ("COMMIT", "ROLLBACK", "RELEASE", "UNLOCK", "END")


def _ends_transaction(why: str, transaction: str) -> bool:
    verb = why.partition(" ")[0]  # see `statements.verbs`
    return verb in _ENDS or (verb == "XA" and bool(transaction))


def _refusal_of_write(kind: str, why: str, transaction: str) -> str:
    if kind not in _GUARDED:
        return f"a {kind} statement is not sent while {_NO_WRITES}: {why}"
    if why.partition(" ")[0] == "EXECUTE":  # see `statements.verbs`
        return f"EXECUTE is not sent while {_NO_WRITES}, because no server guards a FLUSH or SET GLOBAL in it"
    if transaction:
        return (
            f"in a transaction only proven reads are sent while {_NO_WRITES}, "
            f"because the server cannot guard an open transaction: {why}"
        )
    return ""


def cause_of(kind: str) -> Cause:
    """Return why a statement of this kind, which is no read, runs on the primary."""
    return _NOT_READS[kind]


def _refusal(kind: str, why: str, transaction: str) -> str:
    if kind == "read":
        return ""
    if kind != "query":
        return f"a {kind} statement is not allowed inside readonly(): {why}"
    if transaction:
        # The server's guard does not affect a transaction that is already open.
        return (
            "inside readonly() and a transaction only proven reads are allowed, "
            f"because the server cannot guard an open transaction: {why}"
        )
    return ""


def _not_a_read(why: str, kind: str) -> Plan:
    return Plan((WRITER,), f"not a proven read: {why}", cause=_NOT_READS[kind])
