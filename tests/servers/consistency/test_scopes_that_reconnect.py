"""A scope whose connection is lost, at an address that may lead to another server from then on.

The members of this kind are the ways in which a connection ends inside a scope: it is found closed before the
next read, or the answer to a read is lost. Behind a balancer nothing else shows that the server is gone, and
the next one may be late.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import pytest
from support.clusters.lagging import SHORT, bound, elsewhere, n_of, watched
from support.load.faults import FAULTS
from support.proxies.relay import Relay
from support.waiting import until

from peewee_replicas import NoReplicaAvailable, PooledReplicatedDatabase
from peewee_replicas.connections.primary_positions import PrimaryPositions
from peewee_replicas.nodes import breaker

SCOPES = ["readonly", "eventual", "causal_session"]


@pytest.fixture
def ahead_and_late(own_three: Any) -> Iterator[tuple[Any, Relay, int]]:
    """An address of replicas that leads to one that shows n = 2; the other, whose port it is, shows 1."""
    ahead, late = own_three.replicas
    late.freeze()
    elsewhere(own_three, "UPDATE slot SET n = 2")
    until(lambda: ahead.execute(f"SELECT n FROM {own_three.database_name}.slot") == [(2,)])
    with Relay(ahead.port) as relay:
        yield own_three, relay, late.port
    late.thaw()


@contextmanager
def inside(
    cluster: Any, relay: Relay, scope: str, kind: Any = None, own: Any = None, **options: Any
) -> Iterator[tuple[Any, list[Any]]]:
    """A database whose only replica is behind the address, inside a scope that has read there.

    Parameters:
        kind: the database's class.
        own: the replica's own arguments.
        options: the database's other arguments.
    """
    readers = {"name": "readers", "host": "127.0.0.1", "port": relay.port, **(own or {})}
    options = {"catch_up_timeout": SHORT, "connect_timeout": 2, **options}
    with bound(cluster, kind, replicas=[readers], **options) as db:
        entered = db.readonly(consistency="eventual") if scope == "eventual" else getattr(db, scope)()
        with entered:
            assert n_of() == 2
            with watched(db) as events:
                yield db, events


def interrupted(_: Any) -> None:
    """Be interrupted by the user."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("scope", SCOPES)
def test_a_late_server_does_not_serve_it(ahead_and_late: tuple[Any, Relay, int], scope: str) -> None:
    cluster, relay, late = ahead_and_late
    with inside(cluster, relay, scope) as (_, events):
        relay.lead_to(late)
        relay.drop()
        assert [n_of() for _ in range(3)] == [2, 2, 2]
        assert {event.role for event in events} == {"primary"}


@pytest.mark.parametrize("scope", SCOPES)
def test_a_read_whose_answer_was_lost_is_not_served_by_it_either(
    ahead_and_late: tuple[Any, Relay, int], scope: str
) -> None:
    cluster, relay, late = ahead_and_late
    with inside(cluster, relay, scope):
        relay.lead_to(late)
        relay.lose_answer()
        with pytest.raises(peewee.OperationalError, match="run it again"):
            n_of()  # nor by the primary, as it may be what ends the connections
        assert [n_of(), n_of()] == [2, 2]


@pytest.mark.parametrize("loss", ["drop", "lose_answer"])
@pytest.mark.parametrize("scope", SCOPES)
def test_after_an_interrupt_of_the_question_it_is_asked_again(
    ahead_and_late: tuple[Any, Relay, int], scope: str, loss: str
) -> None:
    cluster, relay, late = ahead_and_late
    with inside(cluster, relay, scope):
        relay.lead_to(late)
        getattr(relay, loss)()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PrimaryPositions, "current", interrupted)
            with pytest.raises(KeyboardInterrupt):
                n_of()
        assert [n_of(), n_of()] == [2, 2]


@pytest.mark.parametrize("scope", SCOPES)
def test_it_stays_with_a_server_that_is_up_to_date(
    ahead_and_late: tuple[Any, Relay, int], scope: str
) -> None:
    cluster, relay, _ = ahead_and_late
    with inside(cluster, relay, scope) as (db, events):
        asked = db.stats()["asked"]
        relay.drop()
        assert [n_of() for _ in range(3)] == [2, 2, 2]
        assert {event.node for event in events} == {"readers"}
        assert db.stats()["asked"] == asked + 1


@pytest.mark.parametrize("scope", SCOPES)
def test_while_the_primary_is_down_it_goes_on(ahead_and_late: tuple[Any, Relay, int], scope: str) -> None:
    cluster, relay, _ = ahead_and_late
    with inside(cluster, relay, scope) as (_, events):
        cluster.primary.kill()
        relay.drop()
        assert [n_of(), n_of()] == [2, 2]
        assert {event.node for event in events} == {"readers"}
    cluster.primary.start()


@pytest.mark.parametrize("scope", SCOPES)
def test_while_the_primary_hangs_one_lost_connection_waits_for_it(
    ahead_and_late: tuple[Any, Relay, int], scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 600.0)  # no read finds out whether it is back
    cluster, relay, _ = ahead_and_late
    with (
        inside(cluster, relay, scope, probe_interval=None) as (db, events),
        FAULTS["paused"](cluster, cluster.primary),
    ):
        asked = db.stats()["asked"]
        for _ in range(3):
            relay.drop()
            assert n_of() == 2
        assert {event.node for event in events} == {"readers"}
        assert db.stats()["asked"] == asked + 1


@pytest.mark.parametrize("scope", SCOPES)
def test_a_full_pool_of_the_primary_fails_no_read(ahead_and_late: tuple[Any, Relay, int], scope: str) -> None:
    cluster, relay, _ = ahead_and_late
    taken, done = threading.Event(), threading.Event()
    own = {"max_connections": 5}
    with inside(cluster, relay, scope, PooledReplicatedDatabase, own, max_connections=1) as (db, _):

        def take() -> None:
            with db.connection_context(), db.readonly(consistency="strong"):
                n_of()
                taken.set()
                done.wait(20)

        thread = threading.Thread(target=take)
        thread.start()
        try:
            assert taken.wait(20)
            relay.drop()
            assert [n_of(), n_of()] == [2, 2]
        finally:
            done.set()
            thread.join(20)


def test_on_a_late_replica_an_eventual_scope_ends_with_its_connection_where_nothing_falls_back(
    own_pair: Any,
) -> None:
    replica = own_pair.replicas[0]
    replica.freeze()
    elsewhere(own_pair, "UPDATE slot SET n = 2")
    with Relay(replica.port) as relay:
        readers = [{"name": "readers", "host": "127.0.0.1", "port": relay.port}]
        with bound(own_pair, replicas=readers, fallback="error", catch_up_timeout=SHORT) as db:
            with db.readonly(consistency="eventual"):
                assert n_of() == 1
                relay.drop()
                with pytest.raises(NoReplicaAvailable):
                    n_of()
            with db.readonly(consistency="eventual"):
                assert n_of() == 1
    replica.thaw()
