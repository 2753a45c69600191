"""What is MariaDB's own: settings of a session, and what is asked of a node."""

from __future__ import annotations

from collections.abc import Mapping

from .gtid_list import MariaDBPosition, last_by_server
from .identity import in_sql
from .mysql_family import GUARD as GUARD
from .mysql_family import READ_ONLY_NOW as READ_ONLY_NOW
from .mysql_family import SNAPSHOT as SNAPSHOT
from .mysql_family import UNGUARD as UNGUARD
from .position import Position
from .protocols import DialectName, Row

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
# A domain, a server id and a number are easily the same in two topologies.
EXACT_POSITIONS = False
# Whether what a statement has changed in the session before it failed is reported with the next one.
REPORTS_AFTER_ERRORS = False


_WHO = in_sql()


def now(row: Row) -> MariaDBPosition | None:
    """The primary's position from the answer to `NOW`; None where the server keeps no binary log."""
    text, logs = row
    return MariaDBPosition.parse(text or "") if int(logs) else None


# The last of each server's writes that this one has logged, or applied without logging.
HISTORY = "SELECT @@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_slave_pos, @@GLOBAL.log_bin"


def missing(row: Row, wanted: Position) -> Position | None:
    """What of a position the primary that answered `HISTORY` with `row` does not have; None: nothing."""
    logged, applied, logs = row
    if not int(logs):
        return None
    if not isinstance(wanted, MariaDBPosition):
        return wanted
    lost = wanted.unrecorded_in(",".join(text for text in (logged, applied) if text))
    return None if lost.is_empty else lost


def position(text: str) -> MariaDBPosition:
    """A position from the server's text."""
    return MariaDBPosition.parse(text)


def wait(target: str, seconds: float) -> str:
    """A query that waits until the node has reached a position, and then tells who and where it is.

    Only `gtid_slave_pos` is safe as progress: `gtid_binlog_pos` runs ahead of the visible rows.
    """
    return f"SELECT MASTER_GTID_WAIT('{target}', {seconds:.3f}), {_WHO}, @@GLOBAL.gtid_slave_pos"


# What a probe asks. SHOW, so that servers count no SELECT the user did not send.
PROBE = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_id', 'hostname', 'port', 'read_only', "
    "'innodb_read_only', 'wsrep_on', 'log_bin', 'gtid_slave_pos', 'gtid_binlog_pos', 'gtid_binlog_state')"
)
REACHED = "gtid_slave_pos"
LONG_VALUES = ("gtid_slave_pos", "gtid_binlog_pos", "gtid_binlog_state")
# With ALL, or what is received under a name would not be listed.
CHANNELS = ("SHOW ALL SLAVES STATUS",)


def sampled(variables: Mapping[str, str]) -> MariaDBPosition | None:
    """How far a primary has come, from the answer to `PROBE`; None where it keeps no binary log."""
    if variables.get("log_bin") != "ON":
        return None
    return MariaDBPosition.parse(variables.get("gtid_binlog_pos", ""))


def has_all_of(node: Mapping[str, str], primary: Mapping[str, str]) -> bool:
    """Never known: the same GTID may be another transaction in another topology."""
    return False


def unshared(node: Mapping[str, str], primary: Mapping[str, str]) -> tuple[str, str]:
    """What a node has executed and the primary has not, as text: its own writes, and those of others.

    Of others' writes only the domains count in which the primary writes too. A replica of several sources
    has further ones.

    Parameters:
        node, primary: their answers to `PROBE`.
    """
    if primary.get("log_bin") != "ON":
        return "", ""
    known = _executed(primary)
    domains = {domain for domain, _ in known}
    own: list[str] = []
    others: list[str] = []
    for (domain, server), sequence in sorted(_executed(node).items()):
        if sequence > known.get((domain, server), 0):
            if str(server) == node.get("server_id"):
                own.append(f"{domain}-{server}-{sequence}")
            elif domain in domains:
                others.append(f"{domain}-{server}-{sequence}")
    return ",".join(own), ",".join(others)


def _executed(answers: Mapping[str, str]) -> dict[tuple[int, int], int]:
    """The last sequence number of each server in each domain, be it logged or only applied."""
    texts = (answers.get("gtid_binlog_state", ""), answers.get("gtid_slave_pos", ""))
    return last_by_server(",".join(text for text in texts if text))


def settle(target: str, seconds: float) -> str:
    """A statement that gives the node so long to reach a position; it tells nothing, and is no SELECT."""
    return f"DO MASTER_GTID_WAIT('{target}', {seconds:.3f})"
