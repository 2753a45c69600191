"""Reads that wait at a node that has gone silent are served elsewhere, long before the prober's next round.

A read can wait for a node in three places: for its answer (`execution.attempt._send`), for the node to catch
up (`execution.attempt.attempt_caught_up`), and for a new connection (`connections.opening.open_connection`).
These were found by following a read through `execution.on_replicas` to whatever waits for a server. What
keeps a silent node in rotation, because it is not hung: bytes of other answers, and a proxy that greets.

A relay swallows what the node says. The prober's second round begins after the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.databases.nodes import nodes_of
from support.forms import threads_only
from support.forms.threads import in_thread, in_threads
from support.proxies.relay import Relay
from support.waiting import until

from peewee_replicas.concurrency import Clock
from peewee_replicas.nodes.node import Node
from peewee_replicas.nodes.silence import Silence
from peewee_replicas.servers.wire.connection import Connection

pytestmark = pytest.mark.usefixtures("form")

READ = "SELECT n FROM slot WHERE name = 'a'"
NEVER = 3600.0


class Replica:
    """The pair's replica behind a relay, and a database whose prober has looked at it once."""

    def __init__(self, pair: Any, relay: Relay, **options: Any) -> None:
        node = {"name": "replica-1", "host": "127.0.0.1", "port": relay.port}
        self.relay = relay
        self.database = pair.database(replicas=[node], probe_interval=100.0, **options)
        self.rounds = 0
        prober = self.database._parts.cluster.prober
        begin_round = prober.begin_round

        def counted(*given: Any) -> None:
            self.rounds += 1
            begin_round(*given)

        prober.begin_round = counted
        assert self.read() == 1
        assert prober.looked.wait(60)

    def read(self) -> int:
        return int(self.database.execute_sql(READ).fetchone()[0])

    @property
    def stats(self) -> Any:
        return self.database.stats()


@pytest.fixture
def replica(pair: Any) -> Iterator[Replica]:
    with Relay(pair.replicas[0].port) as relay:
        # A read that waits for a write must still be waiting when the node is taken for hung.
        found = Replica(pair, relay, catch_up_timeout=60, connect_timeout=30)
        yield found
        relay.drop()
        found.database.close()
        found.database.dispose()


def wait_for_an_answer(replica: Replica) -> list[int]:
    return [replica.read()]


def wait_for_an_answer_in_several(replica: Replica) -> list[int]:
    return in_threads(4, replica.read)


def wait_for_a_new_connection(replica: Replica) -> list[int]:
    return [in_thread(replica.read)]


def wait_for_a_write(replica: Replica) -> list[int]:
    replica.database.execute_sql("UPDATE slot SET n = 2 WHERE name = 'a'")
    return [replica.read() - 1]


def wait_alone_for_a_write(replica: Replica) -> list[int]:
    nodes_of(replica.database)[0].progress.stall(Clock.monotonic() - 60)  # so the read is not sent with it
    return wait_for_a_write(replica)


WAYS: list[Callable[[Replica], list[int]]] = [
    wait_for_an_answer, wait_for_an_answer_in_several, wait_for_a_new_connection, wait_for_a_write,
    wait_alone_for_a_write,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", ["mariadb"])  # nothing of it is the server's
def test_a_read_is_served_elsewhere_before_the_next_round(way: Any, replica: Replica) -> None:
    replica.relay.to_client = NEVER
    began = Clock.monotonic()
    assert set(way(replica)) == {1}
    assert Clock.monotonic() - began < 15, "it has connected once more to the node that was ejected"
    assert replica.rounds == 1
    assert nodes_of(replica.database)[0].state == "ejected"
    until(lambda: replica.stats["hung_up"] >= 1)  # counted after the reads have been let go


@threads_only("the prober is the same in both")
@pytest.mark.parametrize("sign", ["bytes", "greeting"])
@pytest.mark.parametrize("server", ["mariadb"])
def test_a_node_that_still_says_something_is_kept(
    sign: str, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_anew: list[float] = []
    heard = Silence.heard
    monkeypatch.setattr(Silence, "heard", lambda self, now: (begun_anew.append(now), heard(self, now)))
    with monkeypatch.context() as patched:
        if sign == "bytes":
            patched.setattr(Node, "heard_within", lambda *_: True)
        else:
            always = property(lambda _: True, lambda *_: None)
            patched.setattr(Connection, "greeted", always, raising=False)
        replica.relay.to_client = NEVER

        def watch() -> int:
            return replica.read()

        def end_once_kept() -> int:
            until(lambda: len(begun_anew) >= 2, 60)
            kept = nodes_of(replica.database)[0].state == "up" and replica.rounds == 1
            patched.undo()
            return int(kept)

        turns = iter([watch, end_once_kept])
        assert in_threads(2, lambda: next(turns)()) == [1, 1]
    assert nodes_of(replica.database)[0].state == "ejected"
