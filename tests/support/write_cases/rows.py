"""Inserts, updates and deletes of rows, and attempts at them that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peewee
import pytest
from support.clusters.lagging import Mark, Slot, elsewhere, n_of

from .table import Then, case


@case()
def insert(db: Any, cluster: Any) -> Then:
    Slot.create(name="b", n=7)
    return Then(lambda: n_of("b"), 7)


@case()
def update(db: Any, cluster: Any) -> Then:
    Slot.update(n=2).where(Slot.name == "a").execute()
    return Then(n_of, 2)


@case()
def delete(db: Any, cluster: Any) -> Then:
    Slot.delete().where(Slot.name == "a").execute()
    return Then(n_of, None)


@case()
def many_rows(db: Any, cluster: Any) -> Then:
    Slot.insert_many([{"name": f"row {n}", "n": n} for n in range(50)]).execute()
    return Then(lambda: Slot.select().count(), 51)


@case()
def bulk_create(db: Any, cluster: Any) -> Then:
    Slot.bulk_create([Slot(name=f"row {n}") for n in range(20)], batch_size=5)
    return Then(lambda: Slot.select().count(), 21)


@case()
def get_or_create_of_what_another_has_made(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "INSERT INTO slot (name, n) VALUES ('b', 7)")

    def read() -> Any:
        slot, made = Slot.get_or_create(name="b", defaults={"n": 1})
        return slot.n, made

    return Then(read, (7, False), plain=False)


@case()
def get_or_create_twice(db: Any, cluster: Any) -> Then:
    first, made = Slot.get_or_create(name="b", defaults={"n": 7})
    assert made

    def read() -> Any:
        again, made = Slot.get_or_create(name="b", defaults={"n": 8})
        return again.id == first.id, again.n, made

    return Then(read, (True, 7, False), plain=False)


@case()
def upsert_that_changes(db: Any, cluster: Any) -> Then:
    Slot.insert(name="a", n=5).on_conflict(update={Slot.n: 5}).execute()
    return Then(n_of, 5)


@case()
def upsert_that_finds_it_done(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 5")
    Slot.insert(name="a", n=5).on_conflict(update={Slot.n: 5}).execute()
    return Then(n_of, 5)


@case()
def on_conflict_ignore(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "INSERT INTO slot (name, n) VALUES ('b', 7)")
    Slot.insert(name="b", n=1).on_conflict_ignore().execute()
    return Then(lambda: n_of("b"), 7)


@case()
def insert_ignore_of_a_new_row(db: Any, cluster: Any) -> Then:
    db.execute_sql("INSERT IGNORE INTO slot (name, n) VALUES ('b', 7)")
    return Then(lambda: n_of("b"), 7)


@case()
def replace(db: Any, cluster: Any) -> Then:
    Slot.replace(name="a", n=9).execute()
    return Then(n_of, 9)


@case()
def optimistic_update_that_matches_no_row(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    assert Slot.update(n=3).where((Slot.name == "a") & (Slot.n == 1)).execute() == 0
    return Then(n_of, 2)


@case()
def delete_that_matches_no_row(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "DELETE FROM slot WHERE name = 'a'")
    assert Slot.delete().where(Slot.name == "a").execute() == 0
    return Then(n_of, None)


@case()
def insert_that_loses(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "INSERT INTO slot (name, n) VALUES ('b', 7)")
    with pytest.raises(peewee.IntegrityError):
        Slot.create(name="b", n=1)
    return Then(lambda: n_of("b"), 7)


@case(sql_mode="STRICT_TRANS_TABLES")
def write_that_fails(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with pytest.raises(peewee.PeeweeException):
        db.execute_sql("UPDATE slot SET name = REPEAT('x', 1000) WHERE n = 2")
    return Then(n_of, 2)


@case()
def raw_cursor(db: Any, cluster: Any) -> Then:
    db.cursor().execute("INSERT INTO slot (name, n) VALUES (%s, %s)", ("b", 7))
    return Then(lambda: n_of("b"), 7)


@case()
def raw_cursor_with_many(db: Any, cluster: Any) -> Then:
    db.cursor().executemany("UPDATE slot SET n = n + %s WHERE name = %s", [(2, "a"), (3, "a")])
    return Then(n_of, 6)


@case()
def truncate(db: Any, cluster: Any) -> Then:
    Slot.truncate_table()
    return Then(n_of, None)


@case()
def multi_table_delete(db: Any, cluster: Any) -> Then:
    Mark.create(name="a")
    db.execute_sql("DELETE slot, mark FROM slot JOIN mark ON slot.name = mark.name")
    return Then(lambda: (n_of(), Mark.select().count()), (None, 0))


@case()
def multi_table_update(db: Any, cluster: Any) -> Then:
    Mark.create(name="a")
    db.execute_sql("UPDATE slot JOIN mark ON slot.name = mark.name SET slot.n = 7")
    return Then(n_of, 7)


@case(local_infile=True)
def load_data_local(db: Any, cluster: Any) -> Then:
    file = Path(cluster.primary.datadir).parent / "rows.txt"
    file.write_text("b\t7\n", encoding="utf-8")
    db.execute_sql(f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE slot (name, n)")
    return Then(lambda: n_of("b"), 7)


@case(server="mariadb")
def insert_returning(db: Any, cluster: Any) -> Then:
    row = db.execute_sql("INSERT INTO slot (name, n) VALUES ('', 7) RETURNING name").fetchall()
    assert len(row) == 1
    return Then(lambda: n_of(""), 7)


@case()
def what_fails_on_old_data_only(db: Any, cluster: Any) -> Then:
    Slot.delete().where(Slot.name == "a").execute()

    def read() -> Any:
        # While the row "a" is there the subquery gives two rows in place of one.
        twice = "SELECT n FROM slot JOIN (SELECT 1 UNION ALL SELECT 2) AS twice WHERE name = 'a'"
        return tuple(db.execute_sql(f"SELECT ({twice})").fetchall()[0])

    return Then(read, (None,), plain=False)


@case()
def write_while_iterating(db: Any, cluster: Any) -> Then:
    for slot in Slot.select():
        Slot.update(n=slot.n + 1).where(Slot.id == slot.id).execute()
    return Then(n_of, 2)
