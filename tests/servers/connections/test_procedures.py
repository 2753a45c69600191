"""What a procedure or a text of several statements did is known before the next read leaves the primary.

The server does not report all of it at once: a procedure that fails reports nothing, and what follows its
first result is reported later. It is waited for, or assumed.
"""

from __future__ import annotations

from typing import Any

import pytest
from peewee import OperationalError, PeeweeException
from pymysql.constants import CLIENT
from pymysql.cursors import SSCursor
from support.databases.models import Item

FAIL = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'failed'"


def fails(database: Any, text: str) -> None:
    with pytest.raises(PeeweeException):
        database.execute_sql(text)


@pytest.mark.parametrize("opening", ["START TRANSACTION", "SET autocommit = 0"])
def test_a_read_stays_in_a_transaction_that_a_failed_procedure_left_open(
    db: Any, routine: Any, opening: str
) -> None:
    routine("PROCEDURE", "leaves_open", f"{opening}; INSERT INTO item (name, n) VALUES ('mine', 0); {FAIL}")
    fails(db, "CALL leaves_open()")
    try:
        assert [item.name for item in Item.select()] == ["mine"]
    finally:
        db.execute_sql("ROLLBACK")
        db.close()


@pytest.mark.parametrize("between", [(), ("SET foreign_key_checks = 1",), ("ROLLBACK",)])
def test_a_temporary_table_of_a_failed_procedure_keeps_reads_on_the_primary(
    db: Any, routine: Any, between: tuple[str, ...]
) -> None:
    body = "CREATE TEMPORARY TABLE item (id INT, name VARCHAR(9), n INT)"
    routine("PROCEDURE", "leaves_a_table", f"{body}; INSERT INTO item VALUES (1, 'mine', 0); {FAIL}")
    fails(db, "CALL leaves_a_table()")
    for text in between:
        db.execute_sql(text)
    assert [item.name for item in Item.select()] == ["mine"]
    db.close()


def test_an_ordinary_failed_write_does_not_keep_reads_on_the_primary(db: Any) -> None:
    Item.create(id=1, name="a")
    fails(db, "INSERT INTO item (id, name, n) VALUES (1, 'b', 0)")
    db.execute_sql("SET foreign_key_checks = 1")
    assert db.explain_route("SELECT 1").role == "replica"
    fails(db, "INSERT INTO item (id, name, n) VALUES (1, 'b', 0)")
    Item.select().count()
    assert db.explain_route("SELECT 1").role == "replica"


def test_a_read_sees_what_a_procedure_wrote_after_its_first_result(
    cluster: Any, db: Any, routine: Any
) -> None:
    routine("PROCEDURE", "goes_on", "SELECT 1; DO SLEEP(0.2); INSERT INTO item (name, n) VALUES ('later', 0)")
    own = cluster.database()
    with own.bind_ctx([Item]):
        own.execute_sql("CALL goes_on()")
        assert Item.select().where(Item.name == "later").count() == 1
    own.close()


def test_several_statements_in_one_text_are_heard_to_their_end(cluster: Any, db: Any) -> None:
    own = cluster.database(client_flag=CLIENT.MULTI_STATEMENTS)
    with own.bind_ctx([Item]):
        own.execute_sql("SELECT 1; BEGIN; INSERT INTO item (name, n) VALUES ('mine', 0)")
        assert Item.select().count() == 1
        own.execute_sql("ROLLBACK")
        own.execute_sql("SELECT 1; SELECT nothing_of_this_name")
        with pytest.raises(OperationalError, match="nothing_of_this_name"):
            Item.select().count()
        assert Item.select().count() == 0
    own.close()


def test_an_unbuffered_result_that_writes_is_read_before_the_next_read_leaves(
    cluster: Any, db: Any, routine: Any
) -> None:
    body = "SELECT 1; DO SLEEP(0.2); INSERT INTO item (name, n) VALUES ('later', 0)"
    routine("PROCEDURE", "goes_on_too", body)
    own = cluster.database(cursorclass=SSCursor)
    with own.bind_ctx([Item]):
        own.execute_sql("CALL goes_on_too()")
        assert Item.select().where(Item.name == "later").count() == 1
    own.close()
