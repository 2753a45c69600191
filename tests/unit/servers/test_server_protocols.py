"""Every dialect and every connection has the members that the rooms above use.

The members are those of the Protocols in `servers.protocols`. The types of each are checked by mypy,
where a class is assigned to its Protocol; this module checks that they are there, which mypy cannot, as
the drivers' base classes count as Any.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from support.peewees import needs_asyncio

from peewee_replicas.servers import mariadb, mysql, protocols, sqlite, sqlite_dialect
from peewee_replicas.servers.wire.connection import Connection as WireConnection

SQLITE = sqlite.sqlite3.connect(":memory:", factory=sqlite.Connection)
WIRE = WireConnection(defer_connect=True)


def members(protocol: Any) -> set[str]:
    """The names that a Protocol declares, with those of the Protocols it extends."""
    declaring = [cls for cls in protocol.__mro__ if cls.__module__ == protocols.__name__]
    names = {name for cls in declaring for name in (*vars(cls), *inspect.get_annotations(cls))}
    return {name for name in names if not name.startswith("_")}


# What a connection learns from the server's greeting, and does not have before.
GREETED = frozenset({"dialect", "server_version"})


@pytest.mark.parametrize(
    ("protocol", "found", "later"),
    [
        (protocols.ServerDialect, mysql, ()),
        (protocols.ServerDialect, mariadb, ()),
        (protocols.Dialect, sqlite_dialect, ()),
        (protocols.Connection, SQLITE, ()),
        (protocols.ServerConnection, WIRE, GREETED),
    ],
)
def test_every_member_is_there(protocol: Any, found: Any, later: Any) -> None:
    assert {name for name in members(protocol) if not hasattr(found, name)} == set(later)


@needs_asyncio
def test_the_asyncio_connection_is_one_of_the_wire() -> None:
    from peewee_replicas.aio.connection import Connection as AsyncConnection

    assert issubclass(AsyncConnection, WireConnection)


def test_the_protocols_declare_what_they_are_for() -> None:
    assert {"GUARD", "READY", "COMPARE", "REPORTS_AFTER_ERRORS"} <= members(protocols.Dialect)
    assert members(protocols.Dialect) < members(protocols.ServerDialect)
    assert {"ask", "run_setting", "dropped", "changes"} <= members(protocols.Connection)
    assert members(protocols.Connection) < members(protocols.ServerConnection)
