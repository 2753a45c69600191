"""A primary that is demoted or replaced: no restart, no write in the wrong place, and it is said."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import peewee
import pytest
from support.clusters.repaired import repaired
from support.databases.models import Item
from support.proxies.relay import Relay
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase, PrimaryReadOnly

CLASSES = [None, PooledReplicatedDatabase]
LOGGER = "peewee.replicas"


@pytest.fixture
def breakable(server: str) -> Iterator[Any]:
    """A cluster with an empty `item`, whose servers a test may promote, demote and kill."""
    with repaired(server, 2, [Item], spoils=True) as cluster:
        yield cluster


@contextlib.contextmanager
def opened(cluster: Any, cls: Any = None, **options: Any) -> Iterator[Any]:
    usual = {"consistency": "eventual", "probe_interval": None}
    database = cluster.database(cls, **{**usual, **options})
    with database.bind_ctx([Item]):
        yield database
    database.close()


def names(node: Any) -> list[str]:
    return [name for (name,) in node.execute("SELECT name FROM app.item ORDER BY id")]


def promote(cluster: Any) -> Any:
    """The first replica becomes a primary; who was it is left as it is."""
    node = cluster.replicas[0]
    node.execute("STOP SLAVE" if cluster.server == "mariadb" else "STOP REPLICA")
    if cluster.server == "mysql":
        node.execute("SET GLOBAL super_read_only = OFF")
    node.execute("SET GLOBAL read_only = OFF")
    return node


@pytest.mark.lesson(27)
@pytest.mark.parametrize("cls", CLASSES)
def test_a_primary_that_is_read_only_now_is_told_as_such(
    breakable: Any, cls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    primary = breakable.primary
    with opened(breakable, cls) as database, caplog.at_level(logging.WARNING, LOGGER):
        Item.create(name="before")
        primary.execute("SET GLOBAL read_only = ON")
        for _ in range(3):
            before = database._state.conn.thread_id() if database._state.conn else 0
            with pytest.raises(PrimaryReadOnly, match=r"the primary \(127.*roles have changed") as caught:
                Item.create(name="refused")
            assert isinstance(caught.value, peewee.OperationalError)
            assert caught.value.args[0] == 1290
            assert caught.value.__cause__.args[0] == 1290
            with database.primary():
                database.execute_sql("SELECT 1")
            assert database._state.conn.thread_id() != before  # its name is looked up anew
        with pytest.raises(PrimaryReadOnly), database.atomic():
            Item.create(name="refused too")
        assert not database.in_transaction()
        said = [record for record in caplog.records if "roles have changed" in record.message]
        assert len(said) == 1
        assert [replica.state for replica in database.replicas] == ["up", "up"]
        primary.execute("SET GLOBAL read_only = OFF")
        Item.create(name="after")
        assert names(primary) == ["before", "after"]
        primary.execute("SET GLOBAL read_only = ON")
        with pytest.raises(PrimaryReadOnly):
            Item.create(name="refused again")
        said = [record for record in caplog.records if "roles have changed" in record.message]
        assert len(said) == 2  # news again, since a write had worked


def test_what_another_option_refuses_is_no_change_of_roles(cluster: Any) -> None:
    refused = {"mysql": "SELECT 1 INTO OUTFILE '/none'", "mariadb": "SET GLOBAL max_user_connections = 5"}
    database = cluster.database(user=cluster.admin_user)
    database.connection()
    conn = database._state.conn
    with pytest.raises(peewee.OperationalError) as caught:
        database.execute_sql(refused[cluster.server])
    assert caught.value.args[0] == 1290
    assert not isinstance(caught.value, PrimaryReadOnly)
    with database.primary():
        database.execute_sql("SELECT 1")
    assert database._state.conn is conn
    database.close()


def test_a_read_only_transaction_of_the_users_own_is_no_change_of_roles(db: Any) -> None:
    with db.manual_commit():
        db.execute_sql("START TRANSACTION READ ONLY")
        with pytest.raises(peewee.OperationalError) as caught:
            Item.create(name="refused")
        db.rollback()
    assert caught.value.args[0] == 1792
    assert not isinstance(caught.value, PrimaryReadOnly)


@pytest.mark.lesson(27)
@pytest.mark.parametrize("cls", CLASSES)
def test_after_a_failover_that_cuts_connections_the_next_statement_is_on_the_new_primary(
    breakable: Any, cls: Any
) -> None:
    with Relay(breakable.primary.port) as relay, opened(breakable, cls, port=relay.port) as database:
        Item.create(name="old")
        breakable.sync()
        conn = database._state.conn
        new = promote(breakable)
        relay.lead_to(new.port)
        relay.drop()
        until(conn.dropped)
        Item.create(name="new")
        with database.atomic():
            Item.create(name="new too")
        assert names(breakable.primary) == ["old"]
        assert names(new) == ["old", "new", "new too"]


@pytest.mark.lesson(27)
@pytest.mark.parametrize("cls", CLASSES)
def test_after_a_failover_that_leaves_connections_open_each_thread_learns_it_once(
    breakable: Any, cls: Any
) -> None:
    size, errors = 4, []
    ready, go = threading.Barrier(size + 1), threading.Event()
    with Relay(breakable.primary.port) as relay, opened(breakable, cls, port=relay.port) as database:

        def work(number: int) -> None:
            Item.create(name=f"old {number}")
            ready.wait(20)
            go.wait(20)
            try:
                Item.create(name=f"lost {number}")
            except PrimaryReadOnly as exc:
                errors.append(exc)
            Item.create(name=f"new {number}")
            database.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(size)]
        for thread in threads:
            thread.start()
        ready.wait(20)
        breakable.sync()
        breakable.primary.execute("SET GLOBAL read_only = ON")
        new = promote(breakable)
        relay.lead_to(new.port)
        go.set()
        for thread in threads:
            thread.join()
        assert errors  # one of them found out; others may have heard of it before they wrote
        assert sorted(names(breakable.primary)) == sorted(f"old {number}" for number in range(size))
        assert {f"new {number}" for number in range(size)} <= set(names(new))
        assert len(names(new)) == 3 * size - len(errors)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_primary_that_dies_and_comes_back_is_written_to_without_a_restart(breakable: Any, cls: Any) -> None:
    primary = breakable.primary
    with opened(breakable, cls) as database:
        Item.create(name="before")
        breakable.sync()
        primary.kill()
        for _ in range(3):
            with pytest.raises(peewee.OperationalError, match=r"the primary \(127") as caught:
                Item.create(name="none")
            assert caught.value.args[0] == 2003
            assert Item.select().count() == 1  # reads go on
        with pytest.raises(peewee.OperationalError), database.atomic():
            Item.create(name="none")
        assert not database.in_transaction()
        primary.start()
        Item.create(name="after")
        with database.atomic():
            Item.create(name="after too")
        assert names(primary) == ["before", "after", "after too"]


@pytest.mark.lesson(27)
def test_a_demoted_primary_that_lives_on_is_left_without_a_write(
    breakable: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its address leads elsewhere, but the connections to it stay."""
    with Relay(breakable.primary.port) as relay:
        database = breakable.database(port=relay.port, probe_interval=0.1)
        database.execute_sql("CREATE TABLE mark (n INT)")
        breakable.sync()
        database.execute_sql("SELECT 1")
        # Where the first probe fails, the primary has not been seen to take writes yet.
        until(lambda: database._parts.cluster.writes == "taken")
        with database.primary(), caplog.at_level(logging.WARNING, "peewee.replicas"):
            database.execute_sql("SELECT 1")
            new = breakable.replicas[0]
            old = database.connection().thread_id()
            breakable.primary.execute("SET GLOBAL read_only = ON")
            until(lambda: database.connection().thread_id() != old)
            words = "SLAVE" if breakable.server == "mariadb" else "REPLICA"
            new.execute(f"STOP {words}")
            new.execute(f"RESET {words} ALL")
            if breakable.server == "mysql":
                new.execute("SET GLOBAL super_read_only = OFF")
            new.execute("SET GLOBAL read_only = OFF")
            relay.lead_to(new.port)
            until(lambda: database.execute_sql("SELECT @@port").fetchone() == (new.port,))
            database.execute_sql("INSERT INTO mark VALUES (1)")  # and nothing was refused
        assert "is read-only now" in caplog.text
        assert "is another server now" in caplog.text
        database.close()


def test_a_write_to_a_temporary_table_does_not_show_that_a_primary_is_writable(breakable: Any) -> None:
    # A server that is read-only takes it. Others' connections to it, or to the new primary, must stay.
    told: list[str] = []
    with opened(breakable) as database:
        database.node_hooks.append(lambda event: told.append(event.state))
        database.execute_sql("CREATE TEMPORARY TABLE mine (id INT)")
        Item.create(name="before")
        breakable.primary.execute("SET GLOBAL read_only = ON")
        begun, written = threading.Event(), threading.Event()
        seen: list[Any] = []

        def other() -> None:
            with pytest.raises(PrimaryReadOnly):
                Item.create(name="refused")
            with database.primary():
                seen.append(database.execute_sql("SELECT CONNECTION_ID()").fetchone())
                begun.set()
                written.wait(20)
                seen.append(database.execute_sql("SELECT CONNECTION_ID()").fetchone())
            database.close()

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(other)
            assert begun.wait(20)
            told.clear()
            database.execute_sql("INSERT INTO mine VALUES (1)")
            written.set()
            running.result()
        assert (database.health().writes, told) == (False, [])
        assert len(set(seen)) == 1
        # One that is opened later carries the table as well.
        database.close()
        database.execute_sql("CREATE TEMPORARY TABLE mine (id INT)")
        database.execute_sql("INSERT INTO mine VALUES (1)")
        assert (database.health().writes, told) == (False, [])
