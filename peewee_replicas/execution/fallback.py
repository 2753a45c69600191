"""Where no replica can serve a read: whether the primary may, and what is raised where it may not."""

from __future__ import annotations

from peewee import PeeweeException

from ..concurrency import Clock
from ..connections.diagnosis import nobody_answers
from ..errors import NoReplicaAvailable
from ..nodes.node import Node
from ..routing.plan import REPLICA
from .attempt import Behind
from .execution import Execution


def starts_over(execution: Execution) -> bool:
    """Whether replicas were waited for in vain because of a lost history, and the read is to begin anew.

    Where the primary may serve it, it does so at once instead; only the next reads are on replicas.
    """
    parts = execution.parts
    behind = any(isinstance(exc, Behind) for exc in execution.tried.values())
    # Only once, so that no read goes in circles while histories keep being lost.
    if not behind or execution.restarted or not parts.consistency.forget_lost_history(execution.frame):
        return False
    # With a bound on fallbacks the primary may have to refuse this read, so it begins anew even then.
    if execution.plan.places != (REPLICA,) and parts.router.settings.max_fallback_share is None:
        return False
    execution.restarted, execution.catch_up = True, None
    # What it had to see is what was lost; it is planned again from what the primary has now.
    execution.plan = execution.plan._replace(must_see=None)
    # Those that were late can serve it now. The others show again what is wrong with them.
    execution.tried.clear()
    return True


def refuse_fallback(execution: Execution) -> None:
    """Raise where the primary is not to serve what no replica can; otherwise count the fallback."""
    parts = execution.parts
    reasons = execution.why_no_replica()
    # The last error is the one that left no other place to try.
    cause = list(execution.tried.values())[-1] if execution.tried else None
    if execution.plan.places == (REPLICA,):
        raise NoReplicaAvailable(
            f"no replica can serve the read ({reasons}); "
            'with fallback="primary" the primary would have served it'
        ) from cause
    # Without any replica the primary is simply where reads go, which is no fallback.
    if parts.cluster.replicas.all:
        if parts.router.settings.max_fallback_share is not None:
            _spend_fallback(execution, reasons, cause)
        parts.counters.add("fallbacks")
    execution.reason = f"no replica can serve it: {reasons}"


def _spend_fallback(execution: Execution, reasons: str, cause: BaseException | None) -> None:
    parts = execution.parts
    reads = parts.cluster.replicas.reads()
    if not parts.router.budget.may_fall_back(Clock.monotonic(), reads, execution.attempts):
        parts.counters.add("fallbacks_refused")
        share = parts.router.settings.max_fallback_share
        raise NoReplicaAvailable(
            f"no replica can serve the read ({reasons}), and as many of the recent reads have fallen "
            f"back to the primary as max_fallback_share={share} allows; "
            "bring a replica back, or allow a larger share"
        ) from cause


def follow_fallback(execution: Execution, replica: Node) -> None:
    """Count a read of a scope that has fallen back: its first read was allowed to, so its others are."""
    cluster, router = execution.parts.cluster, execution.parts.router
    shared = router.settings.max_fallback_share is not None
    # A primary that is listed as a replica serves reads in its own right.
    if shared and replica is cluster.reader and replica not in cluster.replicas.all:
        router.budget.charge(Clock.monotonic(), cluster.replicas.reads())


def say_nobody_answers(execution: Execution, exc: PeeweeException) -> None:
    """Raise, where the primary cannot be had either, an error that names every node and its reason."""
    parts = execution.parts
    if parts.cluster.replicas.all and parts.diagnosis.has_no_connection(exc):
        raise nobody_answers(execution.why_no_replica(), exc, NoReplicaAvailable) from exc
