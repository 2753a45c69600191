"""A time limit for several steps measures how long the server takes, not how long this process was stopped.

A process can be stopped in a step (in ``recv``, ``sendall`` or the handshake of TLS) or between two of them;
these are the places in `servers.wire.transport` that look at the deadline. A slow server gets no more time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from peewee_replicas.concurrency import Clock
from peewee_replicas.servers.wire.transport import SocketTransport

LIMIT = 10.0
STOPPED = 20.0


class Server:
    """A socket whose server takes some time for each step, in a time of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.takes = 0.1
        self.stop_in_next = 0.0
        self.waits = 0.0
        monkeypatch.setattr(Clock, "monotonic", staticmethod(lambda: self.now))

    def gettimeout(self) -> None: ...

    def fileno(self) -> int:
        return 3

    def settimeout(self, seconds: float) -> None:
        self.waits = seconds

    def _step(self) -> None:
        stopped, self.stop_in_next = self.stop_in_next, 0.0
        self.now += self.takes + stopped
        if self.takes > self.waits:
            raise TimeoutError("timed out")

    def recv(self, _size: int) -> bytes:
        self._step()
        return b"x"

    def sendall(self, _data: bytes) -> None:
        self._step()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


def stop_between(server: Server, _step: object) -> None:
    server.now += STOPPED


def stop_within(server: Server, _step: object) -> None:
    server.stop_in_next = STOPPED


STEPS: dict[str, Callable[[Any], object]] = {
    "receiving": lambda transport: transport.read(1),
    "sending": lambda transport: transport.sendall(b"x"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("stop", [stop_between, stop_within])
def test_a_stopped_process_has_not_used_up_the_servers_time(server: Any, stop: Any, step: str) -> None:
    transport = SocketTransport(server)
    with transport.within(LIMIT):
        transport.read(1)
        stop(server, step)
        STEPS[step](transport)
        transport.read(1)
        STEPS[step](transport)


@pytest.mark.parametrize("takes", [0.3, 0.9, 3.0])
def test_a_slow_server_is_given_no_more_time(server: Any, takes: float) -> None:
    transport = SocketTransport(server)
    server.takes = takes
    began = server.now
    with pytest.raises(TimeoutError), transport.within(LIMIT):
        while True:
            transport.sendall(b"x")
            transport.read(1)
    assert server.now - began <= LIMIT + takes


def test_a_stop_does_not_lift_the_limit(server: Any) -> None:
    transport = SocketTransport(server)
    with pytest.raises(TimeoutError), transport.within(LIMIT):
        transport.read(1)
        stop_within(server, None)
        transport.read(1)
        began = server.now
        while True:
            transport.read(1)
    assert server.now - began <= LIMIT + server.takes
