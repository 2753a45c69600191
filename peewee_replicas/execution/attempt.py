"""One attempt at one statement on one node: let the node catch up if needed, then send."""

from __future__ import annotations

from typing import Any

from peewee import PeeweeException
from pymysql.cursors import SSCursor

from ..concurrency import Clock
from ..connections.peewee_types import Cursor
from ..connections.plain_database import PlainDatabase
from ..consistency.catch_up import CatchUp, Late
from ..consistency.progress import Progress
from ..errors import ReadOnlyViolation
from ..nodes.cluster import PRIMARY
from ..nodes.node import Node
from ..routing.plan import REPLICA
from ..scopes.frames import pinning
from ..servers.protocols import ServerConnection
from .execution import Execution

_TAKES_TOO_LONG = "does not show the last write yet, and waiting for that would take too long"
# Returned instead of a cursor if the caller needs only a node.
_NOTHING: Any = None


class Behind(Exception):
    """A replica does not yet show what a read must see."""


class StillBehind(Behind):
    """A replica was expected not to show yet what a read must see, and waiting there is not worth it."""


class Refuses(Behind):
    """A replica refuses to tell whether it shows what a read must see, so it counts as if it did not."""


def attempt(
    execution: Execution,
    node: Node,
    database: PlainDatabase,
    conn: ServerConnection | None = None,
    *,
    final: bool = True,
) -> Cursor:
    """Send the statement to one node; returns the driver's cursor.

    Parameters:
        database: the node's database, with an open connection of this thread.
        conn: that connection, if the caller has looked it up already.
        final: whether a result means that the node served the read; if not, the caller decides.
    """
    execution.role = PRIMARY if node.is_primary else "replica"
    execution.served_by = node
    execution.attempts += 1
    execution.found = database
    if execution.sends:
        cursor = _send(execution, node, database, database.open_conn if conn is None else conn, final)
    else:
        cursor = _NOTHING
    if execution.scoped and final:
        _note_served(execution)
    return cursor


def _note_served(execution: Execution) -> None:
    cluster = execution.parts.cluster
    pin = pinning(cluster)
    if pin is not None:
        pin.served = True
    if cluster.units is not None:
        cluster.units.frame().served = True  # what a scope sees, its unit of work sees too


def _send(
    execution: Execution, node: Node, database: PlainDatabase, conn: ServerConnection, counted: bool
) -> Cursor:
    # An error does not report what the statement had changed by then. A proven read changes nothing.
    if conn.guarded:
        conn.suspect_statement = "" if execution.statement.kind == "read" else execution.sql
    started, failed = 0.0, True
    try:
        # Counted before sending, so that the policy in other threads sees the node as busy.
        started = node.start(execution, counted)
        conn.executing = execution.statement.kind
        cursor = database.send(conn, execution.sql, execution.params, execution.comment)
        failed = False
        return cursor
    finally:
        conn.executing = ""
        node.finish(execution, started, failed=failed)


def attempt_caught_up(execution: Execution, node: Node, database: PlainDatabase, catch_up: CatchUp) -> Cursor:
    """Send the read to a replica that may have to catch up first.

    Raises:
        Behind: the replica did not catch up in time.
    """
    conn = database.open_conn
    if catch_up.shown_by(node, conn):
        return attempt(execution, node, database, conn)
    progress: Progress = node.progress
    if _leaves(execution, node, catch_up):
        raise StillBehind(_TAKES_TOO_LONG)
    query = catch_up.query(node, conn)
    if not query:
        raise _refused(progress) or Behind("has applied nothing since the last wait for it")
    execution.parts.counters.add("waits")
    try:
        progress.waiters.add(execution)
        # A read that is expected to be thrown away is not sent.
        if not catch_up.briefly and _may_go_together(execution, database, conn, progress):
            return _send_together(execution, node, database, conn, catch_up, query)
        with catch_up.waiting():
            answer = execution.parts.replicas.ask_wait(conn, query, catch_up.answer_seconds(conn))
        if not catch_up.learn(node, conn, answer):
            raise _missed(execution, progress, catch_up)
        if execution.may_fall_back:
            execution.may_fall_back = False
            execution.parts.router.budget.give_back()
        return attempt(execution, node, database, conn)
    finally:
        progress.waiters.discard(execution)


def _may_go_together(
    execution: Execution, database: PlainDatabase, conn: ServerConnection, progress: Progress
) -> bool:
    # A result read before the replica caught up is thrown away, so it must be buffered.
    return bool(
        execution.sends
        and not database.own_cursor
        and not conn.busy
        and not issubclass(conn.cursorclass, SSCursor)
        and progress.stalled is None
    )


def _send_together(
    execution: Execution,
    node: Node,
    database: PlainDatabase,
    conn: ServerConnection,
    catch_up: CatchUp,
    query: str,
) -> Cursor:
    """Send the wait and the read together, in one round trip."""
    there = False
    cursor: Cursor = _NOTHING
    failure: Exception | None = None
    conn.send_ahead(query, catch_up.answer_seconds(conn))
    started = Clock.monotonic()
    try:
        cursor = attempt(execution, node, database, conn, final=False)
    except PeeweeException as exc:
        # A lost connection also loses the answer to the wait.
        if execution.parts.diagnosis.meaning(exc) != "statement":
            node.count_read()
            raise
        failure = exc
    finally:
        conn.recall_ahead()
        # The wait's answer comes before the read's own time begins.
        catch_up.waited += (conn.ahead_answered_at or Clock.monotonic()) - started
        if conn.answer_ahead is not None:
            there = catch_up.learn(node, conn, conn.answer_ahead, conn.ahead_answered_at)
    if not there:  # a result or error from old data means nothing
        if cursor is not None:
            cursor.close()
        execution.discarded += 1
        execution.parts.counters.add("discarded")
        raise behind(execution, node.progress)
    node.count_read()
    if failure is not None:
        raise failure
    if execution.scoped:
        _note_served(execution)
    return cursor


def _leaves(execution: Execution, node: Node, catch_up: CatchUp) -> bool:
    """Return whether to leave a replica without asking it, because the primary can serve the read sooner."""
    if catch_up.begin_check(node):
        return False  # if that is in vain, another replica serves the read
    # A readonly() scope waits once, and then spares the primary all its reads.
    if execution.plan.places == (REPLICA,) or execution.in_readonly or execution.waits_in_full:
        catch_up.wait_in_full()
        return False
    found = catch_up.judge(node)
    if found is Late.WAIT:
        return False
    if execution.parts.cluster.primary_is_away() or not _may_leave(execution):
        catch_up.wait_in_full()
        return False
    return found is Late.LEAVE


def _may_leave(execution: Execution) -> bool:
    """Return whether `max_fallback_share` lets the primary serve the read; if not, it has to wait."""
    router = execution.parts.router
    if router.settings.max_fallback_share is not None and not execution.may_fall_back:
        reads = execution.parts.cluster.replicas.reads()
        execution.may_fall_back = router.budget.may_skip_wait(Clock.monotonic(), reads)
        return execution.may_fall_back
    return True


def _missed(execution: Execution, progress: Progress, catch_up: CatchUp) -> Behind:
    if catch_up.briefly and not progress.refusal:
        return StillBehind(_TAKES_TOO_LONG)
    return behind(execution, progress)


def behind(execution: Execution, progress: Progress) -> Behind:
    """Return the error for a replica that did not catch up in time, or does not tell whether it has."""
    seconds = execution.parts.router.settings.catch_up_timeout
    return _refused(progress) or Behind(f"has not caught up within {seconds} s")


def _refused(progress: Progress) -> Refuses | None:
    words = progress.refusal
    return Refuses(f"refuses to be asked what it has reached: {words}") if words else None


def violation(exc: Exception, execution: Execution) -> ReadOnlyViolation:
    """Return the error to raise when the server refused a statement under its guard."""
    where = "inside readonly()" if execution.in_readonly else 'while writes="refuse"'
    return ReadOnlyViolation(
        f"the server refused a statement {where} as a write; nothing was executed: {exc}"
    )
