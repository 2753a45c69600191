"""Transactions, however opened and ended, and reads on the primary, which later reads must not contradict."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import peewee
import pytest
from support.clusters.lagging import Mark, Slot, elsewhere, n_of
from support.peewees import has_peewee

from .table import Then, case


@case()
def insert_that_loses_in_a_transaction(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "INSERT INTO slot (name, n) VALUES ('b', 7)")
    with pytest.raises(peewee.IntegrityError), db.atomic():
        Slot.create(name="c", n=1)
        Slot.create(name="b", n=1)
    return Then(lambda: (n_of("b"), n_of("c")), (7, None))


@case()
def locking_read(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with db.atomic():
        assert Slot.select().where(Slot.name == "a").for_update().get().n == 2
    return Then(n_of, 2)


@case()
def locking_read_in_autocommit(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    assert Slot.select().where(Slot.name == "a").for_update().get().n == 2
    return Then(n_of, 2)


@case()
def read_on_the_primary(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with db.primary():
        assert n_of() == 2
    return Then(n_of, 2)


@case()
def read_in_a_transaction(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with db.atomic():
        assert n_of() == 2
    return Then(n_of, 2)


@case()
def read_in_a_transaction_that_writes_something_else(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with db.atomic():
        assert n_of() == 2
        Mark.create(name="m")
    return Then(lambda: (n_of(), Mark.select().count()), (2, 1))


@case()
def read_then_rollback(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    with db.atomic() as transaction:
        assert n_of() == 2
        Slot.update(n=9).execute()
        transaction.rollback()
    return Then(n_of, 2)


@case()
def transaction(db: Any, cluster: Any) -> Then:
    with db.atomic():
        Slot.create(name="b", n=1)
        Slot.update(n=7).where(Slot.name == "b").execute()
    return Then(lambda: n_of("b"), 7)


@case()
def nested_transactions(db: Any, cluster: Any) -> Then:
    with db.atomic():
        Slot.create(name="b", n=1)
        with db.atomic() as inner:
            Slot.create(name="c", n=1)
            inner.rollback()
        with db.atomic():
            Slot.update(n=7).where(Slot.name == "b").execute()
    return Then(lambda: (n_of("b"), n_of("c")), (7, None))


@case()
def savepoint_taken_back_for_an_error(db: Any, cluster: Any) -> Then:
    with db.atomic():
        Slot.create(name="b", n=7)
        with suppress(peewee.IntegrityError), db.savepoint():
            Slot.create(name="a", n=1)
    return Then(lambda: n_of("b"), 7)


@case()
def commit_in_the_middle(db: Any, cluster: Any) -> Then:
    with db.atomic() as transaction:
        Slot.create(name="b", n=7)
        transaction.commit()
        Slot.create(name="c", n=7)
        transaction.rollback()
    return Then(lambda: (n_of("b"), n_of("c")), (7, None))


@case()
def manual_commit(db: Any, cluster: Any) -> Then:
    with db.manual_commit():
        db.begin()
        Slot.create(name="b", n=7)
        db.commit()
    return Then(lambda: n_of("b"), 7)


@case()
def session(db: Any, cluster: Any) -> Then:
    db.session_start()
    Slot.create(name="b", n=7)
    db.session_commit()
    return Then(lambda: n_of("b"), 7)


@case()
def raw_begin_and_commit(db: Any, cluster: Any) -> Then:
    for text in ("BEGIN", "INSERT INTO slot (name, n) VALUES ('b', 7)", "/* done */ COMMIT"):
        db.execute_sql(text)
    return Then(lambda: n_of("b"), 7)


@case()
def begin_that_commits_what_was_open(db: Any, cluster: Any) -> Then:
    for text in ("BEGIN", "INSERT INTO slot (name, n) VALUES ('b', 7)", "BEGIN", "ROLLBACK"):
        db.execute_sql(text)
    return Then(lambda: n_of("b"), 7)


@case()
def autocommit_off_and_on(db: Any, cluster: Any) -> Then:
    for text in ("SET autocommit = 0", "INSERT INTO slot (name, n) VALUES ('b', 7)", "SET autocommit = 1"):
        db.execute_sql(text)
    return Then(lambda: n_of("b"), 7)


@case()
def ddl_that_commits_what_was_open(db: Any, cluster: Any) -> Then:
    db.execute_sql("DROP TABLE IF EXISTS extra")
    db.execute_sql("BEGIN")
    db.execute_sql("INSERT INTO slot (name, n) VALUES ('b', 7)")
    db.execute_sql("CREATE TABLE extra (id INT PRIMARY KEY)")
    return Then(lambda: n_of("b"), 7)


@case()
def xa(db: Any, cluster: Any) -> Then:
    for text in (
        "XA START 'x'",
        "INSERT INTO slot (name, n) VALUES ('b', 7)",
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
    ):
        db.execute_sql(text)
    return Then(lambda: n_of("b"), 7)


@case()
def raw_connection_and_its_own_commit(db: Any, cluster: Any) -> Then:
    conn = db.connection()
    conn.begin()
    conn.cursor().execute("INSERT INTO slot (name, n) VALUES ('b', 7)")
    conn.commit()
    return Then(lambda: n_of("b"), 7)


@case()
def raw_connection_and_its_own_rollback(db: Any, cluster: Any) -> Then:
    elsewhere(cluster, "UPDATE slot SET n = 2")
    conn = db.connection()
    conn.begin()
    conn.cursor().execute("SELECT n FROM slot")
    conn.rollback()
    return Then(n_of, 2)


@case()
def after_commit(db: Any, cluster: Any) -> Then:
    if not has_peewee("4.5"):
        pytest.skip("after_commit() needs peewee 4.5")
    seen: list[Any] = []

    def read() -> Any:
        with db.atomic():
            Slot.create(name="b", n=7)
            db.after_commit(lambda: seen.append(n_of("b")))
        return seen

    return Then(read, [7], plain=False)
