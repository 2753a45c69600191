"""What the library does about a failure, once it is known what it means. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..servers.error_meanings import Meaning
from ..statements.tokens import first_word


class Treatment(NamedTuple):
    """What follows from a failure.

    Attributes:
        read: a read in autocommit: it goes to the next node; is sent again on a new connection; is sent
            once more at most; is run on the primary instead; or the error is raised.
        node: it is ejected; its connection is dropped; no new connections to it are tried for a moment;
            or nothing happens to it.
        write: whether a write that failed so may have been executed; writes are never sent again.
    """

    read: Literal["next", "again", "once more", "primary", "elsewhere", "raise"]
    node: Literal["eject", "eject if idle", "drop", "back off", "suspect", "keep"]
    write: Literal["not executed", "unknown"]


TREATMENTS: dict[Meaning, Treatment] = {
    # It could not be had at all.
    "unreachable": Treatment("next", "eject", "not executed"),
    # This process or its machine has run out of something, so no connection can be opened from here.
    "exhausted": Treatment("next", "back off", "not executed"),
    # This connection is of no more use, and the statement did not go out on it whole.
    "not sent": Treatment("again", "drop", "not executed"),
    # The statement went out and the connection went away: by a crash, a kill, a timeout of the client's.
    "lost": Treatment("once more", "drop", "unknown"),
    # The server says that somebody has ended this connection; the node is well.
    "killed": Treatment("once more", "drop", "unknown"),
    # It takes no more connections or statements now; those it has go on.
    "busy": Treatment("next", "back off", "not executed"),
    # It says that it is going away, or is not for users now; a statement that was at work was given up.
    "leaving": Treatment("next", "eject", "unknown"),
    # It does not serve yet.
    "not ready": Treatment("next", "eject", "not executed"),
    # It lets no further connection of this client in until somebody changes a setting; those it has go on.
    "misconfigured": Treatment("next", "eject if idle", "not executed"),
    # It took the statement for a write and did not execute it.
    "refused": Treatment("primary", "keep", "not executed"),
    # A table, schema, column or function that may not have arrived on the replica yet.
    "missing": Treatment("primary", "keep", "not executed"),
    # What the node keeps on its disk, or needs of memory, is not to be had there.
    "unreadable": Treatment("elsewhere", "suspect", "not executed"),
    # All else is the statement's own.
    "statement": Treatment("raise", "keep", "not executed"),
}


def ejects(found: Meaning, *, in_use: bool) -> bool:
    """Whether a node leaves the rotation because connecting to it has failed.

    Parameters:
        found: what the failure means.
        in_use: whether this process has connections to the node that work.
    """
    node = TREATMENTS[found].node
    # A connection that was lost while it was being opened says as much as one that could not be had.
    return node in ("eject", "drop") or (node == "eject if idle" and not in_use)


# After these words a lost connection leaves nothing behind that a transaction's end does not take back.
_TAKEN_BACK = frozenset(
    {
        "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "TABLE", "SAVEPOINT", "RELEASE",
        "ROLLBACK", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "DO", "SET", "USE",
    }
)  # fmt: skip
# Outside a transaction these change nothing, or nothing that outlives the connection.
_WITHOUT_EFFECT = frozenset({"SHOW", "EXPLAIN", "DESCRIBE", "DESC", "HELP", "ROLLBACK", "BEGIN", "START"})


def may_have_happened(found: Meaning, kind: str, text: str | bytes, *, transaction: bool) -> bool:
    """Whether a statement that failed on the primary may have had its effect all the same.

    Parameters:
        found: what its error means.
        kind: the statement's kind.
        text: the statement.
        transaction: whether a transaction was open, whose work ends with its connection.
    """
    if TREATMENTS[found].write != "unknown" or kind in ("read", "locking"):
        return False
    word = first_word(text)
    if transaction:
        return word not in _TAKEN_BACK  # COMMIT, and all that commits without saying so
    if found != "lost":
        return False  # the server has answered: it did not execute the statement
    return kind not in ("session", "transaction") and word not in _WITHOUT_EFFECT
