"""A group of three MySQL servers in single-primary mode, which elects its primary by itself."""

from __future__ import annotations

from typing import Any

from support.clusters import own_cluster
from support.proxies.router import free_port
from support.waiting import until

STATE = "SELECT member_state FROM performance_schema.replication_group_members"


def grouped() -> Any:
    """A cluster whose servers can become a group."""
    ports = [free_port() for _ in range(3)]
    names = ("primary", "replica-1", "replica-2")
    options = {
        name: {
            "plugin_load_add": "group_replication.so",
            "loose_group_replication_group_name": "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa",
            "loose_group_replication_start_on_boot": False,
            "loose_group_replication_local_address": f"127.0.0.1:{port}",
            "loose_group_replication_group_seeds": ",".join(f"127.0.0.1:{each}" for each in ports),
            "loose_group_replication_recovery_get_public_key": True,
        }
        for name, port in zip(names, ports, strict=True)
    }
    return own_cluster("mysql", 2, options=options)


def join(cluster: Any) -> None:
    """Make the servers a group, with the primary as its primary."""
    for node in cluster.replicas:
        node.execute("STOP REPLICA")
        node.execute("RESET REPLICA ALL")
        node._following = False  # or its next start would begin what has been removed
    for node in cluster.nodes:
        node.execute(
            f"CHANGE REPLICATION SOURCE TO SOURCE_USER='{cluster.admin_user}', "
            f"SOURCE_PASSWORD='{cluster.password}' FOR CHANNEL 'group_replication_recovery'"
        )
    cluster.primary.execute("SET GLOBAL group_replication_bootstrap_group = ON")
    cluster.primary.execute("START GROUP_REPLICATION")
    cluster.primary.execute("SET GLOBAL group_replication_bootstrap_group = OFF")
    for node in cluster.replicas:
        node.execute("START GROUP_REPLICATION")
    until_complete(cluster.primary)


def until_complete(node: Any) -> None:
    """Wait until a member sees all three in the group."""
    until(lambda: node.execute(STATE) == [("ONLINE",)] * 3, 120.0)
