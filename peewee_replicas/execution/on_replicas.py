"""Run a read on replicas: let them catch up, retry, rerun on the primary, or fall back to it."""

from __future__ import annotations

from typing import cast

from peewee import PeeweeException
from playhouse.pool import MaxConnectionsExceeded

from ..connections.failures import TREATMENTS, is_behind_cluster
from ..connections.peewee_types import Cursor
from ..connections.plain_database import PlainDatabase
from ..connections.snapshot import Snapshot
from ..consistency.catch_up import CatchUp
from ..errors import NoReplicaAvailable
from ..log import log_event
from ..nodes.node import Node
from ..nodes.probe_run import timed_out
from ..routing.plan import REPLICA, cause_of
from ..scopes.frames import here, pinning, snapshotting
from ..servers.error_meanings import Meaning, explained, is_servers, lacking
from ..statements.redaction import redacted
from .attempt import Behind, Refuses, StillBehind, attempt, attempt_caught_up, violation
from .execution import Execution
from .fallback import follow_fallback, is_late, refuse_fallback, say_nobody_serves, starts_over
from .in_snapshot import in_snapshot
from .moving import follow_move, next_replica, reconnected
from .on_primary import on_primary

_INTERRUPTED = 1317  # ER_QUERY_INTERRUPTED
_LOST_TWICE = (
    "this read was sent twice and lost its connection each time, so it is not sent again; check what it "
    "does to the server, or run it again"
)
_LOST_ON_A_HEALTHY_NODE = (
    "this read was sent and lost its connection although the node is healthy; check what ends it, such as "
    "a read_timeout, or run it again"
)


def read(execution: Execution) -> Cursor:
    """Run a read that a replica may serve; returns the driver's cursor."""
    parts = execution.parts
    execution.scoped = True if here() else parts.cluster.units is not None
    if not execution.scoped and not parts.cluster.replicas.usable:
        return _fall_back(execution)  # the primary shows everything the read must see
    plan = execution.plan = parts.router.plan_read(execution.plan, execution.frame, scoped=execution.scoped)
    if plan.place != REPLICA:
        execution.reason = plan.reason
        with parts.consistency.excusing(plan.excused):
            return on_primary(execution)
    if plan.must_see is not None:
        seconds = parts.router.settings.catch_up_timeout
        execution.catch_up = CatchUp(plan.must_see, seconds, parts.consistency, execution.frame)
    if execution.scoped:
        execution.reason = plan.reason  # it may name the tags that a scope wants
        held = snapshotting(parts.cluster)
        if held is not None:
            return in_snapshot(execution, cast(Snapshot, held.snapshot))
    replica = parts.router.choice.choose(execution.catch_up, scoped=execution.scoped)
    if replica is None:
        replica = next_replica(execution)  # the scope's node was ejected between two reads
    elif execution.scoped:
        follow_move(execution)
        follow_fallback(execution, replica)
    return _on_replicas(execution, replica)


def _on_replicas(execution: Execution, replica: Node | None) -> Cursor:
    parts = execution.parts
    while replica is not None:
        held = parts.replicas.held(replica) if execution.scoped else None
        try:
            database = parts.replicas.reach(replica, state=execution.state)
        except MaxConnectionsExceeded as exc:
            # This thread holds no connection that others wait for, so it has used up the pool's time limit.
            if not parts.replicas.holds_above(replica):
                raise
            execution.tried[replica] = exc
            replica = next_replica(execution)
            continue
        except PeeweeException as exc:
            if not parts.diagnosis.is_not_opened(exc):
                raise
            execution.tried[replica] = exc
            replica = next_replica(execution)
            continue
        if held is not None and held is not database.conn:
            reconnected(execution, database)
            if not database.is_open:
                continue  # a task gives it back before it asks the primary
        if execution.statement.rules is not parts.router.classifier.rules and not _is_still_a_read(execution):
            return on_primary(execution)
        attempts = execution.attempts
        try:
            if execution.catch_up is None:
                return attempt(execution, replica, database)
            return attempt_caught_up(execution, replica, database, execution.catch_up)
        except Behind as exc:
            execution.tried[replica] = exc
            if isinstance(exc, StillBehind):
                if execution.catch_up is None or not execution.catch_up.has_better:
                    break  # it was the one expected to be there first
            elif not isinstance(exc, Refuses):
                parts.counters.add("behind")
            replica = next_replica(execution)
        except PeeweeException as exc:
            found = _meaning(execution, database, exc, was_sent=execution.attempts > attempts)
            if database.is_open and is_behind_cluster(database.open_conn, exc):
                execution.tried[replica] = exc
                parts.counters.add("behind")
                replica.fell_behind()
                replica = next_replica(execution)
                continue
            if found == "statement":
                raise
            if found in ("refused", "missing"):
                return _rerun(execution, replica, exc, found)
            if found == "unreadable":
                return _retry_on_another(execution, replica, exc)
            replica = _after_failure(execution, replica, database, exc, found)
            parts.counters.add("retries")
    return _fall_back(execution)


def _meaning(execution: Execution, database: PlainDatabase, exc: Exception, *, was_sent: bool) -> Meaning:
    """Return what an attempt's error means; if the wait before the read was lost, the read was not sent."""
    found = execution.parts.diagnosis.meaning(exc)
    if exc.args[:1] == (_INTERRUPTED,) and not database.open_conn.is_alive():
        found = "lost"  # nobody killed the query: the server is shutting down
    if found in ("lost", "killed") and not was_sent:
        found = "not sent"
    return found


def _is_still_a_read(execution: Execution) -> bool:
    """Return whether the text is still a read by rules learned since, such as from a new connection."""
    if execution.sends:
        execution.statement = execution.parts.router.classifier.classify(execution.sql)
        if execution.statement.kind != "read" and not execution.in_readonly:  # there the guard is enough
            execution.reason = execution.statement.reason
            execution.plan = execution.plan.because(cause_of(execution.statement.kind))
            if execution.parts.router.writes == "refuse":
                execution.plan = execution.plan.under_guard()
            return False
    return True


def _after_failure(
    execution: Execution, replica: Node, database: PlainDatabase, exc: Exception, found: Meaning
) -> Node | None:
    """Return the node for a read after its connection failed; raise if the read may not be sent again."""
    treatment = TREATMENTS[found]
    if treatment.node != "back off":
        database.discard()
    if treatment.node == "eject" or (treatment.node == "eject if idle" and not replica.has_connections()):
        replica.unready = found == "not ready"
        replica.failed(execution.parts.diagnosis.cause(exc))
    elif treatment.node in ("back off", "eject if idle"):
        replica.back_off(execution.parts.diagnosis.cause(exc))
    alive = False
    if treatment.read == "once more":
        alive = _answers(execution, replica)
        if execution.lost is not None:
            if not alive and execution.lost_at is None and _primary_is_gone_too(execution):
                execution.tried[replica] = exc
                return None
            # A query that kills its server, or is killed by somebody, must not run on every node in turn.
            exc.args = explained(exc.args, replica.label, _LOST_TWICE)
            raise exc from execution.lost
        execution.lost, execution.lost_at = exc, replica if alive else None
    elif treatment.read == "again" and replica not in execution.unsent and not _is_silent(replica, exc):
        execution.unsent |= {replica}
        reconnected(execution, database)
        return replica
    if alive and pinning(execution.parts.cluster) is not None:
        reconnected(execution, database)
        return replica  # the node is healthy, so the scope stays with it
    execution.tried[replica] = exc
    return next_replica(execution)


def _is_silent(replica: Node, exc: Exception) -> bool:
    """Return whether the node has not answered in time; then a new connection would have to wait, too."""
    return replica.breaker.open or timed_out(exc)


def _primary_is_gone_too(execution: Execution) -> bool:
    """Return whether the primary is down too, so that the read that was lost twice cannot be the cause.

    Only the primary can show this, because the read was never sent there. Another replica may have been
    killed by the same query from another thread.
    """
    return not _answers(execution, execution.parts.cluster.reader)


def _answers(execution: Execution, replica: Node) -> bool:
    if replica.breaker.open:
        return False  # known to be down
    try:
        execution.parts.replicas.reach(replica, state=execution.state)
    except MaxConnectionsExceeded:
        return True  # the pool's connections to the node are all in use
    except PeeweeException:
        return False
    return True


def _retry_on_another(execution: Execution, replica: Node, exc: Exception) -> Cursor:
    """Try one more node after one could not read its own data; raise if it is the second such node."""
    parts = execution.parts
    if execution.unreadable is not None:
        raise exc from execution.unreadable  # two nodes agree: the statement is the cause
    execution.unreadable = exc
    execution.tried[replica] = exc
    parts.counters.add("retries")
    try:
        cursor = _on_replicas(execution, next_replica(execution))
    except PeeweeException as other:
        # If no other node could be reached, raise this node's error.
        if isinstance(other, NoReplicaAvailable) or parts.diagnosis.has_no_connection(other):
            raise exc from other
        raise
    replica.cannot_read(parts.diagnosis.cause(exc))
    return cursor


def _rerun(execution: Execution, replica: Node, exc: Exception, found: Meaning) -> Cursor:
    """Rerun a read on the primary: the replica refused it as a write, or lacks a table or other object."""
    parts = execution.parts
    if found == "refused":
        if execution.in_readonly or parts.router.writes == "refuse":
            raise violation(exc, execution) from exc
        parts.router.classifier.demote(execution.sql)
        text = redacted(execution.sql)
        log_event(
            "read_refused_as_write",
            "%s refused as a write a statement classified as a read: %s",
            replica.label,
            text,
            node=replica.name,
            cause=text,
        )
    parts.counters.add("reruns")
    number = exc.args[0] if is_servers(exc) else type(exc).__name__  # SQLite's errors have no number
    execution.plan = execution.plan.because("rerun")
    execution.reason = f"{replica.name} could not run it ({number}), rerun on the primary"
    try:
        cursor = on_primary(execution)
    except PeeweeException as again:
        # If the primary cannot be reached, raise the replica's error.
        if found == "missing" and parts.diagnosis.has_no_connection(again):
            raise exc from again
        raise
    if found == "missing":
        replica.lacks(lacking(exc.args))
    return cursor


def _fall_back(execution: Execution) -> Cursor:
    parts = execution.parts
    back = execution.lost_at
    if execution.lost is not None and back is not None and not back.breaker.open:
        if execution.returned:
            # The node is healthy, so the statement itself loses its connection.
            execution.lost.args = explained(execution.lost.args, back.label, _LOST_ON_A_HEALTHY_NODE)
            raise execution.lost
        execution.returned = True
        parts.router.choice.stay_with(back)
        return _on_replicas(execution, back)
    if starts_over(execution):
        return read(execution)
    before = execution.plan, execution.reason
    left = [node for node, why in execution.tried.items() if isinstance(why, StillBehind)]
    try:
        refuse_fallback(execution)
    except NoReplicaAvailable:
        if left:
            return _wait_after_all(execution, left)
        raise
    # Outside of scopes, the next read may use a replica again, and need not see what this one saw.
    excused = is_late(execution) and pinning(parts.cluster) is None
    try:
        with parts.consistency.excusing(excused):
            return on_primary(execution)
    except PeeweeException as exc:
        if left and parts.diagnosis.is_not_opened(exc):
            execution.plan, execution.reason = before
            return _wait_after_all(execution, left)  # nothing was sent to the primary
        say_nobody_serves(execution, exc)
        raise


def _wait_after_all(execution: Execution, left: list[Node]) -> Cursor:
    """Wait for replicas that were left because the wait was not worth it: no other node serves the read."""
    execution.waits_in_full = True
    for node in left:
        del execution.tried[node]
    execution.parts.router.choice.stay_with(left[0])
    return _on_replicas(execution, left[0])
