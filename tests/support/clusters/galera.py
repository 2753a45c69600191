"""A Galera cluster of three MariaDB servers, of which the first is used as the primary."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.clusters import require
from support.proxies.router import free_port

from peewee_replicas.testing.installations import cache_folder, find
from peewee_replicas.testing.launch import new_folder, remove_folder, reserve_port
from peewee_replicas.testing.node import ClusterNode, ClusterSettings

LIBRARIES = (
    cache_folder() / "galera/usr/lib/galera/libgalera_smm.so",
    Path("/usr/lib/galera/libgalera_smm.so"),
)
LIBRARY = next((path for path in LIBRARIES if path.exists()), None)

SETUPS: dict[str, dict[str, Any]] = {
    "without binary log": {"skip_log_bin": None},
    "own GTIDs": {"log_slave_updates": False},
    "shared GTIDs": {"wsrep_gtid_mode": True, "wsrep_gtid_domain_id": 7},
}
"""What members know of positions: nothing, their own clients' writes alone, or all writes."""

_ATTEMPTS = 3

needs_galera = pytest.mark.skipif(LIBRARY is None, reason="Galera's library is not on this machine")


class Galera:
    """The running cluster.

    Attributes:
        nodes: its members.
    """

    user, admin_user, database_name = "app", "admin", "app"

    def __init__(self, settings: ClusterSettings, setup: str) -> None:
        self.password = settings.password
        # For the group, and to receive what a member has missed.
        ports = [(free_port(), free_port()) for _ in range(3)]
        options = [_options(ports, number, setup) for number in (1, 2, 3)]
        self.nodes = [
            ClusterNode(settings, f"member-{number}", "primary", number, own)
            for number, own in enumerate(options, 1)
        ]
        for node, own in zip(self.nodes, options, strict=True):
            # Known before the start, because a member without this option tells the others only AUTO.
            node.port, node._reservation = reserve_port(node.host)
            own["wsrep_node_incoming_address"] = f"{node.host}:{node.port}"

    def start(self) -> None:
        """Start all members, and wait until they belong to one cluster."""
        first, *others = self.nodes
        first.start()
        first.execute(f"CREATE DATABASE {self.database_name}")
        first.stop()
        for node in others:  # the same data and history, so that nothing has to be transferred
            node.datadir.parent.mkdir()
            shutil.copytree(first.datadir, node.datadir)
            (node.datadir / "gvwstate.dat").unlink(missing_ok=True)
        for node in self.nodes:
            node.start()

    def parameters(self, number: int, **more: Any) -> dict[str, Any]:
        """What a database is given to reach a member."""
        node = self.nodes[number]
        return {
            "host": node.host, "port": node.port, "user": self.user, "password": self.password,
            "database": self.database_name, **more,
        }  # fmt: skip


def _options(ports: list[tuple[int, int]], number: int, setup: str) -> dict[str, object]:
    mine, missed = ports[number - 1]
    others = ",".join(f"127.0.0.1:{port}" for port, _ in ports if port != mine)
    return {
        "wsrep_on": True,
        "wsrep_provider": str(LIBRARY),
        "wsrep_cluster_name": "tests",
        "wsrep_cluster_address": "gcomm://" + ("" if number == 1 else others),
        "wsrep_provider_options": f"base_port={mine};gmcast.listen_addr=tcp://127.0.0.1:{mine};"
        f"ist.recv_addr=127.0.0.1:{missed};gcache.size=8M;pc.recovery=no",
        "wsrep_node_address": "127.0.0.1",
        "wsrep_sst_method": "position",
        "innodb_autoinc_lock_mode": 2,
        **SETUPS[setup],
    }


@contextmanager
def galera(setup: str) -> Iterator[Galera]:
    """Start a cluster."""
    require("mariadb")
    for attempt in range(_ATTEMPTS):
        with ExitStack() as stack:
            cluster = _prepared(setup, stack)
            try:
                cluster.start()
            except RuntimeError:  # another program took a port, or a member gave up on the others
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                yield cluster
                return


def _prepared(setup: str, stack: ExitStack) -> Galera:
    folder = new_folder()
    # The servers look for `wsrep_sst_position` there.
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("PATH", str(Path(__file__).parent), prepend=os.pathsep)
    stack.callback(remove_folder, folder)
    settings = ClusterSettings(find("mariadb"), folder, Galera.database_name, secrets.token_hex(12))
    cluster = Galera(settings, setup)
    for node in cluster.nodes:
        stack.callback(node.destroy)
    return cluster
