"""Positions: which transactions a node's data includes. Immutable values that can be merged and compared.

MariaDB reports a GTID list (per domain, the last sequence number), MySQL a GTID set (per source, every
transaction's number, with gaps). A list and a set cannot be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from .servers.gtid_list import MAX_ID, MAX_SEQUENCE, MariaDBGTID, MariaDBPosition
from .servers.gtid_set import MAX_NUMBER, MySQLInterval, MySQLPosition
from .servers.position import Position

__all__ = [
    "MAX_ID", "MAX_NUMBER", "MAX_SEQUENCE", "POSITIONS", "MariaDBGTID", "MariaDBPosition", "MySQLInterval",
    "MySQLPosition", "Position", "Unmeasured",
]  # fmt: skip


class Unmeasured(Enum):
    """A position that cannot be stated, because the servers keep no GTIDs."""

    WRITES = "what was written"


POSITIONS: Final[Mapping[str, type[MariaDBPosition] | type[MySQLPosition]]] = {
    "mariadb": MariaDBPosition,
    "mysql": MySQLPosition,
}
"""The class of positions for each kind of server."""
