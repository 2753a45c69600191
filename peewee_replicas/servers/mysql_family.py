"""What MySQL and MariaDB have in common: statements that mean the same to both."""

from __future__ import annotations

GUARD = "SET SESSION TRANSACTION READ ONLY"
UNGUARD = "SET SESSION TRANSACTION READ WRITE"

# wait_timeout bounds the snapshot's life, as it holds metadata locks that can stop replication at a DDL.
# Under READ COMMITTED, WITH CONSISTENT SNAPSHOT is ignored without a word.
SNAPSHOT = (
    "SET SESSION wait_timeout = {seconds}",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)

READ_ONLY_NOW = "SELECT @@GLOBAL.read_only"
