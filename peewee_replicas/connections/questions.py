"""Send one of the library's own queries on a connection that a user's statement is about to use.

`docs/questions.md` lists all questions, with their time limits and what happens when they fail.
"""

from __future__ import annotations

from peewee import OperationalError, __exception_wrapper__

from ..servers.protocols import Row, ServerConnection

QUESTION_SECONDS = 2.0
"""Seconds to wait for an answer that is useful, but not needed to run the user's statement."""


def ask(conn: ServerConnection, sql: str, seconds: float | None) -> tuple[Row, ...]:
    """Run a query of the library's own and return its rows.

    Parameters:
        seconds: time limit for the whole answer.

    Raises:
        MySQLError: there was no answer.
    """
    try:
        return conn.ask(sql, seconds)
    except BaseException as exc:
        if not isinstance(exc, Exception):
            conn.interrupted()  # or the next statement would count as the library's own
        raise


def first_row(conn: ServerConnection, sql: str, seconds: float | None) -> Row:
    """Run one of the library's own queries and return the first row of its result.

    Parameters:
        seconds: time limit for the whole answer.

    Raises:
        PeeweeException: there was no answer, or no row in it, as with ``sql_select_limit = 0``.
    """
    with __exception_wrapper__:
        rows = ask(conn, sql, seconds)
    if not rows:
        raise OperationalError("the server answered a question of peewee_replicas with no row")
    return tuple(rows[0])
