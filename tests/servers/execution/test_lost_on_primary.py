"""A read that was sent to the primary and lost is sent there once more, as it is on replicas.

The members of the kind are the ways in which a read gets to the primary's own connection (no replica is left,
``reads="primary"``, ``on_primary``), and those in which its connection ends (killed, or by the client's own
time-out), with what must not be repeated: a second loss, a time-out, a transaction, a write, and a session
that carries something. They were found by following `execution.on_primary` from each of its callers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import pymysql
import pytest
from support.clusters.failing import READ, opened, read
from support.proxies.saboteur import Saboteur
from support.waiting import until

from peewee_replicas import NoReplicaAvailable

WAITING = "SELECT id FROM information_schema.processlist WHERE user = 'app' AND info LIKE %s"


@pytest.fixture
def ready(db: Any, cluster: Any) -> Any:
    """The shared cluster with one row in `item`."""
    db.execute_sql("INSERT INTO item (id, name, n) VALUES (1, 'one', 0)")
    cluster.sync()
    return cluster


@contextmanager
def killing(cluster: Any, times: int) -> Iterator[None]:
    """The table is locked on the primary, and so many reads that wait for it there lose their connection."""
    parameters = {**cluster.parameters(cluster.primary), "user": cluster.admin_user}
    admin = pymysql.connect(**parameters)
    admin.cursor().execute("LOCK TABLES item WRITE")
    killed: set[int] = set()

    def kills_one() -> bool:
        for (key,) in cluster.primary.execute(WAITING, ("SELECT name%",)):
            if key not in killed:
                killed.add(key)
                cluster.primary.execute(f"KILL {key}")
                return True
        return False

    def work() -> None:
        for _ in range(times):
            until(kills_one)
        admin.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def without_replicas(cluster: Any, **options: Any) -> Iterator[Any]:
    with opened(cluster, **options) as database:
        for replica in database.replicas:
            replica.eject("for the test")
        yield database


def test_once_more_and_no_more_than_that(ready: Any) -> None:
    with without_replicas(ready) as database:
        with killing(ready, 1):
            assert read(database) == "one"
        assert (database.events[-1].node, database.events[-1].attempts) == ("primary", 2)
        assert database.stats()["retries"] == 1
        with killing(ready, 2), pytest.raises(peewee.OperationalError) as raised:
            read(database)
        assert raised.value.args[0] in (1927, 2013)
        assert database.events[-1].attempts == 2
        assert read(database) == "one"


@pytest.mark.parametrize("way", ["reads", "on_primary", "primary"])
def test_however_it_came_there(ready: Any, way: str) -> None:
    with opened(ready, **({"reads": "primary"} if way == "reads" else {})) as database, killing(ready, 1):
        if way == "on_primary":
            found = database.on_primary.execute_sql(READ)
        elif way == "primary":
            with database.primary():
                found = database.execute_sql(READ)
        else:
            found = database.execute_sql(READ)
        assert found.fetchone()[0] == "one"
        assert database.events[-1].attempts == 2


def test_not_after_the_clients_own_time_out(ready: Any) -> None:
    """It would take as long again, and the primary would work on both."""
    with without_replicas(ready, read_timeout=1) as database:
        with pytest.raises(peewee.OperationalError, match="2013"):
            database.execute_sql("SELECT SLEEP(3)")
        assert database.events[-1].attempts == 1


def test_not_in_a_transaction(ready: Any) -> None:
    with without_replicas(ready) as database, killing(ready, 1):
        with pytest.raises(peewee.OperationalError), database.atomic():
            read(database)
        assert database.events[-1].attempts == 1


def test_not_where_the_session_carried_something(ready: Any) -> None:
    with without_replicas(ready) as database:
        database.execute_sql("CREATE TEMPORARY TABLE mine (n INT)")
        with killing(ready, 1), pytest.raises(peewee.OperationalError):
            read(database)
        assert database.events[-1].attempts == 1


def test_never_a_write(ready: Any) -> None:
    with Saboteur(ready.primary.port) as gate:
        with opened(ready, port=gate.port, ssl_disabled=True) as database:
            gate.cut("UPDATE item", "after")
            with pytest.raises(peewee.OperationalError):
                database.execute_sql("UPDATE item SET n = n + 1")
            assert gate.spoiled == 1
        assert ready.primary.execute(f"SELECT n FROM {ready.database_name}.item") == [(1,)]


def lost_on_both(ready: Any, gates: list[Saboteur], *, primary_too: bool) -> BaseException:
    """A read that both replicas lose and that then cannot be reached, as when they die under it."""
    one, two, primary = gates
    replicas = [
        {"name": node.name, "host": node.host, "port": gate.port}
        for node, gate in zip(ready.replicas, (one, two), strict=True)
    ]
    with opened(ready, replicas=replicas, port=primary.port, ssl_disabled=True) as database:
        assert read(database) == "one"
        for gate in (one, two):
            gate.cut("FROM item", "before")
            gate.die_after_cut = True
        if primary_too:
            primary.refuse(1053)
        with pytest.raises(peewee.OperationalError) as raised:
            read(database)
        return raised.value


@pytest.mark.parametrize("primary_too", [True, False])
def test_reads_of_a_moment_in_which_all_servers_go_are_no_killers(ready: Any, primary_too: bool) -> None:
    with (
        Saboteur(ready.replicas[0].port) as one,
        Saboteur(ready.replicas[1].port) as two,
        Saboteur(ready.primary.port) as primary,
    ):
        error = lost_on_both(ready, [one, two, primary], primary_too=primary_too)
    if primary_too:
        assert isinstance(error, NoReplicaAvailable)
        assert "no node can serve a read" in str(error)
    else:
        assert not isinstance(error, NoReplicaAvailable)
        assert "sent twice" in str(error)  # two nodes died of it, for all that is known
