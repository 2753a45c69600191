"""Clusters that belong to one test or one module."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import pymysql
import pytest

from peewee_replicas.consistency import process_history
from peewee_replicas.testing import LocalCluster, available

SERVERS = tuple(os.environ.get("PEEWEE_REPLICAS_TEST_SERVERS", "mariadb mysql").split())
"""The servers that the tests use: fewer where it is Python's version that matters and not the server's."""

T = TypeVar("T")


def require(server: Any, version: str | None = None) -> None:
    """Skip the test where there is no such server, or fail it where servers are required."""
    if server not in SERVERS:
        pytest.skip(f"{server} is not among PEEWEE_REPLICAS_TEST_SERVERS")
    reason = available(server, version)
    if reason is None:
        return
    if os.environ.get("PEEWEE_REPLICAS_REQUIRE_SERVERS") == "1":
        pytest.fail(f"a {server} server is required here: {reason}", pytrace=False)
    pytest.skip(f"NO {server.upper()} SERVER: {reason}")


def administrator(cluster: LocalCluster, node: Any, **options: Any) -> Any:
    """A connection to a node whose work is not replicated."""
    parameters = {**cluster.parameters(node), "user": cluster.admin_user, "autocommit": True, **options}
    return pymysql.connect(**parameters, init_command="SET SESSION sql_log_bin = 0")


def version_of(cluster: LocalCluster) -> tuple[int, ...]:
    """The servers' version, for what only some versions have."""
    return tuple(int(number) for number in cluster.version.split("."))


@contextmanager
def as_in_another_process() -> Iterator[None]:
    """A database object that is made meanwhile knows nothing of what others wrote to the same servers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process_history, "_by_endpoint", WeakValueDictionary())
        yield


def write_nothing(cluster: LocalCluster) -> None:
    """Have the primary write what changes nothing. A `sync()` after it shows that replication works."""
    cluster.primary.execute(f"DROP TABLE IF EXISTS {cluster.database_name}.never_made")


def heal(cluster: LocalCluster) -> None:
    """Let all nodes run and replicate again, whatever a test has done to them."""
    for node in cluster.nodes:
        node.resume()
        node.start()
    for node in cluster.replicas:
        node.thaw()
    cluster.sync(60)


def own_cluster(server: Any, replicas: int = 2, **arguments: Any) -> LocalCluster:
    """A cluster that is not started yet; skips, or fails where servers are required, without a server."""
    require(server)
    return LocalCluster(replicas=replicas, server=server, **arguments)


@contextmanager
def one_for_each(
    start: Callable[[str], AbstractContextManager[T]],
) -> Iterator[Callable[[str], T]]:
    """A function that gives a server's cluster, started when first asked for; all stop at the end."""
    with ExitStack() as stack:
        yield cache(lambda server: stack.enter_context(start(server)))
