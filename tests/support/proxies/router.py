"""MySQL Router before each node of a cluster."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import until

from peewee_replicas.testing import LocalCluster
from peewee_replicas.testing.installations import cache_folder

_START_SECONDS = 60.0

_GENERAL = """
[DEFAULT]
logging_folder={folder}
runtime_folder={folder}
data_folder={folder}
plugin_folder={root}/usr/lib/mysqlrouter/plugin
[connection_pool]
max_idle_server_connections=16
"""
# The certificate lets Router see passwords, without which it cannot share connections.
_ROUTE = """
[routing:{name}]
bind_address=127.0.0.1
bind_port={port}
destinations=127.0.0.1:{server}
routing_strategy=first-available
protocol=classic
client_ssl_mode=PREFERRED
client_ssl_cert={folder}/certificate
client_ssl_key={folder}/key
server_ssl_mode=PREFERRED
connection_sharing={sharing:d}
connection_sharing_delay=0
"""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def router(cluster: LocalCluster, folder: Path, *, sharing: bool = True) -> Iterator[dict[str, int]]:
    """Start a router; give the port that leads to each node, by the node's name. Skip if there is none.

    Parameters:
        sharing: whether several clients share connections to a server.
    """
    root = cache_folder() / "mysql-router"
    program = root / "usr/bin/mysqlrouter"
    if not program.exists():
        pytest.skip(f"MySQL Router is not on this machine: {program}")
    ports = {node.name: free_port() for node in cluster.nodes}
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=router",
         "-keyout", folder / "key", "-out", folder / "certificate"],
        check=True, capture_output=True,
    )  # fmt: skip
    routes = [
        _ROUTE.format(
            name=node.name.replace("-", "_"),
            port=ports[node.name],
            server=node.port,
            folder=folder,
            sharing=sharing,
        )
        for node in cluster.nodes
    ]
    (folder / "router.conf").write_text(_GENERAL.format(folder=folder, root=root) + "".join(routes))
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    loader = next(libraries.glob("ld-linux-*"))
    command = [loader, "--library-path", f"{libraries}:{root}/usr/lib/mysql-router", program]
    user = ["--user=root"] if os.geteuid() == 0 else []
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, "-c", folder / "router.conf", *user], stdout=output, stderr=output
        )
    try:
        until(lambda: process.poll() is not None or all(map(_listens, ports.values())), _START_SECONDS)
        assert process.poll() is None, (folder / "output").read_text()
        yield ports
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex(("127.0.0.1", port)) == 0
