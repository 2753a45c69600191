"""All that differs from server to server; nothing here knows about routing."""

from __future__ import annotations

from types import ModuleType


def dialect_of(version: str) -> ModuleType:
    """The module that knows the server which greets with `version`."""
    from . import mariadb, mysql

    # Oracle's MySQL has no 10 or 11; a MariaDB behind a proxy may hide its name, never its number.
    major = version.split("-", 1)[0].split(".", 1)[0]
    return mariadb if "mariadb" in version.lower() or major in ("10", "11", "12") else mysql
