"""The dialect of MariaDB: session settings, and the library's own queries."""

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

# Assignments for one SET. They make the server report positions, session changes and the transaction's state.
TRACKERS = (
    "SESSION session_track_system_variables = 'last_gtid'",
    "SESSION session_track_state_change = ON",
    "SESSION session_track_transaction_info = 'STATE'",
)
WITHOUT_GTIDS = "log_bin is OFF; start the primary with log_bin"
READ_ONLY = "SESSION tx_read_only = ON"

# Settings that change what a SELECT returns. SHOW, so that the server's SELECT counters stay the user's own.
COMPARE = (
    "SHOW SESSION VARIABLES WHERE Variable_name IN ('sql_mode', 'time_zone', 'tx_isolation', 'wsrep_on')"
)

# Asks whether a Galera node serves reads. A node that does not still accepts connections.
READY = (
    "SELECT variable_value, @@GLOBAL.wsrep_reject_queries FROM information_schema.global_status "
    "WHERE variable_name = 'wsrep_ready'"
)
# Asked without waiting for the cluster, because a member that is behind would not answer in time.
IN_CLUSTER = "SET STATEMENT wsrep_sync_wait = 0 FOR SELECT @@SESSION.wsrep_on"
# Each SELECT (1) and SHOW (8) then waits until this member shows everything that the cluster has committed so
# far. With dirty reads allowed, none would wait.
CLUSTER_WAIT = "SET SESSION wsrep_sync_wait = 9, SESSION wsrep_dirty_reads = OFF"
NOW = "SELECT @@GLOBAL.gtid_binlog_pos, @@GLOBAL.log_bin"
# Within a domain, a commit's sequence number is higher than those of all transactions it could have read.
COMMIT_COVERS_READS = True
# A GTID does not identify its transaction: another topology can easily use the same domain, server id and
# number.
EXACT_POSITIONS = False
# Whether session changes of a failed statement are reported with the next statement.
REPORTS_AFTER_ERRORS = False


_WHO = in_sql()


def now(row: Row) -> MariaDBPosition | None:
    """Return the primary's position from the answer to `NOW`; None if the server keeps no binary log."""
    text, logs = row
    return MariaDBPosition.parse(text or "") if int(logs) else None


# The last write of each server that this server has logged, or applied without logging.
HISTORY = "SELECT @@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_slave_pos, @@GLOBAL.log_bin"


def missing(row: Row, wanted: Position) -> Position | None:
    """Return the part of `wanted` that is missing in the answer `row` to `HISTORY`; None if nothing is."""
    logged, applied, logs = row
    if not int(logs):
        return None
    if not isinstance(wanted, MariaDBPosition):
        return wanted
    lost = wanted.unrecorded_in(",".join(text for text in (logged, applied) if text))
    return None if lost.is_empty else lost


def position(text: str) -> MariaDBPosition:
    """Parse a position from the server's text."""
    return MariaDBPosition.parse(text)


def wait(target: str, seconds: float) -> str:
    """Return a query that waits until the node reaches a position, and returns its identity and position.

    Only `gtid_slave_pos` shows safe progress: `gtid_binlog_pos` runs ahead of the visible rows.
    """
    # With a wide `character_set_connection`, such as utf16, the server could not read the position (1941).
    return f"SELECT MASTER_GTID_WAIT(_latin1'{target}', {seconds:.3f}), {_WHO}, @@GLOBAL.gtid_slave_pos"


# The query of a probe. SHOW, so that the server's SELECT counters stay the user's own.
PROBE = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_id', 'server_uid', 'hostname', 'port', "
    "'read_only', 'innodb_read_only', 'wsrep_on', 'log_bin', 'gtid_slave_pos', "
    "'gtid_binlog_pos', 'gtid_binlog_state')"
)
# Lifts the limits of the user's `init_command` on the prober's connections, where they stop SHOW as well.
NO_LIMITS = (
    "SET SESSION max_statement_time = 0, sql_select_limit = 18446744073709551615, sql_big_selects = ON"
)
REACHED = "gtid_slave_pos"
LONG_VALUES = ("gtid_slave_pos", "gtid_binlog_pos", "gtid_binlog_state")
GROUP_MEMBER = ""  # only MySQL has group replication
# Without ALL, named replication channels would not be listed.
CHANNELS = ("SHOW ALL SLAVES STATUS",)


def sampled(variables: Mapping[str, str]) -> MariaDBPosition | None:
    """Return the primary's position from the answer to `PROBE`; None if it keeps no binary log."""
    if variables.get("log_bin") != "ON":
        return None
    return MariaDBPosition.parse(variables.get("gtid_binlog_pos", ""))


def has_all_of(node: Mapping[str, str], primary: Mapping[str, str]) -> bool:
    """Return False: this is never certain, because another topology may use the same GTIDs."""
    return False


def unshared(node: Mapping[str, str], primary: Mapping[str, str]) -> tuple[str, str]:
    """Return what a node has executed and the primary has not, as text: its own writes, and others' writes.

    Others' writes count only in domains that the primary has too, because a replica of several sources has
    further domains.

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
    """Return the last sequence number of each server in each domain, whether logged or only applied."""
    texts = (answers.get("gtid_binlog_state", ""), answers.get("gtid_slave_pos", ""))
    return last_by_server(",".join(text for text in texts if text))


def settle(target: str, seconds: float) -> str:
    """Return a statement that waits up to `seconds` for a position. It returns no rows and is no SELECT."""
    return f"DO MASTER_GTID_WAIT(_latin1'{target}', {seconds:.3f})"
