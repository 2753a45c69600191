"""Find the next replica for a read whose first choice cannot serve it; a scope takes its promise along."""

from __future__ import annotations

from typing import cast

from peewee import PeeweeException

from ..connections.plain_database import PlainDatabase
from ..consistency.catch_up import CatchUp
from ..consistency.inquiry import log_unanswered
from ..nodes.node import Node
from ..positions import Position
from ..scopes.frames import keeping, pinning
from .execution import Execution


def next_replica(execution: Execution) -> Node | None:
    """Return the next replica for a read after one that could not serve it, or None."""
    parts = execution.parts
    tried = set(execution.tried)
    served = [frame for frame in keeping(parts.cluster) if frame.served]
    if served:
        # The scope leaves its node: the next one must show at least what the primary has now.
        try:
            now = parts.consistency.primary.current()
        except PeeweeException as exc:
            if not parts.diagnosis.has_no_connection(exc):
                return None  # the primary gives no position, but can serve the read itself
            if parts.consistency.level_of(execution.frame) != "eventual":
                raise
            return parts.router.choice.another(tried, execution.catch_up)
        # Without positions, there is no way to know whether another replica shows what the scope has seen.
        if now is None:
            return None
        _must_reach(execution, now)
    return parts.router.choice.another(tried, execution.catch_up)


def reconnected(execution: Execution, database: PlainDatabase) -> None:
    """Make a read see what the primary has now, if its scope has lost the connection that served it.

    The scope's address may lead to another server now, as behind a balancer. While the primary cannot be
    asked, the scope goes on as it is: mostly it is the same server.

    Parameters:
        database: the node's database, with the new connection if there is one already.
    """
    primary = execution.parts.consistency.primary
    if not any(frame.served for frame in keeping(execution.parts.cluster)):
        return
    if not primary.may_ask():
        return  # it is known to be down, and would hold up each read whose connection was lost
    now = None
    answered = False
    try:
        now = primary.current()
        answered = True
    except Exception as exc:  # also where this program's own pool of connections to it is used up
        log_unanswered("how far it has come", exc)
    except BaseException:
        if database.is_open:
            database.open_conn.hang_up()  # an interrupt: the next read finds it lost, and asks again
        raise
    finally:
        primary.asked(answered)
    if now is not None:
        _must_reach(execution, now)


def _must_reach(execution: Execution, position: Position) -> None:
    """Make the scope in force, and this read in it, see a position from now on."""
    for frame in keeping(execution.parts.cluster):
        with frame.lock:
            before: Position | None = frame.must_reach  # type: ignore[assignment]  # set only here
            frame.must_reach = must_reach = position if before is None else before.merge(position)
        must_see_too(execution, must_reach)


def follow_move(execution: Execution) -> None:
    """Make the read see what the scope's node had to reach when the scope moved there."""
    # Another thread may have moved the scope to another node since this read was planned.
    pin = pinning(execution.parts.cluster)
    if pin is not None and pin.must_reach is not None:
        must_see_too(execution, cast(Position, pin.must_reach))


def must_see_too(execution: Execution, position: Position) -> None:
    """Make the read see a position besides what it has to see already."""
    if execution.catch_up is None:
        execution.catch_up = CatchUp(position, execution.parts.router.settings.catch_up_timeout)
    else:
        execution.catch_up.add(position)
