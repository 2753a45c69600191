"""The dialect of SQLite, which has one file and no replication."""

from __future__ import annotations

from .protocols import DialectName

NAME: DialectName = "sqlite"

GUARD = "PRAGMA query_only = ON"
UNGUARD = "PRAGMA query_only = OFF"

# SQLite takes its snapshot at the first read of a transaction, not at BEGIN.
SNAPSHOT = ("BEGIN", "SELECT COUNT(*) FROM sqlite_master")

# Not needed: all connections use the same file and have the same settings.
COMPARE = READY = CLUSTER_WAIT = IN_CLUSTER = READ_ONLY_NOW = ""
# Nothing is left to report after an error: the connection itself records each text that may change it.
REPORTS_AFTER_ERRORS = True
