"""What is MariaDB's own: settings of a session, and what is asked of a node."""

from __future__ import annotations

DIALECT = "mariadb"

# Assignments for one SET: report positions, changes of the session and the state of the transaction.
TRACKERS = (
    "SESSION session_track_system_variables = 'last_gtid'",
    "SESSION session_track_state_change = ON",
    "SESSION session_track_transaction_info = 'STATE'",
)
READ_ONLY = "SESSION tx_read_only = ON"

# The same guard around one statement on a connection that may write otherwise.
GUARD = "SET SESSION TRANSACTION READ ONLY"
UNGUARD = "SET SESSION TRANSACTION READ WRITE"

# Settings that change what a SELECT returns. SHOW, so that servers count no SELECT the user did not send.
COMPARE = "SHOW SESSION VARIABLES WHERE Variable_name IN ('sql_mode', 'time_zone', 'tx_isolation')"
