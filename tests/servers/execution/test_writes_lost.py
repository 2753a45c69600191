"""Writes whose connection is lost: never sent twice, told apart by whether they may have taken effect."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import peewee
import pymysql
import pytest
from support.databases.models import Item
from support.forms import threads_only
from support.proxies.saboteur import Saboteur
from support.waiting import until

from peewee_replicas import OutcomeUnknown, PooledReplicatedDatabase

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]

CLASSES = [None, PooledReplicatedDatabase]


@contextlib.contextmanager
def spoiled(cluster: Any, cls: Any = None, **options: Any) -> Iterator[tuple[Any, Saboteur]]:
    """A database whose primary is behind a saboteur, connected to it."""
    with Saboteur(cluster.primary.port) as saboteur:
        usual = {"consistency": "eventual", "probe_interval": None, "ssl_disabled": True}
        database = cluster.database(cls, port=saboteur.port, **{**usual, **options})
        with database.bind_ctx([Item]):
            database.connection()
            try:
                yield database, saboteur
            finally:
                while database.in_transaction():
                    database.pop_transaction()
                database.close()


def names(cluster: Any) -> list[str]:
    """What is in the table on the primary."""
    return [name for (name,) in cluster.primary.execute("SELECT name FROM app.item ORDER BY id")]


def autocommit(database: Any) -> None:
    Item.create(name="ledger")


def leaving_atomic(database: Any) -> None:
    with database.atomic():
        Item.create(name="ledger")


def commit_by_hand(database: Any) -> None:
    with database.manual_commit():
        database.begin()
        Item.create(name="ledger")
        database.commit()


def raw_commit(database: Any) -> None:
    database.execute_sql("BEGIN")
    Item.create(name="ledger")
    database.execute_sql("COMMIT")


def ddl_in_a_transaction(database: Any) -> None:
    database.execute_sql("BEGIN")
    Item.create(name="ledger")
    database.execute_sql("ALTER TABLE item COMMENT = 'COMMIT'")


WRITES = {
    autocommit: "INSERT",
    leaving_atomic: "COMMIT",
    commit_by_hand: "COMMIT",
    raw_commit: "COMMIT",
    ddl_in_a_transaction: "COMMIT",
}


@pytest.mark.lesson(20)
@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", WRITES)
def test_a_lost_acknowledgement_is_an_unknown_outcome(
    db: Any, cluster: Any, write: Any, when: str, cls: Any
) -> None:
    with spoiled(cluster, cls) as (database, saboteur):
        saboteur.cut(WRITES[write], when)
        with pytest.raises(OutcomeUnknown) as caught:
            write(database)
        assert isinstance(caught.value, peewee.OperationalError)
        assert caught.value.args[0] == 2013
        assert isinstance(caught.value.__cause__, peewee.OperationalError)
        assert caught.value.__cause__.args[0] == 2013
        assert f"the primary (127.0.0.1:{saboteur.port})" in str(caught.value)
        assert "look at the data" in str(caught.value)
        # To the client both look the same; what was done was done once.
        assert names(cluster) == (["ledger"] if when == "after" else [])
        assert saboteur.spoiled == 1
        if write in (raw_commit, ddl_in_a_transaction):
            with pytest.raises(peewee.InterfaceError):  # as peewee's own: who began by hand ends by hand
                Item.create(name="outside")
            database.close()
        Item.create(name="next")  # without a restart
        assert names(cluster)[-1] == "next"


@pytest.mark.lesson(20)
@pytest.mark.parametrize("cls", CLASSES)
def test_a_write_lost_inside_a_transaction_is_rolled_back_and_known_to_be(
    db: Any, cluster: Any, cls: Any
) -> None:
    with spoiled(cluster, cls) as (database, saboteur):
        saboteur.cut("second", "after")
        with pytest.raises(peewee.OperationalError) as caught, database.atomic():
            Item.create(name="first")
            Item.create(name="second")
        assert not isinstance(caught.value, OutcomeUnknown)
        assert caught.value.args[0] == 2013
        assert "nothing of its transaction is kept" in str(caught.value)
        assert names(cluster) == []
        with database.atomic():
            Item.create(name="third")
        assert names(cluster) == ["third"]


def kill(cluster: Any, conn: Any) -> None:
    """Kill an idle connection, and wait until it shows."""
    cluster.primary.execute(f"KILL {conn.thread_id()}")
    until(conn.dropped)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_connection_lost_before_commit_is_no_unknown_outcome(db: Any, cluster: Any, cls: Any) -> None:
    database = cluster.database(cls, consistency="eventual")
    with database.bind_ctx([Item]):
        lost = pytest.raises(peewee.OperationalError, match=r"the primary.*COMMIT")
        with lost as caught, database.atomic():
            Item.create(name="lost")
            kill(cluster, database.connection())
        assert not isinstance(caught.value, OutcomeUnknown)
        assert caught.value.args[0] == 2006
        assert names(cluster) == []
        Item.create(name="next")
        assert names(cluster) == ["next"]
        with pytest.raises(KeyError), database.atomic():
            Item.create(name="lost too")
            kill(cluster, database.connection())
            raise KeyError  # a dead connection needs no rollback, so this is what is raised
        Item.create(name="last")
        assert names(cluster) == ["next", "last"]
    database.close()


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("write", [autocommit, leaving_atomic, commit_by_hand])
def test_an_idle_connection_that_died_costs_no_write(db: Any, cluster: Any, write: Any, cls: Any) -> None:
    database = cluster.database(cls, consistency="eventual")
    with database.bind_ctx([Item]):
        for round_ in range(3):
            kill(cluster, database.connection())
            write(database)
            assert names(cluster) == ["ledger"] * (round_ + 1)
        kill(cluster, database.connection())
        database.cursor().execute("INSERT INTO item (name, n) VALUES ('by hand', 0)")
        assert names(cluster)[-1] == "by hand"
    database.close()


@pytest.mark.parametrize(
    "leave",
    [
        "BEGIN",
        "SET SESSION sql_mode = 'ANSI'",
        "SET foreign_key_checks = 0",
        "SET NAMES latin1",
        "CREATE TEMPORARY TABLE aside (n INT)",
        "SELECT GET_LOCK('mine', 0)",
        "SET autocommit = 0",
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_what_was_set_on_a_connection_is_never_lost_in_silence(
    db: Any, cluster: Any, leave: str, raw: bool
) -> None:
    database = cluster.database(consistency="eventual")
    with database.bind_ctx([Item]):
        Item.create(name="first")
        if raw:
            with database.cursor() as cursor:
                cursor.execute(leave)
        else:
            database.execute_sql(leave)
        kill(cluster, database._state.conn)
        with pytest.raises(peewee.OperationalError, match="the primary"):
            Item.create(name="without it")
        with pytest.raises(peewee.InterfaceError):  # as peewee's own, until it is closed
            Item.create(name="without it too")
        database.close()
        Item.create(name="anew")
        assert names(cluster) == ["first", "anew"]
    database.close()


@threads_only("looks into the connection of a thread")
def test_a_read_that_could_not_be_sent_to_the_primary_is_sent_again(
    db: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = cluster.database(consistency="eventual")
    for scope in (database.primary, database.readonly):
        with contextlib.ExitStack() as stack:
            if scope == database.readonly:
                for replica in database.replicas:
                    replica.eject("away")
            stack.enter_context(scope())
            database.execute_sql("SELECT 1")
            conn = database._state.conn
            if scope == database.readonly:
                conn = database._parts.cluster.reader.database.conn
            monkeypatch.setattr(conn, "_poll", lambda _: [])  # as if it broke just now
            conn._sock.shutdown(socket.SHUT_WR)
            assert database.execute_sql("SELECT 2").fetchone() == (2,)
    with database.bind_ctx([Item]), database.primary():
        conn = database._state.conn
        monkeypatch.setattr(conn, "_poll", lambda _: [])
        conn._sock.shutdown(socket.SHUT_WR)
        with pytest.raises(peewee.OperationalError) as caught:
            Item.create(name="a write is not")
        assert caught.value.args[0] == 2006
        monkeypatch.undo()
        Item.create(name="next")
    assert names(cluster) == ["next"]
    assert database.stats()["retries"] == 2
    database.close()


# Errors that are the statement's own


@pytest.mark.lesson(24)
def test_a_lock_wait_that_takes_too_long_is_raised_once(db: Any, cluster: Any) -> None:
    Item.create(id=1, name="one")
    events: list[Any] = []
    db.route_hooks.append(events.append)
    with other_client(cluster) as cursor:
        cursor.execute("SELECT * FROM item WHERE id = 1 FOR UPDATE")
        db.execute_sql("SET SESSION innodb_lock_wait_timeout = 1")
        with pytest.raises(peewee.OperationalError) as caught:
            Item.update(n=1).where(Item.id == 1).execute()
    assert caught.value.args[0] == 1205
    assert events[-1].attempts == 1
    assert [replica.state for replica in db.replicas] == ["up", "up"]


@pytest.mark.lesson(24)
def test_a_deadlock_is_raised_once(db: Any, cluster: Any) -> None:
    Item.insert_many([{"id": n, "name": str(n)} for n in range(1, 50)]).execute()
    waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    events: list[Any] = []
    with other_client(cluster) as cursor:
        # The transaction that has changed less is given up.
        cursor.execute("UPDATE item SET n = 2 WHERE id > 2")
        with pytest.raises(peewee.OperationalError) as caught, db.atomic():
            Item.update(n=1).where(Item.id == 1).execute()
            thread = threading.Thread(target=cursor.execute, args=("UPDATE item SET n = 2 WHERE id = 1",))
            thread.start()
            # InnoDB keeps this table as it was for as long as it is read more often than every 0.1 s.
            until(lambda: cluster.primary.execute(waiting)[0][0], pause=0.2)
            db.route_hooks.append(events.append)
            Item.update(n=1).where(Item.id == 3).execute()
        thread.join()
    assert caught.value.args[0] == 1213
    assert [event.attempts for event in events if event.kind == "write"] == [1]
    assert [replica.state for replica in db.replicas] == ["up", "up"]


@contextlib.contextmanager
def other_client(cluster: Any) -> Iterator[Any]:
    """A cursor of somebody else's, in a transaction that is rolled back."""
    with contextlib.closing(pymysql.connect(**cluster.parameters("primary"))) as conn:
        yield conn.cursor()
        conn.rollback()


def test_a_snapshot_conflict_is_the_statements_affair(db: Any, cluster: Any) -> None:
    if not cluster.primary.execute("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'"):
        pytest.skip("this server does not raise 1020")
    Item.create(id=1, name="one")
    db.execute_sql("SET SESSION innodb_snapshot_isolation = ON")
    with pytest.raises(peewee.OperationalError) as caught, db.atomic():
        Item.get_by_id(1)
        cluster.primary.execute("UPDATE app.item SET n = 5 WHERE id = 1")
        Item.update(n=6).where(Item.id == 1).execute()
    assert caught.value.args[0] == 1020
    assert [replica.state for replica in db.replicas] == ["up", "up"]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("when", ["before", "after", "idle"])
def test_a_lost_commit_that_is_sent_again_does_not_seem_to_succeed(
    db: Any, cluster: Any, cls: Any, when: str
) -> None:
    with spoiled(cluster, cls) as (database, saboteur):
        with database.manual_commit():
            database.begin()
            Item.create(name="ledger")
            if when == "idle":
                kill(cluster, database.connection())
            else:
                saboteur.cut("COMMIT", when)
            errors = []
            for _ in range(3):
                with pytest.raises(peewee.OperationalError) as caught:
                    database.commit()
                errors.append((type(caught.value), str(caught.value)))
            assert len(set(errors)) == 1
            assert isinstance(caught.value, OutcomeUnknown) == (when != "idle")
        assert names(cluster) == (["ledger"] if when == "after" else [])
        with database.atomic():
            Item.create(name="next")
        assert names(cluster)[-1] == "next"


@pytest.mark.parametrize("raw", [False, True])
def test_an_interrupted_commit_is_not_reported_as_done_or_failed(
    db: Any, cluster: Any, raw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    with spoiled(cluster) as (database, _):
        commit = database.commit if not raw else lambda: database.execute_sql("COMMIT")
        database.execute_sql("BEGIN")
        Item.create(name="ledger")
        conn = database.connection()

        def arrived() -> bytes:
            until(lambda: names(cluster))
            conn._force_close()
            raise Interrupted

        monkeypatch.setattr(conn, "arrived", arrived)
        with pytest.raises(Interrupted):
            commit()
        with pytest.raises(peewee.PeeweeException) as caught:
            commit()
        assert "is kept" not in str(caught.value)
        assert raw or isinstance(caught.value, OutcomeUnknown)
        assert names(cluster) == ["ledger"]
        database.close()
