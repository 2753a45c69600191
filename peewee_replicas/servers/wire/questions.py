"""A question of the library's own on a connection, sent and answered in two steps."""

from __future__ import annotations

from typing import Any

from pymysql.constants import COMMAND
from pymysql.err import MySQLError


def send(conn: Any, sql: str) -> None:
    """Send a question; its answer has to be received before the next."""
    conn._execute_command(COMMAND.COM_QUERY, sql)


def receive(conn: Any) -> list[dict[str, Any]] | Exception:
    """The rows of the answer, each by its columns' names, or the error with which the server refuses.

    Raises:
        MySQLError: the connection is lost.
    """
    try:
        result = conn._read_whole()
    except MySQLError as exc:
        if conn._sock is None:
            raise
        refused: Exception = exc
        return refused
    names = [column[0] for column in result.description or ()]
    rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in result.rows or ()]
    return rows
