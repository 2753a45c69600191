"""A stored function that lifts the guard writes nothing on a replica."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from peewee import OperationalError
from pymysql.cursors import SSCursor
from pymysql.err import MySQLError

from peewee_replicas import ReadOnlyViolation

FAIL = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'failed'"


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
