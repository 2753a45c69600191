"""What is owed while the primary is away stays owed; what is explained after a failure is what happens."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import peewee
import pytest
from support.clusters.lagging import Slot, elsewhere, frozen, impatient, n_of
from support.databases.models import Item
from support.waiting import until


def test_an_obligation_stays_while_the_primary_is_down(
    own_pair: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with impatient(own_pair, probe_interval=None) as db, frozen(own_pair):
        assert n_of() == 1
        elsewhere(own_pair, "UPDATE slot SET n = 2")
        Slot.update(n=2).where(Slot.n == 2).execute()  # changes nothing, and has seen that it is 2
        own_pair.primary.kill()
        with caplog.at_level(logging.WARNING, "peewee.replicas"):
            for _ in range(5):
                assert n_of() == 1  # reads go on without the primary
        assert len([record for record in caplog.records if "cannot be asked" in record.message]) == 1
        asked = db.stats()["unasked"]
        assert 1 <= asked < 5  # one read in a pause finds out
        own_pair.primary.start()
        until(lambda: n_of() == 2, 60)
        assert n_of() == 2
        assert not db._parts.consistency.own_session().owes or db.stats()["fallbacks"]


BODY = (
    "CREATE PROCEDURE half() BEGIN CREATE TEMPORARY TABLE IF NOT EXISTS aside (n INT); "
    "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'half way'; END"
)


def test_explain_route_is_right_after_a_procedure_that_failed(db: Any) -> None:
    db.execute_sql("DROP PROCEDURE IF EXISTS half")
    db.execute_sql(BODY)
    events: list[Any] = []
    db.route_hooks.append(events.append)
    try:
        with pytest.raises(peewee.OperationalError, match="half way"):
            db.execute_sql("CALL half()")
        route = db.explain_route("SELECT COUNT(*) FROM item")
        db.execute_sql("SELECT COUNT(*) FROM item")
        assert (events[-1].role, events[-1].node, events[-1].reason) == (route.role, route.node, route.reason)
        assert route.role == "primary"
    finally:
        db.close()
        db.execute_sql("DROP PROCEDURE half")


def test_explaining_after_a_plain_failure_changes_nothing(db: Any) -> None:
    Item.create(id=1, name="one")
    with pytest.raises(peewee.IntegrityError):
        Item.create(id=1, name="twice")
    assert db.explain_route("SELECT COUNT(*) FROM item").role == "replica"


def test_explaining_on_a_connection_that_was_lost_raises_nothing(db: Any, cluster: Any) -> None:
    Item.create(id=1, name="one")
    with pytest.raises(peewee.IntegrityError):
        Item.create(id=1, name="twice")
    conn = db._state.conn
    cluster.primary.execute(f"KILL {conn.thread_id()}")
    until(conn.dropped)
    assert db.explain_route("SELECT COUNT(*) FROM item").role == "replica"


def test_the_name_of_a_cursor_is_handed_on(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[Any] = []
    original = peewee.Database.cursor

    def cursor(*args: Any, **kwargs: Any) -> Any:
        names.append(inspect.signature(original).bind(*args, **kwargs).arguments.get("named_cursor"))
        return original(*args, **kwargs)

    monkeypatch.setattr(peewee.Database, "cursor", cursor)
    db.cursor(named_cursor="mine").close()
    with db.readonly():
        db.cursor(named_cursor="theirs").close()
    assert names == ["mine", "theirs"]


def test_what_a_transaction_read_is_seen_again_after_close_ended_it(cluster: Any, db: Any) -> None:
    own, other = cluster.database(catch_up_timeout=0.05), cluster.database()
    with frozen(cluster):
        other.execute_sql("INSERT INTO item (name, n) VALUES ('a', 0)")
        own.execute_sql("BEGIN")
        assert own.execute_sql("SELECT COUNT(*) FROM item").fetchone() == (1,)
        own.close()
        assert own.execute_sql("SELECT COUNT(*) FROM item").fetchone() == (1,)
    own.close()
    other.close()


def test_a_read_without_replicas_asks_the_primary_nothing_else(cluster: Any) -> None:
    database = cluster.database()
    for replica in database.replicas:
        replica.eject("away")
    database.on_primary.execute_sql("SELECT 1")  # leaves it owing the primary's position
    database.execute_sql("SELECT 1")
    database.execute_sql("SELECT 1")
    assert database.stats()["asked"] == 0
    assert database.stats()["fallbacks"] == 2
    database.close()
