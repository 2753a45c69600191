"""`dns()` asks the system, `srv()` a small name server on loopback that the test runs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.resolver
import dns.rrset
import pytest

from peewee_replicas import discover
from peewee_replicas.discover.service_records import ServiceRecords

NAME = "_mysql._tcp.replicas.test."


def test_dns_finds_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"host": "127.0.0.1", "port": 3307} in discover.dns("localhost", 3307)()
    answers = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 3306, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 3306)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    assert discover.dns("replicas")() == [{"host": "127.0.0.1", "port": 3306}, {"host": "::1", "port": 3306}]


class NameServer:
    """Answers every question with its records, over UDP, until it is closed."""

    def __init__(self) -> None:
        self.records: list[str] = []
        self.ttl = 0
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def resolver(self) -> dns.resolver.Resolver:
        made = dns.resolver.Resolver(configure=False)
        made.nameservers = ["127.0.0.1"]
        made.port = self._socket.getsockname()[1]
        return made

    def _serve(self) -> None:
        while True:
            wire, asker = self._socket.recvfrom(4096)
            if not wire:
                return
            self.asked += 1
            question = dns.message.from_wire(wire)
            answer = dns.message.make_response(question)
            if self.records:
                answer.answer.append(dns.rrset.from_text(NAME, self.ttl, "IN", "SRV", *self.records))
            self._socket.sendto(answer.to_wire(), asker)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    running = NameServer()
    yield running
    running.close()


def test_srv_finds_the_servers_with_ports_and_weights(name_server: NameServer) -> None:
    name_server.records = ["0 2 3307 b.test.", "0 1 3306 a.test.", "5 1 3306 spare.test."]
    find = ServiceRecords(NAME, 60, name_server.resolver()).find
    wanted: list[dict[str, Any]] = [
        {"host": "a.test", "port": 3306, "weight": 1},
        {"host": "b.test", "port": 3307, "weight": 2},
    ]
    assert find() == wanted
    name_server.records = ["0 0 3306 c.test."]
    assert find() == [{"host": "c.test", "port": 3306, "weight": 1}]  # no time to live, so asked again
    name_server.ttl = 3600
    assert find() == find()
    asked = name_server.asked
    name_server.records = []
    assert find() == [{"host": "c.test", "port": 3306, "weight": 1}]  # still valid
    assert name_server.asked == asked


def test_srv_without_records_fails(name_server: NameServer) -> None:
    find = ServiceRecords(NAME, 60, name_server.resolver()).find
    with pytest.raises(dns.resolver.NoAnswer):
        find()
    assert discover.srv(NAME).__name__ == "find"
