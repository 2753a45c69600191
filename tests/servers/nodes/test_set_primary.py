"""`set_primary()`: after a failover by hand, writes go to the node that took the primary's place.

What a thread may have at the old primary when it moves: nothing, an idle connection, a transaction (with a
statement to come, or COMMIT), ``manual_commit()``, a session with state of its own, a statement that is
running there. What a read may have to see: a write that the new primary has, or one that it lacks. The lists
were found from the branches of `PrimaryConnection.get()` and `Consistency.needs()`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import peewee
import pymysql
import pytest
from support.clusters import one_for_each
from support.clusters.promoting import Topology, caught_up, detach, promotable
from support.databases.models import Item
from support.forms import threads_only
from support.forms.threads import in_thread, in_threads
from support.waiting import until

from peewee_replicas import OutcomeUnknown, PooledReplicatedDatabase, PrimaryReadOnly

pytestmark = pytest.mark.usefixtures("form")


@pytest.fixture(scope="module")
def topologies() -> Iterator[Callable[[str], Topology]]:
    with one_for_each(promotable) as found:
        yield found


@pytest.fixture
def nodes(topologies: Any, request: pytest.FixtureRequest) -> Topology:
    """A healthy cluster with an empty `item`, which a test may leave as it likes."""
    found: Topology = topologies(getattr(request, "param", "mariadb"))
    found.begin_anew(Item)
    return found


@pytest.fixture
def db(nodes: Topology) -> Iterator[Any]:
    database = nodes.database()
    with database.bind_ctx([Item]):
        yield database
    database.close()


def names(node: Any) -> list[str]:
    return [name for (name,) in node.execute("SELECT name FROM app.item ORDER BY id")]


@pytest.mark.parametrize("nodes", ["mariadb", "mysql"], indirect=True)
def test_writes_go_to_the_named_node_and_the_old_primary_serves_reads(
    nodes: Topology, db: Any, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Any] = []
    db.node_hooks.append(events.append)
    Item.create(name="old")
    old = nodes.primary
    place = f"{old.host}:{old.port}"
    new = nodes.promote()
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        db.set_primary(nodes.name(new))
        db.set_primary(nodes.name(new))  # changes nothing
    assert [replica.name for replica in db.replicas] == [place, nodes.name(nodes.others[0])]
    assert db.stats()["primary_changes"] == 1
    assert [(event.node, event.state) for event in events] == [(nodes.name(new), "primary")]
    said = [record.message for record in caplog.records if "is the primary now" in record.message]
    label = f"{nodes.name(new)} ({new.host}:{new.port})"
    assert said == [f"{label} is the primary now, in place of {place}: set_primary() was called"]
    item = Item.create(name="new")
    assert Item.get_by_id(item.id).name == "new"
    nodes.sync()
    until(lambda: Item.select().count() == 2 and all(db.stats()[f"{one.name}.reads"] for one in db.replicas))
    with db.primary():
        assert db.execute_sql("SELECT @@port").fetchone() == (new.port,)
    assert names(new) == ["old", "new"]

    nodes.others.reverse()  # the old primary takes its place back
    assert nodes.promote() is old
    db.set_primary(place)
    Item.create(name="back")
    assert names(old) == ["old", "new", "back"]
    assert [replica.name for replica in db.replicas] == [nodes.name(new), nodes.name(nodes.others[0])]


@threads_only("the asyncio form has pools of its own")
def test_a_primary_that_is_listed_goes_on_serving_reads_and_set_replicas_keeps_the_new_one(
    nodes: Topology,
) -> None:
    listed = nodes.listed(nodes.primary, *nodes.others)
    database = nodes.database(PooledReplicatedDatabase, replicas=listed)
    with database.bind_ctx([Item]):
        in_threads(3, lambda: database.connection() and database.close())
        new = nodes.promote()
        database.set_primary(nodes.name(new))
        assert [replica.name for replica in database.replicas if replica.is_primary] == [nodes.name(new)]
        database.set_replicas([one for one in listed if one["port"] != new.port])
        in_threads(4, lambda: Item.create(name="a") and database.close())
        assert names(new) == ["a"] * 4
        assert not any(replica.is_primary for replica in database.replicas)
        database.init(database.database)
        with pytest.raises(PrimaryReadOnly):
            Item.create(name="b")  # `init` returned to the configured primary
    database.close()


@pytest.mark.parametrize("commits", [False, True], ids=["statement", "commit"])
def test_an_open_transaction_fails_as_on_a_lost_connection(nodes: Topology, db: Any, commits: bool) -> None:
    with pytest.raises(peewee.OperationalError) as caught, db.atomic():
        Item.create(name="lost")
        new = nodes.promote()
        in_thread(lambda: db.set_primary(nodes.name(new)))
        if not commits:
            Item.create(name="lost too")
    assert caught.value.args[0] in (2006, 2013)
    assert not isinstance(caught.value, OutcomeUnknown)
    with db.atomic():
        Item.create(name="kept")
    assert names(new) == ["kept"]


def test_neither_manual_commit_nor_a_session_with_state_writes_to_the_old_primary(
    nodes: Topology, db: Any
) -> None:
    """The old primary goes on taking writes, as when it cannot be reached by who promotes."""
    old, new = nodes.primary, nodes.others[0]
    Item.create(name="before")
    nodes.sync()
    nodes.promote_alone()
    with pytest.raises(peewee.OperationalError), db.manual_commit():
        db.execute_sql("SELECT 1")
        db.connection()
        in_thread(lambda: db.set_primary(nodes.name(new)))
        Item.create(name="lost")
    Item.create(name="new")
    in_thread(lambda: db.set_primary(f"{old.host}:{old.port}"))
    db.execute_sql("SET @own = 1")
    in_thread(lambda: db.set_primary(nodes.name(new)))
    with pytest.raises(peewee.OperationalError):
        Item.create(name="lost too")
    db.close()
    Item.create(name="new too")
    assert names(old) == ["before"]
    assert names(new) == ["before", "new", "new too"]


def test_a_commit_after_the_move_is_not_acknowledged_by_the_old_primary(nodes: Topology, db: Any) -> None:
    """The connection was executing when the primary moved, so the move itself has not cut it."""
    old, new = nodes.primary, nodes.others[0]
    nodes.promote_alone()
    with pytest.raises(peewee.OperationalError) as caught, db.atomic():
        conn = db.connection()
        beside = _beside(lambda: db.set_primary(nodes.name(new)), lambda: bool(conn.executing))
        db.execute_sql("INSERT INTO item (name, n) SELECT 'lost', 1 FROM (SELECT SLEEP(0.6)) AS slept")
        beside.join()
    assert not isinstance(caught.value, OutcomeUnknown)
    assert caught.value.args[0] in (2006, 2013)
    assert names(old) == names(new) == []


def test_a_raw_cursor_does_not_write_to_the_old_primary(nodes: Topology, db: Any) -> None:
    old, new = nodes.primary, nodes.others[0]
    nodes.promote_alone()
    cursor = db.cursor()
    in_thread(lambda: db.set_primary(nodes.name(new)))
    with pytest.raises(pymysql.err.Error):
        cursor.execute("INSERT INTO item (name, n) VALUES ('lost', 1)")
    assert names(old) == []


def test_the_old_primary_serves_no_read_before_it_is_seen_to_follow(nodes: Topology) -> None:
    database = nodes.database(probe_interval=0.2)
    with database.bind_ctx([Item]):
        Item.create(name="before")
        nodes.sync()
        new = nodes.promote_alone()
        database.set_primary(nodes.name(new))
        new.execute("INSERT INTO app.item (name, n) VALUES ('new', 1)")  # as another process would
        caught_up(nodes.cluster, nodes.others[0], new)
        for _ in range(20):
            with database.readonly(consistency="eventual"):
                assert [item.name for item in Item.select().order_by(Item.id)] == ["before", "new"]
    database.close()


def test_what_was_ejected_by_hand_stays_out_after_a_move(nodes: Topology, db: Any) -> None:
    new = nodes.promote()
    (kept,) = (replica.name for replica in db.replicas if replica.name != nodes.name(new))
    for replica in db.replicas:
        replica.eject("maintenance")
    db.set_primary(nodes.name(new))
    assert {replica.name: replica.state for replica in db.replicas}[kept] == "ejected"
    db.set_primary(f"{nodes.others[-1].host}:{nodes.others[-1].port}")
    assert {replica.name: replica.state for replica in db.replicas}[kept] == "ejected"


def test_a_transaction_cannot_move_the_primary_and_only_a_node_can_be_it(nodes: Topology, db: Any) -> None:
    name = nodes.name(nodes.others[0])
    with pytest.raises(peewee.OperationalError, match="inside a transaction"), db.atomic():
        Item.create(name="lost")
        db.set_primary(name)
    with pytest.raises(peewee.ImproperlyConfigured, match=f"the nodes are .*'{name}'.*did you mean '{name}'"):
        db.set_primary(name + "x")
    Item.create(name="kept")
    assert names(nodes.primary) == ["kept"]


def test_a_statement_on_a_hung_primary_ends_and_is_not_repeated(nodes: Topology, db: Any) -> None:
    Item.create(name="before")
    nodes.sync()
    old, new = nodes.primary, nodes.others[0]
    caught: list[BaseException] = []

    def write() -> None:
        try:
            Item.create(name="unknown")
        except peewee.OperationalError as exc:
            caught.append(exc)

    old.pause()
    try:
        nodes.promote_alone()
        conn = db.connection()
        beside = _beside(lambda: db.set_primary(nodes.name(new)), lambda: bool(conn.executing))
        write()
        beside.join()
    finally:
        old.resume()
    assert isinstance(caught[0], OutcomeUnknown)
    Item.create(name="new")
    assert names(new) == ["before", "new"]


def test_a_write_that_the_new_primary_lacks_is_not_waited_for(nodes: Topology, db: Any) -> None:
    Item.create(name="kept")
    nodes.sync()
    for node in nodes.others:
        detach(nodes.cluster, node)
    Item.create(name="lost")
    mark = db.bookmark()
    new = nodes.promote_alone()
    db.set_primary(nodes.name(new))
    db.replicas[0].eject("its rows are of another history")
    assert [item.name for item in Item.select()] == ["kept"]
    Item.create(name="new")
    assert [item.name for item in Item.select().order_by(Item.id)] == ["kept", "new"]
    with db.causal_session(mark):
        assert "new" in [item.name for item in Item.select()]
    assert db.stats()["positions_lost"]


def _beside(act: Callable[[], Any], when: Callable[[], bool]) -> threading.Thread:
    """A thread that acts once a condition holds."""

    def run() -> None:
        until(when)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread
