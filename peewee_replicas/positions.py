"""Positions: which transactions a node's data includes. Immutable values that can be merged and compared.

MariaDB reports a GTID list (per domain, the last sequence number), MySQL a GTID set (per source, every
transaction's number, with gaps). A list and a set cannot be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .servers.gtid_list import MAX_ID, MAX_SEQUENCE, MariaDBGTID, MariaDBPosition
from .servers.gtid_set import MAX_NUMBER, MySQLInterval, MySQLPosition
from .servers.position import Position

__all__ = [
    "MAX_ID", "MAX_NUMBER", "MAX_SEQUENCE", "POSITIONS", "MariaDBGTID", "MariaDBPosition", "MySQLInterval",
    "MySQLPosition", "Position",
]  # fmt: skip

POSITIONS: Final[Mapping[str, type[MariaDBPosition] | type[MySQLPosition]]] = {
    "mariadb": MariaDBPosition,
    "mysql": MySQLPosition,
}
"""The class of positions for each kind of server."""
