"""What reads see when nodes stall, die, are replaced, or cannot tell where they are."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import peewee
import pymysql
import pytest
from lagging import (
    LONG,
    MODELS,
    SHORT,
    Slot,
    clear,
    elsewhere,
    frozen,
    held_back,
    in_thread,
    n_of,
    soon,
    watched,
)
from support.clusters import own_cluster
from support.relay import Relay

from peewee_replicas import PooledReplicatedDatabase, progress


@pytest.fixture
def cluster(server: str) -> Iterator[Any]:
    """A cluster of this test's own: a primary and a replica, with the row ("a", 1) on both."""
    with held_back(server) as found:
        clear(found, ("a", 1))
        yield found


@pytest.fixture
def three(server: str) -> Iterator[Any]:
    """The same with two replicas."""
    with held_back(server, replicas=2) as found:
        clear(found, ("a", 1))
        yield found


@contextmanager
def bound(cluster: Any, kind: Any = None, **options: Any) -> Iterator[Any]:
    db = cluster.database(kind, **options)
    with db.bind_ctx(MODELS):
        yield db
    db.close()


def administrator(cluster: Any, node: Any) -> Any:
    """A connection whose work is not replicated."""
    parameters = {**cluster.parameters(node), "user": cluster.admin_user, "database": None}
    conn = pymysql.connect(**parameters, autocommit=True)
    conn.cursor().execute("SET SESSION sql_log_bin = 0")
    return conn


def rebuild(cluster: Any, node: Any, *rows: tuple[str, int]) -> None:
    """Replace a node by a fresh server under the same name, with tables that hold `rows` alone."""
    node.stop()
    shutil.rmtree(node.datadir)
    node._following = False
    node.start()
    conn = administrator(cluster, node)
    cursor = conn.cursor()
    cursor.execute(f"CREATE DATABASE {cluster.database_name}")
    cursor.execute(f"USE {cluster.database_name}")
    cursor.execute("CREATE TABLE slot (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(255) UNIQUE, n INT)")
    cursor.execute("CREATE TABLE mark (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(255) UNIQUE)")
    for row in rows:
        cursor.execute("INSERT INTO slot (name, n) VALUES (%s, %s)", row)
    conn.close()


# Acknowledgements that are lost


@pytest.mark.parametrize("how", ["autocommit", "atomic", "its own commit", "ddl in a transaction"])
@pytest.mark.parametrize("again", [False, True], ids=["connection kept", "connection closed"])
def test_a_write_whose_acknowledgement_was_lost(cluster: Any, how: str, again: bool) -> None:
    replica = cluster.replicas[0]
    with (
        Relay(cluster.primary.port) as relay,
        bound(cluster, port=relay.port, host="127.0.0.1", catch_up_timeout=LONG) as db,
        frozen(cluster),
    ):
        assert n_of() == 1
        db.connection()  # the primary's own is open before its answers are held back

        @contextmanager
        def lost() -> Iterator[None]:
            """The server does it and says so, and nobody hears it."""
            before = cluster.primary.position()
            relay.to_client = 60.0

            def cut() -> None:
                until(lambda: cluster.primary.position() != before)
                relay.to_client = 0.0
                relay.drop()

            with pytest.raises(peewee.OperationalError), soon(cut, 0.01):
                yield

        if how == "autocommit":
            with lost():
                Slot.update(n=2).execute()
        elif how == "atomic":
            # Leaving the block raises, from COMMIT or from the ROLLBACK that follows it.
            with lost_in_commit(db, lost):
                Slot.update(n=2).execute()
        elif how == "its own commit":
            conn = db.connection()
            conn.begin()
            Slot.update(n=2).execute()
            with lost(), peewee.__exception_wrapper__:
                conn.commit()
        else:
            db.execute_sql("BEGIN")
            Slot.update(n=2).execute()
            with lost():
                db.execute_sql("CREATE TABLE extra (id INT PRIMARY KEY)")
        if again or how in ("its own commit", "ddl in a transaction"):
            db.close()
        with watched(db) as events, soon(replica.thaw):
            assert n_of() == 2
        assert events[-1].role == "replica"
        assert db.stats()["asked"] == 1


@contextmanager
def lost_in_commit(db: Any, lost: Any) -> Iterator[None]:
    transaction = db.atomic()
    transaction.__enter__()
    yield
    try:
        with lost():
            transaction.__exit__(None, None, None)
    except peewee.InterfaceError:
        pass


def until(condition: Any, seconds: float = 20.0) -> None:
    tick = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError(f"not within {seconds} s")


# Many who want one key


def test_losers_of_one_key_see_the_winner(three: Any) -> None:
    """The loser's error frees no position of its own, and may come before the winner's is published."""
    threads, rounds = 4, 60
    with bound(three, PooledReplicatedDatabase, catch_up_timeout=LONG) as db:
        barrier = threading.Barrier(threads, timeout=60)

        def work(me: int) -> tuple[int, int]:
            lost = missed = 0
            with db.connection_context():
                for turn in range(rounds):
                    barrier.wait()
                    try:
                        Slot.create(name=f"key {turn}", n=me)
                    except peewee.IntegrityError:
                        lost += 1
                        missed += n_of(f"key {turn}") is None
            return lost, missed

        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(work, range(threads)))
        assert sum(lost for lost, _ in found) == rounds * (threads - 1)
        assert sum(missed for _, missed in found) == 0
        reads = db.stats()["replicas"]
        assert reads > 0


# Time


def test_waiting_is_bounded_over_all_nodes_together(three: Any) -> None:
    timeout = 1.0
    with bound(three, catch_up_timeout=timeout) as db, frozen(three):
        Slot.update(n=2).execute()
        began = time.monotonic()
        assert n_of() == 2
        first = time.monotonic() - began
        assert timeout * 0.9 <= first < timeout * 1.9
        assert db.stats()["waits"] >= 1
        began = time.monotonic()
        for _ in range(10):
            assert n_of() == 2
        assert time.monotonic() - began < timeout * 1.9  # the other one's turn has come
        assert db.stats()["waits"] >= 2
        began = time.monotonic()
        for _ in range(10):
            assert n_of() == 2
        assert time.monotonic() - began < timeout * 0.5  # nobody waits again for what does not move


def test_a_replica_that_moves_again_is_used_again(cluster: Any) -> None:
    with bound(cluster, catch_up_timeout=SHORT) as db, frozen(cluster):
        Slot.update(n=2).execute()
        assert n_of() == 2
        cluster.replicas[0].thaw()
        cluster.sync()

        def served() -> bool:
            with watched(db) as events:
                assert n_of() == 2
            return events[-1].role == "replica"

        until(served)


def test_only_so_many_wait_on_one_replica(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAITERS", 2)
    threads, timeout = 6, 2.0
    with bound(cluster, catch_up_timeout=timeout, consistency="process") as db:
        n_of()
        barrier = threading.Barrier(threads, timeout=60)
        with frozen(cluster):
            Slot.update(n=2).execute()

            def work(_: int) -> tuple[int | None, float]:
                with db.connection_context():
                    with db.readonly(consistency="eventual"):
                        n_of()  # opens the connection
                    with db.primary():
                        pass
                    barrier.wait()
                    began = time.monotonic()
                    return n_of(), time.monotonic() - began

            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(work, range(threads)))
        assert [n for n, _ in found] == [2] * threads
        assert sum(seconds > timeout * 0.8 for _, seconds in found) == 2
        assert db.stats()["waits"] == 2


def test_a_wait_ends_before_the_clients_own_timeout(cluster: Any) -> None:
    with bound(cluster, catch_up_timeout=LONG, read_timeout=1) as db, frozen(cluster):
        Slot.update(n=2).execute()
        began = time.monotonic()
        with watched(db) as events:
            assert n_of() == 2
        assert time.monotonic() - began < LONG / 2
        assert events[-1].role == "primary"
        assert db.stats()["replica-1.ejections"] == 0
        assert db.stats()["retries"] == 0


# Nodes that go


def test_the_primary_is_down_while_something_is_owed(cluster: Any, caplog: pytest.LogCaptureFixture) -> None:
    with bound(cluster) as db:
        Slot.update(n=1).where(Slot.name == "nobody").execute()
        cluster.primary.kill()
        with caplog.at_level(logging.WARNING, "peewee.replicas"):
            assert [n_of() for _ in range(5)] == [1] * 5
        assert db.stats()["unasked"] == 1
        assert len([record for record in caplog.records if "cannot be asked" in record.message]) == 1
        with db.readonly():
            assert n_of() == 1


def test_a_write_that_was_never_sent_obliges_nothing(cluster: Any) -> None:
    with bound(cluster) as db:
        assert n_of() == 1
        cluster.primary.kill()
        with pytest.raises(peewee.OperationalError):
            Slot.update(n=2).execute()
        assert n_of() == 1
        assert db.stats()["asked"] == 0


def test_strong_reads_need_the_primary(cluster: Any) -> None:
    with bound(cluster, consistency="strong") as db:
        assert n_of() == 1
        cluster.primary.kill()
        with pytest.raises(peewee.OperationalError):
            n_of()
        with db.readonly(consistency="eventual"):
            assert n_of() == 1


@pytest.mark.parametrize("scope", ["readonly", "causal_session"])
@pytest.mark.parametrize("moves", [False, True], ids=["frozen", "late"])
def test_a_scope_that_loses_its_node_does_not_go_backwards(three: Any, scope: str, moves: bool) -> None:
    first, second = three.replicas
    second.freeze()
    with bound(three, policy=lambda usable: usable[0], catch_up_timeout=LONG if moves else SHORT) as db:
        elsewhere(three, "UPDATE slot SET n = 2")
        three.sync()  # the first has it
        with getattr(db, scope)(), watched(db) as events:
            assert [n_of(), n_of()] == [2, 2]
            assert {event.node for event in events} == {first.name}
            first.kill()
            if moves:
                with soon(second.thaw):
                    assert n_of() == 2
            else:
                assert n_of() == 2
            assert events[-1].node == (second.name if moves else "primary")
            assert n_of() == 2
    second.thaw()


def test_a_scope_cannot_move_without_the_primary(three: Any) -> None:
    first, second = three.replicas
    second.freeze()
    with bound(three, policy=lambda usable: usable[0]) as db:
        elsewhere(three, "UPDATE slot SET n = 2")
        three.sync()
        with db.readonly():
            assert n_of() == 2
            first.kill()
            three.primary.kill()
            with pytest.raises(peewee.OperationalError):
                n_of()
        with db.readonly(consistency="eventual"):
            assert n_of() == 1


def test_a_scope_that_has_read_nothing_moves_freely(three: Any) -> None:
    first, _ = three.replicas
    with bound(three, policy=lambda usable: usable[0]) as db:
        first.kill()
        three.primary.kill()
        with db.readonly():
            assert [n_of(), n_of()] == [1, 1]


# Servers that are not the ones they were


@pytest.mark.parametrize("level", ["session", "process"])
def test_a_replica_replaced_by_one_with_older_data(cluster: Any, level: str) -> None:
    replica = cluster.replicas[0]
    with bound(cluster, catch_up_timeout=SHORT, consistency=level) as db:
        Slot.update(n=2).execute()
        cluster.sync()
        with watched(db) as events:
            assert n_of() == 2
        assert events[-1].role == "replica"
        rebuild(cluster, replica, ("a", 1))
        with db.readonly(consistency="eventual"), watched(db) as events:
            until(lambda: n_of() == 1)  # once it is in rotation again: the old data is there
        assert events[-1].role == "replica"
        with watched(db) as events:
            assert n_of() == 2
        assert events[-1].role == "primary"
        if level == "process":
            assert in_thread(lambda: (n_of(), db.close())[0]) == 2


@pytest.mark.parametrize("level", ["session", "process"])
def test_one_address_that_leads_to_two_servers(three: Any, level: str) -> None:
    """As behind a service name, or a provider's reader endpoint."""
    first, second = three.replicas
    second.freeze()
    with Relay(first.port) as relay:
        endpoint = [{"name": "readers", "host": "127.0.0.1", "port": relay.port}]
        with bound(three, replicas=endpoint, catch_up_timeout=SHORT, consistency=level) as db:
            Slot.update(n=2).execute()
            three.sync()
            with watched(db) as events:
                assert [n_of(), n_of()] == [2, 2]
            assert {event.node for event in events} == {"readers"}
            relay.lead_to(second.port)

            def read() -> Any:
                with db.connection_context(), db.causal_session(mark), watched(db) as events:
                    return n_of(), events[-1].role

            mark = db.bookmark()
            assert in_thread(read) == (2, "primary")
            assert n_of() == 2  # the connection to the first is as good as it was
            relay.drop()
            with watched(db) as events:
                assert n_of() == 2
            assert events[-1].role == "primary"
    second.thaw()


def test_a_primary_that_was_rebuilt(cluster: Any) -> None:
    """What was written to the lost history cannot be waited for; its reads are the primary's to answer."""
    replica = cluster.replicas[0]
    with bound(cluster, catch_up_timeout=0.2) as db:
        for n in range(20):
            Slot.update(n=n).execute()
        cluster.sync()
        mark = db.bookmark()
        rebuild(cluster, cluster.primary, ("a", 50))
        rebuild(cluster, replica, ("a", 50))
        replica.follow(cluster.primary)
        elsewhere(cluster, "UPDATE slot SET n = 51")
        cluster.sync()
        db.close()
        began = time.monotonic()
        assert n_of() == 51
        assert time.monotonic() - began < 5.0
        with db.causal_session(mark):
            assert n_of() == 51
        Slot.update(n=52).execute()
        assert n_of() == 52
        with replica_frozen(replica):
            Slot.update(n=53).execute()
            assert n_of() == 53


@contextmanager
def replica_frozen(replica: Any) -> Iterator[None]:
    replica.freeze()
    try:
        yield
    finally:
        replica.thaw()


# Servers without GTIDs

WITHOUT = {
    "mariadb": {"skip_log_bin": None},
    "mysql": {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"},
}


@pytest.fixture
def without(server: str) -> Iterator[Any]:
    """A primary that keeps no GTIDs; what serves as its replica never receives anything."""
    with (
        own_cluster(server, 0, options={"*": WITHOUT[server]}) as primary,
        own_cluster(server, 0, options={"*": WITHOUT[server]}) as replica,
    ):
        for each, n in ((primary, 2), (replica, 1)):
            database = each.database(consistency="eventual")
            with database.bind_ctx(MODELS):
                database.create_tables(MODELS)
                Slot.create(name="a", n=n)
            database.close()
        parameters = {**replica.parameters(replica.primary), "name": "replica-1"}
        primary.stale = [parameters]
        yield primary


def test_without_gtids_reads_stay_on_the_primary_for_a_while(
    without: Any, caplog: pytest.LogCaptureFixture
) -> None:
    window = 0.5
    with (
        caplog.at_level(logging.WARNING, "peewee.replicas"),
        bound(without, replicas=without.stale, sticky_seconds=window) as db,
        watched(db) as events,
    ):
        assert n_of() == 1  # it has written nothing
        for _ in range(2):
            Slot.update(n=2).execute()
            began = time.monotonic()
            del events[:]
            until(lambda: n_of() == 1)  # however often it reads meanwhile
            assert window * 0.9 <= time.monotonic() - began < window * 4
            primary = [event for event in events if event.role == "primary"]
            assert len(primary) > 2
            for event in primary:
                assert "GTID" in event.reason
                assert str(window) in event.reason
        said = [record for record in caplog.records if "GTID" in record.message]
        assert len(said) == 1


def test_without_gtids_other_threads_are_as_they_were(without: Any) -> None:
    with bound(without, replicas=without.stale, sticky_seconds=60.0) as db:
        Slot.update(n=2).execute()
        assert n_of() == 2
        assert in_thread(lambda: (n_of(), db.close())[0]) == 1
    with bound(without, replicas=without.stale, sticky_seconds=60.0, consistency="process") as db:
        Slot.update(n=2).execute()
        assert in_thread(lambda: (n_of(), db.close())[0]) == 2


def test_without_gtids_scopes_are_served_by_the_guarded_primary(without: Any) -> None:
    with bound(without, replicas=without.stale, sticky_seconds=60.0) as db, watched(db) as events:
        with db.atomic():
            Slot.update(n=2).execute()
        with db.readonly():
            assert n_of() == 2
        assert events[-1].role == "primary"
        assert "GTID" in events[-1].reason
        assert db.bookmark() is None


def test_without_gtids_strong_means_the_primary(without: Any) -> None:
    with bound(without, replicas=without.stale, consistency="strong") as db, watched(db) as events:
        assert n_of() == 2
        assert events[-1].role == "primary"
        assert "GTID" in events[-1].reason
