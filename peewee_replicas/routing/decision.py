"""Where a statement goes: pure decisions, in the order the documentation gives them.

Nothing here connects, waits or knows a driver; the same functions serve every form of the library.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

Target = Literal["writer", "reader", "replica"]

WRITER: Target = "writer"
"""The primary's own connection: transactions, writes, session state."""
READER: Target = "reader"
"""The primary as a node for reading: a connection of its own, under the server's guard."""
REPLICA: Target = "replica"
"""One of the usable replicas, by the policy; the fallback is the caller's."""


class Decision(NamedTuple):
    """Where a statement goes, or why it may not run.

    Attributes:
        target: which connection; meaningless where `refusal` is not empty.
        reason: the first rule that held, in words.
        refusal: why ``readonly()`` does not allow the statement, or ``""``.
        guard: the statement needs the server's guard put on the writer's connection around it.
        observed: the statement would have gone to a replica but for ``reads="observe"``.
    """

    target: Target
    reason: str
    refusal: str = ""
    guard: bool = False
    observed: bool = False


_READ_ON_REPLICA = Decision(REPLICA, "a proven read")
_READ_IN_SCOPE = Decision(REPLICA, "a read inside readonly()")
_QUERY_IN_SCOPE = Decision(REPLICA, "inside readonly(), under the server's guard")
_PRIMARY_SCOPE = Decision(WRITER, "inside primary()")
_READS_PRIMARY = Decision(WRITER, 'reads="primary"')

_PLACES = {
    "on_primary": "bound to on_primary",
    "primary": "inside primary()",
    "observe": 'reads="observe"',
}


def decide(
    kind: str,
    why: str,
    *,
    readonly: bool,
    transaction: str,
    session_state: str,
    place: str,
    reads: str,
) -> Decision:
    """Decide one execution.

    Parameters:
        kind: the statement's kind.
        why: why the statement has that kind, in words.
        readonly: whether the innermost scope is ``readonly()``.
        transaction: why a transaction counts as open in this context, or ``""``.
        session_state: what the primary's session carries that a replica does not have, or ``""``.
        place: ``"on_primary"``, ``"primary"`` (the scope) or ``""``.
        reads: the database's setting: ``"replica"``, ``"primary"`` or ``"observe"``.
    """
    if not transaction and not session_state and not place and reads == "replica":
        # The common cases first; the same rules as below.
        if readonly:
            if kind == "read":
                return _READ_IN_SCOPE
            if kind == "query":
                return _QUERY_IN_SCOPE
        elif kind == "read":
            return _READ_ON_REPLICA
    if readonly:
        refusal = _refusal(kind, why, transaction)
        if refusal:
            return Decision(WRITER, why, refusal)
    if transaction:
        return _inside(transaction)
    if session_state:
        return Decision(
            WRITER,
            f"the primary's connection carries {session_state}",
            guard=readonly and kind != "read",
        )
    return _by_place(kind, why, readonly, place, reads)


# There are few such words, and making a decision costs more than finding it.
@lru_cache(maxsize=64)
def _inside(transaction: str) -> Decision:
    return Decision(WRITER, transaction)


@lru_cache(maxsize=256)
def _not_a_read(why: str) -> Decision:
    return Decision(WRITER, f"not a proven read: {why}")


def _refusal(kind: str, why: str, transaction: str) -> str:
    if kind == "read":
        return ""
    if kind != "query":
        return f"a {kind} statement is not allowed inside readonly(): {why}"
    if transaction:
        # The guard cannot be put on a transaction that is already open.
        return (
            "inside readonly() and a transaction only proven reads are allowed, "
            f"because the server cannot guard an open transaction: {why}"
        )
    return ""


def _by_place(kind: str, why: str, readonly: bool, place: str, reads: str) -> Decision:
    serves = kind == "read" or (readonly and kind == "query")
    primary: Target = READER if readonly else WRITER
    if place:
        return _PRIMARY_SCOPE if place == "primary" else Decision(primary, _PLACES[place])
    if not serves:
        return _not_a_read(why)
    if reads == "observe":
        return Decision(primary, _PLACES["observe"], observed=True)
    if reads == "primary" and not readonly:
        return _READS_PRIMARY
    if not readonly:
        return _READ_ON_REPLICA
    return _READ_IN_SCOPE if kind == "read" else _QUERY_IN_SCOPE
