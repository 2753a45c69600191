"""The dialect of SQLite: one file, nothing replicated."""

from __future__ import annotations

from .protocols import DialectName

NAME: DialectName = "sqlite"

GUARD = "PRAGMA query_only = ON"
UNGUARD = "PRAGMA query_only = OFF"

# SQLite takes its snapshot with the first read of a transaction, not with BEGIN.
SNAPSHOT = ("BEGIN", "SELECT COUNT(*) FROM sqlite_master")

# All connections lead to one file and are made alike.
COMPARE = READY = READ_ONLY_NOW = ""
# An error leaves nothing to report: the connection itself notes each text that may change it.
REPORTS_AFTER_ERRORS = True
