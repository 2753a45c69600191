"""Opening and closing: peewee's recipes work, and a program that only reads leaves the primary alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peewee import MySQLDatabase, PeeweeException
from support.clusters.repaired import repaired
from support.databases.plain import Person, end, plain_database, seed
from support.peewees import has_peewee, needs_peewee, some_need
from support.waiting import until

from peewee_replicas import NoReplicaAvailable, PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.testing import LocalCluster

CLASSES = [ReplicatedDatabase, PooledReplicatedDatabase]


@pytest.fixture(params=CLASSES)
def database(request: pytest.FixtureRequest, cluster: LocalCluster) -> Iterator[Any]:
    """Each class over the cluster, closed, with `Person` bound; counts begin here."""
    seed(cluster)
    made = cluster.database(request.param)
    cluster.reset_counts()
    with made.bind_ctx([Person]):
        yield made
    end(made)


def _opened(cluster: LocalCluster) -> dict[str, int]:
    return {name: counts.connections for name, counts in cluster.counts().items()}


# Errors


def _opened_twice(db: Any) -> None:
    db.connect()
    db.connect()


def _closed_in_transaction(db: Any) -> None:
    with db.atomic():
        db.close()


def _deferred(name: str) -> Callable[[Any], None]:
    def work(db: Any) -> None:
        getattr(type(db)(None), name)()

    return work


def _without_autoconnect(*arguments: str) -> Callable[[Any], None]:
    def work(db: Any) -> None:
        db.autoconnect = False
        getattr(db, arguments[0])(*arguments[1:])

    return work


def _select_without_autoconnect(db: Any) -> None:
    db.autoconnect = False
    with db.bind_ctx([Person]):
        Person.get_by_id(1)


def _begin_without_autoconnect(db: Any) -> None:
    db.autoconnect = False
    with db.atomic():
        pass


def _atomic_in_manual(db: Any) -> None:
    db.connect()
    with db.manual_commit(), db.atomic():
        pass


def _after_commit_in_manual(db: Any) -> None:
    db.connect()
    with db.manual_commit():
        db.after_commit(print)


ERRORS = {
    "opened twice": _opened_twice,
    "closed in a transaction": _closed_in_transaction,
    "not initialised: connect": _deferred("connect"),
    "not initialised: close": _deferred("close"),
    "not initialised: cursor": _deferred("cursor"),
    "not initialised: connection": _deferred("connection"),
    "not initialised: with": _deferred("__enter__"),
    "not initialised: begin": _deferred("begin"),
    "not initialised: execute_sql": lambda db: type(db)(None).execute_sql("SELECT 1"),
    "not initialised: a write": lambda db: type(db)(None).execute_sql("DELETE FROM t"),
    "not opened: read": _without_autoconnect("execute_sql", "SELECT 1"),
    "not opened: write": _without_autoconnect("execute_sql", "DELETE FROM nothing"),
    "not opened: cursor": _without_autoconnect("cursor"),
    "not opened: model": _select_without_autoconnect,
    "not opened: atomic": _begin_without_autoconnect,
    "not opened: commit": lambda db: db.commit(),
    "not opened: rollback": lambda db: db.rollback(),
    "atomic in manual_commit": _atomic_in_manual,
    "after_commit in manual_commit": _after_commit_in_manual,
}


CONNECTS_IN_PEEWEE_3 = ("not opened: atomic", "not opened: commit", "not opened: rollback")


@pytest.mark.parametrize("name", some_need(ERRORS, {"after_commit in manual_commit": "4.5"}))
def test_error_is_peewees_own(cluster: LocalCluster, name: str) -> None:
    found: list[Any] = []
    for made in (plain_database(cluster), cluster.database(consistency="eventual")):
        try:
            ERRORS[name](made)
            found.append(None)
        except Exception as exc:
            found.append((type(exc), str(exc).replace("Connection.__init__", "__init__")))
        end(made)
    assert found[0] == found[1]
    # Before 4.0, peewee connects for what ends a transaction, too.
    assert found[0] or not (has_peewee("4.0") or name not in CONNECTS_IN_PEEWEE_3)


def test_wrong_password_is_the_servers_own_error(cluster: LocalCluster) -> None:
    found = []
    for made in (
        plain_database(cluster, password="wrong"),
        cluster.database(consistency="eventual", password="wrong"),
    ):
        with pytest.raises(PeeweeException) as raised:
            made.connect()
        found.append((type(raised.value), raised.value.args[0]))
        assert made.is_closed()
    assert found[0] == found[1]


# Reading opens nothing on the primary


def test_connect_opens_one_replica_only(database: Any, cluster: LocalCluster) -> None:
    assert database.connect() is True
    assert not database.is_closed()
    assert _opened(cluster) == {"primary": 0, "replica-1": 1, "replica-2": 0}
    assert Person.get_by_id(1).name == "ada"  # it is the node that the read then uses
    assert _opened(cluster) == {"primary": 0, "replica-1": 1, "replica-2": 0}


@pytest.mark.lesson(26)
@pytest.mark.parametrize("recipe", ["connect", "connection_context", "autoconnect", "readonly"])
def test_reading_never_opens_the_primary(database: Any, cluster: LocalCluster, recipe: str) -> None:
    for _ in range(3):
        if recipe == "connect":
            database.connect(reuse_if_open=True)
        scope = database.readonly if recipe == "readonly" else database.connection_context
        if recipe == "autoconnect":
            names = [Person.get_by_id(n).name for n in (1, 2, 3, 1)]
        else:
            with scope():
                names = [Person.get_by_id(n).name for n in (1, 2, 3, 1)]
        assert names == ["ada", "grace", "alan", "ada"]
        assert database.is_connection_usable() == (not database.is_closed())
        if not database.is_closed():
            database.close()
    assert _opened(cluster)["primary"] == 0


@pytest.mark.parametrize("database_class", CLASSES)
def test_reading_goes_on_while_the_primary_is_down(server: str, database_class: Any) -> None:
    with repaired(server, 2, []) as own:
        seed(own)
        own.primary.kill()
        made = own.database(database_class, consistency="eventual")
        with made.bind_ctx([Person]):
            with made.connection_context():
                assert [Person.get_by_id(1).name for _ in range(4)] == ["ada"] * 4
            with made.readonly():
                assert Person.select().count() == 3
            with pytest.raises(PeeweeException) as raised:
                Person.create(name="lost")
            assert raised.value.args[0] in (2002, 2003)
            with pytest.raises(PeeweeException), made.atomic():
                pass
            assert not made.in_transaction()
            assert Person.get_by_id(1).name == "ada"
            own.primary.start()
            with made.atomic():
                Person.create(name="found")
            for replica in own.replicas:
                replica.kill()
            made.close()
            end(made)
            own.primary.kill()
            with pytest.raises((PeeweeException, NoReplicaAvailable)):
                made.connect()
            assert made.is_closed()


# Opening the primary late


@needs_peewee("4.0", "a connection_context() inside another, which leaves the connection open,")
def test_opening_the_primary_late_keeps_the_connection_context(database: Any, cluster: LocalCluster) -> None:
    with database.connection_context():
        with database.connection_context():
            Person.get_by_id(1)
            Person.update(age=1).where(Person.id == 1).execute()
        assert not database.is_closed()
        with database.atomic():
            assert Person.get_by_id(1).age == 1
        assert not database.is_closed()
    assert database.is_closed()
    assert _opened(cluster)["primary"] == 1


def test_opening_the_primary_late_keeps_manual_commit(database: Any) -> None:
    with database.manual_commit():
        assert database.in_transaction()
        database.begin()
        Person.update(age=1).where(Person.id == 1).execute()
        database.rollback()
        assert database.in_transaction()
    assert not database.in_transaction()
    assert plain_name(database, 1) == ("ada", 36)


def plain_name(database: Any, key: int) -> tuple[str, int]:
    """A row as the primary has it."""
    with database.primary():
        person = Person.get_by_id(key)
    return person.name, person.age


@needs_peewee("4.5", "after_commit()")
def test_opening_the_primary_late_keeps_commit_callbacks(database: Any) -> None:
    calls: list[str] = []
    with database.manual_commit():
        pass
    transaction = database.transaction()
    database.push_transaction(transaction)  # as a program that opens the transaction by itself
    database.after_commit(lambda: calls.append("called"))
    database.begin()
    Person.update(age=1).where(Person.id == 1).execute()
    assert database.pop_transaction() is transaction
    transaction.commit(False)
    assert calls == ["called"]


def test_with_block_commits_and_closes(database: Any) -> None:
    with database:
        Person.update(age=1).where(Person.id == 1).execute()
    assert database.is_closed()
    with pytest.raises(ValueError, match="undo"):
        _update_and_fail(database)
    assert database.is_closed()
    assert plain_name(database, 1) == ("ada", 1)


def _update_and_fail(database: Any) -> None:
    with database:
        Person.update(age=2).where(Person.id == 1).execute()
        raise ValueError("undo")


# Closing


def _sessions(cluster: LocalCluster) -> dict[str, int]:
    found = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = %s"
    return {node.name: node.execute(found, (cluster.user,))[0][0] for node in cluster.nodes}


def _settled_sessions(cluster: LocalCluster) -> dict[str, int]:
    """What stays: a session that was just closed is still listed for a moment."""
    looks = [_sessions(cluster)]

    def settled() -> bool:
        looks.append(_sessions(cluster))
        return looks[-1] == looks[-2]

    until(settled, pause=0.1)
    return looks[-1]


@pytest.fixture
def one(cluster: LocalCluster) -> Iterator[Any]:
    """A `ReplicatedDatabase` with `Person` bound."""
    seed(cluster)
    made = cluster.database(consistency="eventual")
    with made.bind_ctx([Person]):
        yield made
    end(made)


def _use_all(database: Any) -> None:
    Person.get_by_id(1)
    Person.get_by_id(1)
    Person.update(age=1).where(Person.id == 1).execute()


def test_close_closes_every_node_of_this_thread(one: Any, cluster: LocalCluster) -> None:
    before = _settled_sessions(cluster)
    _use_all(one)
    assert _sessions(cluster) == {name: count + 1 for name, count in before.items()}
    assert one.close() is True
    assert one.is_closed()
    assert one.close() is False
    until(lambda: _sessions(cluster) == before)


def test_close_leaves_other_threads_alone(one: Any, cluster: LocalCluster) -> None:
    opened, closed = threading.Event(), threading.Event()
    found: list[Any] = []

    def other() -> None:
        _use_all(one)
        opened.set()
        closed.wait(10)
        found.append((one.is_closed(), Person.get_by_id(1).name, one.in_transaction()))
        one.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert opened.wait(10)
    _use_all(one)
    one.close()
    closed.set()
    thread.join()
    assert found == [(False, "ada", False)]


def test_without_thread_safety_threads_share_connections(cluster: LocalCluster) -> None:
    seed(cluster)
    made = cluster.database(consistency="eventual", thread_safe=False)
    cluster.reset_counts()
    with made.bind_ctx([Person]):
        _use_all(made)
        thread = threading.Thread(target=_use_all, args=(made,))
        thread.start()
        thread.join()
    assert _opened(cluster) == {"primary": 1, "replica-1": 1, "replica-2": 1}
    end(made)


def test_without_autoconnect_nodes_open_once_connected(cluster: LocalCluster) -> None:
    seed(cluster)
    made = cluster.database(consistency="eventual", autoconnect=False)
    with made.bind_ctx([Person]):
        made.connect()
        _use_all(made)
        with made.atomic():
            assert Person.get_by_id(1).age == 1
    end(made)


def test_dispose_forgets_without_closing(one: Any, cluster: LocalCluster) -> None:
    _use_all(one)
    kept = [node.conn for node in one._parts.replicas.opened()] + [one._state.conn]
    assert len(kept) == 3
    one.dispose()
    assert one.is_closed()
    assert one._parts.replicas.opened() == []
    assert all(conn.open for conn in kept)
    for conn in kept:
        conn.close()
    _use_all(one)


def test_is_connection_usable_sees_a_dead_node(one: Any, cluster: LocalCluster) -> None:
    assert one.is_connection_usable() is False
    _use_all(one)
    assert one.is_connection_usable() is True
    node = cluster.node("replica-2")
    found = "SELECT id FROM information_schema.processlist WHERE user = %s"
    for (number,) in node.execute(found, (cluster.user,)):
        node.execute(f"KILL {number}")
    until(lambda: one.is_connection_usable() is False)


def test_init_twice_moves_to_the_new_servers(cluster: LocalCluster) -> None:
    seed(cluster)
    made = ReplicatedDatabase(None, policy="random", replicas=[{"host": "nowhere.invalid"}])
    assert made.deferred
    parameters = cluster.parameters(cluster.primary)
    name = parameters.pop("database")
    where = [{"name": node.name, "host": node.host, "port": node.port} for node in cluster.replicas]
    made.init(name, **parameters, replicas=where[:1])
    with made.bind_ctx([Person]):
        assert Person.get_by_id(1).name == "ada"
        assert [replica.name for replica in made.replicas] == ["replica-1"]
        made.init(name, replicas=where[1:])
        assert made.is_closed()
        assert Person.get_by_id(1).name == "ada"
        assert [replica.name for replica in made.replicas] == ["replica-2"]
        assert made.stats()["replica-2.reads"] == 1
    assert isinstance(made, MySQLDatabase)
    end(made)
