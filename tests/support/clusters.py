"""Clusters that belong to one test or one module."""

from __future__ import annotations

import os
from typing import Any

import pytest

from peewee_replicas.testing import LocalCluster, available


def own_cluster(server: Any, replicas: int = 2, **arguments: Any) -> LocalCluster:
    """A cluster that is not started yet; skips, or fails where servers are required, without a server."""
    reason = available(server)
    if reason is not None:
        if os.environ.get("PEEWEE_REPLICAS_REQUIRE_SERVERS") == "1":
            pytest.fail(f"a {server} server is required here: {reason}", pytrace=False)
        pytest.skip(f"NO {server.upper()} SERVER: {reason}")
    return LocalCluster(replicas=replicas, server=server, **arguments)
