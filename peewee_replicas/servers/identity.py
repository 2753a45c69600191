"""Which server it is that answers, whatever its address. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ServerIdentity(NamedTuple):
    """What tells one server from all others.

    No single one of these does: a copied data directory brings its UUID along, and server ids are unique
    within one replication topology only. MariaDB's ``@@server_uid`` is not used, because many releases lack
    it, and two servers on one network interface, or on none, can share it.

    Attributes:
        uuid: MySQL's ``@@server_uuid``; ``""`` for MariaDB.
        server_id, hostname, port: the variables of these names.
    """

    uuid: str
    server_id: str
    hostname: str
    port: str

    @property
    def text(self) -> str:
        """The identity in one string, the same as `in_sql` makes on the server."""
        parts = (self.server_id, self.hostname, self.port)
        return "/".join((self.uuid, *parts) if self.uuid else parts)


def identity(variables: Mapping[str, str]) -> ServerIdentity:
    """The identity of the server that has these variables."""
    return ServerIdentity(
        variables.get("server_uuid", ""),
        variables.get("server_id", ""),
        variables.get("hostname", ""),
        variables.get("port", ""),
    )


def in_sql(*first: str) -> str:
    """An SQL expression for `ServerIdentity.text`; `first` are expressions that stand before the others."""
    return f"CONCAT_WS('/', {', '.join((*first, '@@server_id', '@@hostname', '@@port'))})"
