"""PooledReplicatedDatabase: one pool per node, and every connection back in its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import Any

import pytest
from playhouse.pool import MaxConnectionsExceeded, PooledDatabase
from support.databases.nodes import nodes_of
from support.databases.plain import Person, making
from support.forms.threads import in_thread, in_threads

from peewee_replicas import (
    PooledReplicatedDatabase,
    ReadOnlyViolation,
)
from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.core

NODES = ("primary", "replica-1", "replica-2")


@pytest.fixture
def make(cluster: LocalCluster) -> Iterator[Callable[..., Any]]:
    """Makes pooled databases."""
    with making(cluster, Person) as make:
        yield partial(make, PooledReplicatedDatabase)


def _pools(database: Any) -> dict[str, Any]:
    """The databases that hold connections, by the node's name; a replica's is made at first need."""
    return {"primary": database, **{replica.name: replica.database.db for replica in nodes_of(database)}}


def _idle(database: Any) -> dict[str, int]:
    return {name: len(pool._connections) for name, pool in _pools(database).items()}


def _in_use(database: Any) -> dict[str, int]:
    return {name: len(pool._in_use) for name, pool in _pools(database).items()}


def _use_all(database: Any) -> None:
    for _ in range(20):
        if len(database._parts.replicas.opened()) < 2:  # other threads take turns of the policy too
            Person.get_by_id(1)
    Person.update(age=1).where(Person.id == 1).execute()


def _everywhere(count: int) -> dict[str, int]:
    return dict.fromkeys(NODES, count)


def _port(conn: Any) -> int:
    with conn.cursor() as cursor:
        cursor.execute("SELECT @@port")
        return int(cursor.fetchone()[0])


def test_connections_are_used_again(make: Any, cluster: LocalCluster) -> None:
    database = make()
    cluster.reset_counts()
    for _ in range(5):
        with database.connection_context():
            _use_all(database)
            assert (_in_use(database), _idle(database)) == (_everywhere(1), _everywhere(0))
        assert (_in_use(database), _idle(database)) == (_everywhere(0), _everywhere(1))
    assert {name: counts.connections for name, counts in cluster.counts().items()} == _everywhere(1)


@pytest.mark.lesson(30)
def test_connections_return_to_the_pool_they_came_from(make: Any, cluster: LocalCluster) -> None:
    database = make()

    def use() -> None:
        for _ in range(10):
            with database.connection_context():
                _use_all(database)

    assert in_threads(4, use) == [None] * 4
    for name, pool in _pools(database).items():
        ports = {_port(conn) for _, _, conn in pool._connections}
        assert ports == {cluster.node(name).port}
        assert {conn.guarded for _, _, conn in pool._connections} == {name != "primary"}


def test_two_threads_never_share_a_connection(make: Any) -> None:
    database = make()
    both_open = threading.Barrier(2)

    def use() -> set[int]:
        with database.connection_context():
            _use_all(database)
            held = {id(node.conn) for node in database._parts.replicas.opened()} | {id(database._state.conn)}
            both_open.wait(10)
            return held

    one, two = in_threads(2, use)
    assert len(one) == len(two) == 3
    assert not one & two


def test_the_limit_is_each_nodes_own(make: Any) -> None:
    database = make(max_connections=2, fallback="error")
    hold, full = threading.Event(), threading.Barrier(3)

    def use() -> None:
        with database.connection_context():
            _use_all(database)
            full.wait(10)
            hold.wait(10)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    full.wait(10)
    try:
        assert _in_use(database) == _everywhere(2)
        with pytest.raises(MaxConnectionsExceeded):
            Person.get_by_id(1)
        with pytest.raises(MaxConnectionsExceeded), database.atomic():
            pass
        with pytest.raises(MaxConnectionsExceeded):
            database.connect()
        assert [replica.state for replica in database.replicas] == ["up", "up"]
        stats = database.stats()
        assert (stats["replica-1.ejections"], stats["replica-2.ejections"]) == (0, 0)
        assert not database.in_transaction()
    finally:
        hold.set()
        for thread in threads:
            thread.join()
    with database.connection_context():
        _use_all(database)
    assert _in_use(database) == _everywhere(0)


def test_timeout_waits_for_a_connection_of_that_node(make: Any) -> None:
    database = make(max_connections=1, timeout=10)
    opened, leave = threading.Event(), threading.Event()

    def use() -> None:
        with database.connection_context():
            _use_all(database)
            opened.set()
            leave.wait(10)

    thread = threading.Thread(target=use)
    thread.start()
    assert opened.wait(10)
    timer = threading.Timer(0.2, leave.set)
    timer.start()
    try:
        with database.connection_context():
            assert leave.is_set()
            _use_all(database)
    finally:
        leave.set()
        thread.join()
        timer.join()


@pytest.mark.parametrize("how", ["raw", "autocommit", "lock"])
def test_a_leaked_transaction_ends_at_check_in(make: Any, cluster: LocalCluster, how: str) -> None:
    database = make()
    begin = {"raw": "BEGIN", "autocommit": "SET autocommit = 0", "lock": "LOCK TABLES dropin_person WRITE"}
    database.execute_sql(begin[how])
    Person.update(age=99).where(Person.id == 1).execute()
    database.close()
    with database.connection_context():
        Person.update(age=98).where(Person.id == 2).execute()
        assert database.explain_route(Person.select()).role == "replica"
        database.execute_sql("ROLLBACK")
    rows = dict(cluster.primary.execute(f"SELECT id, age FROM `{cluster.database_name}`.dropin_person"))
    assert rows[2] == 98
    assert rows[1] == (99 if how == "lock" else 36)


@pytest.mark.parametrize(
    "statement",
    [
        "SET @leaked = 1",
        "CREATE TEMPORARY TABLE dropin_leaked (n INT)",
        "SET SESSION sql_mode = ''",
        "DO GET_LOCK('l', 0)",
    ],
)
def test_a_marked_connection_is_closed_instead_of_pooled(make: Any, statement: str) -> None:
    database = make()
    database.execute_sql(statement)
    _use_all(database)
    database.close()
    assert _idle(database)["primary"] == 0
    # A mark that no decision has looked at yet, made by a raw cursor.
    database.cursor().execute(statement)
    database.close()
    assert _idle(database)["primary"] == 0
    with database.connection_context():
        _use_all(database)
    assert _idle(database)["primary"] == 1


def test_a_state_left_on_a_replica_is_not_pooled(make: Any, cluster: LocalCluster) -> None:
    """A stored function may set a variable wherever it runs, and no guard sees that."""
    function = f"`{cluster.database_name}`.dropin_mark"
    cluster.primary.execute(f"DROP FUNCTION IF EXISTS {function}")
    body = "NO SQL BEGIN SET @leaked = 1; RETURN 1; END"
    cluster.primary.execute(f"CREATE FUNCTION {function}() RETURNS INT {body}")
    cluster.sync()
    database = make()
    with database.readonly():
        database.execute_sql("SELECT dropin_mark()")
        assert sum(_in_use(database).values()) == 1
    database.close()
    assert sum(_idle(database).values()) == 0


def test_close_idle_covers_every_node(make: Any) -> None:
    database = make()
    _use_all(database)
    database.close()
    assert _idle(database) == _everywhere(1)
    _use_all(database)
    in_thread(lambda: (_use_all(database), database.close()))
    assert (_in_use(database), _idle(database)) == (_everywhere(1), _everywhere(1))
    database.close_idle()
    assert (_in_use(database), _idle(database)) == (_everywhere(1), _everywhere(0))
    _use_all(database)


def test_close_stale_covers_every_node(make: Any) -> None:
    database = make()
    _use_all(database)
    held = [next(iter(pool._in_use.values())).connection for pool in _pools(database).values()]
    assert database.close_stale(age=60) == 0
    assert database.close_stale(age=-1) == 3
    assert _in_use(database) == _everywhere(0)
    assert [conn.open for conn in held] == [False] * 3


def test_close_all_covers_every_node(make: Any) -> None:
    database = make()
    _use_all(database)
    database.close()
    opened, closed = threading.Event(), threading.Event()
    held: list[Any] = []

    def use() -> None:
        _use_all(database)
        held.extend([node.conn for node in database._parts.replicas.opened()])
        held.append(database._state.conn)
        opened.set()
        closed.wait(10)
        database.dispose()

    thread = threading.Thread(target=use)
    thread.start()
    assert opened.wait(10)
    _use_all(database)
    database.close_all()
    closed.set()
    thread.join()
    assert database.is_closed()
    assert [conn.open for conn in held] == [False] * 3
    assert (_in_use(database), _idle(database)) == (_everywhere(0), _everywhere(0))


def test_manual_close_covers_every_node_of_this_thread(make: Any) -> None:
    database = make()
    _use_all(database)
    held = [node.conn for node in database._parts.replicas.opened()] + [database._state.conn]
    database.manual_close()
    assert database.is_closed()
    assert [conn.open for conn in held] == [False] * 3
    assert (_in_use(database), _idle(database)) == (_everywhere(0), _everywhere(0))
    assert database.manual_close() is False


def test_manual_close_when_only_a_replica_is_open(make: Any, cluster: LocalCluster) -> None:
    database = make()
    cluster.reset_counts()
    Person.get_by_id(1)
    database.manual_close()
    assert database.is_closed()
    assert cluster.counts()["primary"].connections == 0


def test_stale_timeout_holds_on_every_node(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make(stale_timeout=60)
    _use_all(database)
    database.close()
    assert _idle(database) == _everywhere(1)
    first = [conn for pool in _pools(database).values() for _, _, conn in pool._connections]
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 120)
    _use_all(database)
    assert [conn.open for conn in first] == [False] * 3


def test_a_pooled_connection_that_died_is_not_handed_out(make: Any, cluster: LocalCluster) -> None:
    database = make(fallback="error")
    _use_all(database)
    database.close()
    for node in cluster.nodes:
        found = "SELECT id FROM information_schema.processlist WHERE user = %s"
        for (number,) in node.execute(found, (cluster.user,)):
            node.execute(f"KILL {number}")
    for pool in _pools(database).values():
        conn = pool._connections[0][2]
        waiting = threading.Event()
        assert any(conn.dropped() or waiting.wait(0.02) for _ in range(250))
    _use_all(database)
    assert database.stats()["fallbacks"] == 0
    assert [replica.state for replica in database.replicas] == ["up", "up"]


def test_init_changes_the_limits_of_every_pool(make: Any, cluster: LocalCluster) -> None:
    database = make()
    parameters = cluster.parameters(cluster.primary)
    database.init(parameters.pop("database"), max_connections=3, stale_timeout=5, **parameters)
    _use_all(database)
    assert {pool._max_connections for pool in _pools(database).values()} == {3}
    assert {pool._stale_timeout for pool in _pools(database).values()} == {5}


def pool_waits(database: Any, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Filled with what threads hold whenever they may wait for a pool's connection, and that pool's node."""
    connect = PooledDatabase.connect
    found: set[tuple[str, str]] = set()

    def noted(pool: Any, reuse_if_open: bool = False) -> Any:
        held = [node.node.label for node in database._parts.replicas.opened()]
        held += ["the primary"] if database._state.conn is not None else []
        found.update((one, "the primary" if pool is database else pool.opening.node.label) for one in held)
        return connect(pool, reuse_if_open)

    monkeypatch.setattr(PooledDatabase, "connect", noted)
    return found


def have_one_order(waits: set[tuple[str, str]]) -> bool:
    """Whether no threads can ever wait for each other in a circle."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for held, wanted in waits:
        sorter.add(wanted, held)
    try:
        sorter.prepare()
    except CycleError:
        return False
    return True


@pytest.mark.once
def test_small_pools_do_not_wait_for_each_other(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # A wait that runs into this timeout raises.
    database = cluster.database(PooledReplicatedDatabase, max_connections=2, timeout=60)
    waits = pool_waits(database, monkeypatch)
    database.execute_sql("DROP TABLE IF EXISTS pooled")
    database.execute_sql("CREATE TABLE pooled (n INT)")
    database.close()

    def work() -> None:
        for _ in range(15):
            with database.connection_context():
                for _ in range(2):
                    database.execute_sql("SELECT COUNT(*) FROM pooled").fetchone()
                    database.execute_sql("INSERT INTO pooled VALUES (1)")
                    with database.readonly():
                        database.execute_sql("SELECT COUNT(*) FROM pooled").fetchone()

    in_threads(6, work)
    assert {wanted for _, wanted in waits} >= {"the primary"}
    assert have_one_order(waits), waits
    # What other threads have written, a replica need not show to this one yet.
    assert database.on_primary.execute_sql("SELECT COUNT(*) FROM pooled").fetchone() == (6 * 15 * 2,)
    database.execute_sql("DROP TABLE pooled")
    database.close_all()


@pytest.mark.once
def test_small_pools_of_the_primary_do_not_wait_for_each_other(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = cluster.database(PooledReplicatedDatabase, replicas=(), max_connections=1, timeout=60)
    waits = pool_waits(database, monkeypatch)
    database.execute_sql("SELECT 1")
    ready, go = threading.Event(), threading.Event()
    answers: list[Any] = []

    def other() -> None:
        with database.readonly():
            answers.append(database.execute_sql("SELECT 2").fetchone())
            ready.set()
            go.wait(60)
        answers.append(database.execute_sql("SELECT GET_LOCK('none', 0) + 2").fetchone())
        database.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert ready.wait(60)
    with database.readonly():  # the other one has the connection for reading, this one the primary's own
        assert database.execute_sql("SELECT 3").fetchone() == (3,)
        with pytest.raises(ReadOnlyViolation):
            database.execute_sql("DELETE FROM item")
    go.set()
    database.close()
    thread.join()
    assert answers == [(2,), (3,)]
    # Only the other one, which had nothing that this one needed.
    assert waits == {(database._parts.cluster.reader.label, "the primary")}
    database.close_all()


@contextmanager
def every_reading_connection_taken(database: Any) -> Iterator[threading.Event]:
    """Another thread has all connections for reading that the pools allow, until the event is set."""
    taken, leave = threading.Event(), threading.Event()

    def take_all() -> None:
        with database.connection_context():
            for replica in database._parts.cluster.replicas.all:
                database._parts.replicas.reach(replica)
            database._parts.replicas.reach(database._parts.cluster.reader)
            taken.set()
            leave.wait(30)

    thread = threading.Thread(target=take_all)
    thread.start()
    try:
        assert taken.wait(10)
        yield leave
    finally:
        leave.set()
        thread.join()


def test_a_raw_cursor_inside_readonly_waits_as_a_statement_does(make: Any) -> None:
    """Also where this thread has the primary's connection, for which others may be waiting."""
    database = make(max_connections=1, timeout=20, fallback="primary")
    database.execute_sql("DO 0")  # this thread has the primary's connection
    with every_reading_connection_taken(database) as leave:
        timer = threading.Timer(0.2, leave.set)
        try:
            with database.readonly():
                database.execute_sql("SELECT 1").fetchall()
            timer.start()
            with database.readonly():
                cursor = database.cursor()
                assert leave.is_set()
                cursor.execute("SELECT 1")
                assert cursor.fetchall() == ((1,),)
        finally:
            leave.set()
            timer.join()


def test_a_raw_cursor_does_not_wait_without_end_for_what_another_may_hold(make: Any) -> None:
    database = make(max_connections=1, timeout=0)  # to peewee, no limit
    database.execute_sql("DO 0")
    with (
        every_reading_connection_taken(database),
        database.readonly(),
        pytest.raises(MaxConnectionsExceeded),
    ):
        database.cursor()
