"""Start the execution of a statement: the plan's first place decides where it is sent."""

from __future__ import annotations

from ..concurrency import chance
from ..connections.peewee_types import Cursor
from ..connections.plain_database import PlainDatabase
from ..routing.plan import EITHER, READER, REPLICA
from .execution import Execution
from .on_primary import on_reader, on_writer
from .on_replicas import read


def run(execution: Execution) -> Cursor:
    """Send the statement to the place that its plan names; returns the driver's cursor."""
    try:
        plan = execution.plan
        place = plan.places[0]
        if place == REPLICA:
            return read(execution)
        if place == EITHER:
            return _by_share(execution)
        if plan.observed:
            # The policy takes a real turn, so that the observed shares are the same as with real reads.
            replica = execution.parts.router.choice.choose()
            execution.observed = replica.name if replica is not None else None
            execution.parts.counters.add("observed")
        return on_reader(execution) if place == READER else on_writer(execution)
    except BaseException as exc:
        if not isinstance(exc, Exception):
            _broken_off(execution)
        raise


def _by_share(execution: Execution) -> Cursor:
    """Send a read to a replica or to the primary, by chance; all reads of a unit of work to the same."""
    units = execution.parts.cluster.units
    share = execution.plan.share
    to_replicas = chance() < share if units is None else units.frame().is_in_share(share, chance)
    plan = execution.plan = execution.plan.by_share(to_replicas=to_replicas)
    execution.reason = plan.reason
    return read(execution) if to_replicas else on_writer(execution)


def _broken_off(execution: Execution) -> None:
    """Clean up after an interrupt, which may have come between any two steps of the execution."""
    parts = execution.parts
    for node in parts.cluster.nodes():
        node.finish(execution)
        node.progress.waiters.discard(execution)
    parts.broken_off()


def find_node(execution: Execution) -> PlainDatabase:
    """Return the database of the node where a read would run now, connected; the read is not sent."""
    execution.sends = False
    run(execution)
    assert execution.found is not None  # every path sets it or raises
    return execution.found
