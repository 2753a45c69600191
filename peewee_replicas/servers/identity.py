"""The identity of a server, independent of its address. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ServerIdentity(NamedTuple):
    """The variables that together distinguish one server from all others.

    None of them is enough alone: a copied data directory contains the UUID, and server ids are unique only
    within one replication topology. MariaDB's ``@@server_uid`` is not used, because many releases lack it,
    and two servers on one network interface, or on none, can share it.

    Attributes:
        uuid: MySQL's ``@@server_uuid``; ``""`` for MariaDB.
        server_id, hostname, port: the variables with these names.
    """

    uuid: str
    server_id: str
    hostname: str
    port: str

    @property
    def text(self) -> str:
        """The identity as one string, the same as the server computes for `in_sql`."""
        parts = (self.server_id, self.hostname, self.port)
        return "/".join((self.uuid, *parts) if self.uuid else parts)


def identity(variables: Mapping[str, str]) -> ServerIdentity:
    """Return the identity of the server that has these variables."""
    return ServerIdentity(
        variables.get("server_uuid", ""),
        variables.get("server_id", ""),
        variables.get("hostname", ""),
        variables.get("port", ""),
    )


def name_among_all(variables: Mapping[str, str]) -> str:
    """Return a name that also distinguishes servers of different topologies; ``""`` without a server id.

    There, server ids and host names are more likely to be the same, so MariaDB's ``server_uid`` is added if
    the server has one. On its own it would not do, but it can show that two servers differ.
    """
    server = identity(variables)
    return f"{server.text}/{variables.get('server_uid', '')}" if server.server_id else ""


def in_sql(*first: str) -> str:
    """Return an SQL expression for `ServerIdentity.text`; the expressions in `first` come first."""
    return f"CONCAT_WS('/', {', '.join((*first, '@@server_id', '@@hostname', '@@port'))})"
