"""What the prober finds out about nodes that live, and what becomes of reads."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from support import waiting
from support.clusters import SERVERS, heal
from support.clusters.repaired import repaired
from support.databases.nodes import nodes_of
from support.peewees import has_peewee
from support.proxies.relay import Relay

from peewee_replicas import NoReplicaAvailable, PooledReplicatedDatabase, ReadOnlyViolation

pytestmark = pytest.mark.core

READ = "SELECT COUNT(*) FROM mark"


until = functools.partial(waiting.until, seconds=30.0)


@pytest.fixture(scope="module", params=SERVERS)
def shared(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A cluster whose nodes the tests of this module disturb, and heal."""
    with repaired(request.param, 2, []) as cluster:
        cluster.primary.execute(f"CREATE TABLE {cluster.database_name}.mark (n INT)")
        yield cluster


@pytest.fixture
def nodes(shared: Any) -> Iterator[Any]:
    yield shared
    heal(shared)


@pytest.fixture
def probed(nodes: Any) -> Iterator[Callable[..., Any]]:
    """Makes databases that are probed often."""
    made = []

    def make(cls: Any = None, **arguments: Any) -> Any:
        given = {"consistency": "eventual", "probe_interval": 0.1, **arguments}
        database = nodes.database(cls, **given)
        made.append(database)
        if given.get("reads") != "primary":
            database.execute_sql(READ)
        database._parts.cluster.prober.use(database._parts.replicas)
        assert database._parts.cluster.prober.looked.wait(30)
        return database

    yield make
    for database in made:
        database.close()
        database.dispose()


def write(cluster: Any) -> None:
    """What another program does on the primary."""
    cluster.primary.execute(f"INSERT INTO {cluster.database_name}.mark VALUES (1)")


def states(database: Any) -> list[str]:
    return [replica.state for replica in database.replicas]


def keep_using(database: Any, condition: Callable[[], Any]) -> None:
    until(lambda: database.execute_sql(READ) and condition())


class Found:
    """What the prober finds out about replicas: noted, and kept from being taken in while it is held."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.lags: list[list[float | None]] = [[] for _ in database.replicas]
        self._taking = threading.Lock()
        for replica, lags in zip(nodes_of(database), self.lags, strict=True):
            replica.probed = functools.partial(self._judged, replica.probed, lags)

    def _judged(self, judged: Callable[..., None], lags: list[float | None], *given: Any) -> None:
        with self._taking:
            judged(*given)
            lags.append(given[0].lag)

    def _holds(self, condition: Callable[[], Any]) -> bool:
        self.database.execute_sql(READ)
        self._taking.acquire()
        if condition():
            return True
        self._taking.release()
        return False

    @contextlib.contextmanager
    def held(self, condition: Callable[[], Any]) -> Iterator[None]:
        """Wait until it is so, and keep it so."""
        until(lambda: self._holds(condition))
        try:
            yield
        finally:
            self._taking.release()


def test_an_idle_cluster_is_known_and_costs_nobody_a_select(nodes: Any, probed: Any) -> None:
    queries: list[Any] = []
    database = probed()
    if has_peewee("4.5"):
        database.query_hooks.append(queries.append)
    database.route_hooks.append(queries.append)
    nodes.reset_counts()
    began = time.monotonic()
    seen = []
    while len(seen) < 15:
        keep_using(database, lambda: True)
        until(lambda: database._parts.cluster.replicas.unwatched)  # a round has begun
        seen.append([replica.lag for replica in database.replicas])
    assert max(max(lags) for lags in seen) < time.monotonic() - began  # it does not grow
    counts = nodes.counts()
    assert sum(counts[node.name].reads for node in nodes.replicas) == 15
    assert counts["primary"].reads == 0
    assert len(queries) == (30 if has_peewee("4.5") else 15)  # the user's own, once for each hook
    for replica in database.replicas:
        assert (replica.role, replica.state) == ("replica", "up")
        assert replica.position == nodes.primary.position().replace("\n", "")
        assert database.stats()[f"{replica.name}.lag"] is not None
        assert database.stats()[f"{replica.name}.state"] == "up"


@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_a_killed_replica_costs_no_read(nodes: Any, probed: Any, cls: Any, caplog: Any) -> None:
    database = probed(cls)
    events: list[Any] = []
    database.node_hooks.append(events.append)
    until(lambda: all(replica.lag is not None for replica in database.replicas))
    with caplog.at_level(logging.INFO, "peewee.replicas"):
        nodes.replicas[0].kill()
        until(lambda: states(database) == ["ejected", "up"])
        attempts: list[Any] = []
        database.route_hooks.append(attempts.append)
        for _ in range(6):
            database.execute_sql(READ)
        assert [event.attempts for event in attempts] == [1] * 6
        nodes.replicas[0].start()
        until(lambda: states(database) == ["up", "up"])  # nobody has to read for that
        until(lambda: len(events) == 2)  # told after the state has changed
    assert [(event.node, event.state) for event in events] == [("replica-1", "ejected"), ("replica-1", "up")]
    assert events[0].database == nodes.database_name
    assert "2003" in events[0].cause or "2013" in events[0].cause
    about = [text for text in caplog.messages if "replica-1" in text]
    assert ["ejected" in about[0], "restored" in about[1], len(about)] == [True, True, 2]


@pytest.mark.lesson(22)
def test_a_lagging_replica_is_left_and_comes_back(nodes: Any, probed: Any) -> None:
    database = probed(max_lag=0.5)
    events: list[Any] = []
    database.node_hooks.append(events.append)
    nodes.replicas[0].freeze()
    write(nodes)
    keep_using(database, lambda: states(database) == ["lagging", "up"] and database.replicas[0].lag > 0.5)
    nodes.replicas[1].freeze()
    write(nodes)
    keep_using(database, lambda: states(database) == ["lagging", "lagging"])
    route = database.explain_route(READ)
    assert route.role == "primary"
    assert "behind, more than max_lag=0.5" in route.reason
    strict = probed(max_lag=0.5, fallback="error", reads="primary")
    assert states(strict) == ["lagging", "lagging"]  # it has seen them reach nothing
    with strict.readonly(), pytest.raises(NoReplicaAvailable, match="lag is not known"):
        strict.execute_sql(READ)
    for node in nodes.replicas:
        node.thaw()
    until(lambda: states(database) == ["up", "up"])
    assert {event.state for event in events} == {"lagging", "up"}
    assert not any(database.stats()[f"{replica.name}.ejections"] for replica in database.replicas)


def test_a_delayed_replica_is_as_late_as_it_is(nodes: Any, probed: Any) -> None:
    began = time.monotonic()
    database = probed(max_lag=None)
    found = Found(database)
    first, second = database.replicas
    nodes.replicas[0].delay(2)
    try:

        def late() -> bool:
            write(nodes)
            return bool(first.lag > 1.5 and second.lag < first.lag)  # a server may wait for whole seconds

        with found.held(late):
            assert first.lag < time.monotonic() - began  # it had all when that began
    finally:
        nodes.replicas[0].delay(0)
    until(lambda: first.lag < 1.0)


def test_a_scope_with_a_bound_of_its_own(nodes: Any, probed: Any) -> None:
    database = probed(max_lag=None)
    found = Found(database)
    first, second = database.replicas
    events: list[Any] = []
    database.route_hooks.append(events.append)
    nodes.replicas[0].freeze()
    write(nodes)
    nodes.sync(60)
    # The bound is taken from what is found, for on a busy machine the other is late now and then, too.
    with found.held(lambda: first.lag > second.lag + 0.5):
        assert states(database) == ["up", "up"]
        bound = second.lag + 0.25
        events.clear()
        for _ in range(4):
            with database.readonly(max_lag=bound):
                database.execute_sql(READ)
        assert [event.node for event in events] == ["replica-2"] * 4
        chosen = []
        for _ in range(2):
            with database.readonly():
                database.execute_sql(READ)
                chosen.append(events[-1].node)
                with database.readonly(max_lag=bound):
                    database.execute_sql(READ)
                    assert events[-1].node == "replica-2"  # a scope around it leaves a node that is behind
                database.execute_sql(READ)
                assert events[-1].node == "replica-2"  # and does not go back to it
        assert set(chosen) == {"replica-1", "replica-2"}
    nodes.replicas[1].freeze()
    write(nodes)
    with found.held(lambda: min(first.lag, second.lag) > bound), database.readonly(max_lag=bound):
        database.execute_sql(READ)
        assert events[-1].role == "primary"
        assert f"more than max_lag={bound}" in events[-1].reason


@pytest.mark.lesson(18)
def test_replication_that_was_stopped_is_no_lag_of_zero(nodes: Any, probed: Any) -> None:
    database = probed(user=nodes.admin_user, max_lag=None)
    statements = nodes.replicas[0]._statements
    for stop, start in [
        (statements.stop, statements.start),
        (statements.stop_applier, statements.start_applier),
    ]:
        nodes.replicas[0].execute(stop)
        until(lambda: states(database) == ["unfit", "up"])
        assert database.replicas[0].lag is None
        assert "replication is stopped" in database._parts.router.reasons(set())
        nodes.replicas[0].execute(start)
        until(lambda: states(database) == ["up", "up"])


@pytest.mark.parametrize("granted", [False, True])
def test_while_the_primary_is_gone_lag_stands_still(nodes: Any, probed: Any, granted: bool) -> None:
    user = nodes.admin_user if granted else nodes.user
    database = probed(max_lag=None, user=user, reads="primary", fallback="error")
    events: list[Any] = []

    def told() -> list[str]:
        return [event.state for event in events if event.node == "primary"]

    database.node_hooks.append(events.append)
    nodes.primary.kill()
    until(lambda: told() == ["down"])
    found = Found(database)
    with database.readonly():
        keep_using(database, lambda: min(map(len, found.lags)) > 15)
    for lags in found.lags:
        assert lags[-1] <= lags[1]  # the first may be of a moment when the primary was not known to be gone
    assert states(database) == ["up", "up"]
    nodes.primary.start()
    until(lambda: told() == ["down", "up"])
    nodes.sync(30)


def test_lag_from_a_heartbeat_table(nodes: Any, probed: Any, caplog: Any) -> None:
    table = f"{nodes.database_name}.heartbeat"
    nodes.primary.execute(
        f"CREATE TABLE {table} (ts VARCHAR(26) NOT NULL, server_id INT UNSIGNED NOT NULL PRIMARY KEY, "
        "file VARCHAR(255), position BIGINT UNSIGNED, relay_master_log_file VARCHAR(255), "
        "exec_master_log_pos BIGINT UNSIGNED)"
    )
    when = datetime(2026, 1, 1, 12)  # the servers' own, wherever that is

    def beat(seconds: float) -> None:
        ts = (when + timedelta(seconds=seconds)).isoformat(timespec="microseconds")
        nodes.primary.execute(f"REPLACE INTO {table} (ts, server_id) VALUES ('{ts}', 1)")

    beat(0)
    nodes.sync()
    database = probed(heartbeat_table="heartbeat")
    keep_using(database, lambda: [replica.lag for replica in database.replicas] == [0.0, 0.0])
    nodes.replicas[0].freeze()
    beat(300)
    keep_using(database, lambda: database.replicas[0].lag == 300.0)
    keep_using(database, lambda: states(database) == ["lagging", "up"])
    nodes.replicas[0].thaw()
    keep_using(database, lambda: states(database) == ["up", "up"])
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        other = probed(heartbeat_table="no_such_table")
        until(lambda: other.replicas[0].lag is not None)
    assert "no_such_table" in caplog.text
    nodes.primary.execute(f"DROP TABLE {table}")


def test_a_replica_that_is_the_primary_by_another_address(nodes: Any, probed: Any, caplog: Any) -> None:
    with Relay(nodes.primary.port) as relay, caplog.at_level(logging.WARNING, "peewee.replicas"):
        replicas = [{"name": "disguised", "host": "127.0.0.1", "port": relay.port}]
        database = probed(replicas=replicas)
        until(lambda: database.replicas[0].role == "primary")
        until(lambda: "disguised" in caplog.text)
        assert (database.replicas[0].state, database.replicas[0].lag) == ("up", 0.0)
        assert "the primary itself" in caplog.text
        assert database.execute_sql(READ).fetchone()
        with database.readonly(), pytest.raises(ReadOnlyViolation):
            database.execute_sql("INSERT INTO mark VALUES (2)")
        database.close()
        database.dispose()


@pytest.mark.lesson(28)
def test_reads_and_probes_share_no_connection(nodes: Any, probed: Any) -> None:
    """Two databases, each with a prober of its own."""
    databases = [probed(probe_interval=0.01), probed(PooledReplicatedDatabase, probe_interval=0.01)]
    assert databases[0]._parts.cluster.prober is not databases[1]._parts.cluster.prober
    failures: list[Any] = []

    def work(number: int) -> None:
        try:
            for turn in range(400):
                marker = f"{number}-{turn}"
                for database in databases:
                    found = database.execute_sql("SELECT CONCAT(%s, '')", (marker,)).fetchone()[0]
                    assert found == marker
            for database in databases:
                database.close()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for database in databases:
        assert states(database) == ["up", "up"]
        assert database.stats()["fallbacks"] == 0


def test_a_session_waits_less_where_positions_are_known(nodes: Any, probed: Any) -> None:
    database = probed(consistency="session")
    for _ in range(2):
        database.execute_sql(READ)
    database.execute_sql("INSERT INTO mark VALUES (3)")
    keep = [replica.progress for replica in nodes_of(database)]
    waits = []
    for number in range(2):  # at first each connection's server is asked who it is, and where
        database.execute_sql("INSERT INTO mark VALUES (%s)", (4 + number,))
        seen = database._parts.consistency.own_session().seen
        until(
            lambda seen=seen: all(progress.reached.covers(seen) for progress in keep)
        )  # by the prober alone
        for _ in range(4):
            database.execute_sql(READ)
        waits.append(database.stats()["waits"])
    assert waits[0] == waits[1]


@pytest.mark.parametrize("cls", [None, PooledReplicatedDatabase])
def test_parent_and_child_have_each_a_prober_of_their_own(nodes: Any, probed: Any, cls: Any) -> None:
    database = probed(cls)

    def look() -> str:
        answers = [database.execute_sql("SELECT CAST(%s AS CHAR)", (n,)).fetchone()[0] for n in range(20)]
        looked = database._parts.cluster.prober.looked.wait(30)
        return f"{answers == [str(n) for n in range(20)]} {looked} {states(database)}"

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = "failed"
        try:
            answer = look()
        finally:
            os.write(writing, answer.encode())
            os._exit(0)
    mine = look()  # both at once
    os.close(writing)
    with open(reading, "rb") as answered:
        assert answered.read().decode() == mine == "True True ['up', 'up']"
    os.waitpid(pid, 0)


@pytest.mark.parametrize("server", ["mysql"])  # the other is set up without TLS
def test_a_connection_that_the_prober_is_opening_when_it_ends_is_closed(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is exchanged while TLS begins, so that nobody else can close it then."""
    original = ssl.SSLContext.wrap_socket
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wrap(self: Any, *args: Any, **kwargs: Any) -> Any:
        wrapped = original(self, *args, **kwargs)
        if threading.current_thread().name.startswith("prober of"):
            begun.release()
            go_on.wait(30)
        return wrapped

    database = cluster.database(probe_interval=0.1, ssl={"check_hostname": False})
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap)
    database._parts.replicas.attend()
    assert begun.acquire(timeout=20)
    openers = [thread for thread in threading.enumerate() if thread.name.startswith("prober of")]
    lines = list(database._parts.cluster.prober.seat.sharers.run._lines)
    database.dispose()  # waits for them, though not for ever
    go_on.set()
    for thread in openers:
        thread.join(30)
    assert lines
    assert not any(line.open for line in lines)
    database.close()
