"""`db.writes = "refuse"`: every write and transaction is refused before anything is sent, and reads go on.

The members of the kind are the ways in which a statement reaches the primary: `execute_sql()` in no scope, in
`primary()` and through `on_primary`, a raw cursor (one statement, many, a procedure), a transaction of
peewee's and a raw one, one that was open before, a connection that the program has kept although it is back
in its pool, and a read that a server finds to be a write. They were found by following the callers of
`PrimaryConnection.get()`. What the servers counted decides.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.clusters.lagging import Slot, bound, n_of
from support.databases.async_pools import making
from support.forms.threads import in_thread

from peewee_replicas import PooledReplicatedDatabase, ReadOnlyViolation

make = pytest.fixture(making)
FORBIDDEN = (
    "UPDATE slot SET n = 9",
    "DELETE FROM slot",
    "CREATE TABLE other (n INT)",
    "SELECT n FROM slot FOR UPDATE",
    "SELECT GET_LOCK('a', 0)",
    "CALL anything()",
    "BEGIN",
    "START TRANSACTION",
    "SAVEPOINT a",
    "LOCK TABLES slot WRITE",
    "XA START 'a'",
    "EXECUTE IMMEDIATE 'FLUSH STATUS'",
    "nonsense",
    "/*! UPDATE slot SET n = 9 */",
)


def sent(pair: Any) -> dict[str, int]:
    """What the primary counted that is no read, no setting and no end of a transaction."""
    harmless = {
        "Com_select",
        "Com_set_option",
        "Com_show_status",
        "Com_rollback",
        "Com_commit",
        "Connections",
    }
    raw = pair.counts()["primary"].raw
    return {name: raw[name] for name in raw if name.startswith("Com_") and name not in harmless}


@pytest.mark.usefixtures("form")
def test_nothing_that_could_write_is_sent(pair: Any) -> None:
    with bound(pair) as db:
        with db.primary():
            n_of()  # connections are open when the switch is thrown
        pair.reset_counts()
        db.on_primary.writes = "refuse"
        assert db.writes == "refuse"
        for sql in FORBIDDEN:
            for run in (db.execute_sql, db.on_primary.execute_sql, db.primary()(db.execute_sql)):
                with pytest.raises(ReadOnlyViolation, match='writes="refuse"'):
                    run(sql)
        for begin in (db.atomic, db.transaction, db.manual_commit, lambda: db, db.on_primary.atomic):
            with pytest.raises(ReadOnlyViolation, match='cannot start while writes="refuse"'), begin():
                pass
        with pytest.raises(ReadOnlyViolation), db.readonly(), db.primary():
            Slot.create(name="b")
        assert db.transaction_depth() == 0
        assert n_of() == 1
        assert sent(pair) == {}
        assert not db.health().writes
        db.writes = "allow"
        with db.atomic():
            Slot.update(n=2).execute()
        assert (n_of(), db.health().writes) == (2, True)


@pytest.mark.usefixtures("form")
def test_reads_and_settings_go_on_under_the_servers_guard(pair: Any) -> None:
    with bound(pair) as db:
        Slot.update(n=2).execute()
        db.writes = "refuse"
        assert n_of() == 2
        assert in_thread(lambda: (n_of(), db.close())[0]) == 2
        with db.readonly(), db.primary():
            assert n_of() == 2
        assert db.execute_sql("SHOW TABLES").fetchall()
        db.execute_sql("SET @a = 5")
        assert "a user variable" in db.explain_route("SELECT 1").reason
        assert db.execute_sql("SELECT @a").fetchone() == (5,)
        db.execute_sql("COMMIT")


def test_a_write_that_the_text_hides_is_refused_by_the_server(cluster: Any, db: Any, routine: Any) -> None:
    routine("FUNCTION", "hidden", "INSERT INTO note (text) VALUES ('x'); RETURN 1")
    vouching = cluster.database(pure_functions=["hidden"], consistency="eventual")
    for each, sql in ((db, "SELECT hidden()"), (db, "SET @a = hidden()"), (vouching, "SELECT hidden()")):
        each.writes = "refuse"
        with pytest.raises(ReadOnlyViolation, match='while writes="refuse"'):
            each.execute_sql(sql)
        each.close()
    db.writes = "allow"
    with db.primary():
        assert db.execute_sql("SELECT COUNT(*) FROM note").fetchone() == (0,)


@pytest.mark.usefixtures("form")
def test_a_transaction_that_is_open_may_read_and_ends(pair: Any) -> None:
    with bound(pair) as db:
        with db.atomic():
            Slot.update(n=2).execute()
            db.writes = "refuse"
            assert n_of() == 2
        assert n_of() == 2  # it was committed
        db.writes = "allow"
        with pytest.raises(ReadOnlyViolation, match="write"), db.atomic():
            Slot.update(n=3).execute()
            db.writes = "refuse"
            for refused in (lambda: db.execute_sql("SHOW TABLES"), db.savepoint().__enter__):
                with pytest.raises(ReadOnlyViolation):
                    refused()
            Slot.update(n=4).execute()
        assert n_of() == 2  # it was rolled back
        db.writes = "allow"
        db.execute_sql("BEGIN")
        Slot.update(n=5).execute()
        db.writes = "refuse"
        db.execute_sql("COMMIT")
        assert n_of() == 5


@pytest.mark.usefixtures("form")
def test_raw_cursors_may_only_read(pair: Any) -> None:
    with bound(pair) as db:
        before = db.cursor()
        pair.reset_counts()
        db.writes = "refuse"
        for cursor in (before, db.cursor()):
            for sql in FORBIDDEN:
                with pytest.raises(ReadOnlyViolation, match='writes="refuse"'):
                    cursor.execute(sql)
            with pytest.raises(ReadOnlyViolation):
                cursor.executemany("INSERT INTO mark (name) VALUES (%s)", [("a",), ("b",)])
            with pytest.raises(ReadOnlyViolation):
                cursor.callproc("anything")
            with pytest.raises(ReadOnlyViolation, match="only in execute_sql"):
                cursor.execute("SHOW TABLES")
            cursor.execute("SELECT n FROM slot")
            assert cursor.fetchall() == ((1,),)
        assert sent(pair) == {}
        db.writes = "allow"
        before.execute("UPDATE slot SET n = 2")
        assert pair.counts()["primary"].writes == 1


def test_a_pooled_connection_opened_meanwhile_is_refused_too(pair: Any) -> None:
    with bound(pair, PooledReplicatedDatabase) as db:
        db.close()
        db.writes = "refuse"
        with db.connection_context():
            with pytest.raises(ReadOnlyViolation):
                db.cursor().execute("UPDATE slot SET n = 9")
            with pytest.raises(ReadOnlyViolation):
                Slot.update(n=9).execute()
        db.writes = "allow"
        assert n_of() == 1


def test_a_connection_that_was_kept_while_it_is_back_in_its_pool_is_refused_too(pair: Any) -> None:
    with bound(pair, PooledReplicatedDatabase) as db:
        kept = db.connection()
        db.close()
        db.writes = "refuse"
        with pytest.raises(ReadOnlyViolation, match='writes="refuse"'):
            kept.cursor().execute("UPDATE slot SET n = 9")
        with db.connection_context():
            assert db.connection() is kept
            with pytest.raises(ReadOnlyViolation, match='writes="refuse"'):
                kept.cursor().execute("UPDATE slot SET n = 9")
        db.writes = "allow"
        assert n_of() == 1
