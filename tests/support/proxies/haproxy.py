"""HAProxy before a cluster: one port that leads to the primary, and one that leads to any replica."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.proxies.router import free_port
from support.waiting import until

from peewee_replicas.testing import LocalCluster

PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

_GENERAL = """
global
    stats socket ipv4@127.0.0.1:{control} level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    retries 3
    option redispatch
"""
_SIDE = """
listen {name}
    bind 127.0.0.1:{port}
    balance roundrobin
    default-server check inter 100ms fall 1 rise 1 on-marked-down shutdown-sessions
"""


class Ports(NamedTuple):
    """The ports of the balancer; `control` takes its commands."""

    primary: int
    replicas: int
    control: int

    def arguments(self) -> dict[str, Any]:
        """The arguments that lead a database to the nodes through the balancer."""
        readers = {"name": "readers", "host": "127.0.0.1", "port": self.replicas}
        return {"port": self.primary, "replicas": [readers]}

    def move_primary(self, was: Any, node: Any) -> None:
        """Let new connections to the primary's port lead to another server; those that are open stay.

        Parameters:
            was: the server that was the first node of the cluster when the balancer started.
        """
        answer = self._ask(f"set server primary/{was.name} addr {node.host} port {node.port}")
        assert "changed" in answer, answer

    def serving(self) -> set[str]:
        """The names of the servers to which the balancer leads new connections now."""
        head, *lines = self._ask("show stat").removeprefix("# ").splitlines()
        rows = [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines if line]
        return {row["svname"] for row in rows if row["status"].startswith("UP")}

    def _ask(self, command: str) -> str:
        with socket.create_connection(("127.0.0.1", self.control), 60.0) as control:
            control.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: control.recv(4096), b"")).decode()


@contextmanager
def haproxy(cluster: LocalCluster, folder: Path) -> Iterator[Ports]:
    """Start a balancer; skip the test if there is none."""
    if PROGRAM is None:
        pytest.skip("HAProxy is not on this machine")
    ports = Ports(free_port(), free_port(), free_port())
    text = _GENERAL.format(control=ports.control)
    for name, port, nodes in (
        ("primary", ports.primary, cluster.nodes[:1]),
        ("replicas", ports.replicas, cluster.replicas),
    ):
        text += _SIDE.format(name=name, port=port)
        text += "".join(f"    server {node.name} {node.host}:{node.port}\n" for node in nodes)
    (folder / "haproxy.cfg").write_text(text)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, "-db", "-f", folder / "haproxy.cfg"], stdout=output, stderr=output
        )
    try:
        until(lambda: process.poll() is not None or all(map(_greets, ports[:2])), 60.0)
        assert process.poll() is None, (folder / "output").read_text()
        yield ports
    finally:
        process.terminate()
        process.wait()


def _greets(port: int) -> bool:
    """Whether a server answers behind a port; the balancer itself says nothing."""
    with socket.socket() as client:
        client.settimeout(5.0)
        try:
            client.connect(("127.0.0.1", port))
            return bool(client.recv(1))
        except OSError:
            return False
