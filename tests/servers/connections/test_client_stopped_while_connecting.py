"""A server that has given up an attempt to connect, because the client was stopped meanwhile, is not ejected.

Servers wait for the answers of a client that connects (their `connect_timeout`). While the client is stopped
(SIGSTOP, a suspended machine, a blocked interpreter or event loop) it gives none. It can be stopped before it
has read the greeting, or after it, before it begins TLS; in a thread that reads, or in the prober's. Here it
sleeps instead, until a real server has ended the connection.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from support.clusters import one_for_each, own_cluster
from support.forms.threads import in_thread
from support.waiting import until

from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.connections import opening
from peewee_replicas.servers.wire import connection as wire

SERVER_SECONDS = 2  # the least that servers take


@pytest.fixture(scope="module")
def impatient_for() -> Iterator[Callable[[str], Any]]:
    options = {"*": {"connect_timeout": SERVER_SECONDS}}
    with one_for_each(lambda server: own_cluster(server, 1, options=options)) as given:
        yield given


@pytest.fixture(params=["_get_server_information", "_request_authentication"])
def stop_next(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Let the next attempt to connect to a port, of the threads chosen, pause where the parameter says."""
    step = getattr(wire.Connection, request.param)
    chosen: list[tuple[int, Callable[[threading.Thread], bool], Callable[[], object]]] = []

    def paused(self: wire.Connection, *given: Any) -> Any:
        if chosen and self.port == chosen[0][0] and chosen[0][1](threading.current_thread()):
            _, _, meanwhile = chosen.pop()
            meanwhile()
            time.sleep(SERVER_SECONDS + 0.7)  # the pause is what is tried
        return step(self, *given)

    monkeypatch.setattr(wire.Connection, request.param, paused)
    monkeypatch.setattr(opening, "_GIVEN_UP_SECONDS", 1.0)

    def choose(
        port: int, thread: Callable[[threading.Thread], bool], meanwhile: Callable[[], object] = bool
    ) -> list[Any]:
        chosen.append((port, thread, meanwhile))
        return chosen

    return choose


def test_a_read_is_served_where_it_was_stopped(
    server: str, impatient_for: Callable[[str], Any], stop_next: Callable[..., Any]
) -> None:
    cluster = impatient_for(server)
    db = cluster.database(consistency="eventual")
    me = threading.current_thread()
    stop_next(cluster.replicas[0].port, lambda thread: thread is me)
    began = time.monotonic()
    db.execute_sql("SELECT 1").fetchall()
    assert time.monotonic() - began > SERVER_SECONDS  # else it was not stopped
    stats = db.stats()
    assert (stats["replica-1.ejections"], stats["replica-1.reads"], stats["primary"]) == (0, 1, 0)


def test_a_server_that_died_meanwhile_is_ejected(
    server: str, impatient_for: Callable[[str], Any], stop_next: Callable[..., Any]
) -> None:
    cluster = impatient_for(server)
    replica = cluster.replicas[0]
    db = cluster.database(consistency="eventual")
    me = threading.current_thread()
    stop_next(replica.port, lambda thread: thread is me, meanwhile=lambda: in_thread(replica.kill))
    try:
        db.execute_sql("SELECT 1").fetchall()
        assert db.stats()["replica-1.ejections"] == 1
    finally:
        replica.start()
        cluster.sync()


def test_the_prober_ejects_nothing(
    server: str, impatient_for: Callable[[str], Any], stop_next: Callable[..., Any]
) -> None:
    cluster = impatient_for(server)
    replica = cluster.replicas[0]
    db = cluster.database(consistency="eventual", probe_interval=1.0)
    stops_to_come = stop_next(replica.port, lambda thread: thread.name.endswith(f"to {replica.name}"))
    parts = db._parts
    parts.cluster.prober.use(parts.replicas)  # no thread has a connection, so a failure would be the node's
    until(lambda: not stops_to_come)
    until(lambda: db.replicas[0].role == "replica")
    assert db.stats()["replica-1.ejections"] == 0
    db.dispose()  # or the next one's would share its prober, which has connected


@pytest.mark.parametrize("turns", [2, 5])
@pytest.mark.parametrize("seconds", [1.5, SERVER_SECONDS + 0.7])
def test_a_blocked_event_loop_ejects_nothing(
    server: str,
    impatient_for: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    turns: int,
    seconds: float,
) -> None:
    """For longer than ``connect_timeout``, or until the server has given up, after any step of connecting."""
    monkeypatch.setattr(opening, "_GIVEN_UP_SECONDS", 1.0)

    async def read() -> Any:
        db = impatient_for(server).database(
            AsyncReplicatedDatabase, consistency="eventual", connect_timeout=1
        )
        reading = asyncio.ensure_future(db.aexecute_sql("SELECT 1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(seconds)  # the pause is what is tried
        await reading
        await db.close_pool()
        return db.stats()

    stats = asyncio.run(read())
    assert (stats["replica-1.ejections"], stats["replica-1.reads"], stats["primary"]) == (0, 1, 0)


@pytest.mark.parametrize("ends", ["look_up", "hold"])
def test_what_is_slow_to_fail_costs_threads_that_wait_no_attempts_of_their_own(
    impatient_for: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """A name server that does not answer; a proxy that has no server, and ends its clients after a while."""
    monkeypatch.setattr(opening, "_GIVEN_UP_SECONDS", 0.3)
    attempts: list[object] = []
    real = socket.getaddrinfo

    def look_up(host: Any, *given: Any, **named: Any) -> Any:
        if host == "replica.invalid":
            attempts.append(host)
            time.sleep(0.4)  # the pause is what is tried
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *given, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    proxy = socket.create_server(("127.0.0.1", 0))

    def hold() -> None:
        with suppress(OSError):  # it was closed
            while True:
                client, _ = proxy.accept()
                attempts.append(client)
                time.sleep(0.4)  # as above
                client.close()

    threading.Thread(target=hold, daemon=True).start()
    if ends == "look_up":
        node = {"name": "r", "host": "replica.invalid"}
    else:
        node = {"name": "r", "port": proxy.getsockname()[1]}
    db = impatient_for("mariadb").database(consistency="eventual", replicas=[node])
    together = threading.Barrier(6)

    def read() -> None:
        together.wait()
        db.execute_sql("SELECT 1").fetchall()
        db.close()

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    proxy.close()
    assert len(attempts) <= (1 if ends == "look_up" else 3)
    assert (db.stats()["r.ejections"], db.stats()["primary"]) == (1, 6)
