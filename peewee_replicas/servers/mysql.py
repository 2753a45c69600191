"""What is MySQL's own: settings of a session, and what is asked of a node."""

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

# Assignments for one SET: report positions, changes of the session and the state of the transaction.
TRACKERS = (
    "SESSION session_track_gtids = OWN_GTID",
    "SESSION session_track_state_change = ON",
    "SESSION session_track_transaction_info = 'STATE'",
)
READ_ONLY = "SESSION transaction_read_only = ON"

# Settings that change what a SELECT returns. SHOW, so that servers count no SELECT the user did not send.
COMPARE = "SHOW SESSION VARIABLES WHERE Variable_name IN ('sql_mode', 'time_zone', 'transaction_isolation')"

READY = ""  # Galera is MariaDB's
# MySQL frees a row's lock before `gtid_executed` is raised: both, in this order, make the primary's "now".
NOW = "SELECT @@GLOBAL.gtid_owned, @@GLOBAL.gtid_executed, @@GLOBAL.gtid_mode"
# A commit's own GTID says nothing of what its transaction had read before.
COMMIT_COVERS_READS = False
EXACT_POSITIONS = True
# Whether what a statement has changed in the session before it failed is reported with the next one.
REPORTS_AFTER_ERRORS = True


_WHO = in_sql("@@server_uuid")


def now(row: Row) -> MySQLPosition | None:
    """The primary's position from the answer to `NOW`; None where the server keeps no GTIDs."""
    owned, executed, mode = row
    if mode != "ON":
        return None
    return MySQLPosition.parse_owned(owned or "").merge(MySQLPosition.parse(executed or ""))


HISTORY = NOW


def missing(row: Row, wanted: Position) -> Position | None:
    """What of a position the primary that answered `HISTORY` with `row` does not have; None: nothing."""
    own = now(row)
    if own is None:
        return None
    if not isinstance(wanted, MySQLPosition):
        return wanted
    lost = wanted.without(own)
    return None if lost.is_empty else lost


def position(text: str) -> MySQLPosition:
    """A position from the server's text."""
    return MySQLPosition.parse(text)


def wait(target: str, seconds: float) -> str:
    """A query that waits until the node has reached a position, and then tells who and where it is."""
    seconds = max(seconds, 0.001)  # to the server, 0 means without end
    wait = f"WAIT_FOR_EXECUTED_GTID_SET('{target}', {seconds:.3f})"
    return f"SELECT {wait}, {_WHO}, @@GLOBAL.gtid_executed"


# What a probe asks. SHOW, so that servers count no SELECT the user did not send.
PROBE = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_id', 'hostname', 'port', "
    "'read_only', 'offline_mode', 'innodb_read_only', 'group_replication_group_name', "
    "'gtid_mode', 'gtid_executed', 'gtid_owned')"
)
REACHED = "gtid_executed"
LONG_VALUES = ("gtid_executed", "gtid_owned")
# The second spelling is for releases before 8.0.22.
CHANNELS = ("SHOW REPLICA STATUS", "SHOW SLAVE STATUS")


def sampled(variables: Mapping[str, str]) -> MySQLPosition | None:
    """How far a primary has come, from the answer to `PROBE`; None where it keeps no GTIDs."""
    if variables.get("gtid_mode") != "ON":
        return None
    return MySQLPosition.parse(variables.get("gtid_executed", ""))


def has_all_of(node: Mapping[str, str], primary: Mapping[str, str]) -> bool:
    """Whether a node has all that the primary has, with writes of that very server among it.

    Parameters:
        node, primary: their answers to `PROBE`.
    """
    executed, known = (MySQLPosition.parse(answers.get("gtid_executed", "")) for answers in (node, primary))
    own = primary.get("server_uuid", "").lower()
    return executed.covers(known) and any(interval.uuid == own for interval in known.intervals())


def unshared(node: Mapping[str, str], primary: Mapping[str, str]) -> tuple[str, str]:
    """What a node has executed and the primary has not, as text: its own writes, and those of others.

    Parameters:
        node, primary: their answers to `PROBE`.
    """
    if node.get("gtid_mode") != "ON" or primary.get("gtid_mode") != "ON":
        return "", ""
    executed, known = (MySQLPosition.parse(answers.get("gtid_executed", "")) for answers in (node, primary))
    # With semi-synchronous replication a replica may have a transaction before the primary has finished it.
    known = known.merge(MySQLPosition.parse_owned(primary.get("gtid_owned", "")))
    lacking = executed.without(known).intervals()
    own = node.get("server_uuid", "").lower()
    texts = [MySQLPosition(i for i in lacking if (i.uuid == own) is mine).text() for mine in (True, False)]
    return texts[0], texts[1]


def settle(target: str, seconds: float) -> str:
    """A statement that gives the node so long to reach a position; it tells nothing, and is no SELECT."""
    return f"DO WAIT_FOR_EXECUTED_GTID_SET('{target}', {max(seconds, 0.001):.3f})"
