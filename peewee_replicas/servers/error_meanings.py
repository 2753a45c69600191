"""What an error means, by its class and number, never by its message. Pure.

Each row holds for both servers; where only one of them has the number, the row says so.
"""

from __future__ import annotations

from typing import Literal

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
