"""Decides what the library does about a failure whose meaning is known. No I/O, no clock."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..servers.error_meanings import Meaning
from ..servers.protocols import ServerConnection
from ..statements.tokens import first_word


class Treatment(NamedTuple):
    """What the library does after a failure.

    Attributes:
        read: what happens to a read in autocommit: it goes to the next node, is sent again on a new
            connection, is sent once more at most, runs on the primary or elsewhere, or raises the error.
        node: what happens to the node: it is ejected, loses this connection, gets no new connections for a
            moment, is suspected of being unable to read its data, or stays as it is.
        write: whether a failed write may have been executed; writes are never sent again.
    """

    read: Literal["next", "again", "once more", "primary", "elsewhere", "raise"]
    node: Literal["eject", "eject if idle", "drop", "back off", "suspect", "keep"]
    write: Literal["not executed", "unknown"]


TREATMENTS: dict[Meaning, Treatment] = {
    # The node could not be reached.
    "unreachable": Treatment("next", "eject", "not executed"),
    # This process or its machine has run out of a resource, so it cannot open a connection.
    "exhausted": Treatment("next", "back off", "not executed"),
    # The connection is no longer usable, and the statement was not sent completely.
    "not sent": Treatment("again", "drop", "not executed"),
    # The connection was lost after the statement was sent: by a crash, a kill or a timeout of the client.
    "lost": Treatment("once more", "drop", "unknown"),
    # The server reports that somebody killed this connection; the node is healthy.
    "killed": Treatment("once more", "drop", "unknown"),
    # The node accepts no more connections or statements now; open connections keep working.
    "busy": Treatment("next", "back off", "not executed"),
    # The node is shutting down or closed to users; a running statement was aborted.
    "leaving": Treatment("next", "eject", "unknown"),
    # The node does not serve yet.
    "not ready": Treatment("next", "eject", "not executed"),
    # The node rejects new connections until somebody changes a setting; open ones keep working.
    "misconfigured": Treatment("next", "eject if idle", "not executed"),
    # The node took the statement for a write and did not execute it.
    "refused": Treatment("primary", "keep", "not executed"),
    # The table, schema, column or function may not have reached the replica yet.
    "missing": Treatment("primary", "keep", "not executed"),
    # The node cannot read its own disk, or lacks memory.
    "unreadable": Treatment("elsewhere", "suspect", "not executed"),
    # Anything else is an error of the statement itself.
    "statement": Treatment("raise", "keep", "not executed"),
}


def ejects(found: Meaning, *, in_use: bool) -> bool:
    """Return whether a failure to connect ejects the node.

    Parameters:
        found: what the failure means.
        in_use: whether this process has working connections to the node.
    """
    node = TREATMENTS[found].node
    # Losing a connection while opening it says as much about the node as failing to reach it.
    return node in ("eject", "drop") or (node == "eject if idle" and not in_use)


# Inside a transaction, losing the connection rolls back everything that these statements did.
_ROLLED_BACK = frozenset(
    {
        "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "TABLE", "SAVEPOINT", "RELEASE",
        "ROLLBACK", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "DO", "SET", "USE",
    }
)  # fmt: skip
# Outside a transaction these change nothing that outlives the connection.
_WITHOUT_EFFECT = frozenset({"SHOW", "EXPLAIN", "DESCRIBE", "DESC", "HELP", "ROLLBACK", "BEGIN", "START"})


def may_have_happened(found: Meaning, kind: str, text: str | bytes, *, transaction: bool) -> bool:
    """Return whether a statement that failed on the primary may have taken effect.

    Parameters:
        found: what its error means.
        kind: the statement's kind.
        text: the statement.
        transaction: whether a transaction was open; its work is lost with the connection.
    """
    if TREATMENTS[found].write != "unknown" or kind in ("read", "locking"):
        return False
    word = first_word(text)
    if transaction:
        return word not in _ROLLED_BACK  # COMMIT, and statements that commit implicitly
    if found != "lost":
        return False  # the server answered that it did not execute the statement
    return kind not in ("session", "transaction") and word not in _WITHOUT_EFFECT


_LOCK_WAIT_TIMEOUT = 1205  # Galera's members raise it too, after waiting for the cluster in vain


def is_behind_cluster(conn: ServerConnection, exc: BaseException) -> bool:
    """Return whether a read failed because its node did not catch up with its cluster in time."""
    return conn.cluster_waits and exc.args[:1] == (_LOCK_WAIT_TIMEOUT,)
