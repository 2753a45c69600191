"""Statements on the primary that have ended, without a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from peewee_replicas.consistency.levels import Consistency
from peewee_replicas.positions import MariaDBPosition
from peewee_replicas.servers import mariadb


def statement(found: Consistency, text: str, gtid: str | None = None, **values: Any) -> None:
    """Tell it that a statement on the primary has ended, with the GTID that was reported for it."""
    conn = SimpleNamespace(
        last_statement=text,
        position=MariaDBPosition.parse(gtid) if gtid else None,
        transaction="",
        transaction_has_read=False,
        dialect=mariadb,
        more_results=False,
        changed_rows=0,
        executing="",
        guarded=False,
    )
    vars(conn).update({name: value for name, value in values.items() if hasattr(conn, name)})
    found.statement_ended(conn, values.get("succeeded", True), values.get("was_open", False))
