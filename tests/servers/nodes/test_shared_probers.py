"""Databases of one process that share a prober: what it costs, and that each gets its own findings.

What ends or changes the part of one of them, and must be nothing to the others, was found in
`nodes.prober.Prober`: it is disposed of, collected, initialised anew, gets other replicas, parameters or
another primary, is not used, or the process forks. What could spoil the shared connection is what
`ReplicaConnections.open_probe` takes from a database: its schema, and its credentials. What differs in
judging the same answer is `max_lag`, ejections by hand, and hooks.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import waiting
from support.clusters import SERVERS, administrator, heal, own_cluster
from support.clusters.promoting import set_read_only
from support.databases.nodes import nodes_of, stop_probers
from support.forks import in_child
from support.peewees import needs_asyncio

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.nodes import prober

READ = "SELECT COUNT(*) FROM mark"
TENANTS = [f"tenant_{number}" for number in range(5)]
ONE_EACH = [1, 1, 1]
SESSIONS = "SELECT id FROM information_schema.processlist WHERE user = '{}'"

until = functools.partial(waiting.until, seconds=60.0)


@pytest.fixture(scope="module", params=SERVERS)
def shared(request: pytest.FixtureRequest) -> Iterator[Any]:
    # 100 databases with a prober each would need more connections than this.
    with own_cluster(request.param, options={"*": {"max_connections": 60}}) as cluster:
        for tenant in TENANTS:
            cluster.primary.execute(f"CREATE DATABASE {tenant}")
            cluster.primary.execute(f"CREATE TABLE {tenant}.mark (n INT)")
            cluster.primary.execute(f"GRANT ALL PRIVILEGES ON {tenant}.* TO {cluster.user}@'%'")
        cluster.sync(60)
        yield cluster


@pytest.fixture
def nodes(shared: Any) -> Iterator[Any]:
    stop_probers()  # of other tests, so that their connections are not counted
    until(lambda: connections(shared) == [0, 0, 0])
    yield shared
    heal(shared)


Make = Callable[..., list[Any]]


@pytest.fixture
def tenants(nodes: Any) -> Iterator[Make]:
    """Makes databases of several tenants, which are in use and closed again."""
    made: list[Any] = []

    def make(number: int, cls: Any = ReplicatedDatabase, schema: str = "", **given: Any) -> list[Any]:
        new = []
        parameters = {**nodes.parameters(nodes.primary), "probe_interval": 0.2, "consistency": "eventual"}
        del parameters["database"]
        parameters["replicas"] = [
            {"name": node.name, "host": node.host, "port": node.port} for node in nodes.replicas
        ]
        for place in range(number):
            database = cls(schema or TENANTS[place % len(TENANTS)], **{**parameters, **given})
            use(database)
            new.append(database)
        made.extend(weakref.ref(database) for database in new)
        for database in new:
            assert database._parts.cluster.prober.looked.wait(30)
        return new

    yield make
    for reference in made:
        database = reference()
        if database is not None:
            database.close()
            database.dispose()


def use(database: Any) -> None:
    database.execute_sql(READ).fetchall()
    database.close()
    if isinstance(database, PooledReplicatedDatabase):
        database.close_all()


def connections(cluster: Any) -> list[int]:
    """How many connections the program has to each node, the primary first."""
    question = SESSIONS.format(cluster.user)
    return [len(node.execute(question)) if node.state == "running" else -1 for node in cluster.nodes]


def threads() -> list[str]:
    """The probers at work, without those threads that open a connection for them."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("prober of") and ", to " not in name]


def sharers(*databases: Any) -> set[Any]:
    """The probers of these databases."""
    return {database._parts.cluster.prober.seat.sharers for database in databases}


def all_are(state: str, databases: list[Any], place: int = 0) -> bool:
    return all(database.replicas[place].state == state for database in databases)


@pytest.mark.core
@pytest.mark.parametrize("cls", [ReplicatedDatabase, PooledReplicatedDatabase])
def test_a_hundred_databases_have_one_prober_and_each_its_findings(
    nodes: Any, tenants: Make, cls: Any
) -> None:
    heard: dict[Any, list[str]] = {}
    databases = tenants(100, cls, probe_interval=1.0)
    until(lambda: connections(nodes) == ONE_EACH)
    assert len(threads()) == 1
    for database in databases:
        states: list[str] = heard.setdefault(database, [])
        database.node_hooks.append(lambda event, states=states: states.append(event.state))
    assert all(all_are("up", databases, place) for place in (0, 1))
    assert not [node for database in databases for node in nodes_of(database) if node.lag is None]
    nodes.replicas[0].kill()
    until(lambda: all_are("ejected", databases))
    assert all_are("up", databases, 1)
    nodes.replicas[0].start()
    until(lambda: all_are("up", databases))
    until(lambda: connections(nodes) == ONE_EACH)
    name = nodes.replicas[0].name
    for database in databases:
        stats = database.stats()
        assert (stats[f"{name}.ejections"], stats[f"{name}.restorations"]) == (1, 1)
        assert heard[database][0] == "ejected"
        assert heard[database][-1] == "up"
    assert len(threads()) == 1


def dispose(databases: list[Any]) -> None:
    databases.pop(0).dispose()


def collect(databases: list[Any]) -> None:
    gone = weakref.ref(databases.pop(0))
    until(lambda: gc.collect() >= 0 and gone() is None)


def begin_anew(databases: list[Any]) -> None:
    databases[0].init("tenant_1", probe_interval=None)
    databases.pop(0)


def have_other_replicas(databases: list[Any]) -> None:
    first = databases.pop(0)
    first.set_replicas([{"name": "other", "host": "127.0.0.1", "port": 2}])
    until(lambda: all_are("ejected", [first]))


def have_another_password(databases: list[Any]) -> None:
    first = databases.pop(0)
    first.connect_params = {**first.connect_params, "password": "wrong"}
    until(lambda: sharers(first) != sharers(*databases))


def be_idle(databases: list[Any]) -> None:
    first = databases.pop(0)
    first._parts.cluster.prober._idle = prober.IDLE_SECONDS
    until(lambda: not first._parts.cluster.prober.at_work)
    assert nodes_of(first)[0].lag is None


@pytest.mark.parametrize(
    "go", [dispose, collect, begin_anew, have_other_replicas, have_another_password, be_idle]
)
def test_the_others_go_on_without_the_first(nodes: Any, tenants: Make, go: Any) -> None:
    databases = tenants(3)
    (before,) = sharers(*databases)
    go(databases)
    assert sharers(*databases) == {before}
    for database in databases:  # at the next connection, too, each of which another one opens
        nodes.replicas[0].kill()
        until(lambda: all_are("ejected", databases))
        nodes.replicas[0].start()
        until(lambda: all_are("up", databases))
        use(database)
    assert sharers(*databases) == {before}


def test_one_that_has_other_replicas_for_a_while_comes_back(nodes: Any, tenants: Make) -> None:
    databases = tenants(3)
    both = [{"name": node.name, "host": node.host, "port": node.port} for node in nodes.replicas]
    databases[0].set_replicas(both[:1])
    until(lambda: connections(nodes) == [2, 2, 1])
    assert len(threads()) == 2
    databases[0].set_replicas(both)
    until(lambda: connections(nodes) == ONE_EACH)
    until(lambda: len(sharers(*databases)) == len(threads()) == 1)
    assert all_are("up", databases, 0)
    until(lambda: all_are("up", databases, 1))


def test_a_primary_that_moves_in_one_moves_in_one(nodes: Any, tenants: Make) -> None:
    databases = tenants(3)
    databases[0].set_primary(nodes.replicas[0].name)
    until(lambda: len(sharers(*databases)) == 2)
    assert len(sharers(*databases[1:])) == 1
    databases[1].set_primary(nodes.replicas[0].name)
    until(lambda: sharers(databases[0]) == sharers(databases[1]) != sharers(databases[2]))
    assert all(all_are("up", databases[2:], place) for place in (0, 1))


def test_a_replica_that_becomes_the_primary_keeps_nobody_waiting_for_it(nodes: Any, tenants: Make) -> None:
    """Whoever opens a connection to another node waits until the primary has been asked."""
    everywhere = [
        {"name": node.name, "host": node.host, "port": node.port}
        for node in (nodes.replicas[0], nodes.replicas[1], nodes.primary)
    ]
    everywhere[2]["name"] = "first"
    (database,) = tenants(1, replicas=everywhere)
    (shared,) = sharers(database)
    line = shared.lines[1]
    set_read_only(nodes, nodes.replicas[0], False)
    try:
        database.set_primary(nodes.replicas[0].name)
        until(lambda: shared.lines[0] is line)
        until(line.sampled.is_set)
    finally:
        nodes.replicas[0].execute("SET GLOBAL read_only = ON")  # as after its start: administrators may write


def test_other_users_and_passwords_are_not_shared(nodes: Any, tenants: Make) -> None:
    others = [*tenants(2, user=nodes.admin_user), *tenants(1, password=lambda _: nodes.password)]
    databases = [*tenants(2), *others]
    assert len(sharers(*databases)) == len(threads()) == 3
    until(lambda: connections(nodes) == [2, 2, 2])


def test_each_has_its_own_bound_for_the_same_lag(nodes: Any, tenants: Make) -> None:
    (strict,), (patient,) = tenants(1, max_lag=0.5), tenants(1, max_lag=600)
    assert len(sharers(strict, patient)) == 1
    nodes.replicas[0].freeze()
    nodes.primary.execute("INSERT INTO tenant_0.mark VALUES (1)")
    until(lambda: all_are("lagging", [strict]))
    until(lambda: nodes_of(patient)[0].lag > 0.5)
    assert all_are("up", [patient])
    patient.replicas[0].eject("by hand")
    nodes.replicas[0].thaw()
    until(lambda: all_are("up", [strict]))
    assert all_are("ejected", [patient])


def test_reads_that_wait_at_a_hung_node_are_helped_in_every_database(nodes: Any, tenants: Make) -> None:
    """The prober's next round is far away: only reads that wait can have it look."""
    databases = tenants(3, probe_interval=100.0)
    assert len(sharers(*databases)) == 1
    nodes.replicas[0].pause()
    done: list[Any] = []

    def work(database: Any) -> None:
        for _ in range(2):  # one of them meets the node
            done.append(database.execute_sql("SELECT 1").fetchone())
        database.close()

    readers = [threading.Thread(target=work, args=(database,)) for database in databases[:2]]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert done == [(1,)] * 4
    until(lambda: all_are("ejected", databases))  # the third has not read, and is told last


def test_a_long_read_of_one_is_no_silence_where_others_are_answered(nodes: Any, tenants: Make) -> None:
    slow, quick = tenants(2, probe_interval=100.0)
    assert len(sharers(slow, quick)) == 1
    reader = threading.Thread(target=lambda: [slow.execute_sql("SELECT SLEEP(2)"), slow.close()])
    reader.start()
    while reader.is_alive():
        use(quick)
    assert all(all_are("up", [slow, quick], place) for place in (0, 1))
    assert slow.stats()["retries"] == 0


def test_a_schema_that_is_dropped_is_the_loss_of_its_database_alone(
    nodes: Any, tenants: Make, caplog: pytest.LogCaptureFixture
) -> None:
    nodes.primary.execute("CREATE DATABASE short_lived")
    nodes.primary.execute("CREATE TABLE short_lived.mark (n INT)")
    nodes.primary.execute(f"GRANT ALL PRIVILEGES ON short_lived.* TO {nodes.user}@'%'")
    nodes.sync(60)
    (first,) = tenants(1, schema="short_lived")
    databases = tenants(2)
    (before,) = sharers(first, *databases)
    nodes.primary.execute("DROP DATABASE short_lived")
    nodes.sync(60)
    with caplog.at_level(logging.INFO, "peewee.replicas"):
        for _ in range(4):  # so that each of them opens connections
            opened = [line.opened for line in before.lines]
            for node in nodes.nodes:
                for (session,) in node.execute(SESSIONS.format(nodes.user)):
                    node.execute(f"KILL {session}")
            until(lambda: all(map(int.__gt__, (line.opened for line in before.lines), opened)))  # noqa: B023
    assert not [text for text in caplog.messages if "not be probed" in text or "cannot" in text]
    assert sharers(first, *databases) == {before}
    # One whose second connection in a row was killed may be out for a moment.
    until(lambda: all(all_are("up", [first, *databases], place) for place in (0, 1)))


def test_a_node_comes_back_for_those_whose_schema_it_has(nodes: Any, tenants: Make) -> None:
    nodes.primary.execute("CREATE DATABASE half_there")
    nodes.primary.execute("CREATE TABLE half_there.mark (n INT)")
    nodes.primary.execute(f"GRANT ALL PRIVILEGES ON half_there.* TO {nodes.user}@'%'")
    nodes.sync(60)
    lacking, other = tenants(1, schema="half_there"), tenants(1)
    assert len(sharers(*lacking, *other)) == 1
    with administrator(nodes, nodes.replicas[0]) as local:
        local.cursor().execute("DROP DATABASE half_there")
    nodes.replicas[0].kill()
    until(lambda: all_are("ejected", [*lacking, *other]))
    nodes.replicas[0].start()
    until(lambda: all_are("up", other))
    until(lambda: "1049" in nodes_of(lacking[0])[0].cause)
    assert all_are("ejected", lacking)
    with administrator(nodes, nodes.replicas[0]) as local:
        local.cursor().execute("CREATE DATABASE half_there")
    until(lambda: all_are("up", lacking))
    nodes.primary.execute("DROP DATABASE half_there")


@pytest.mark.lesson(28)
def test_after_a_fork_parent_and_child_share_among_themselves(nodes: Any, tenants: Make) -> None:
    databases = tenants(3)

    def work() -> Any:
        before = len(threads())
        for database in databases:
            use(database)
        looked = [database._parts.cluster.prober.looked.wait(30) for database in databases]
        return [before, looked, len(threads()), connections(nodes)]

    assert in_child(work) == [0, [True] * 3, 1, ONE_EACH]
    for database in databases:
        use(database)
    until(lambda: connections(nodes) == ONE_EACH)
    assert len(sharers(*databases)) == len(threads()) == 1


@needs_asyncio
def test_databases_of_the_asyncio_form_share_one_too(nodes: Any) -> None:
    from peewee_replicas.aio import AsyncReplicatedDatabase

    replicas = [{"name": node.name, "host": node.host, "port": node.port} for node in nodes.replicas]
    parameters = {**nodes.parameters(nodes.primary), "replicas": replicas, "probe_interval": 0.2}

    async def work() -> None:
        databases = [AsyncReplicatedDatabase(**{**parameters, "database": tenant}) for tenant in TENANTS]
        for database in databases:
            await database.aexecute_sql("SELECT 1")
        assert len(sharers(*databases)) == len(threads()) == 1
        for database in databases[1:]:
            await database.close_pool()
        await asyncio.to_thread(until, lambda: databases[0]._parts.cluster.prober.looked.is_set())
        assert len(threads()) == 1
        await databases[0].close_pool()
        assert not threads()

    asyncio.run(work())
