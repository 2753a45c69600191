"""If no replica can serve a read: decide whether the primary may, or what error to raise."""

from __future__ import annotations

from peewee import PeeweeException

from ..concurrency import Clock
from ..connections.diagnosis import nobody_serves
from ..errors import NoReplicaAvailable
from ..nodes.node import Node
from ..routing.plan import REPLICA
from .attempt import Behind, Refuses, StillBehind
from .execution import Execution


def starts_over(execution: Execution) -> bool:
    """Return whether to start the read over, because replicas can never reach a position of a lost history.

    If the primary may serve the read, it does so at once instead, and only later reads use replicas.
    """
    parts = execution.parts
    # A replica that takes its usual time has lost nothing.
    behind = any(
        isinstance(exc, Behind) and not isinstance(exc, StillBehind) for exc in execution.tried.values()
    )
    # Only once, so that a read cannot loop while histories keep being lost.
    if not behind or execution.restarted or not parts.consistency.forget_lost_history(execution.frame):
        return False
    # With `max_fallback_share` the fallback may be refused, so the read starts over then too.
    if execution.plan.places != (REPLICA,) and parts.router.settings.max_fallback_share is None:
        return False
    if execution.catch_up is not None:
        execution.waited += execution.catch_up.waited
    execution.restarted, execution.catch_up = True, None
    # The position it had to see is lost; the new plan asks for what the primary has now.
    execution.plan = execution.plan._replace(must_see=None)
    # Replicas that were behind can serve it now. Others will fail again with their own error.
    execution.tried.clear()
    return True


def refuse_fallback(execution: Execution) -> None:
    """Raise if the primary may not serve the read instead of a replica; otherwise count the fallback."""
    parts = execution.parts
    reasons = execution.why_no_replica()
    # The last error is the one after which no replica was left.
    cause = list(execution.tried.values())[-1] if execution.tried else None
    if execution.plan.places == (REPLICA,):
        raise NoReplicaAvailable(
            f"no replica can serve the read ({reasons}); "
            'with fallback="primary" the primary would have served it'
        ) from cause
    # If there are no replicas at all, a read on the primary is not a fallback.
    if parts.cluster.replicas.all:
        if parts.router.settings.max_fallback_share is not None and not execution.may_fall_back:
            _spend_fallback(execution, reasons, cause)
        parts.counters.add("fallbacks")
        if is_late(execution):
            execution.plan = execution.plan.because("behind")
    else:
        execution.plan = execution.plan.because("no_replicas")
    execution.reason = f"no replica can serve it: {reasons}"


def _spend_fallback(execution: Execution, reasons: str, cause: BaseException | None) -> None:
    parts = execution.parts
    reads = parts.cluster.replicas.reads()
    counted = execution.attempts - execution.discarded
    if not parts.router.budget.may_fall_back(Clock.monotonic(), reads, counted):
        parts.counters.add("fallbacks_refused")
        share = parts.router.settings.max_fallback_share
        raise NoReplicaAvailable(
            f"no replica can serve the read ({reasons}), and as many of the recent reads have fallen "
            f"back to the primary as max_fallback_share={share} allows; "
            "bring a replica back, or allow a larger share"
        ) from cause


def is_late(execution: Execution) -> bool:
    """Return whether the replicas that were tried were only behind; they may soon serve reads again."""
    errors = execution.tried.values()
    return bool(errors) and all(
        isinstance(error, Behind) and not isinstance(error, Refuses) for error in errors
    )


def follow_fallback(execution: Execution, replica: Node) -> None:
    """Count a later read of a scope whose first read fell back: it stays on the primary without asking."""
    cluster, router = execution.parts.cluster, execution.parts.router
    # For a primary that is listed as a replica, reads are not fallbacks.
    if replica is cluster.reader and replica not in cluster.replicas.all:
        if not cluster.replicas.all:
            execution.plan = execution.plan.because("no_replicas")
        cluster.reader_causes.add(execution.plan.cause)
        if router.settings.max_fallback_share is not None:
            router.budget.charge(Clock.monotonic(), cluster.replicas.reads())


def say_nobody_serves(execution: Execution, exc: PeeweeException) -> None:
    """Raise an error that names every node and its reason, if the primary is unreachable too."""
    parts = execution.parts
    if parts.cluster.replicas.all and parts.diagnosis.has_no_connection(exc):
        raise nobody_serves(execution.why_no_replica(), exc, NoReplicaAvailable) from exc
