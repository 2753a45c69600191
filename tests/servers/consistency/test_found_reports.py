"""What the server does not report at once is waited for, or assumed, before a read leaves the primary."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from peewee import OperationalError, PeeweeException
from pymysql.constants import CLIENT
from pymysql.cursors import SSCursor
from pymysql.err import MySQLError
from support.clusters.lagging import frozen
from support.databases.models import Item
from support.proxies.relay import Relay

from peewee_replicas import ReadOnlyViolation

FAIL = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'failed'"


@pytest.fixture
def routine(db: Any, cluster: Any) -> Iterator[Any]:
    """Makes a procedure, or a function, and drops it afterwards."""
    made = []

    def make(kind: str, name: str, body: str) -> None:
        with cluster.database(user="admin").primary() as admin:
            made.append(f"DROP {kind} IF EXISTS {name}")
            admin.execute_sql(made[-1])
            returns = " RETURNS INT DETERMINISTIC" if kind == "FUNCTION" else ""
            admin.execute_sql(f"CREATE {kind} {name}(){returns} BEGIN {body}; END")
            admin.close()
        cluster.sync()

    yield make
    with cluster.database(user="admin").primary() as admin:
        for text in made:
            admin.execute_sql(text)
        admin.close()
    cluster.sync()


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


class TestAFunctionThatLiftsTheGuard:
    """The guard is a session setting, and on MariaDB a stored function can change it for what comes next."""

    @pytest.fixture(autouse=True)
    def functions(self, db: Any, routine: Any, server: str) -> None:
        variable = "tx_read_only" if server == "mariadb" else "transaction_read_only"
        routine("FUNCTION", "lift", f"SET SESSION {variable} = 0; RETURN 1")
        routine("FUNCTION", "lift_and_fail", f"SET SESSION {variable} = 0; {FAIL}; RETURN 1")
        routine("FUNCTION", "writes", "INSERT INTO item (name, n) VALUES ('wrong', 0); RETURN 1")

    def rows(self, cluster: Any) -> list[int]:
        counts = []
        for node in cluster.nodes:
            plain = cluster.database(replicas=[], **{"host": node.host, "port": node.port})
            counts.append(plain.execute_sql("SELECT COUNT(*) FROM item").fetchone()[0])
            plain.close()
        return counts

    @pytest.mark.parametrize("first", ["SELECT lift()", "SELECT lift_and_fail()"])
    def test_a_raw_cursor_writes_nothing_on_a_replica(self, cluster: Any, db: Any, first: str) -> None:
        own = cluster.database(user="admin")
        with own.readonly():
            cursor = own.cursor()
            with contextlib.suppress(MySQLError):
                cursor.execute(first)
            with pytest.raises(ReadOnlyViolation, match="guard"):
                cursor.execute("SELECT writes()")
        own.close()
        assert self.rows(cluster) == [0, 0, 0]

    @pytest.mark.parametrize("cursorclass", [None, SSCursor])
    @pytest.mark.parametrize("first", ["SELECT lift()", "SELECT lift_and_fail()"])
    def test_execute_sql_writes_nothing_on_a_replica(
        self, cluster: Any, db: Any, first: str, cursorclass: Any
    ) -> None:
        options = {} if cursorclass is None else {"cursorclass": cursorclass}
        own = cluster.database(user="admin", **options)
        with own.readonly():
            with contextlib.suppress(OperationalError, MySQLError):
                own.execute_sql(first).fetchall()
            # An unbuffered refusal is raised by the driver, when its rows are asked for.
            with pytest.raises((ReadOnlyViolation, MySQLError)) as refusal:
                own.execute_sql("SELECT writes()").fetchall()
            assert "1792" in str(refusal.value)
        own.close()
        assert self.rows(cluster) == [0, 0, 0]

    def test_a_raw_cursor_goes_on_after_a_read_that_failed(self, db: Any) -> None:
        with db.readonly():
            cursor = db.cursor()
            with pytest.raises(Exception, match="no_such_column"):
                cursor.execute("SELECT no_such_column FROM item")
            cursor.execute("SELECT COUNT(*) FROM item")
            assert cursor.fetchone() == (0,)


def test_what_a_transaction_read_is_read_again_after_close_ended_it(cluster: Any, db: Any) -> None:
    own, other = cluster.database(catch_up_timeout=0.05), cluster.database()
    with frozen(cluster):
        other.execute_sql("INSERT INTO item (name, n) VALUES ('a', 0)")
        own.execute_sql("BEGIN")
        assert own.execute_sql("SELECT COUNT(*) FROM item").fetchone() == (1,)
        own.close()
        assert own.execute_sql("SELECT COUNT(*) FROM item").fetchone() == (1,)
    own.close()
    other.close()


def test_a_commit_whose_answer_was_lost_is_seen_by_the_next_read(cluster: Any, db: Any) -> None:
    with Relay(cluster.primary.port) as relay, frozen(cluster):
        own = cluster.database(host="127.0.0.1", port=relay.port, catch_up_timeout=0.05)
        with pytest.raises(PeeweeException), own.atomic():
            own.execute_sql("INSERT INTO item (name, n) VALUES ('a', 0)")
            relay.lose_answer()
        own.close()
        assert own.execute_sql("SELECT COUNT(*) FROM item").fetchone() == (1,)
        own.close()


def test_bytes_arrive_as_they_are_with_every_supported_driver(db: Any) -> None:
    value = bytes(range(256))
    assert db.execute_sql("SELECT HEX(%s)", (value,)).fetchone() == (value.hex().upper(),)
    with db.primary():
        assert db.execute_sql("SELECT HEX(%s)", (value,)).fetchone() == (value.hex().upper(),)
