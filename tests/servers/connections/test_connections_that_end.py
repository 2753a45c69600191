"""A connection that was closed or killed is replaced, and reads go on."""

from __future__ import annotations

from typing import Any

import peewee
import pytest

READ = "SELECT COUNT(*) FROM item"


def test_a_connection_that_the_user_closed_is_replaced(db: Any) -> None:
    with db.readonly():
        db.execute_sql(READ)
        db.connection().close()
        assert db.execute_sql(READ).fetchone() == (0,)


def test_reads_go_on_after_the_primarys_connection_died_in_a_transaction(db: Any, cluster: Any) -> None:
    db.execute_sql("BEGIN")
    number = db.connection().thread_id()
    cluster.primary.execute(f"KILL {number}")
    with pytest.raises(peewee.PeeweeException):
        while True:  # until the kill has arrived
            db.execute_sql(READ)
    assert db.explain_route(READ).role == "replica"
    assert db.execute_sql(READ).fetchone() == (0,)
    with pytest.raises(peewee.InterfaceError):  # as peewee's own, a write says so until close()
        db.execute_sql("DELETE FROM item")
