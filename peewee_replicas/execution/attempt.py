"""One attempt of one statement on one node: sending it, and letting the node catch up first."""

from __future__ import annotations

from typing import Any

from peewee import PeeweeException
from pymysql.cursors import SSCursor

from ..connections.peewee_types import Cursor
from ..connections.plain_database import PlainDatabase
from ..consistency.catch_up import CatchUp
from ..consistency.progress import Progress
from ..errors import ReadOnlyViolation
from ..nodes.cluster import PRIMARY
from ..nodes.node import Node
from ..scopes.frames import pinning
from ..servers.protocols import ServerConnection
from .execution import Execution

# In the place of a cursor, where a node was only looked for.
_NOTHING: Any = None


class Behind(Exception):
    """A replica does not show yet what a read must see."""


def attempt(execution: Execution, node: Node, database: PlainDatabase, *, final: bool = True) -> Cursor:
    """Send the statement to one node; returns the driver's cursor.

    Parameters:
        database: the node's, with a connection of this thread.
        final: whether a result means that the node has served the read; otherwise the caller decides.
    """
    execution.role = PRIMARY if node.is_primary else "replica"
    execution.node = node.name
    execution.attempts += 1
    execution.found = database
    cursor = _send(execution, node, database) if execution.sends else _NOTHING
    if execution.scoped and final:
        _note_served(execution)
    return cursor


def _note_served(execution: Execution) -> None:
    cluster = execution.parts.cluster
    pin = pinning(cluster)
    if pin is not None:
        pin.served = True
    if cluster.units is not None:
        cluster.units.frame().served = True  # what a scope sees, the unit of work around it has seen


def _send(execution: Execution, node: Node, database: PlainDatabase) -> Cursor:
    conn = database.open_conn
    # An error does not tell what a statement had changed before it. A proven read changes nothing.
    if conn.guarded:
        conn.suspect_statement = "" if execution.statement.kind == "read" else execution.sql
    # Counted before it is sent: the policy of another thread is to see that this node has work.
    started = node.start()
    conn.executing, failed = execution.statement.kind, True
    try:
        cursor = database.send(execution.sql, execution.params)
        failed = False
        return cursor
    finally:
        conn.executing = ""
        node.finish(started, failed=failed)


def attempt_caught_up(execution: Execution, node: Node, database: PlainDatabase, catch_up: CatchUp) -> Cursor:
    """Send the read to a replica that may have to catch up first; raises `Behind` where it does not."""
    conn = database.open_conn
    if catch_up.known(node, conn.server_identity):
        return attempt(execution, node, database)
    query = catch_up.query(node, conn)
    if not query:
        raise Behind("has not moved since it was last waited for")
    execution.parts.counters.add("waits")
    progress: Progress = node.progress
    with progress.lock:
        progress.waiting += 1
    try:
        if _may_go_together(execution, database, conn, progress):
            return _send_together(execution, node, database, catch_up, query)
        if not catch_up.learn(
            node, conn, execution.parts.replicas.ask_wait(conn, query, catch_up.answer_seconds(conn))
        ):
            raise behind(execution)
        return attempt(execution, node, database)
    finally:
        with progress.lock:
            progress.waiting -= 1


def _may_go_together(
    execution: Execution, database: PlainDatabase, conn: ServerConnection, progress: Progress
) -> bool:
    # What was read before its replica had caught up is thrown away, which needs a buffered result.
    return bool(
        execution.sends
        and database.db.plain_cursor
        and not conn.busy
        and not issubclass(conn.cursorclass, SSCursor)
        and progress.stalled is None
    )


def _send_together(
    execution: Execution, node: Node, database: PlainDatabase, catch_up: CatchUp, query: str
) -> Cursor:
    """Send the wait and the read at once, so that both together cost one round trip."""
    conn = database.open_conn
    there = False
    cursor: Cursor = _NOTHING
    failure: Exception | None = None
    conn.send_ahead(query, catch_up.answer_seconds(conn))
    try:
        cursor = attempt(execution, node, database, final=False)
    except PeeweeException as exc:
        # A lost connection has lost the answer to the wait, too.
        if execution.parts.diagnosis.meaning(exc) != "statement":
            raise
        failure = exc
    finally:
        conn.recall_ahead()
        if conn.answer_ahead is not None:
            there = catch_up.learn(node, conn, conn.answer_ahead)
    if not there:  # what old data made of the read says nothing, not even an error
        if cursor is not None:
            cursor.close()
        raise behind(execution)
    if failure is not None:
        raise failure
    if execution.scoped:
        _note_served(execution)
    return cursor


def behind(execution: Execution) -> Behind:
    """What a replica is tried with that has not caught up in time."""
    seconds = execution.parts.router.settings.catch_up_timeout
    return Behind(f"has not caught up within {seconds} s")


def violation(exc: Exception) -> ReadOnlyViolation:
    """The error to raise where the server has refused a statement inside ``readonly()``."""
    return ReadOnlyViolation(
        f"the server refused a statement inside readonly() as a write; nothing was executed: {exc}"
    )
