"""Statements that do more than they show: several in one text, routines, definitions."""

from __future__ import annotations

from typing import Any

from pymysql.constants import CLIENT
from support.clusters.lagging import Mark, n_of

from .table import Then, case


@case(client_flag=CLIENT.MULTI_STATEMENTS)
def several_statements_in_one(db: Any, cluster: Any) -> Then:
    cursor = db.execute_sql("UPDATE slot SET n = 2; SELECT 1; UPDATE slot SET n = n + 5")
    while cursor.nextset():
        pass
    return Then(n_of, 7)


@case()
def call(db: Any, cluster: Any) -> Then:
    db.execute_sql("CALL fill()")
    return Then(n_of, 7)


@case()
def call_that_returns_rows(db: Any, cluster: Any) -> Then:
    cursor = db.execute_sql("CALL tell()")
    while cursor.nextset():
        pass
    return Then(n_of, 7)


@case()
def callproc(db: Any, cluster: Any) -> Then:
    db.cursor().callproc("fill")
    return Then(n_of, 7)


@case()
def function_that_writes(db: Any, cluster: Any) -> Then:
    assert db.execute_sql("SELECT bump()").fetchone()
    return Then(n_of, 7)


@case()
def create_a_table(db: Any, cluster: Any) -> Then:
    db.execute_sql("DROP TABLE IF EXISTS other")
    db.execute_sql("CREATE TABLE other (id INT PRIMARY KEY)")

    def read() -> Any:
        return [tuple(row) for row in db.execute_sql("SELECT COUNT(*) FROM other").fetchall()]

    return Then(read, [(0,)], plain=False)


@case()
def add_a_column(db: Any, cluster: Any) -> Then:
    db.execute_sql("ALTER TABLE mark ADD COLUMN later INT DEFAULT 7")
    Mark.create(name="a")

    def read() -> Any:
        return [tuple(row) for row in db.execute_sql("SELECT later FROM mark").fetchall()]

    return Then(read, [(7,)], plain=False)


@case()
def create_a_view(db: Any, cluster: Any) -> Then:
    db.execute_sql("CREATE OR REPLACE VIEW seen AS SELECT n FROM slot")
    db.execute_sql("UPDATE slot SET n = 7")
    return Then(lambda: tuple(db.execute_sql("SELECT n FROM seen").fetchall()[0]), (7,), plain=False)
