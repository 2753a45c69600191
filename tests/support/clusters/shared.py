"""The clusters that the tests of a worker share; those of MySQL are paused while a module does not use them.

A MySQL server that is asked nothing takes 6 ms of processor time per second, and a worker has five of them.
Paused or not, it takes some 210 MB of memory, with what it writes to files there.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import AbstractContextManager, ExitStack

from support.clusters import own_cluster, write_nothing
from support.clusters.lagging import held_back
from support.databases.nodes import stop_probers

from peewee_replicas.testing import LocalCluster

# For what some writes need: files of the client's, and functions that write.
_WRITES = {"local_infile": True, "log_bin_trust_function_creators": True}

KINDS: dict[str, Callable[[str], AbstractContextManager[LocalCluster]]] = {
    "cluster": own_cluster,
    "pair": lambda server: held_back(server, options={"*": _WRITES}),
}
"""How to start each, by the name of the fixture that gives it to tests."""

_started: dict[tuple[str, str], LocalCluster] = {}
_stopping: dict[tuple[str, str], ExitStack] = {}


def shared(kind: str, server: str) -> LocalCluster:
    """The cluster of this kind, started when first asked for."""
    key = kind, server
    if key not in _started:
        stack = ExitStack()
        _started[key] = stack.enter_context(KINDS[kind](server))
        _stopping[key] = stack
    cluster = _started[key]
    if cluster.primary.state == "paused":
        _resume(cluster)
        # After a minute without a word its replicas connect anew. They have done so when they apply this.
        write_nothing(cluster)
        cluster.sync(60)
    return cluster


def pause_others(kinds: Container[str]) -> None:
    """Pause MySQL's clusters of all kinds but these, until somebody asks for them."""
    idle = [found for (kind, _), found in _started.items() if kind not in kinds and found.server == "mysql"]
    if any(node.state == "running" for found in idle for node in found.nodes):
        stop_probers()  # of databases that earlier tests have left: they would tell of servers that hang
    for found in idle:
        for node in found.nodes:
            node.pause()


def stop_shared(kinds: Container[str] = KINDS) -> None:
    """Stop those of these kinds. If one is asked for later, another is started."""
    keys = [key for key in _started if key[0] in kinds]
    if keys:
        stop_probers()
    with ExitStack() as stack:
        for key in keys:
            _resume(_started.pop(key))  # closing a database may ask something
            stack.enter_context(_stopping.pop(key))


def _resume(cluster: LocalCluster) -> None:
    for node in cluster.nodes:
        node.resume()
