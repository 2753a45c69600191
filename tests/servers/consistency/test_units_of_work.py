"""Where a unit of work begins: at its first statement, and not at what a closed database does besides.

Members of this kind, found by following every place that begins a session: a bookmark taken while the
database is closed, also one for which the primary is asked, and a read that fails before any connection
is open. What the process had written belongs to the servers, so it outlives the database object.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import peewee
import pytest
from support.clusters.lagging import Slot, elsewhere, frozen, impatient, n_of, read_and_close, watched
from support.forms import threads_only
from support.forms.threads import in_thread
from support.proxies.relay import Relay
from support.proxies.router import free_port

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]


def write(n: int) -> None:
    Slot.update(n=n).execute()


def write_nothing(n: int) -> None:
    """The primary has to be asked what this has seen."""
    Slot.update(n=n).where(Slot.n == 0).execute()


@pytest.mark.parametrize("work", [write, write_nothing])
def test_a_bookmark_of_a_closed_database_begins_no_unit_of_work(
    pair: Any, work: Callable[[int], None]
) -> None:
    with impatient(pair) as db:
        work(2)
        db.close()
        pair.sync()  # else the read below would go to the primary for what the bookmark holds
        before = db.bookmark()
        assert db.is_closed()
        with frozen(pair):
            in_thread(lambda: (write(3), db.close()))
            assert db.bookmark() != before  # what the process has written since
            assert db.connect()
            assert n_of() == 3
            db.close()


def test_a_unit_of_work_after_such_a_bookmark_sees_what_was_written_in_between(pair: Any) -> None:
    with impatient(pair) as db:
        write(2)
        db.close()
        pair.sync()
        assert db.bookmark()
        with frozen(pair):
            in_thread(lambda: (write(3), db.close()))
            assert n_of() == 3
            db.close()
            in_thread(lambda: (write(4), db.close()))
            assert read_and_close(db) == 4


@threads_only("peewee's asyncio form has no other pool")
def test_a_bookmark_of_a_closed_database_keeps_no_connection_of_a_pool(lagging: Any) -> None:
    with impatient(lagging, PooledReplicatedDatabase, max_connections=1, timeout=1) as db:
        write_nothing(2)
        db.close()
        for _ in range(3):  # more threads than connections
            assert in_thread(db.bookmark)
            write_nothing(2)
            db.close()
        db.close_all()


def test_a_bookmark_of_a_closed_database_takes_nothing_from_what_a_session_has_seen(lagging: Any) -> None:
    with impatient(lagging, apart=True) as db:
        assert read_and_close(db) == 1
        with impatient(lagging, apart=True) as other:
            with other.bind_ctx([Slot]):
                write(2)
            mark = other.bookmark()
        with db.bind_ctx([Slot]):
            with db.causal_session(mark):
                assert read_and_close(db) == 2
            assert db.bookmark()
            assert n_of() == 2


def test_a_read_that_failed_begins_no_unit_of_work(lagging: Any) -> None:
    primary, replica = lagging.primary, lagging.replicas[0]
    with Relay(primary.port) as first, Relay(replica.port) as second:
        listed = {"name": "replica", "host": replica.host, "port": second.port}
        with impatient(lagging, port=first.port, replicas=[listed]) as db:
            assert read_and_close(db) == 1
            for relay in (first, second):
                relay.lead_to(free_port())
                relay.drop()
            with pytest.raises(peewee.OperationalError):
                n_of()
            assert db.is_closed()  # so a program that closes what is open does not close it
            first.lead_to(primary.port)
            second.lead_to(replica.port)
            db.replicas[0].restore()
            in_thread(lambda: (write(2), db.close()))
            assert n_of() == 2


@threads_only("the history is the same for both forms")
def test_what_was_written_through_a_database_that_is_gone_is_seen(lagging: Any) -> None:
    def database() -> Any:
        own = lagging.parameters(lagging.primary)
        replicas = [{"host": node.host, "port": node.port} for node in lagging.replicas]
        options = {"catch_up_timeout": 0.05, "probe_interval": None}
        return ReplicatedDatabase(own.pop("database"), **own, **options, replicas=replicas)

    def job(n: int) -> None:
        db = database()
        with db.connection_context():
            db.execute_sql("UPDATE slot SET n = %s", (n,))

    job(2)
    gc.collect()
    db = database()
    with db.bind_ctx([Slot]):
        assert n_of() == 2
        # The same for what a write has seen and not reported.
        elsewhere(lagging, "UPDATE slot SET n = 3")
        db.execute_sql("UPDATE slot SET n = 9 WHERE n = 0")
        db.close()
    del db
    gc.collect()
    db = database()
    with db.bind_ctx([Slot]), watched(db) as events:
        assert n_of() == 3
        assert events
    db.close()
