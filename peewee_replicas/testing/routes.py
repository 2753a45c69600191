"""Check in a test where the statements of a block ran."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.events import RouteEvent
from peewee_replicas.testing.proxies import behind_proxy


@contextmanager
def recorded_routes(database: Replicated) -> Iterator[list[RouteEvent]]:
    """Collect the events of the statements that are executed inside the block, in any thread or task.

    Statements that begin or end a transaction or a savepoint are left out.

    Parameters:
        database: the database under test; of the synchronous form or of the asyncio form.
    """
    database = behind_proxy(database)
    events: list[RouteEvent] = []

    def record(event: RouteEvent) -> None:
        if event.kind != "transaction":
            events.append(event)

    database.route_hooks.append(record)
    try:
        yield events
    finally:
        database.route_hooks.remove(record)


@contextmanager
def assert_routes(database: Replicated, *expected: str) -> Iterator[list[RouteEvent]]:
    """Check which nodes run the statements of the block, in their order.

    Statements that begin or end a transaction or a savepoint are left out. The block gets the list of events.

    Parameters:
        database: the database under test; of the synchronous form or of the asyncio form.
        expected: for each statement ``"primary"``, ``"replica"`` for any replica, or a replica's name.

    Raises:
        AssertionError: when the block ends without an error and the statements ran elsewhere.
    """
    __tracebackhide__ = True
    with recorded_routes(database) as events:
        yield events
    fits = len(events) == len(expected) and all(
        want in (event.role, event.node) for want, event in zip(expected, events, strict=True)
    )
    if not fits:
        raise AssertionError(
            f"expected {_counted(len(expected))} on {', '.join(expected) or 'no node'}, and {_told(events)}"
        )


@contextmanager
def assert_no_replica_reads(database: Replicated) -> Iterator[list[RouteEvent]]:
    """Check that no statement of the block runs on a replica.

    Parameters:
        database: the database under test; of the synchronous form or of the asyncio form.

    Raises:
        AssertionError: when the block ends without an error and a replica served a read.
    """
    __tracebackhide__ = True
    with recorded_routes(database) as events:
        yield events
    found = [event for event in events if event.role == "replica"]
    if found:
        raise AssertionError(f"expected no reads on replicas, and {_told(found)}")


def _told(events: list[RouteEvent]) -> str:
    lines = [f"  {event.node}: {event.sql}  [{event.reason}]" for event in events]
    return "\n".join([f"{_counted(len(events))} ran there:" if events else "none ran", *lines])


def _counted(number: int) -> str:
    return f"{number} statement{'' if number == 1 else 's'}"
