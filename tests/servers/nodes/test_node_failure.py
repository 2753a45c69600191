"""Nodes that refuse connections, die, and come back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import peewee
import pytest
from support.clusters.repaired import repaired
from support.databases.models import Item
from support.databases.nodes import nodes_of
from support.forms import threads_only
from support.waiting import until

from peewee_replicas import NoReplicaAvailable, OutcomeUnknown, PooledReplicatedDatabase, ReadOnlyViolation
from peewee_replicas.nodes import breaker as health

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]


@pytest.fixture
def fragile(server: str) -> Iterator[Any]:
    """A cluster whose nodes may be killed, with one row in `item`."""
    with repaired(server, 2, [Item]) as cluster:
        database = cluster.database(consistency="eventual")
        with database.bind_ctx([Item]):
            Item.create(id=1, name="one")
            database.close()
            cluster.sync()
            cluster.reset_counts()
            yield cluster


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(health, "LONGEST_PAUSE", 0.05)


def read(database: Any) -> Any:
    return database.execute_sql("SELECT name FROM item WHERE id = 1").fetchone()[0]


@threads_only("starts threads itself")
@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_no_read_is_lost_when_a_replica_is_killed_under_threads(fragile: Any, cls: Any) -> None:
    database = fragile.database(cls, consistency="eventual")
    stop = threading.Event()
    done, failures = [0] * 6, []

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                assert read(database) == "one"
                with database.readonly():
                    assert read(database) == "one"
                done[number] += 1
                if done[number] % 7 == 0:
                    database.close()
            database.close()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(done))]
    for thread in threads:
        thread.start()
    until(lambda: min(done) > 20)
    fragile.replicas[0].kill()
    until(lambda: database.replicas[0].state == "ejected")
    seen = list(done)
    until(lambda: all(now > then + 20 for now, then in zip(done, seen, strict=True)))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert database.stats()["fallbacks"] == 0  # the other replica was there all the time
    assert fragile.counts()["primary"].reads == 0


@pytest.mark.lesson(21)
def test_a_replica_that_refuses_connections_from_the_start_is_passed_over(fragile: Any) -> None:
    fragile.replicas[0].stop()
    database = fragile.database(consistency="eventual")
    fragile.reset_counts()
    for _ in range(10):
        assert read(database) == "one"
    assert fragile.counts()["replica-2"].reads == 10
    assert fragile.counts()["primary"].reads == 0
    first, second = database.replicas
    assert (first.state, second.state) == ("ejected", "up")
    assert database.stats()["replica-1.ejections"] == 1


def test_a_readonly_scope_moves_when_its_replica_dies(fragile: Any) -> None:
    database = fragile.database(consistency="eventual")
    with database.readonly():
        read(database)
        mine = next(replica for replica in nodes_of(database) if replica.reads)
        fragile.node(mine.name).kill()
        for _ in range(5):
            assert read(database) == "one"
        other = next(replica for replica in nodes_of(database) if replica is not mine)
        assert other.reads == 5
    assert database.stats()["asked"] == 1  # how far the next node has to be, or reads would go backwards
    assert fragile.counts()["primary"].reads == 1


@pytest.mark.lesson(25)
def test_all_replicas_down_and_the_primary_serves(fragile: Any) -> None:
    database = fragile.database(consistency="eventual")
    read(database)
    for node in fragile.replicas:
        node.kill()
    fragile.reset_counts()
    assert [read(database) for _ in range(6)] == ["one"] * 6
    with database.readonly():
        assert read(database) == "one"
        with pytest.raises(ReadOnlyViolation):
            database.execute_sql("INSERT INTO item (name, n) VALUES ('refused', 1)")
    assert fragile.counts()["primary"].reads == 7
    assert fragile.counts()["primary"].writes == 0
    assert database.stats()["fallbacks"] >= 6
    assert "replica-1" in database.explain_route("SELECT 1").reason


@pytest.mark.lesson(25)
def test_all_replicas_down_is_an_error_where_the_primary_is_not_to_be_read(fragile: Any) -> None:
    database = fragile.database(fallback="error", consistency="eventual")
    for node in fragile.replicas:
        node.kill()
    fragile.reset_counts()
    with pytest.raises(NoReplicaAvailable) as raised:
        read(database)
    for node in fragile.replicas:
        assert node.name in str(raised.value)
        assert str(node.port) in str(raised.value)
    assert isinstance(raised.value.__cause__, peewee.OperationalError)
    with pytest.raises(NoReplicaAvailable, match="replica-1"):
        read(database)  # ejected by now, and still named
    assert fragile.counts()["primary"].reads == 0
    with database.bind_ctx([Item]):
        Item.create(name="writes go on")
        with database.atomic():
            assert Item.select().count() == 2
    with database.primary():
        assert read(database) == "one"


@pytest.mark.lesson(25)
def test_nothing_answers_and_the_error_names_every_node(fragile: Any) -> None:
    database = fragile.database(consistency="eventual")
    for node in fragile.nodes:
        node.kill()
    with pytest.raises(peewee.OperationalError) as raised:
        read(database)
    assert "replica-1" in str(raised.value)
    assert "replica-2" in str(raised.value)
    with pytest.raises(peewee.OperationalError):
        database.connect()
    assert database.is_closed()


@pytest.mark.lesson(26)
def test_reads_need_no_primary(fragile: Any) -> None:
    fragile.primary.kill()
    database = fragile.database(consistency="eventual")
    for _ in range(4):
        database.connect()
        assert read(database) == "one"
        with database.readonly():
            assert read(database) == "one"
        assert not database.is_closed()
        database.close()
        assert database.is_closed()
        with database.connection_context():
            assert read(database) == "one"
    with database.bind_ctx([Item]), pytest.raises(peewee.OperationalError):
        Item.create(name="lost")
    assert read(database) == "one"  # the failed write leaves the reads as they were
    pool = fragile.database(PooledReplicatedDatabase, consistency="eventual")
    assert read(pool) == "one"
    pool.close()


@pytest.mark.lesson(22)
def test_a_node_that_is_back_is_used_again(
    fragile: Any, quick_retries: None, caplog: pytest.LogCaptureFixture
) -> None:
    database = fragile.database(consistency="eventual")
    fragile.replicas[0].kill()
    for _ in range(4):
        read(database)
    assert database.replicas[0].state == "ejected"
    fragile.replicas[0].start()
    fragile.sync()
    with caplog.at_level(logging.INFO, "peewee.replicas"):
        until(lambda: read(database) == "one" and database.replicas[0].state == "up")
    assert "replica-1" in caplog.text
    assert "restored" in caplog.text
    fragile.reset_counts()
    for _ in range(110):
        read(database)
    back, other = (fragile.counts()[node.name].reads for node in fragile.replicas)
    assert back + other == 110
    assert 10 <= back <= 55  # it warms up, from a tenth of its share
    assert database.stats()["replica-1.restorations"] == 1


@pytest.mark.lesson(22)
def test_the_fallback_ends_when_a_replica_is_back(fragile: Any, quick_retries: None) -> None:
    database = fragile.database(consistency="eventual")
    for node in fragile.replicas:
        node.kill()
    read(database)
    fragile.replicas[1].start()
    fragile.sync()
    until(lambda: read(database) == "one" and database.replicas[1].state == "up")
    fragile.reset_counts()
    for _ in range(5):
        read(database)
    assert fragile.counts()["primary"].reads == 0
    assert fragile.counts()["replica-2"].reads == 5


@pytest.mark.lesson(23)
@threads_only("starts threads itself")
def test_exactly_one_caller_tries_an_ejected_node(fragile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trying, most = [0], [0]
    lock, release = threading.Lock(), threading.Event()
    database = fragile.database(consistency="eventual")
    fragile.replicas[0].kill()
    for _ in range(4):
        read(database)
    (ejected,) = [replica for replica in nodes_of(database) if replica.state == "ejected"]
    node = ejected.database.db
    original = type(node)._connect

    def slow(self: Any) -> Any:
        if self is not node:
            return original(self)
        with lock:
            trying[0] += 1
            most[0] = max(most[0], trying[0])
        release.wait(20)
        with lock:
            trying[0] -= 1
        return original(self)

    monkeypatch.setattr(type(node), "_connect", slow)
    ejected.breaker._until = 0.0  # its pause is over
    done: list[int] = []

    def work() -> None:
        for _ in range(5):
            read(database)
        database.close()
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: len(done) == 7)  # all but the one that tries go on
    release.set()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert len(done) == 8


@pytest.mark.lesson(24)
def test_sql_errors_eject_nobody(fragile: Any) -> None:
    database = fragile.database(consistency="eventual")
    read(database)
    wrong = [
        "SELECT FROM",
        "SELECT nothing FROM item",
        "SELECT * FROM no_such_table",
        "SELECT no_such_function(1)",
        "SELECT 1 / (SELECT 1 UNION SELECT 2)",
        "INSERT INTO item (id, name, n) VALUES (1, 'twice', 1)",
        "SELECT ~0 + 1",
    ]
    for text in wrong:
        with pytest.raises(peewee.PeeweeException):
            database.execute_sql(text)
        with database.readonly(), pytest.raises(peewee.PeeweeException):
            database.execute_sql(text)
    assert [replica.state for replica in database.replicas] == ["up", "up"]
    assert sum(database.stats()[f"{replica.name}.ejections"] for replica in database.replicas) == 0


def test_a_killed_idle_connection_costs_no_read_and_ejects_nobody(fragile: Any) -> None:
    database = fragile.database(consistency="eventual")
    for _ in range(2):
        read(database)
    for node in fragile.replicas:
        for (key,) in node.execute("SELECT id FROM information_schema.processlist WHERE user = 'app'"):
            node.execute(f"KILL {key}")
    for _ in range(4):
        assert read(database) == "one"
    assert [replica.state for replica in database.replicas] == ["up", "up"]
    assert database.stats()["fallbacks"] == 0


def test_a_node_ejected_by_hand_stays_out_until_it_is_restored(fragile: Any, quick_retries: None) -> None:
    database = fragile.database(consistency="eventual")
    first, second = database.replicas
    first.eject("maintenance")
    fragile.reset_counts()
    for _ in range(6):
        read(database)
    assert [fragile.counts()[node.name].reads for node in fragile.replicas] == [0, 6]
    second.eject("maintenance too")
    assert "maintenance too" in database.explain_route("SELECT 1").reason
    first.restore()
    for _ in range(6):
        read(database)
    assert [fragile.counts()[node.name].reads for node in fragile.replicas] == [6, 6]


@pytest.mark.lesson(20)
def test_a_write_is_never_retried(fragile: Any) -> None:
    database = fragile.database(consistency="eventual")
    slow = "SELECT id FROM information_schema.processlist WHERE user = 'app' AND info LIKE 'INSERT%'"
    with database.bind_ctx([Item]):
        Item.create(name="two")
        events: list[Any] = []
        database.route_hooks.append(events.append)
        found: list[Any] = []

        def kill() -> None:
            until(lambda: found.extend(fragile.primary.execute(slow)) or bool(found))
            fragile.primary.execute(f"KILL {found[0][0]}")

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(OutcomeUnknown):
            database.execute_sql("INSERT INTO item (name, n) SELECT 'three', SLEEP(60)")
        thread.join()
    assert [event.attempts for event in events] == [1]
    # MySQL ends the SLEEP() and inserts the row all the same, so that not the rows tell but the statements.
    assert fragile.counts()["primary"].writes == 2
