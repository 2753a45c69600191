"""A cluster whose replica is one second late, shared by a module's tests, and the packages that they need."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from types import ModuleType

import pytest
from support.clusters import own_cluster

from peewee_replicas.testing import LocalCluster

# The modules of packages that have another name.
_MODULES = {"flask-admin": "flask_admin.contrib.peewee", "huey": "huey.contrib.sql_huey"}


@pytest.fixture(scope="module")
def late() -> Iterator[LocalCluster]:
    """A primary and one replica that applies each change one second after the primary made it."""
    with own_cluster("mariadb", 1) as cluster:
        cluster.replicas[0].delay(1)
        yield cluster


def package(name: str) -> ModuleType:
    """The module of a package; skips the test if it is not installed."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed; the extra `programs` has it")
    return pytest.importorskip(_MODULES.get(name, name.replace("-", "_")))
