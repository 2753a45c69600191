"""What a failure means for a read, by the error's class and number, never by its message. Pure."""

from __future__ import annotations

from typing import Literal

Meaning = Literal["unreachable", "not sent", "lost", "refused", "missing", "statement"]

# The node could not be had at all, or said that it is leaving: nothing was executed.
_UNREACHABLE = frozenset({2002, 2003, 2005, 2012, 2026, 1040, 1129, 1130, 1203, 1226, 1053, 1077, 1079, 3032})
# This connection is of no more use and the statement did not go out on it.
_NOT_SENT = frozenset({2006, 2014, 2027, 2055, 1927, 3169, 4031})
# The statement went out and the connection went away.
_LOST = frozenset({2013})
# The server took it for a write and did not execute it.
_REFUSED = frozenset({1290, 1792, 1836, 1874})
# A table, schema, column or function that may not have arrived on the replica yet.
_MISSING = frozenset({1146, 1049, 1054, 1305})


def meaning(class_name: str, arguments: tuple[object, ...]) -> Meaning:
    """What an exception of a statement means.

    Parameters:
        class_name: the DB-API class, such as ``"OperationalError"``.
        arguments: the exception's arguments; the first is the error's number.
    """
    number = arguments[0] if arguments else None
    if class_name == "InterfaceError" and number == 0:
        return "not sent"  # the driver found its own socket closed
    if not isinstance(number, int):
        # An InternalError without a number is the driver's own: its packets are out of step.
        return "lost" if class_name == "InternalError" else "statement"
    for numbers, found in _BY_NUMBER:
        if number in numbers:
            return found
    return "statement"


NO_CONNECTION: frozenset[Meaning] = frozenset({"unreachable", "not sent", "lost"})
"""What says, of a failure to *connect*, that the node cannot be had now."""
NOT_OPENED: frozenset[Meaning] = NO_CONNECTION | {"missing"}
"""What lets a read go elsewhere when it could not connect: the schema too may not have arrived yet."""


_BY_NUMBER: tuple[tuple[frozenset[int], Meaning], ...] = (
    (_UNREACHABLE, "unreachable"),
    (_NOT_SENT, "not sent"),
    (_LOST, "lost"),
    (_REFUSED, "refused"),
    (_MISSING, "missing"),
)
