"""State of the primary's connection that a replica does not have keeps reads where it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from peewee import InterfaceError, OperationalError
from support.databases.lost import lose_primary
from support.databases.models import Item
from support.forms.threads import in_thread

from peewee_replicas import PooledReplicatedDatabase

pytestmark = pytest.mark.usefixtures("form")

STATE = {
    "CREATE TEMPORARY TABLE mine (a INT)": "temporary table",
    "/* a */ create temporary table mine (a int)": "temporary table",
    "CREATE OR REPLACE TEMPORARY TABLE mine (a INT)": "temporary table",
    "SET SESSION sql_mode = 'ANSI_QUOTES'": "sql_mode",
    "SET sql_mode = ''": "sql_mode",
    "SET foreign_key_checks = 0, time_zone = '+05:00'": "time_zone",
    "SET @@session.sql_select_limit = 1": "sql_select_limit",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED": "TRANSACTION",
    "SET NAMES latin1": "NAMES",
    "SET @mine = 5": "user variable",
    "SELECT @mine := 5": "user variable",
    "SELECT 5 INTO @mine": "user variable",
    "USE `app`": "schema",
    "SELECT GET_LOCK('mine', 0)": "named lock",
    "DO GET_LOCK('mine', 0)": "named lock",
    "SELECT get_lock/**/('mine', 0)": "named lock",
    "PREPARE p FROM 'SELECT 1'": "prepared statement",
    "HANDLER item OPEN": "HANDLER",
    "SET timestamp = 1000": "timestamp",
    "SET profiling = 1": "profiling",
    "SET max_statement_time = 10": "max_statement_time",
    "SET max_execution_time = 10000": "max_execution_time",
    "CALL makes_state()": "",
}
ONLY_ON = {
    "CREATE OR REPLACE TEMPORARY TABLE mine (a INT)": "mariadb",
    "SET max_statement_time = 10": "mariadb",
    "SET max_execution_time = 10000": "mysql",
}

HARMLESS = [
    "SET foreign_key_checks = 0",
    "SET SESSION foreign_key_checks = 1, unique_checks = 0",
    "SET @@session.wait_timeout = 1000",
    "SET SESSION lock_wait_timeout = 10",
    "SET innodb_lock_wait_timeout = 10",
    "SELECT 1",
    "SELECT CONNECTION_ID()",
    "INSERT INTO item (name, n) VALUES ('a', 1)",
    "CREATE TABLE IF NOT EXISTS plain (a INT)",
    "DROP TABLE IF EXISTS plain",
    "BEGIN",
    "COMMIT",
    "CALL makes_nothing()",
    "SHOW TABLES",
]


@pytest.fixture(scope="module")
def have_procedures() -> set[str]:
    """The servers on which the procedures are, which no test changes."""
    return set()


@pytest.fixture(autouse=True)
def _procedures(cluster: Any, db: Any, server: str, have_procedures: set[str]) -> None:
    if server in have_procedures:
        return
    for text in (
        "DROP PROCEDURE IF EXISTS makes_state",
        "DROP PROCEDURE IF EXISTS makes_nothing",
        "CREATE PROCEDURE makes_state() CREATE TEMPORARY TABLE IF NOT EXISTS mine (a INT)",
        "CREATE PROCEDURE makes_nothing() SELECT 1",
    ):
        db.execute_sql(text)
    db.close()
    cluster.sync()
    cluster.reset_counts()
    have_procedures.add(server)


def places(cluster: Any) -> tuple[int, int]:
    counts = cluster.counts()
    return counts["primary"].reads, sum(counts[node.name].reads for node in cluster.replicas)


def by_execute_sql(db: Any, text: str) -> None:
    db.execute_sql(text)


def by_cursor(db: Any, text: str) -> None:
    cursor = db.cursor()
    cursor.execute(text)
    cursor.close()


def by_connection(db: Any, text: str) -> None:
    db.connection().query(text)


@pytest.mark.parametrize("send", [by_execute_sql, by_cursor, by_connection])
@pytest.mark.parametrize("text", STATE)
def test_reads_stay_on_the_primary_until_its_connection_closes(
    cluster: Any,
    db: Any,
    server: str,
    text: str,
    send: Callable[[Any, str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if ONLY_ON.get(text, server) != server:
        pytest.skip(f"{server} has no such statement")
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        send(db, text)
        for _ in range(5):
            db.execute_sql("SELECT COUNT(*) FROM item")
        on_primary, on_replicas = places(cluster)  # of the statement itself, too, if it is a SELECT
        assert on_primary >= 5
        assert on_replicas == 0
        assert STATE[text].lower() in db.explain_route("SELECT 1").reason.lower()
        send(db, text.replace("mine", "mine2").replace("HANDLER item", "HANDLER note"))
        db.execute_sql("SELECT COUNT(*) FROM item")
    said = [record for record in caplog.records if "now carries" in record.getMessage()]
    assert len(said) == 1  # once per connection
    db.close()
    for _ in range(4):
        db.execute_sql("SELECT COUNT(*) FROM item")
    assert places(cluster)[1] == 4


@pytest.mark.parametrize("send", [by_execute_sql, by_cursor])
def test_what_cannot_change_a_select_leaves_reads_on_the_replicas(
    cluster: Any, db: Any, send: Callable[[Any, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    for text in HARMLESS:
        send(db, text)
    cluster.reset_counts()
    db.execute_sql("SELECT COUNT(*) FROM item")
    assert places(cluster) == (0, 1)
    assert not [record for record in caplog.records if "now carries" in record.getMessage()]


@pytest.mark.lesson(5)
def test_the_rows_of_a_temporary_table_are_found(cluster: Any, db: Any) -> None:
    db.execute_sql("CREATE TEMPORARY TABLE item (id INT, name VARCHAR(10), n INT)")  # hides the real one
    db.execute_sql("INSERT INTO item VALUES (1, 'hidden', 1)")
    assert db.execute_sql("SELECT name FROM item").fetchall() == (("hidden",),)
    assert Item.select().count() == 1
    with db.readonly():
        assert Item.select().count() == 1
    db.close()
    assert Item.select().count() == 0


def test_a_named_lock_taken_by_a_raw_cursor_is_held_and_released_on_one_connection(
    cluster: Any, db: Any
) -> None:
    assert db.execute_sql("SELECT GET_LOCK('one', 0)").fetchone() == (1,)
    assert db.execute_sql("SELECT IS_FREE_LOCK('one')").fetchone() == (0,)
    assert db.execute_sql("SELECT RELEASE_LOCK('one')").fetchone() == (1,)
    assert [node.execute("SELECT IS_USED_LOCK('one')") for node in cluster.nodes] == [[(None,)]] * 3


def test_connect_time_settings_are_nobodys_state(cluster: Any, db: Any) -> None:
    database = cluster.database(
        init_command="SET SESSION sql_mode = 'ANSI_QUOTES', time_zone = '+01:00', @setup = 7",
        sql_mode="ANSI_QUOTES",
        consistency="eventual",
    )
    database.execute_sql("INSERT INTO \"item\" (name, n) VALUES ('a', 1)")
    cluster.sync()
    cluster.reset_counts()
    assert database.execute_sql('SELECT COUNT(*) FROM "item"').fetchone() == (1,)
    assert places(cluster) == (0, 1)


def test_a_subclass_that_sets_up_its_connections_leaves_no_state(cluster: Any, db: Any) -> None:
    class Prepared(type(db)):  # type: ignore[misc]  # the class of the database under test
        def _initialize_connection(self, conn: Any) -> None:
            with conn.cursor() as cursor:
                cursor.execute("SET SESSION group_concat_max_len = 5000")

    database = cluster.database(Prepared, consistency="eventual")
    database.execute_sql("INSERT INTO item (name, n) VALUES ('a', 1)")
    cluster.reset_counts()
    assert database.execute_sql("SELECT LENGTH(REPEAT('a', 3))").fetchone() == (3,)
    assert places(cluster) == (0, 1)
    with database.readonly():
        shown = database.execute_sql("SHOW SESSION VARIABLES LIKE 'group_concat_max_len'").fetchone()
    assert shown[1] == "5000"


def test_state_of_one_thread_says_nothing_about_another(cluster: Any, db: Any) -> None:
    db.execute_sql("CREATE TEMPORARY TABLE mine (a INT)")
    cluster.reset_counts()

    def read() -> None:
        db.execute_sql("SELECT 1")
        db.close()

    in_thread(read)
    assert places(cluster) == (0, 1)
    db.execute_sql("SELECT 1")
    assert places(cluster) == (1, 1)


@pytest.mark.parametrize("text", ["CREATE TEMPORARY TABLE mine (a INT)", "SELECT GET_LOCK('pool', 0)"])
def test_a_pool_does_not_hand_out_a_marked_connection_again(cluster: Any, db: Any, text: str) -> None:
    pool = cluster.database(PooledReplicatedDatabase, max_connections=4, consistency="eventual")

    def own_id() -> int:
        with pool.primary():
            return int(pool.execute_sql("SELECT CONNECTION_ID()").fetchone()[0])

    plain = own_id()
    pool.close()
    assert own_id() == plain  # an unmarked one is used again
    pool.execute_sql(text)
    pool.close()
    assert own_id() != plain
    cluster.reset_counts()
    pool.execute_sql("SELECT 1")
    assert places(cluster) == (0, 1)
    assert cluster.primary.execute("SELECT IS_USED_LOCK('pool')") == [(None,)]
    pool.close_all()


def test_a_reading_connection_never_keeps_what_a_raw_cursor_left_there(cluster: Any, db: Any) -> None:
    with db.readonly():
        before = db.execute_sql("SELECT COUNT(*) FROM item").fetchone()
        db.connection().select_db("information_schema")
        assert db.execute_sql("SELECT COUNT(*) FROM item").fetchone() == before


def test_a_limit_of_time_holds_for_reads(db: Any, server: str) -> None:
    mysql = server == "mysql"
    db.execute_sql("SET SESSION " + ("max_execution_time = 50" if mysql else "max_statement_time = 0.05"))
    with pytest.raises(OperationalError) as raised:
        db.execute_sql(
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300) "
            "SELECT SUM(a.n * b.n + d.n) FROM c a, c b, c d"
        )
    assert raised.value.args[0] == (3024 if mysql else 1969)


def test_a_profile_has_the_reads(db: Any) -> None:
    db.execute_sql("SET profiling = 1")
    db.execute_sql("SELECT COUNT(*) FROM item")
    assert "SELECT COUNT(*) FROM item" in [
        query for _, _, query in db.execute_sql("SHOW PROFILES").fetchall()
    ]


NEXT = "settings of its next transaction"


@pytest.mark.parametrize("send", [by_execute_sql, by_cursor, by_connection])
def test_what_set_transaction_sets_is_used_up_where_it_was_set(
    cluster: Any, db: Any, send: Callable[[Any, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Had the read run on a replica, the INSERT would be the read-only transaction, and refused."""
    send(db, "SET TRANSACTION READ ONLY")
    assert NEXT in db.explain_route("SELECT COUNT(*) FROM item").reason
    cluster.reset_counts()
    db.execute_sql("SELECT 1")  # for the server no transaction
    db.execute_sql("SELECT COUNT(*) FROM item")
    assert places(cluster) == (2, 0)
    db.execute_sql("INSERT INTO item (name, n) VALUES ('a', 1)")
    cluster.reset_counts()
    db.execute_sql("SELECT COUNT(*) FROM item")
    assert places(cluster)[0] == 0
    assert not [record for record in caplog.records if "now carries" in record.getMessage()]


def test_a_read_has_the_isolation_level_that_was_set_for_it(cluster: Any, db: Any) -> None:
    Item.create(name="committed")
    cluster.sync()  # the second read is served by a replica
    other = pymysql.connect(**cluster.parameters(cluster.primary))
    try:
        other.begin()
        other.cursor().execute("UPDATE item SET name = 'not yet'")
        db.execute_sql("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
        found = [db.execute_sql("SELECT name FROM item").fetchall() for _ in range(2)]
    finally:
        other.close()
    assert found == [(("not yet",),), (("committed",),)]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_the_end_of_a_transaction_uses_up_what_was_set_for_it(cluster: Any, db: Any, end: str) -> None:
    for text in ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "BEGIN", "SELECT 1 FROM item", end):
        db.execute_sql(text)
    assert db.explain_route("SELECT 1").role == "replica"
    with db.atomic("READ COMMITTED"):
        Item.create(name="a")
    assert db.explain_route("SELECT 1").role == "replica"


@pytest.mark.parametrize("read", [
    "SELECT 1 FROM item", "/* page 1 */ SELECT 1 FROM item", "-- page 1\nSELECT 1 FROM item",
    "(SELECT 1 FROM item)", "/* page 1 */ WITH one AS (SELECT 1 FROM item) SELECT * FROM one",
])  # fmt: skip
def test_a_read_uses_up_what_was_set_for_its_transaction_however_it_begins(db: Any, read: str) -> None:
    db.execute_sql("SET TRANSACTION READ WRITE")
    db.execute_sql(read)
    assert db.explain_route("SELECT 1").role == "replica"


@pytest.mark.parametrize("read", [
    "/* from page 1 */ SELECT 1", "SELECT 1 /* from item */", "SELECT 'from item'",
    "SELECT EXTRACT(YEAR FROM NOW())", "SELECT TRIM(BOTH 'x' FROM 'xy')", "SELECT 1 FROM DUAL",
    "SELECT * FROM (SELECT 1) AS t", "WITH one AS (SELECT 1) SELECT * FROM one",
])  # fmt: skip
def test_a_read_without_a_table_uses_up_nothing(db: Any, read: str) -> None:
    """Had the second read run on a replica, the INSERT would be the read-only transaction, and refused."""
    db.execute_sql("SET TRANSACTION READ ONLY")
    db.execute_sql(read)
    db.execute_sql("SELECT COUNT(*) FROM item")
    db.execute_sql("INSERT INTO item (name, n) VALUES ('a', 1)")


def test_other_state_is_told_of_although_a_transaction_was_prepared(db: Any) -> None:
    db.execute_sql("SET TRANSACTION READ WRITE")
    db.execute_sql("CREATE TEMPORARY TABLE mine (a INT)")
    db.execute_sql("SELECT COUNT(*) FROM mine")
    assert "temporary table" in db.explain_route("SELECT 1").reason


@pytest.mark.parametrize("first", ["SET TRANSACTION READ WRITE", "SELECT GET_LOCK('mine', 0)"])
def test_a_lock_holds_although_a_transaction_that_was_prepared_has_ended(db: Any, first: str) -> None:
    db.execute_sql(first)
    for text in {"SET TRANSACTION READ WRITE", "SELECT GET_LOCK('mine', 0)"} - {first}:
        db.execute_sql(text)
    Item.create(name="a")
    assert "named lock" in db.explain_route("SELECT 1").reason
    db.execute_sql("SELECT RELEASE_LOCK('mine')")
    assert db.explain_route("SELECT 1").role == "replica"


@pytest.mark.parametrize("scope", ["primary", "atomic"])
def test_what_the_last_read_has_left_is_told_where_it_ran(db: Any, scope: str) -> None:
    Item.insert_many([(f"item {n}", n) for n in range(5)], fields=[Item.name, Item.n]).execute()
    with getattr(db, scope)():
        db.execute_sql("SELECT CAST('x' AS UNSIGNED) FROM item LIMIT 3")
        assert len(db.execute_sql("SHOW WARNINGS").fetchall()) == 3
        db.execute_sql("SELECT id FROM item LIMIT 3")
        assert db.execute_sql("SELECT FOUND_ROWS()").fetchone() == (3,)
        assert db.execute_sql("SELECT ROW_COUNT()").fetchone() == (-1,)
    db.execute_sql("SELECT SQL_CALC_FOUND_ROWS id FROM item LIMIT 3")
    assert db.execute_sql("SELECT FOUND_ROWS()").fetchone() == (5,)


LOST = (
    "SET SESSION time_zone = '+05:00'",
    "SET @mine = 5",
    "CREATE TEMPORARY TABLE mine (a INT)",
    "USE `app`",
    "SET TRANSACTION READ WRITE",
)


def test_no_replica_takes_the_place_of_a_session_that_was_lost_with_its_state(cluster: Any, db: Any) -> None:
    for text in LOST:
        db.execute_sql(text)
        lose_primary(cluster, db)
        for _ in range(3):
            with pytest.raises((OperationalError, InterfaceError), match=r"close\(\)"):
                db.execute_sql("SELECT COUNT(*) FROM item")
        db.close()
    assert db.execute_sql("SELECT COUNT(*) FROM item").fetchone() == (0,)
