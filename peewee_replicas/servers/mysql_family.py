"""Statements that MySQL and MariaDB have in common."""

from __future__ import annotations

GUARD = "SET SESSION TRANSACTION READ ONLY"
UNGUARD = "SET SESSION TRANSACTION READ WRITE"

# wait_timeout limits the snapshot's life, because its metadata locks can stop replication at a DDL.
# Under READ COMMITTED, WITH CONSISTENT SNAPSHOT is silently ignored.
SNAPSHOT = (
    "SET SESSION wait_timeout = {seconds}",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)

READ_ONLY_NOW = "SELECT @@GLOBAL.read_only"
