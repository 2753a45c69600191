"""Interpret an error by its class and number, never by its message. No I/O, no clock."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from .error_table import NAME_ONLY_OBJECTS, NOT_LET_IN, TABLE, Meaning, Row, Server

__all__ = [
    "NOT_LET_IN",
    "NOT_OPENED",
    "NO_CONNECTION",
    "TABLE",
    "Meaning",
    "explained",
    "in_words",
    "is_servers",
    "lacking",
    "meaning",
    "remedy",
]

# System errors that are not the node's fault: this process, or its machine, has run out of a resource.
_SHORTAGES = {
    errno.EMFILE: "this process has as many files and sockets open as it may: raise its limit (ulimit -n), "
    "or keep fewer connections open",
    errno.ENFILE: "this machine has as many files and sockets open as it may",
    errno.EADDRNOTAVAIL: "this machine has no free port left to connect from, or lacks bind_address",
    errno.EADDRINUSE: "this machine has no free port left to connect from",
    errno.EAGAIN: "this machine has no free port or no room for another connection",
    errno.ENOMEM: "this machine is out of memory",
    errno.ENOBUFS: "this machine is out of memory for sockets",
}
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM})


class SystemFailure(NamedTuple):
    """The operating system's error when a connection could not be opened.

    Attributes:
        about: what failed: TLS, the look-up of the host's name, or anything else.
        errno: the error's number, if `about` is "other".
    """

    about: Literal["tls", "name", "other"]
    errno: int | None


def _by_number(rows: Iterable[tuple[Meaning, Row]], server: Server | None) -> dict[int, Meaning]:
    found: dict[int, Meaning] = {}
    for means, row in rows:
        if row.server is None or row.server == server:
            found[row.number] = means
    return found


_ROWS = [(means, row) for means, rows in TABLE.items() for row in rows]
# Used if the server is not known yet. A number that only one of them has gets that server's meaning.
_ANY_SERVER: dict[int, Meaning] = {row.number: means for means, row in _ROWS}
_MEANINGS: dict[str | None, dict[int, Meaning]] = {
    server: _by_number(_ROWS, server) for server in get_args(Server)
}
_NOT_LET_IN = frozenset(row.number for row in NOT_LET_IN)
_DRIVERS_CLASSES = frozenset({"OperationalError", "InternalError"})

NO_CONNECTION: frozenset[Meaning] = frozenset(
    {
        "unreachable", "exhausted", "not sent", "lost", "killed", "busy", "leaving", "not ready",
        "misconfigured",
    }
)  # fmt: skip
"""Meanings of a failure to *connect* after which the node counts as unavailable for now."""
NOT_OPENED: frozenset[Meaning] = NO_CONNECTION | {"missing"}
"""Meanings of a failure to connect after which a read goes elsewhere. "missing" is one of them, because the
schema may not have been replicated yet."""

_CHECK_TLS = "check the ssl_* arguments and the node's certificate"
_REMEDIES = {
    1040: "raise max_connections there, or keep fewer connections open here",
    1042: "turn off its look-up of host names with skip_name_resolve, or repair it",
    1047: "it serves again when it has joined its cluster; check wsrep_ready there",
    1129: "the node blocks this host after failed connects: stop them, then TRUNCATE TABLE "
    "performance_schema.host_cache there (MariaDB: FLUSH HOSTS), or raise max_connect_errors",
    1130: "check the host part of the user's account there",
    1135: "raise the server's limits of threads and memory, or keep fewer connections open here",
    1203: "raise max_user_connections there, or keep fewer connections open here",
    1226: "raise the user's limit there, or keep fewer connections open here",
    1820: "the password has expired: set a new one there",
    1862: "the password has expired: set a new one there",
    2002: "check that it is running, and that unix_socket is its socket",
    2003: "check that it is running, and that host and port are right",
    2005: "check the host's name",
    2012: _CHECK_TLS,
    2026: _CHECK_TLS,
    2059: "check the user's authentication plugin there",
    2061: "check the user's authentication plugin there",
    3032: "turn off offline_mode there",
    3118: "unlock the account there",
    3159: "the node requires TLS: check the ssl_* arguments",
    4151: "unlock the account there",
    6400: "turn off offline_mode there",
}


def meaning(
    class_name: str,
    arguments: tuple[object, ...],
    *,
    connecting: bool = False,
    cause: SystemFailure | None = None,
    server: str | None = None,
) -> Meaning:
    """Return what an exception of a statement, or of connecting, means.

    Parameters:
        class_name: the DB-API class, such as ``"OperationalError"``.
        arguments: the exception's arguments; the first is the error's number.
        connecting: whether it was raised while connecting; a refused user is then a matter of configuration.
        cause: the system's error that caused a failure to connect, if any.
        server: ``"mariadb"`` or ``"mysql"``, if it is known which one has answered.
    """
    number = arguments[0] if arguments else None
    if class_name == "InterfaceError" and number == 0:
        return "not sent"  # the driver found its own socket closed
    if not isinstance(number, int):
        # An InternalError without a number is the driver's own: the packets are out of sequence.
        return "lost" if class_name == "InternalError" else "statement"
    if connecting:
        if number in _NOT_LET_IN:
            return "misconfigured"
        if cause is not None and cause.errno in _SHORTAGES:
            return "exhausted"
        if cause is not None and number == 2003:
            return _failed_to_reach(cause)
    if number < 1000 and class_name not in _DRIVERS_CLASSES:
        return "statement"  # an OSError or a KeyError, whose first argument is not the server's number
    return _MEANINGS.get(server, _ANY_SERVER).get(number, "statement")


def _failed_to_reach(cause: SystemFailure) -> Meaning:
    if cause.about != "other" or cause.errno in _NOT_ALLOWED:
        return "misconfigured"
    return "unreachable"


def remedy(number: object, found: Meaning, cause: SystemFailure | None = None) -> str:
    """Return advice after a failure to connect; ``""`` if the error's own text is enough.

    Parameters:
        number: the error's number.
        found: the meaning of the error.
        cause: the system's error that caused it, if any.
    """
    said = cause.errno if cause is not None else None
    if found == "exhausted":
        return f"no fault of the node: {_SHORTAGES.get(said or 0, 'this machine has run out of something')}"
    words = _REMEDIES.get(number, "") if isinstance(number, int) else ""
    if found != "misconfigured":
        return words
    if number == 2003:
        words = _CHECK_TLS
        if said in _NOT_ALLOWED:
            words = "this process is not allowed to connect: check the firewall, or the socket's permissions"
        elif cause is not None and cause.about == "name":
            words = _REMEDIES[2005]
    return f"configuration: {words or 'check user, password and grants on it'}"


def lacking(arguments: tuple[object, ...]) -> str:
    """Return what a replica lacks, in words and without any value from a statement.

    Parameters:
        arguments: the arguments of an error that means "missing".
    """
    number, text = arguments[0], str(arguments[-1])
    if not isinstance(number, int):
        return text  # SQLite's errors have no number
    says = next((row.says for row in TABLE["missing"] if row.number == number), "something")
    return f"{says} ({number}: {text})" if number in NAME_ONLY_OBJECTS else f"{says} ({number})"


# The server's messages for these name at most an account, a host, a schema, a table or a setting.
_VALUE_FREE = frozenset(
    {row.number for means, row in _ROWS if means not in ("missing", "statement")}
    | NAME_ONLY_OBJECTS
    | _NOT_LET_IN
    | {1142, 1193, 1227, 1766, 1820, 1969, 3024}
)
# The same for SQLite's errors, which have no numbers: how messages begin that only name a file or an object.
_SQLITE_VALUE_FREE = (
    "attempt to write", "bad parameter", "cannot ", "database ", "disk I/O", "file is", "interrupted",
    "locking protocol", "no such collation", "no such function", "no such module", "no such table",
    "not authorized", "out of memory", "unable to open", "FOREIGN KEY constraint", "NOT NULL constraint",
    "UNIQUE constraint",
)  # fmt: skip


def in_words(exc: BaseException) -> str:
    """Return an error's class and message, for logs, events and lists of reasons.

    A server's message about a statement may quote its values: "Duplicate entry 'ada@example.org' for key".
    For such an error, return the number instead of the message.
    """
    name = type(exc).__name__
    if is_servers(exc) and exc.args[0] not in _VALUE_FREE:
        return f"{name}: {exc.args[0]}"
    try:
        return f"{name}: {exc}" if _is_value_free(exc) else name
    except Exception:  # a class of the program's own, whose __str__ is at fault
        return name


def is_servers(exc: BaseException) -> bool:
    """Return whether the server sent an error's number and message, not the driver or this library."""
    number = exc.args[0] if exc.args else None
    if not isinstance(number, int) or isinstance(exc, OSError):
        return False
    servers = 1000 <= number < 2000 or number >= 3000
    return servers and not type(exc).__module__.startswith("peewee_replicas.")


def _is_value_free(exc: BaseException) -> bool:
    cause = getattr(exc, "orig", exc)  # peewee keeps the driver's own error there
    if type(cause).__module__.endswith("sqlite3"):
        return str(exc).startswith(_SQLITE_VALUE_FREE)
    return True


def explained(arguments: tuple[object, ...], node: str, *words: str) -> tuple[object, ...]:
    """Return an exception's arguments with the node's name before the text and `words` after it.

    Parameters:
        arguments: the exception's own arguments; the number stays in its place.
        node: the node's name.
        words: what the error means and what to do; empty strings are left out.
    """
    *first, text = arguments or ("",)
    parts = (text or "its connection is lost", *words)  # the driver gives no text for a lost connection
    return (*first, f"{node}: " + "; ".join(str(part) for part in parts if part))
