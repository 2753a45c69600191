"""An address of the primary that an operator moves: HAProxy's, or a name in a real name server.

Each server of a cluster has a port of its own on one address, and a name only leads to addresses. So relays
on other addresses of loopback, which share one port, stand for the servers' machines.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import dns.exception
import dns.resolver
import pytest
from support.clusters.promoting import Topology
from support.proxies.haproxy import Ports, haproxy
from support.proxies.name_server import PROGRAM, NameServer
from support.proxies.relay import Relay
from support.proxies.router import free_port
from support.waiting import until

from peewee_replicas.testing import LocalCluster

NAME = "primary.test"
Kind = Literal["haproxy", "dns"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class MovedAddress(Protocol):
    """An address that leads to one of the servers, at first to the first one.

    Attributes:
        arguments: the arguments of a database whose primary is reached there.
    """

    arguments: dict[str, Any]

    def lead_to(self, node: Any) -> None:
        """Let new connections lead to another server; those that are open stay where they are."""


@contextmanager
def moved_address(kind: Kind, nodes: Topology, folder: Path) -> Iterator[MovedAddress]:
    """An address before a healthy cluster; skip the test if the program behind it is not on this machine."""
    with (_balanced if kind == "haproxy" else _named)(nodes.cluster, folder) as address:
        # Any of them may become the primary, and then be a replica.
        address.arguments["replicas"] = nodes.listed(*nodes.cluster.nodes)
        yield address


class _Balanced:
    def __init__(self, ports: Ports, first: Any) -> None:
        self._ports = ports
        self._first = first
        self.arguments: dict[str, Any] = {"port": ports.primary}

    def lead_to(self, node: Any) -> None:
        self._ports.move_primary(self._first, node)


@contextmanager
def _balanced(cluster: LocalCluster, folder: Path) -> Iterator[MovedAddress]:
    with haproxy(cluster, folder) as ports:
        yield _Balanced(ports, cluster.nodes[0])


class _Named:
    def __init__(
        self, server: NameServer, ask: Callable[[], list[str]], places: dict[int, str], port: int
    ) -> None:
        self._server = server
        self._ask = ask
        self._places = places
        self.arguments: dict[str, Any] = {"host": NAME, "port": port}

    def lead_to(self, node: Any) -> None:
        place = self._places[node.port]
        self._server.name(place)
        until(lambda: self._ask() == [place])


@contextmanager
def _named(cluster: LocalCluster, folder: Path) -> Iterator[MovedAddress]:
    if PROGRAM is None:
        pytest.skip("dnsmasq is not on this machine")
    name_port, port = free_port(), 0
    places: dict[int, str] = {}
    server = NameServer(folder, NAME, name_port)
    with ExitStack() as stack:
        for number, node in enumerate(cluster.nodes, start=2):
            places[node.port] = f"127.0.0.{number}"
            port = stack.enter_context(Relay(node.port, at=(places[node.port], port))).port
        stack.callback(server.stop)
        server.name(places[cluster.nodes[0].port])
        server.start()
        yield _Named(server, stack.enter_context(_asked_at(name_port)), places, port)


@contextmanager
def _asked_at(port: int) -> Iterator[Callable[[], list[str]]]:
    """Let this process ask a name server on loopback for the one name; the function asks it.

    The system's own resolver reads its server from ``/etc/resolv.conf`` only.
    """
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], port
    look_up: Callable[..., Any] = socket.getaddrinfo

    def ask() -> list[str]:
        return sorted(record.to_text() for record in resolver.resolve(NAME, "A"))

    def by_name(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in (NAME, NAME.encode()):
            return look_up(host, *args, **kwargs)
        try:
            return [found for address in ask() for found in look_up(address, *args, **kwargs)]
        except dns.exception.DNSException as exc:
            raise socket.gaierror(socket.EAI_NONAME, str(exc)) from exc

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", by_name)
        yield ask
