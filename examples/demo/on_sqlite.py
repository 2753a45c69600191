"""The demo without a server: the stages that SQLite can show."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peewee_replicas import ReplicatedSqliteDatabase, RouteEvent

from .screen import Screen
from .stages import Demo, Tally


class EventCounter:
    """Counts the library's own events, since SQLite counts nothing."""

    def __init__(self, db: Any) -> None:
        self._lock = threading.Lock()
        self._nodes = ("primary", *(replica.name for replica in db.replicas))
        self._tallies = dict.fromkeys(self._nodes, Tally(0, 0))
        db.route_hooks.append(self._count)

    def reset(self) -> None:
        """Start counting from zero."""
        with self._lock:
            self._tallies = dict.fromkeys(self._nodes, Tally(0, 0))

    def counts(self) -> Mapping[str, Tally]:
        """What each node has received."""
        with self._lock:
            return dict(self._tallies)

    def _count(self, event: RouteEvent) -> None:
        with self._lock:
            tally = self._tallies[event.node]
            self._tallies[event.node] = Tally(
                tally.reads + (event.kind == "read"), tally.writes + (event.kind == "write")
            )


class SqliteDemo(Demo):
    """The stages that one file can show."""

    needs_writer = "SELECT last_insert_rowid()"

    def __init__(self, file: Path, readers: int, screen: Screen) -> None:
        db = ReplicatedSqliteDatabase(str(file), readers=readers)
        super().__init__(db, EventCounter(db), screen, lambda: None)

    def run(self) -> None:
        """All stages and the closing table."""
        self.screen.title("NOTE: THIS IS SQLITE. There are no servers here and nothing is replicated.")
        self.screen.step("One file, one connection that writes, and read-only connections stand in for them.")
        self.screen.step("Nothing can be killed, so routing around a dead replica is NOT shown.")
        self.show_writes()
        self.show_routes()
        self.show_reads()
        self.show_readonly()
        self.show_transaction()
        states = dict.fromkeys(self.writes, "one file")
        self.show_counts("What the library itself counted (SQLite counts nothing)", states)
        self.db.close()
