"""Run a statement on the primary: as the writer, or as a node for reading under the server's guard."""

from __future__ import annotations

from peewee import PeeweeException, __exception_wrapper__
from playhouse.pool import MaxConnectionsExceeded

from ..connections.failures import TREATMENTS
from ..connections.peewee_types import Cursor
from ..connections.primary_session import SELF_EXPLANATORY
from ..nodes.cluster import PRIMARY, Cluster
from ..nodes.probe_run import timed_out
from ..routing.plan import READER, REPLICA
from ..servers.error_meanings import NO_CONNECTION
from ..servers.protocols import ServerConnection
from ..statements.kinds import NAMED_LOCK, TEMPORARY_TABLE
from ..statements.tokens import first_word
from .attempt import attempt, violation
from .execution import Execution


def on_primary(execution: Execution) -> Cursor:
    """Run the statement on the primary's connection that the plan names; returns the driver's cursor."""
    return on_reader(execution) if execution.plan.primary_place == READER else on_writer(execution)


def on_writer(execution: Execution) -> Cursor:
    """Run the statement on this thread's connection for writing."""
    parts, statement = execution.parts, execution.statement
    primary = parts.primary
    execution.role, execution.served_by = PRIMARY, None
    parts.cluster.writer_causes.add(execution.plan.cause)
    if primary.unknown_outcomes.any:
        primary.unknown_outcomes.check(execution.sql, statement.kind)
    conn = primary.get(state=execution.state)
    execution.attempts += 1
    was_open = conn.transaction
    had_changes = conn.session_changed
    conn.executing = statement.kind
    # If the text shows the statement's effect, the server's report is not needed.
    conn.effect_known = statement.kind in SELF_EXPLANATORY
    try:
        if execution.plan.guard:
            cursor = _under_guard(execution, conn)
        else:
            cursor = primary.plain.send(conn, execution.sql, execution.params, execution.comment)
    except PeeweeException as exc:
        transaction = bool(was_open or primary.plain.state.transactions)
        if conn.renewable and not transaction and _may_resend(execution, exc):
            return on_writer(execution)
        primary.failures.explain(conn, exc, statement.kind, execution.sql, transaction=transaction)
        raise
    except BaseException:
        transaction = bool(was_open or primary.plain.state.transactions)
        primary.failures.remember_interrupted(conn, statement.kind, execution.sql, transaction=transaction)
        raise
    finally:
        conn.executing, conn.effect_known = "", False
    if statement.kind in _MAY_SET and _sets_something(statement.kind, execution.sql):
        conn.session_changed = True
    if statement.effect or conn.session_state:
        locks = conn.named_locks
        if NAMED_LOCK in (statement.effect, conn.session_state) or (locks is not None and locks.any_held):
            parts.session.named_locks_changed(conn, statement.effect == NAMED_LOCK, had_changes)
        if statement.effect and statement.effect != NAMED_LOCK:
            parts.session.mark(conn, statement.effect)
    if parts.cluster.writes != "taken" and statement.kind == "write":
        _note_taken(parts.cluster, conn)
    return cursor


def _note_taken(cluster: Cluster, conn: ServerConnection) -> None:
    """Record that the primary takes writes, unless a read-only server would have taken it too."""
    if conn.session_state != TEMPORARY_TABLE and cluster.write_taken(conn):
        cluster.news.tell_of_primary("up", "")


_MAY_SET = ("session", "transaction")


def _sets_something(kind: str, sql: str) -> bool:
    """Return whether the statement makes its session differ from a new one, even if no read depends on it."""
    word = first_word(sql)
    # SET TRANSACTION applies to the next transaction, no matter who begins it. A SELECT of session values,
    # such as CONNECTION_ID(), sets nothing; if it does, `Statement.effect` says so.
    return word == "SET" if kind == "transaction" else word != "SELECT"


# A pool may hold several connections that a restart of the primary has ended, so one more attempt may not be
# enough. But a primary that ends every connection must not keep the caller for ever.
_MOST_RESENT = 3


def _may_resend(execution: Execution, exc: PeeweeException) -> bool:
    """Return whether to send the statement to the primary again: a read not sent, or lost only once.

    Other statements are sent again only if a question of the library lost the connection before them.
    """
    diagnosis = execution.parts.diagnosis
    treatment = TREATMENTS[diagnosis.meaning(exc)]
    if execution.statement.kind != "read" and not diagnosis.sent_nothing(exc):
        return False
    if treatment.read == "again" and execution.resent < _MOST_RESENT:
        execution.resent += 1
    elif treatment.read == "once more" and execution.lost is None and not timed_out(exc):
        # A read that exceeded its read_timeout would exceed it again, and the primary would run both reads.
        execution.lost = exc
    else:
        return False
    execution.parts.counters.add("retries")
    return True


def _under_guard(execution: Execution, conn: ServerConnection) -> Cursor:
    with __exception_wrapper__:
        conn.run_setting(conn.dialect.GUARD)
    try:
        return execution.parts.primary.plain.send(conn, execution.sql, execution.params, execution.comment)
    except PeeweeException as exc:
        if execution.parts.diagnosis.meaning(exc) == "refused":
            raise violation(exc, execution) from exc
        raise
    finally:
        if not conn.dropped():
            _lift_guard(execution, conn)


def _lift_guard(execution: Execution, conn: ServerConnection) -> None:
    """Allow writes again. If that fails, close the connection; the read's result stays valid."""
    try:
        conn.run_setting_when_idle(conn.dialect.UNGUARD)
    except BaseException as exc:
        execution.parts.primary.abandon(conn)
        if not isinstance(exc, Exception):
            raise


def on_reader(execution: Execution) -> Cursor:
    """Run the statement on a connection to the primary that the server guards against writes."""
    parts = execution.parts
    reader = parts.cluster.reader
    if execution.plan.place == REPLICA:
        parts.router.choice.stay_with(reader)
    try:
        # A raw cursor must wait: it cannot be guarded on the writer's connection.
        database = parts.replicas.reach(reader, patient=not execution.sends, state=execution.state)
    except MaxConnectionsExceeded:
        conn = parts.primary.plain.conn
        if conn is None or conn.transaction or not execution.sends:
            raise
        execution.plan = execution.plan.under_guard()
        return on_writer(execution)
    except PeeweeException as exc:
        parts.diagnosis.name_node(exc, reader.label)
        raise
    if execution.sends:
        parts.cluster.reader_causes.add(execution.plan.cause)
    try:
        return attempt(execution, reader, database)
    except PeeweeException as exc:
        found = parts.diagnosis.meaning(exc)
        if found == "refused":
            raise violation(exc, execution) from exc
        if found in NO_CONNECTION:
            database.discard()
            if _may_resend(execution, exc):
                return on_reader(execution)
            parts.diagnosis.name_node(exc, reader.label)
        raise
