"""The dialect of MySQL: session settings, and the library's own queries."""

from __future__ import annotations

from collections.abc import Mapping

from .gtid_set import MySQLPosition
from .identity import in_sql
from .mysql_family import GUARD as GUARD
from .mysql_family import READ_ONLY_NOW as READ_ONLY_NOW
from .mysql_family import SNAPSHOT as SNAPSHOT
from .mysql_family import UNGUARD as UNGUARD
from .position import Position
from .protocols import DialectName, Row

NAME: DialectName = "mysql"

# Assignments for one SET. They make the server report positions, session changes and the transaction's state.
TRACKERS = (
    "SESSION session_track_gtids = OWN_GTID",
    "SESSION session_track_state_change = ON",
    "SESSION session_track_transaction_info = 'STATE'",
)
WITHOUT_GTIDS = "gtid_mode is not ON; set gtid_mode=ON and enforce_gtid_consistency=ON on every node"
READ_ONLY = "SESSION transaction_read_only = ON"

# Settings that change what a SELECT returns. SHOW, so that the server's SELECT counters stay the user's own.
COMPARE = "SHOW SESSION VARIABLES WHERE Variable_name IN ('sql_mode', 'time_zone', 'transaction_isolation')"

READY = CLUSTER_WAIT = IN_CLUSTER = ""  # only MariaDB has Galera
# MySQL releases row locks before it updates `gtid_executed`. So "now" needs both, in this order.
NOW = "SELECT @@GLOBAL.gtid_owned, @@GLOBAL.gtid_executed, @@GLOBAL.gtid_mode"
# A commit's own GTID says nothing about what its transaction has read before.
COMMIT_COVERS_READS = False
EXACT_POSITIONS = True
# Whether session changes of a failed statement are reported with the next statement.
REPORTS_AFTER_ERRORS = True


_WHO = in_sql("@@server_uuid")


def now(row: Row) -> MySQLPosition | None:
    """Return the primary's position from the answer to `NOW`; None if the server keeps no GTIDs."""
    owned, executed, mode = row
    if mode != "ON":
        return None
    return MySQLPosition.parse_owned(owned or "").merge(MySQLPosition.parse(executed or ""))


HISTORY = NOW


def missing(row: Row, wanted: Position) -> Position | None:
    """Return the part of `wanted` that is missing in the answer `row` to `HISTORY`; None if nothing is."""
    own = now(row)
    if own is None:
        return None
    if not isinstance(wanted, MySQLPosition):
        return wanted
    lost = wanted.without(own)
    return None if lost.is_empty else lost


def position(text: str) -> MySQLPosition:
    """Parse a position from the server's text."""
    return MySQLPosition.parse(text)


def wait(target: str, seconds: float) -> str:
    """Return a query that waits until the node reaches a position, and returns its identity and position."""
    seconds = max(seconds, 0.001)  # to the server, 0 means no limit
    # With a wide `character_set_connection`, such as utf16, the server would read an empty set as the target.
    wait = f"WAIT_FOR_EXECUTED_GTID_SET(_latin1'{target}', {seconds:.3f})"
    return f"SELECT {wait}, {_WHO}, @@GLOBAL.gtid_executed"


# The query of a probe. SHOW, so that the server's SELECT counters stay the user's own.
PROBE = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_id', 'hostname', 'port', "
    "'read_only', 'offline_mode', 'innodb_read_only', 'group_replication_group_name', "
    "'gtid_mode', 'gtid_executed', 'gtid_owned')"
)
# Lifts the limits of the user's `init_command` on the prober's connections, where they stop SHOW as well.
NO_LIMITS = (
    "SET SESSION max_execution_time = 0, sql_select_limit = 18446744073709551615, sql_big_selects = ON"
)
REACHED = "gtid_executed"
LONG_VALUES = ("gtid_executed", "gtid_owned")
# The state and the role of this member of a replication group. Needs a right on performance_schema.
GROUP_MEMBER = (
    "SELECT member_state AS state, member_role AS role FROM performance_schema.replication_group_members "
    "WHERE member_id = @@server_uuid"
)
# Releases before 8.0.22 know only the second spelling.
CHANNELS = ("SHOW REPLICA STATUS", "SHOW SLAVE STATUS")


def sampled(variables: Mapping[str, str]) -> MySQLPosition | None:
    """Return the primary's position from the answer to `PROBE`; None if it keeps no GTIDs."""
    if variables.get("gtid_mode") != "ON":
        return None
    return MySQLPosition.parse(variables.get("gtid_executed", ""))


def has_all_of(node: Mapping[str, str], primary: Mapping[str, str]) -> bool:
    """Return whether a node has everything the primary has, including writes of the primary itself.

    Parameters:
        node, primary: their answers to `PROBE`.
    """
    executed, known = (MySQLPosition.parse(answers.get("gtid_executed", "")) for answers in (node, primary))
    own = primary.get("server_uuid", "").lower()
    return executed.covers(known) and any(interval.uuid == own for interval in known.intervals())


def unshared(node: Mapping[str, str], primary: Mapping[str, str]) -> tuple[str, str]:
    """Return what a node has executed and the primary has not, as text: its own writes, and others' writes.

    Parameters:
        node, primary: their answers to `PROBE`.
    """
    if node.get("gtid_mode") != "ON" or primary.get("gtid_mode") != "ON":
        return "", ""
    executed, known = (MySQLPosition.parse(answers.get("gtid_executed", "")) for answers in (node, primary))
    # With semi-synchronous replication, a replica may have a transaction before the primary has finished it.
    known = known.merge(MySQLPosition.parse_owned(primary.get("gtid_owned", "")))
    lacking = executed.without(known).intervals()
    own = node.get("server_uuid", "").lower()
    texts = [MySQLPosition(i for i in lacking if (i.uuid == own) is mine).text() for mine in (True, False)]
    return texts[0], texts[1]


def settle(target: str, seconds: float) -> str:
    """Return a statement that waits up to `seconds` for a position. It returns no rows and is no SELECT."""
    return f"DO WAIT_FOR_EXECUTED_GTID_SET(_latin1'{target}', {max(seconds, 0.001):.3f})"
