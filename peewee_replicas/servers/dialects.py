"""Which dialect a server speaks."""

from __future__ import annotations

from . import mariadb, mysql
from .protocols import ServerDialect


def dialect_of(version: str) -> ServerDialect:
    """The dialect of the server that calls itself `version` in its greeting."""
    # Oracle's MySQL has no 10 or 11; a MariaDB behind a proxy may hide its name, never its number.
    major = version.split("-", 1)[0].split(".", 1)[0]
    if "mariadb" in version.lower() or major in ("10", "11", "12"):
        return mariadb
    return mysql
