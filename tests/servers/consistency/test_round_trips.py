"""What consistency costs, counted on the wire: no round trip more than plain peewee."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, NamedTuple

import pytest
from peewee import MySQLDatabase
from support.clusters.lagging import LONG, MODELS, Slot, clear, elsewhere, frozen, n_of, soon, watched
from support.proxies.relay import Relay

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("form")]


class Wire(NamedTuple):
    """A cluster behind relays that count."""

    cluster: Any
    primary: Relay
    replica: Relay

    def reset(self) -> None:
        self.primary.reset()
        self.replica.reset()
        self.cluster.reset_counts()

    def forget_others(self) -> None:
        """Count nothing more of what is closed: its last packet may still be on the way."""
        self.primary.drop()
        self.replica.drop()

    def turns(self) -> tuple[int, int]:
        """Round trips to the primary, and to the replica."""
        return self.primary.counted.turns, self.replica.counted.turns

    def packets(self) -> tuple[int, int]:
        return self.primary.counted.packets, self.replica.counted.packets

    def database(self, **options: Any) -> Any:
        replicas = [{"name": "replica-1", "host": "127.0.0.1", "port": self.replica.port}]
        # What is encrypted cannot be counted in packets.
        return self.cluster.database(
            host="127.0.0.1", port=self.primary.port, replicas=replicas, ssl_disabled=True, **options
        )

    def plain(self) -> Any:
        parameters = self.cluster.parameters(self.cluster.primary)
        return MySQLDatabase(**{**parameters, "port": self.primary.port, "ssl_disabled": True})


@pytest.fixture(scope="module")
def wires() -> Iterator[Callable[[Any], Wire]]:
    """Relays in front of a cluster, the same ones for all tests of this module."""
    with ExitStack() as stack:
        yield cache(lambda pair: Wire(pair, *(stack.enter_context(Relay(node.port)) for node in pair.nodes)))


@pytest.fixture
def wire(pair: Any, wires: Callable[[Any], Wire]) -> Wire:
    found = wires(pair)
    found.forget_others()
    return found


@contextmanager
def warm(wire: Wire, **options: Any) -> Iterator[Any]:
    """A database whose connections are open, and whose replica is known to be where the primary is."""
    db = wire.database(catch_up_timeout=LONG, **options)
    with db.bind_ctx(MODELS):
        Slot.update(n=2).execute()
        wire.cluster.sync()
        assert n_of() == 2
        wire.reset()
        yield db
    db.close()


WRITES: dict[str, Callable[[Any], Any]] = {
    "insert": lambda db: Slot.create(name="b"),
    "update": lambda db: Slot.update(n=3).execute(),
    "no-op update": lambda db: Slot.update(n=2).execute(),
    "delete": lambda db: Slot.delete().execute(),
    "insert ignore": lambda db: Slot.insert(name="a").on_conflict_ignore().execute(),
    "transaction": lambda db: db.atomic()(lambda: Slot.create(name="c"))(),
    "ddl": lambda db: db.execute_sql("CREATE OR REPLACE VIEW seen AS SELECT n FROM slot"),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_costs_what_it_costs_peewee(wire: Wire, name: str) -> None:
    plain = wire.plain()
    with plain.bind_ctx(MODELS):
        plain.connect()
        wire.reset()
        WRITES[name](plain)
        expected = (*wire.turns(), *wire.packets())
        plain.close()
        wire.forget_others()
    clear(wire.cluster, ("a", 1))
    with warm(wire) as db:
        WRITES[name](db)
        assert (*wire.turns(), *wire.packets()) == expected
        assert expected[0] == (3 if name == "transaction" else 1)


@pytest.mark.parametrize("level", ["session", "process"])
def test_a_read_of_a_replica_that_has_caught_up_is_one_round_trip(wire: Wire, level: str) -> None:
    with warm(wire, consistency=level):
        for _ in range(5):
            assert n_of() == 2
        assert wire.turns() == (0, 5)
        assert wire.packets() == (0, 5)
        counts = wire.cluster.counts()
        assert (counts["primary"].reads, counts["replica-1"].reads) == (0, 5)


@pytest.mark.parametrize("level", ["session", "process"])
def test_the_first_read_after_a_write_asks_in_the_same_send(wire: Wire, level: str) -> None:
    with warm(wire, consistency=level) as db:
        for n in range(3, 8):
            Slot.update(n=n).execute()
            assert n_of() == n
        assert wire.turns() == (5, 5)
        assert wire.replica.counted.sends == 5
        assert wire.packets() == (5, 10)  # the wait, and the read
        assert db.stats()["waits"] == 6  # with that of the warming up


def test_a_read_that_waits_is_one_round_trip_still(wire: Wire) -> None:
    with warm(wire) as db, frozen(wire.cluster):
        Slot.update(n=3).execute()
        wire.reset()
        with soon(wire.cluster.replicas[0].thaw), watched(db) as events:
            assert n_of() == 3
        assert events[-1].role == "replica"
        assert wire.turns() == (0, 1)
        assert wire.replica.counted.sends == 1


def test_what_reported_no_position_costs_one_question_when_a_read_needs_it(wire: Wire) -> None:
    with warm(wire) as db:
        elsewhere(wire.cluster, "UPDATE slot SET n = 5")
        for _ in range(3):
            Slot.update(n=9).where(Slot.n == 0).execute()
        assert wire.turns() == (3, 0)
        for _ in range(3):
            assert n_of() == 5
        assert wire.turns() == (4, 3)
        assert db.stats()["asked"] == 1


def test_eventual_reads_cost_nothing_ever(wire: Wire) -> None:
    with warm(wire, consistency="eventual"):
        Slot.update(n=3).execute()
        for _ in range(5):
            n_of()
        assert wire.turns() == (1, 5)
        assert wire.packets() == (1, 5)


def test_a_strong_read_costs_one_question_to_the_primary(wire: Wire) -> None:
    with warm(wire, consistency="strong"):
        for _ in range(5):
            assert n_of() == 2
        assert wire.turns() == (5, 5)
        assert wire.replica.counted.sends == 5


def test_a_session_that_has_written_nothing_waits_for_nothing(wire: Wire) -> None:
    db = wire.database()
    with db.bind_ctx(MODELS), frozen(wire.cluster):
        elsewhere(wire.cluster, "UPDATE slot SET n = 5")
        assert n_of() == 1
        wire.reset()
        assert n_of() == 1
        assert wire.turns() == (0, 1)
        assert wire.packets() == (0, 1)
    assert db.stats()["waits"] == db.stats()["asked"] == 0
    db.close()


def test_the_relay_delays_as_it_was_told(wire: Wire) -> None:
    """And counts a statement as one send, one packet and one turn."""
    with Relay(wire.cluster.primary.port, to_server=0.02, to_client=0.03) as relay:
        parameters = {**wire.cluster.parameters("primary"), "port": relay.port, "ssl_disabled": True}
        db = MySQLDatabase(**parameters)
        db.connect()
        relay.reset()
        began = time.perf_counter()
        for _ in range(4):
            db.execute_sql("SELECT 1")
        seconds = time.perf_counter() - began
        counted = relay.counted
        assert (counted.sends, counted.packets, counted.turns) == (4, 4, 4)
        assert seconds >= 0.2
        db.close()
