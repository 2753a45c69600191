"""Which errors mean that a server will never answer a question of the library's own. No I/O, no clock.

Such an error says nothing about how far a replica has come, and asking again would only cost round trips.
"""

from __future__ import annotations

from .error_meanings import is_servers
from .error_table import Row

PAUSE_SECONDS = 60.0
"""Seconds before a server that refused a question for good is asked again: it may have been changed."""

NO_RIGHT = (
    Row(1044, "DBACCESS_DENIED_ERROR", "the user has no right to the schema"),
    Row(1045, "ACCESS_DENIED_ERROR", "the user lacks a right"),
    Row(1142, "TABLEACCESS_DENIED_ERROR", "the user lacks a right on a table"),
    Row(1143, "COLUMNACCESS_DENIED_ERROR", "the user lacks a right on a column"),
    Row(1227, "SPECIFIC_ACCESS_DENIED_ERROR", "the user lacks a privilege"),
    Row(1370, "PROCACCESS_DENIED_ERROR", "the user lacks the right to execute a function"),
)
UNKNOWN_VARIABLE = 1193
NOT_KNOWN = (
    Row(1046, "NO_DB_ERROR", "it looks for a stored function in place of a built-in one"),
    Row(1064, "PARSE_ERROR", "it does not know the syntax"),
    Row(1109, "UNKNOWN_TABLE", "it does not know the table"),
    Row(1146, "NO_SUCH_TABLE", "it does not have the table"),
    Row(1149, "SYNTAX_ERROR", "it does not know the syntax"),
    Row(UNKNOWN_VARIABLE, "UNKNOWN_SYSTEM_VARIABLE", "it does not know the variable"),
    Row(1235, "NOT_SUPPORTED_YET", "it does not support this"),
    Row(1238, "INCORRECT_GLOBAL_LOCAL_VAR", "the variable has another scope there"),
    Row(1289, "FEATURE_DISABLED", "the feature is disabled there"),
    Row(1305, "SP_DOES_NOT_EXIST", "it does not know the function"),
    Row(1582, "WRONG_PARAMCOUNT_TO_NATIVE_FCT", "the function takes other arguments there"),
)
NO_GTIDS = (Row(3062, "GTID_MODE_OFF", "it keeps no GTIDs", "mysql"),)
_RIGHT = "give the user this right there"
_OTHER = "it is too old, or a proxy in front of it does not know this: connect to it directly"
_WORDS = {
    row.number: f"{row.says} ({row.number} {row.name}); {remedy}"
    for rows, remedy in ((NO_RIGHT, _RIGHT), (NOT_KNOWN, _OTHER), (NO_GTIDS, "turn on gtid_mode there"))
    for row in rows
}


def refusal(exc: BaseException) -> str:
    """Return why, and what to do, if the server will never answer; ``""`` if it may answer the next time.

    Parameters:
        exc: the error that answered a question of the library's own.
    """
    return _WORDS.get(exc.args[0], "") if is_servers(exc) else ""


def knows_no_such_variable(exc: BaseException) -> bool:
    """Return whether the server lacks a variable, so that it keeps no GTIDs as this library knows them."""
    return is_servers(exc) and exc.args[0] == UNKNOWN_VARIABLE
