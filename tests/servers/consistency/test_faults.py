"""What reads see when nodes die, are replaced, or are not heard."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import pytest
from peewee import PeeweeException
from support.clusters import administrator
from support.clusters.lagging import (
    LONG,
    SHORT,
    Slot,
    bound,
    elsewhere,
    frozen,
    n_of,
    soon,
    waits_asked_for,
    watched,
)
from support.forms import threads_only
from support.forms.threads import in_thread
from support.proxies.relay import Relay
from support.waiting import until

pytestmark = pytest.mark.usefixtures("form")

# Acknowledgements that are lost


@pytest.mark.parametrize("how", ["autocommit", "atomic", "its own commit", "ddl in a transaction"])
@pytest.mark.parametrize("again", [False, True], ids=["connection kept", "connection closed"])
def test_a_write_whose_acknowledgement_was_lost(own_pair: Any, how: str, again: bool) -> None:
    replica = own_pair.replicas[0]
    with (
        Relay(own_pair.primary.port) as relay,
        bound(own_pair, port=relay.port, host="127.0.0.1", catch_up_timeout=LONG) as db,
        frozen(own_pair),
    ):
        assert n_of() == 1
        db.connection()  # the primary's own is open before its answers are held back

        @contextmanager
        def lost() -> Iterator[None]:
            """The server does it and says so, and nobody hears it."""
            before = own_pair.primary.position()
            relay.to_client = 60.0

            def cut() -> None:
                until(lambda: own_pair.primary.position() != before)
                relay.drop()  # first, or the answer would not be late any more
                relay.to_client = 0.0

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


# Nodes that go


def test_the_primary_is_down_while_something_is_owed(own_pair: Any, caplog: pytest.LogCaptureFixture) -> None:
    with bound(own_pair) as db:
        Slot.update(n=1).where(Slot.name == "nobody").execute()
        own_pair.primary.kill()
        with caplog.at_level(logging.WARNING, "peewee.replicas"):
            assert [n_of() for _ in range(5)] == [1] * 5
        assert db.stats()["unasked"] == 1
        assert len([record for record in caplog.records if "cannot be asked" in record.message]) == 1
        with db.readonly():
            assert n_of() == 1


def test_a_write_that_was_never_sent_obliges_nothing(own_pair: Any) -> None:
    with bound(own_pair) as db:
        assert n_of() == 1
        asked = db.stats()["asked"]
        own_pair.primary.kill()
        with pytest.raises(peewee.OperationalError):
            Slot.update(n=2).execute()
        assert n_of() == 1
        assert db.stats()["asked"] == asked


def test_strong_reads_need_the_primary(own_pair: Any) -> None:
    with bound(own_pair, consistency="strong") as db:
        assert n_of() == 1
        own_pair.primary.kill()
        with pytest.raises(peewee.OperationalError):
            n_of()
        with db.readonly(consistency="eventual"):
            assert n_of() == 1


@pytest.mark.lesson(17)
@pytest.mark.parametrize("scope", ["readonly", "causal_session"])
@pytest.mark.parametrize("moves", [False, True], ids=["frozen", "late"])
def test_a_scope_that_loses_its_node_does_not_go_backwards(own_three: Any, scope: str, moves: bool) -> None:
    first, second = own_three.replicas
    second.freeze()
    with bound(own_three, policy=lambda usable: usable[0], catch_up_timeout=LONG if moves else SHORT) as db:
        elsewhere(own_three, "UPDATE slot SET n = 2")
        own_three.sync()  # the first has it
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


def test_a_scope_cannot_move_without_the_primary(own_three: Any) -> None:
    first, second = own_three.replicas
    second.freeze()
    with bound(own_three, policy=lambda usable: usable[0]) as db:
        elsewhere(own_three, "UPDATE slot SET n = 2")
        own_three.sync()
        with db.readonly():
            assert n_of() == 2
            first.kill()
            own_three.primary.kill()
            with pytest.raises(peewee.OperationalError):
                n_of()
        with db.readonly(consistency="eventual"):
            assert n_of() == 1


def test_a_scope_that_has_read_nothing_moves_freely(own_three: Any) -> None:
    first, _ = own_three.replicas
    with bound(own_three, policy=lambda usable: usable[0]) as db:
        first.kill()
        own_three.primary.kill()
        with db.readonly():
            assert [n_of(), n_of()] == [1, 1]


# Servers that are not the ones they were


def rebuild(cluster: Any, node: Any, *rows: tuple[str, int]) -> None:
    """Replace a node by a fresh server under the same name, with tables that hold `rows` alone."""
    node.stop()
    shutil.rmtree(node.datadir)
    node._following = False
    node.start()
    conn = administrator(cluster, node, database=None)
    cursor = conn.cursor()
    cursor.execute(f"CREATE DATABASE {cluster.database_name}")
    cursor.execute(f"USE {cluster.database_name}")
    cursor.execute("CREATE TABLE slot (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(255) UNIQUE, n INT)")
    cursor.execute("CREATE TABLE mark (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(255) UNIQUE)")
    for row in rows:
        cursor.execute("INSERT INTO slot (name, n) VALUES (%s, %s)", row)
    conn.close()


@pytest.mark.parametrize("level", ["session", "process"])
def test_a_replica_replaced_by_one_with_older_data(disposable_pair: Any, level: str) -> None:
    replica = disposable_pair.replicas[0]
    with bound(disposable_pair, catch_up_timeout=SHORT, consistency=level) as db:
        Slot.update(n=2).execute()
        disposable_pair.sync()
        with watched(db) as events:
            assert n_of() == 2
        assert events[-1].role == "replica"
        rebuild(disposable_pair, replica, ("a", 1))
        with db.readonly(consistency="eventual"), watched(db) as events:
            until(lambda: n_of() == 1)  # once it is in rotation again: the old data is there
        assert events[-1].role == "replica"
        with watched(db) as events:
            assert n_of() == 2
        assert events[-1].role == "primary"
        if level == "process":
            assert in_thread(lambda: (n_of(), db.close())[0]) == 2


@threads_only("the pool still has a connection to the first server")
@pytest.mark.parametrize("level", ["session", "process"])
def test_one_address_that_leads_to_two_servers(own_three: Any, level: str) -> None:
    """As behind a service name, or a provider's reader endpoint."""
    first, second = own_three.replicas
    second.freeze()
    with Relay(first.port) as relay:
        endpoint = [{"name": "readers", "host": "127.0.0.1", "port": relay.port}]
        with bound(own_three, replicas=endpoint, catch_up_timeout=SHORT, consistency=level) as db:
            Slot.update(n=2).execute()
            own_three.sync()
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


def test_a_primary_that_was_rebuilt(disposable_pair: Any) -> None:
    """What was written to the lost history cannot be waited for; its reads are the primary's to answer."""
    replica = disposable_pair.replicas[0]
    with bound(disposable_pair, catch_up_timeout=0.2) as db:
        for n in range(20):
            Slot.update(n=n).execute()
        disposable_pair.sync()
        mark = db.bookmark()
        rebuild(disposable_pair, disposable_pair.primary, ("a", 50))
        rebuild(disposable_pair, replica, ("a", 50))
        replica.follow(disposable_pair.primary)
        elsewhere(disposable_pair, "UPDATE slot SET n = 51")
        disposable_pair.sync()
        db.close()
        with waits_asked_for() as asked:
            assert n_of() == 51
        assert sum(asked) <= 0.2
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


def test_a_commit_whose_answer_was_lost_is_seen_by_the_next_read(cluster: Any, db: Any) -> None:
    with Relay(cluster.primary.port) as relay, frozen(cluster):
        own = cluster.database(host="127.0.0.1", port=relay.port, catch_up_timeout=0.05)
        with pytest.raises(PeeweeException), own.atomic():
            own.execute_sql("INSERT INTO item (name, n) VALUES ('a', 0)")
            relay.lose_answer()
        own.close()
        assert own.execute_sql("SELECT COUNT(*) FROM item").fetchone() == (1,)
        own.close()
