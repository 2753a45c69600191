"""Replace idle connections that are older than ``max_connection_age``."""

from __future__ import annotations

from ..concurrency import Clock
from ..scopes.frames import pinning
from ..servers.protocols import Connection
from .parts import Parts
from .peewee_types import ThreadState


def close_old(parts: Parts, state: ThreadState, kind: str, *, on_primary: bool = True) -> None:
    """Close this thread's old connections if they are idle; whoever needs one opens another.

    Parameters:
        state: peewee's state of this thread or task for the primary.
        kind: the kind of the statement that is about to run.
    """
    now = Clock.monotonic()
    conn = state.conn
    if conn is not None and conn.insert_id():
        conn.generated_key = True  # LAST_INSERT_ID() in any later statement may ask for it
    # A statement that belongs to the session, such as SELECT LAST_INSERT_ID(), needs the session that it has.
    idle = on_primary and kind != "session" and not parts.primary.transaction(state)
    spare = conn is not None and conn.renewable and not (conn.busy or conn.generated_key)
    if conn is not None and idle and spare and is_old(conn, now):
        parts.primary.make_way(conn)
    pin = pinning(parts.cluster)
    kept = None if pin is None else pin.node  # the scope has read there, and another server may be behind
    for database in parts.replicas.opened():
        conn = database.open_conn
        changed = conn.busy or conn.transaction or conn.changes
        if is_old(conn, now) and not changed and not database.is_lent and database.node is not kept:
            database.discard()


def is_old(conn: Connection, now: float) -> bool:
    """Return whether a connection is older than it should get.

    Parameters:
        now: a monotonic clock's reading, in seconds.
    """
    return conn.expires is not None and now >= conn.expires
