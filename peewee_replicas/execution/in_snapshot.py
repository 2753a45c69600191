"""Run a read in ``readonly(snapshot=True)``; the first read begins the snapshot."""

from __future__ import annotations

from peewee import PeeweeException

from ..connections.peewee_types import Cursor
from ..connections.snapshot import Snapshot
from ..consistency.catch_up import CatchUp
from ..servers.error_meanings import NO_CONNECTION
from .attempt import attempt, behind, violation
from .execution import Execution
from .fallback import follow_fallback, refuse_fallback, say_nobody_serves, starts_over
from .moving import next_replica


def in_snapshot(execution: Execution, snapshot: Snapshot) -> Cursor:
    """Run the read in the scope's snapshot; returns the driver's cursor."""
    parts = execution.parts
    # The first read begins the snapshot, so a scope without reads opens no connection.
    if snapshot.claim():
        try:
            _begin(execution, snapshot)
        except BaseException:
            # No snapshot was begun, so the next read of the scope may try again.
            snapshot.let_go()
            raise
        node, database = snapshot.place()
    else:
        node, database = snapshot.place()
        # If the snapshot is on the primary, each of its reads counts as a fallback.
        follow_fallback(execution, node)
    try:
        return attempt(execution, node, database)
    except PeeweeException as exc:
        found = parts.diagnosis.meaning(exc)
        if found == "refused":
            raise violation(exc, execution) from exc
        if found in NO_CONNECTION:
            parts.counters.add("snapshots_lost")
            # Another node would show the data of another moment, so the read is not sent there.
            raise snapshot.lost(exc) from exc
        raise


def _begin(execution: Execution, snapshot: Snapshot) -> None:
    parts = execution.parts
    replica = parts.router.choice.choose(execution.catch_up)
    if replica is None:
        replica = next_replica(execution)  # the scope around it is on a node that cannot serve this
    while replica is not None:
        try:
            if snapshot.begin(parts.replicas, replica, execution.catch_up):
                return
            # An open snapshot sees nothing new, so the replica must catch up before it begins.
            execution.tried[replica] = behind(execution, replica.progress)
        except PeeweeException as exc:
            if not parts.diagnosis.is_not_opened(exc):
                raise
            execution.tried[replica] = exc
        replica = next_replica(execution)
    if starts_over(execution):
        needed = parts.consistency.needs(execution.frame).position
        if needed is not None:
            execution.catch_up = CatchUp(needed, parts.router.settings.catch_up_timeout)
        _begin(execution, snapshot)
        return
    refuse_fallback(execution)
    reader = parts.cluster.reader
    try:
        # The primary shows everything the read must see, so it need not catch up.
        snapshot.begin(parts.replicas, reader, None)
        parts.cluster.reader_causes.add(execution.plan.cause)
    except PeeweeException as exc:
        parts.diagnosis.name_node(exc, reader.label)
        say_nobody_serves(execution, exc)
        raise
