"""What is MariaDB's own: settings of a session, and what is asked of a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .gtid_list import MariaDBPosition
from .mysql_family import GUARD as GUARD
from .mysql_family import READ_ONLY_NOW as READ_ONLY_NOW
from .mysql_family import SNAPSHOT as SNAPSHOT
from .mysql_family import UNGUARD as UNGUARD
from .position import Position
from .protocols import DialectName

NAME: DialectName = "mariadb"

# Assignments for one SET: report positions, changes of the session and the state of the transaction.
TRACKERS = (
    "SESSION session_track_system_variables = 'last_gtid'",
    "SESSION session_track_state_change = ON",
    "SESSION session_track_transaction_info = 'STATE'",
)
READ_ONLY = "SESSION tx_read_only = ON"

# Settings that change what a SELECT returns. SHOW, so that servers count no SELECT the user did not send.
COMPARE = "SHOW SESSION VARIABLES WHERE Variable_name IN ('sql_mode', 'time_zone', 'tx_isolation')"

# Whether a node of Galera's serves reads; one that does not lets clients in all the same.
READY = (
    "SELECT variable_value, @@GLOBAL.wsrep_reject_queries FROM information_schema.global_status "
    "WHERE variable_name = 'wsrep_ready'"
)
NOW = "SELECT @@GLOBAL.gtid_binlog_pos, @@GLOBAL.log_bin"
# Within a domain a commit's sequence number is higher than all that its transaction could have read.
COMMIT_COVERS_READS = True
# Whether what a statement has changed in the session before it failed is reported with the next one.
REPORTS_AFTER_ERRORS = False


def now(row: tuple[Any, ...]) -> MariaDBPosition | None:
    """The primary's position from the answer to `NOW`; None where the server keeps no binary log."""
    text, logs = row
    return MariaDBPosition.parse(text or "") if int(logs) else None


# The last of each server's writes that this one has logged, or applied without logging.
HISTORY = "SELECT @@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_slave_pos, @@GLOBAL.log_bin"


def in_history(row: tuple[Any, ...], wanted: Position) -> bool:
    """Whether the primary that gave `row` as answer to `HISTORY` has all of a position."""
    logged, applied, logs = row
    if not int(logs):
        return True
    known = ",".join(text for text in (logged, applied) if text)
    return isinstance(wanted, MariaDBPosition) and wanted.recorded_in(known)


def position(text: str) -> MariaDBPosition:
    """A position from the server's text."""
    return MariaDBPosition.parse(text)


def wait(target: str, seconds: float) -> str:
    """A query that waits until the node has reached a position, and then tells who and where it is.

    Only `gtid_slave_pos` is safe as progress: `gtid_binlog_pos` runs ahead of the visible rows.
    """
    return f"SELECT MASTER_GTID_WAIT('{target}', {seconds:.3f}), @@server_uid, @@GLOBAL.gtid_slave_pos"


# What a probe asks. SHOW, so that servers count no SELECT the user did not send.
PROBE = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uid', 'server_id', 'read_only', "
    "'innodb_read_only', 'wsrep_on', 'log_bin', 'gtid_slave_pos', 'gtid_binlog_pos')"
)
IDENTITY = "server_uid"
REACHED = "gtid_slave_pos"
LONG_VALUES = ("gtid_slave_pos", "gtid_binlog_pos")
# With ALL, or what is received under a name would not be listed.
CHANNELS = ("SHOW ALL SLAVES STATUS",)


def sampled(variables: Mapping[str, str]) -> MariaDBPosition | None:
    """How far a primary has come, from the answer to `PROBE`; None where it keeps no binary log."""
    if variables.get("log_bin") != "ON":
        return None
    return MariaDBPosition.parse(variables.get("gtid_binlog_pos", ""))


def own_writes(variables: Mapping[str, str]) -> MariaDBPosition:
    """What a node has written by itself, and not replicated, as far as its last positions tell."""
    logged = MariaDBPosition.parse(variables.get("gtid_binlog_pos", ""))
    own = variables.get("server_id", "")
    return MariaDBPosition(gtid for gtid in logged.gtids() if str(gtid.server) == own)


def settle(target: str, seconds: float) -> str:
    """A statement that gives the node so long to reach a position; it tells nothing, and is no SELECT."""
    return f"DO MASTER_GTID_WAIT('{target}', {seconds:.3f})"
