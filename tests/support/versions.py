"""The versions that the tests run with."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from support.clusters import SERVERS

from peewee_replicas.testing.installations import MissingServer, find

PACKAGES = ("peewee", "PyMySQL", "aiomysql")


def versions() -> dict[str, Any]:
    """The versions of Python, of the packages that matter here, and of the servers, as texts."""
    return {
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _package(name))},
        "servers": {name: found for name in SERVERS if (found := _server(name))},
    }


def _package(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _server(name: Any) -> str | None:
    try:
        return find(name).version
    except MissingServer:
        return None
