"""Whatever opens a transaction, and however: its reads stay on the primary until it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.databases.models import Item
from support.forms.threads import in_thread

from peewee_replicas import ReadOnlyViolation

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]

Context = Callable[[Any], Any]


def raw(enter: list[str], leave: list[str]) -> Context:
    @contextmanager
    def statements(db: Any) -> Iterator[None]:
        for text in enter:
            db.execute_sql(text)
        yield
        for text in leave:
            db.execute_sql(text)

    return statements


@contextmanager
def begin_on_a_raw_cursor(db: Any) -> Iterator[None]:
    cursor = db.cursor()
    cursor.execute("BEGIN")
    yield
    cursor.execute("COMMIT")


@contextmanager
def begin_on_the_connection(db: Any) -> Iterator[None]:
    db.connection().begin()
    yield
    db.connection().commit()


@contextmanager
def autocommit_off_on_the_connection(db: Any) -> Iterator[None]:
    db.connection().autocommit(False)
    yield
    db.connection().commit()
    db.connection().autocommit(True)


@contextmanager
def begin_and_commit(db: Any) -> Iterator[None]:
    with db.manual_commit():
        db.begin()
        yield
        db.commit()


@contextmanager
def nested(db: Any) -> Iterator[None]:
    with db.atomic(), db.atomic(), db.savepoint():
        yield


@contextmanager
def session(db: Any) -> Iterator[None]:
    db.session_start()
    yield
    db.session_commit()


CONTEXTS: dict[str, Context] = {
    "atomic": lambda db: db.atomic(),
    "transaction": lambda db: db.transaction(),
    "nested": nested,
    "manual_commit": lambda db: db.manual_commit(),
    "begin and commit": begin_and_commit,
    "session_start": session,
    "with db": lambda db: db,
    "primary": lambda db: db.primary(),
    "BEGIN": raw(["BEGIN"], ["COMMIT"]),
    "begin work": raw(["begin work"], ["rollback"]),
    "START TRANSACTION": raw(["START TRANSACTION"], ["COMMIT"]),
    "START TRANSACTION READ ONLY": raw(["START TRANSACTION READ ONLY"], ["COMMIT"]),
    "a comment before BEGIN": raw(["/* a */ BEGIN"], ["COMMIT"]),
    "COMMIT AND CHAIN": raw(["BEGIN", "COMMIT AND CHAIN"], ["COMMIT"]),
    "autocommit": raw(["SET autocommit=0"], ["COMMIT", "SET autocommit=1"]),
    "@@session.autocommit": raw(["SET @@session.autocommit = OFF"], ["SET autocommit=1"]),
    "XA": raw(["XA START 'x'"], ["XA END 'x'", "XA ROLLBACK 'x'"]),
    "LOCK TABLES READ": raw(["LOCK TABLES item READ"], ["UNLOCK TABLES"]),
    "LOCK TABLES WRITE": raw(["LOCK TABLES item WRITE"], ["UNLOCK TABLES"]),
    "BEGIN on a raw cursor": begin_on_a_raw_cursor,
    "BEGIN on the connection": begin_on_the_connection,
    "autocommit off on the connection": autocommit_off_on_the_connection,
}


def counted(cluster: Any) -> tuple[int, int]:
    counts = cluster.counts()
    return counts["primary"].reads, sum(counts[node.name].reads for node in cluster.replicas)


@pytest.mark.lesson(2)
@pytest.mark.parametrize("name", CONTEXTS)
def test_all_reads_inside_reach_the_primary_and_those_after_it_the_replicas(
    cluster: Any, db: Any, name: str
) -> None:
    Item.create(name="before")
    cluster.sync()
    with CONTEXTS[name](db):
        for _ in range(10):
            assert db.execute_sql("SELECT COUNT(*) FROM item").fetchone() == (1,)
        assert counted(cluster) == (10, 0)
    for _ in range(10):
        db.execute_sql("SELECT COUNT(*) FROM item")
    assert counted(cluster) == (10, 10)


@pytest.mark.lesson(2)
@pytest.mark.parametrize(
    "name", [name for name in CONTEXTS if name not in ("START TRANSACTION READ ONLY", "LOCK TABLES READ")]
)
def test_a_read_sees_what_its_own_transaction_wrote(cluster: Any, db: Any, name: str) -> None:
    with CONTEXTS[name](db):
        db.execute_sql("INSERT INTO item (name, n) VALUES ('mine', 1)")
        assert db.execute_sql("SELECT COUNT(*) FROM item").fetchone() == (1,)


@pytest.mark.lesson(3)
def test_a_transaction_whose_first_statement_is_a_read_writes_on_the_primary(cluster: Any, db: Any) -> None:
    for name in ("atomic", "BEGIN", "autocommit"):
        with CONTEXTS[name](db):
            Item.select().count()
            Item.create(name=name)
    counts = cluster.counts()
    assert counts["primary"].writes == 3
    assert [counts[node.name].reads for node in cluster.replicas] == [0, 0]
    cluster.sync()
    assert [node.execute("SELECT COUNT(*) FROM app.item") for node in cluster.nodes] == [[(3,)]] * 3


@pytest.mark.lesson(3)
def test_autocommit_off_counts_as_a_transaction_even_after_a_commit(cluster: Any, db: Any) -> None:
    db.execute_sql("SET autocommit=0")
    db.execute_sql("SELECT 1")
    db.execute_sql("COMMIT")
    db.execute_sql("SELECT 1")
    db.execute_sql("ROLLBACK")
    db.execute_sql("SELECT 1")
    assert counted(cluster) == (3, 0)


@pytest.mark.parametrize("ddl", ["CREATE TABLE implicit (a INT)", "TRUNCATE TABLE note"])
def test_an_implicit_commit_ends_a_raw_transaction(cluster: Any, db: Any, ddl: str) -> None:
    db.execute_sql("BEGIN")
    Item.create(name="a")
    db.execute_sql(ddl)
    cluster.reset_counts()
    try:
        db.execute_sql("SELECT 1")
        assert counted(cluster) == (0, 1)
    finally:
        db.execute_sql("DROP TABLE IF EXISTS implicit")


def test_a_transaction_that_failed_and_rolled_back_is_over(cluster: Any, db: Any) -> None:
    def fail() -> None:
        with db.atomic():
            Item.create(name="a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    cluster.reset_counts()
    db.execute_sql("SELECT 1")
    assert counted(cluster) == (0, 1)
    with db.primary():
        assert Item.select().count() == 0


def test_another_thread_is_in_no_transaction_of_this_one(cluster: Any, db: Any) -> None:
    def read() -> None:
        db.execute_sql("SELECT 1")
        db.close()

    with db.atomic():
        cluster.reset_counts()
        in_thread(read)
        assert counted(cluster) == (0, 1)
        db.execute_sql("SELECT 1")
        assert counted(cluster) == (1, 1)


def test_readonly_inside_a_transaction_is_an_error_by_default(cluster: Any, db: Any) -> None:
    for name in ("atomic", "BEGIN", "autocommit", "LOCK TABLES READ", "XA"):
        with CONTEXTS[name](db):
            cluster.reset_counts()
            with (
                pytest.raises(ReadOnlyViolation, match="inside a transaction"),
                db.readonly(),
            ):
                db.execute_sql("SELECT 1")
            assert counted(cluster) == (0, 0)


def test_readonly_joins_a_transaction_where_it_is_told_to(cluster: Any, db: Any) -> None:
    database = cluster.database(readonly_in_transaction="join", consistency="eventual")
    with database.bind_ctx([Item]), database.atomic():
        Item.create(name="mine")
        cluster.reset_counts()
        with database.readonly():
            assert Item.select().count() == 1  # of the transaction's own rows
            with pytest.raises(ReadOnlyViolation):
                Item.create(name="refused")
            with pytest.raises(ReadOnlyViolation, match="cannot guard an open transaction"):
                database.execute_sql("SELECT a_function_that_may_write()")
        assert counted(cluster) == (1, 0)
        assert cluster.counts()["primary"].writes == 0
        Item.create(name="allowed again")
        assert Item.select().count() == 2


def test_no_transaction_starts_inside_readonly(cluster: Any, db: Any) -> None:
    starts: list[Callable[[], Any]] = [
        lambda: db.atomic().__enter__(),
        lambda: db.transaction().__enter__(),
        lambda: db.begin(),
        lambda: db.manual_commit().__enter__(),
        lambda: db.session_start(),
        lambda: db.execute_sql("BEGIN"),
        lambda: db.execute_sql("START TRANSACTION READ ONLY"),
        lambda: db.execute_sql("SET autocommit=0"),
        lambda: db.execute_sql("XA START 'x'"),
        lambda: db.execute_sql("LOCK TABLES item READ"),
        lambda: db.cursor().execute("BEGIN"),
        lambda: db.cursor().execute("SET autocommit=0"),
    ]
    with db.readonly():
        for start in starts:
            with pytest.raises(ReadOnlyViolation):
                start()
        assert not db.in_transaction()
        assert Item.select().count() == 0
    Item.create(name="after")
    with db.atomic():
        assert Item.select().count() == 1
    assert {name: counts.begins for name, counts in cluster.counts().items()} == {
        "primary": 1,
        "replica-1": 0,
        "replica-2": 0,
    }


def test_a_transaction_begun_behind_our_back_on_a_reading_connection_freezes_no_later_read(
    cluster: Any, db: Any
) -> None:
    for tamper in (lambda conn: conn.begin(), lambda conn: conn.autocommit(False)):
        with db.readonly():
            db.execute_sql("SELECT COUNT(*) FROM item")
            tamper(db.connection())
            db.cursor().execute("SELECT COUNT(*) FROM item")
        Item.create(name="newer")
        cluster.sync()
        with db.primary():
            expected = Item.select().count()
        assert [Item.select().count() for _ in range(4)] == [expected] * 4
