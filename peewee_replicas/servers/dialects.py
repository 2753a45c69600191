"""Choose the dialect for a server."""

from __future__ import annotations

from . import mariadb, mysql
from .protocols import ServerDialect


def dialect_of(version: str) -> ServerDialect:
    """Return the dialect of a server with this version in its greeting."""
    # MySQL has no major versions 10 to 12. A proxy may hide MariaDB's name, but not its version number.
    major = version.split("-", 1)[0].split(".", 1)[0]
    if "mariadb" in version.lower() or major in ("10", "11", "12"):
        return mariadb
    return mysql
