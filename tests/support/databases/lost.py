"""Connections that the primary has ended."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pymysql
from support.waiting import until

SESSIONS = "SELECT id FROM information_schema.processlist WHERE user = %s"


def lose_primary(cluster: Any, database: Any = None) -> None:
    """Have the primary end the application's sessions.

    Parameters:
        database: a database of ours; wait until its connection here shows that it was ended.
    """
    for (number,) in cluster.primary.execute(SESSIONS, (cluster.user,)):
        with suppress(pymysql.MySQLError):  # it has ended by itself
            cluster.primary.execute(f"KILL {number}")
    if database is not None:
        until(database._state.conn.dropped)


def item_names(cluster: Any) -> list[str]:
    """The names of the items on the primary, in the order in which they were written."""
    return [name for (name,) in cluster.primary.execute("SELECT name FROM app.item ORDER BY id")]
