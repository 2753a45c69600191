"""What an error means for reads, nodes and writes, by its class and number, never by its message. Pure.

Each row holds for both servers; where only one of them has the number, the row says so.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..consistency.sessions import first_word

Meaning = Literal[
    "unreachable",
    "not sent",
    "lost",
    "killed",
    "busy",
    "leaving",
    "not ready",
    "misconfigured",
    "refused",
    "missing",
    "statement",
]


class Treatment(NamedTuple):
    """What follows from a failure.

    Attributes:
        read: a read in autocommit: it goes to the next node; is sent again on a new connection; is sent
            once more at most; is run on the primary instead; or the error is raised.
        node: it is ejected; its connection is dropped; no new connections to it are tried for a moment;
            or nothing happens to it.
        write: whether a write that failed so may have been executed; writes are never sent again.
    """

    read: Literal["next", "again", "once more", "primary", "raise"]
    node: Literal["eject", "drop", "back off", "keep"]
    write: Literal["not executed", "unknown"]


TREATMENTS: dict[Meaning, Treatment] = {
    # It could not be had at all.
    "unreachable": Treatment("next", "eject", "not executed"),
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
    # It will not let this client in until somebody changes a setting.
    "misconfigured": Treatment("next", "eject", "not executed"),
    # It took the statement for a write and did not execute it.
    "refused": Treatment("primary", "keep", "not executed"),
    # A table, schema, column or function that may not have arrived on the replica yet.
    "missing": Treatment("primary", "keep", "not executed"),
    # All else is the statement's own.
    "statement": Treatment("raise", "keep", "not executed"),
}

# The rows; 2xxx are the client's own numbers.
TABLE: tuple[tuple[Meaning, tuple[int, ...]], ...] = (
    ("unreachable", (2002, 2003, 2005)),
    ("not sent", (2006, 2014, 2027, 2055)),
    ("lost", (2013,)),
    ("killed", (1927, 3169, 4031)),  # MariaDB; MySQL; MySQL
    ("busy", (1040, 1203, 1226)),
    ("leaving", (1053, 1077, 1079, 3032)),  # 3032: MySQL, offline_mode
    # Galera's. "Unknown command" has the same number and SQLSTATE, but answers no statement.
    ("not ready", (1047,)),
    ("misconfigured", (2012, 2026, 1129, 1130)),
    ("refused", (1290, 1792, 1836, 1874)),
    ("missing", (1146, 1049, 1054, 1305)),
    # Said here because a reader looks for them: no node is at fault, and nothing is sent again.
    ("statement", (1205, 1213, 1020, 1317, 1969, 3024)),  # 1969: MariaDB; 3024: MySQL
)

# What refuses this client as such, where it is met while connecting; later it is a statement's.
_NOT_LET_IN = frozenset({1044, 1045, 1251, 1698, 1862, 2059, 2061, 3159})

_MEANINGS: dict[object, Meaning] = {number: found for found, numbers in TABLE for number in numbers}

NO_CONNECTION: frozenset[Meaning] = frozenset(
    {"unreachable", "not sent", "lost", "killed", "busy", "leaving", "not ready", "misconfigured"}
)
"""What says, of a failure to *connect*, that the node cannot be had now."""
NOT_OPENED: frozenset[Meaning] = NO_CONNECTION | {"missing"}
"""What lets a read go elsewhere when it could not connect: the schema too may not have arrived yet."""

READ_ONLY: frozenset[object] = frozenset({1290, 1792, 1836, 1874})
"""With these a server refuses a write: because it is no primary any more, or for another of its options."""

_REMEDIES = {
    2002: "check that it runs, and that unix_socket leads to it",
    2003: "check that it runs, and that host and port lead to it",
    2005: "check the host's name",
    2012: "check the ssl_* arguments and the node's certificate",
    2026: "check the ssl_* arguments and the node's certificate",
    3159: "the node wants TLS: check the ssl_* arguments",
    2059: "check the user's authentication plugin there",
    2061: "check the user's authentication plugin there",
    1129: "the node blocks this host after failed connects: end them, then TRUNCATE TABLE "
    "performance_schema.host_cache there (MariaDB: FLUSH HOSTS), or raise max_connect_errors",
    1130: "check the host part of the user's account there",
    1040: "raise max_connections there, or hold fewer connections here",
    1203: "raise max_user_connections there, or hold fewer connections here",
    1226: "raise the user's limit there, or hold fewer connections here",
    1047: "it serves again when it has joined its cluster; check wsrep_ready there",
    3032: "end offline_mode there",
}


def meaning(
    class_name: str, arguments: tuple[object, ...], *, connecting: bool = False, tls: bool = False
) -> Meaning:
    """What an exception of a statement, or of connecting, means.

    Parameters:
        class_name: the DB-API class, such as ``"OperationalError"``.
        arguments: the exception's arguments; the first is the error's number.
        connecting: it was met while connecting, so that a refused user is the node's configuration.
        tls: what is behind it is an error of TLS, for which the driver has no number of its own.
    """
    number = arguments[0] if arguments else None
    if class_name == "InterfaceError" and number == 0:
        return "not sent"  # the driver found its own socket closed
    if not isinstance(number, int):
        # An InternalError without a number is the driver's own: its packets are out of step.
        return "lost" if class_name == "InternalError" else "statement"
    if connecting and (number in _NOT_LET_IN or (tls and number == 2003)):
        return "misconfigured"
    return _MEANINGS.get(number, "statement")


def remedy(number: object, found: Meaning) -> str:
    """What to look at after a failure to connect, in words; ``""`` where its own words say it."""
    words = _REMEDIES.get(number, "") if isinstance(number, int) else ""
    if found == "misconfigured":
        words = words if number != 2003 else _REMEDIES[2026]
        return f"configuration: {words or 'check user, password and grants on it'}"
    return words


def explained(arguments: tuple[object, ...], node: str, *words: str) -> tuple[object, ...]:
    """An exception's arguments with the node's name before its text, and more words after it.

    Parameters:
        arguments: the exception's own; the number stays where it is.
        node: the node's name.
        words: what it means and what to do; empty ones are left out.
    """
    *first, text = arguments or ("",)
    parts = (text or "its connection is lost", *words)  # the driver has no words for that
    return (*first, f"{node}: " + "; ".join(str(part) for part in parts if part))


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
