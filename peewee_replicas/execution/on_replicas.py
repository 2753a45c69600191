"""A read's way from replica to replica: catching up, retries, the rerun on the primary, the fallback."""

from __future__ import annotations

import logging
from typing import cast

from peewee import PeeweeException
from playhouse.pool import MaxConnectionsExceeded

from ..connections.failures import TREATMENTS
from ..connections.peewee_types import Cursor
from ..connections.plain_database import PlainDatabase
from ..connections.snapshot import Snapshot
from ..consistency.catch_up import CatchUp
from ..errors import NoReplicaAvailable
from ..nodes.node import Node
from ..positions import Position
from ..routing.plan import REPLICA
from ..scopes.frames import any_here, pinning, snapshotting
from ..servers.error_meanings import Meaning, explained, lacking
from ..statements.redaction import redacted
from .attempt import Behind, attempt, attempt_caught_up, violation
from .execution import Execution
from .fallback import follow_fallback, refuse_fallback, say_nobody_answers, starts_over
from .in_snapshot import in_snapshot
from .on_primary import on_primary

logger = logging.getLogger("peewee.replicas")

_INTERRUPTED = 1317  # ER_QUERY_INTERRUPTED
_LOST_TWICE = (
    "this read was sent twice and lost its connection each time, so it is not sent again; see what it does "
    "to the server, or run it again"
)
_LOST_ON_A_NODE_THAT_IS_WELL = (
    "this read was sent, and its connection was lost though the node is well; see who ends it, a "
    "read_timeout for one, or run it again"
)


def read(execution: Execution) -> Cursor:
    """Run a read that a replica may serve; returns the driver's cursor."""
    parts = execution.parts
    execution.scoped = any_here() or parts.cluster.units is not None
    if not execution.scoped and not parts.cluster.replicas.usable:
        return _fall_back(execution)  # the primary shows whatever it must see
    plan = execution.plan = parts.router.plan_read(execution.plan, execution.frame, scoped=execution.scoped)
    if plan.place != REPLICA:
        execution.reason = plan.reason
        with parts.consistency.excusing(plan.excused):
            return on_primary(execution)
    if plan.must_see is not None:
        execution.catch_up = CatchUp(plan.must_see, parts.router.settings.catch_up_timeout)
    if execution.scoped:
        held = snapshotting(parts.cluster)
        if held is not None:
            return in_snapshot(execution, cast(Snapshot, held.snapshot))
    replica = parts.router.choice.choose(execution.catch_up, scoped=execution.scoped)
    if replica is None:
        replica = _elsewhere(execution)  # a scope's node went out of rotation between two reads
    elif execution.scoped:
        _heed_move(execution)
        follow_fallback(execution, replica)
    return _on_replicas(execution, replica)


def _heed_move(execution: Execution) -> None:
    # Another thread of the scope may have moved it since this read's plan was made.
    pin = pinning(execution.parts.cluster)
    if pin is not None and pin.must_reach is not None:
        _must_see_too(execution, cast(Position, pin.must_reach))


def _must_see_too(execution: Execution, position: Position) -> None:
    if execution.catch_up is None:
        execution.catch_up = CatchUp(position, execution.parts.router.settings.catch_up_timeout)
    else:
        execution.catch_up.add(position)


def _on_replicas(execution: Execution, replica: Node | None) -> Cursor:
    parts = execution.parts
    while replica is not None:
        try:
            database = parts.replicas.reach(replica)
        except MaxConnectionsExceeded as exc:
            # It holds nothing that others wait for, so it has waited for as long as the pool allows.
            if not parts.replicas.holds_above(replica):
                raise
            execution.tried[replica] = exc
            replica = _elsewhere(execution)
            continue
        except PeeweeException as exc:
            if not parts.diagnosis.is_not_opened(exc):
                raise
            execution.tried[replica] = exc
            replica = _elsewhere(execution)
            continue
        if execution.statement.rules is not parts.router.classifier.rules and not _is_still_a_read(execution):
            return on_primary(execution)
        try:
            if execution.catch_up is None:
                return attempt(execution, replica, database)
            return attempt_caught_up(execution, replica, database, execution.catch_up)
        except Behind as exc:
            execution.tried[replica] = exc
            parts.counters.add("behind")
            replica = _elsewhere(execution)
        except PeeweeException as exc:
            found = parts.diagnosis.meaning(exc)
            if exc.args[:1] == (_INTERRUPTED,) and not database.open_conn.is_alive():
                found = "lost"  # no one has killed the query: its server is stopping
            if found == "statement":
                raise
            if found in ("refused", "missing"):
                return _rerun(execution, replica, exc, found)
            if found == "unreadable":
                return _on_another(execution, replica, exc)
            replica = _after_failure(execution, replica, database, exc, found)
            parts.counters.add("retries")
    return _fall_back(execution)


def _is_still_a_read(execution: Execution) -> bool:
    """Whether the text is a read by what was learned since, as from a node that was just connected to."""
    if execution.sends:
        execution.statement = execution.parts.router.classifier.classify(execution.sql)
        if execution.statement.kind != "read" and not execution.in_readonly:  # there the guard is enough
            execution.reason = execution.statement.reason
            return False
    return True


def _elsewhere(execution: Execution) -> Node | None:
    """The next replica for a read that could not be had where it was tried, or None."""
    parts = execution.parts
    tried = set(execution.tried)
    pin = pinning(parts.cluster)
    if pin is not None and pin.served:
        # The scope leaves a node: the next must show at least what the primary has now.
        try:
            now = parts.consistency.primary.current()
        except PeeweeException as exc:
            if not parts.diagnosis.has_no_connection(exc):
                return None  # it does not tell, and shows everything itself
            if parts.consistency.level_of(execution.frame) != "eventual":
                raise
            return parts.router.choice.another(tried)
        # Without positions nobody can say whether another replica shows what the scope has seen.
        if now is None:
            return None
        with pin.lock:
            before: Position | None = pin.must_reach  # type: ignore[assignment]  # set here alone
            pin.must_reach = must_reach = now if before is None else before.merge(now)
        _must_see_too(execution, must_reach)
    return parts.router.choice.another(tried)


def _after_failure(
    execution: Execution, replica: Node, database: PlainDatabase, exc: Exception, found: Meaning
) -> Node | None:
    """Where a read goes whose connection failed it; raises where it may not be sent again."""
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
            # A query that kills its server, or that is killed, must not walk over every node.
            exc.args = explained(exc.args, replica.label, _LOST_TWICE)
            raise exc from execution.lost
        execution.lost, execution.lost_at = exc, replica if alive else None
    elif treatment.read == "again" and replica not in execution.unsent:
        execution.unsent.add(replica)
        return replica
    if alive and pinning(execution.parts.cluster) is not None:
        return replica  # the node is well, so the scope stays with it
    execution.tried[replica] = exc
    return _elsewhere(execution)


def _primary_is_gone_too(execution: Execution) -> bool:
    """Whether all servers go at this moment, so that this read, which two have lost, is no killer of nodes.

    The primary alone tells: this read was never sent there. Another replica may have been killed by the
    same query of another thread.
    """
    return not _answers(execution, execution.parts.cluster.reader)


def _answers(execution: Execution, replica: Node) -> bool:
    if replica.breaker.open:
        return False  # found out already
    try:
        execution.parts.replicas.reach(replica)
    except MaxConnectionsExceeded:
        return True  # others have all the connections that the pool may open there
    except PeeweeException:
        return False
    return True


def _on_another(execution: Execution, replica: Node, exc: Exception) -> Cursor:
    """One more node for a read whose node could not read its own data; raises where that is the second."""
    parts = execution.parts
    if execution.unreadable is not None:
        raise exc from execution.unreadable  # two nodes say so: it is the statement that asks too much
    execution.unreadable = exc
    execution.tried[replica] = exc
    parts.counters.add("retries")
    try:
        cursor = _on_replicas(execution, _elsewhere(execution))
    except PeeweeException as other:
        # Where no other node could be asked, what this one said is the answer.
        if isinstance(other, NoReplicaAvailable) or parts.diagnosis.has_no_connection(other):
            raise exc from other
        raise
    replica.cannot_read(parts.diagnosis.cause(exc))
    return cursor


def _rerun(execution: Execution, replica: Node, exc: Exception, found: Meaning) -> Cursor:
    """A replica executed nothing: it took the read for a write, or lacks what it names."""
    parts = execution.parts
    if found == "refused":
        if execution.in_readonly:
            raise violation(exc) from exc
        parts.router.classifier.demote(execution.sql)
        text = redacted(execution.sql)
        logger.warning("%s refused as a write what was taken for a read: %s", replica.label, text)
    parts.counters.add("reruns")
    execution.reason = f"{replica.name} could not run it ({exc.args[0]}), rerun on the primary"
    try:
        cursor = on_primary(execution)
    except PeeweeException as again:
        # Without a primary, what the replica said is the answer.
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
            # Its node is well, so it is the statement that loses its connection.
            execution.lost.args = explained(execution.lost.args, back.label, _LOST_ON_A_NODE_THAT_IS_WELL)
            raise execution.lost
        execution.returned = True
        parts.router.choice.stay_with(back)
        return _on_replicas(execution, back)
    if starts_over(execution):
        return read(execution)
    refuse_fallback(execution)
    try:
        return on_primary(execution)
    except PeeweeException as exc:
        say_nobody_answers(execution, exc)
        raise
