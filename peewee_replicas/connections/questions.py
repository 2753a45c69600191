"""How the library asks a server something on a connection that a user's statement needs.

`docs/questions.md` lists all that is asked, with its time limit and what follows when it fails.
"""

from __future__ import annotations

from peewee import OperationalError, __exception_wrapper__

from ..servers.protocols import Row, ServerConnection

QUESTION_SECONDS = 2.0
"""Seconds to wait for an answer that is worth having, but that the user's statement can do without."""


def first_row(conn: ServerConnection, sql: str, seconds: float | None) -> Row:
    """The first row of the answer to a query of the library's own.

    Parameters:
        seconds: how long the whole answer may take.

    Raises:
        PeeweeException: there was no answer, or one without a row, as with ``sql_select_limit = 0``.
    """
    with __exception_wrapper__:
        rows = conn.ask(sql, seconds)
    if not rows:
        raise OperationalError("the server answered a question of peewee_replicas with no row")
    return tuple(rows[0])
