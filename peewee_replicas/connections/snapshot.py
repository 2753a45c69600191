"""``readonly(snapshot=True)``: one consistent read-only snapshot, on a connection of its own."""

from __future__ import annotations

from collections.abc import Hashable

from peewee import OperationalError, PeeweeException, __exception_wrapper__

from ..concurrency import Clock, Here, new_lock
from ..consistency.catch_up import CatchUp
from ..nodes.node import Node
from ..servers.error_meanings import in_words
from ..servers.protocols import ServerConnection
from .failures import is_behind_cluster
from .plain_database import NodeDatabase
from .replica_connections import ReplicaConnections

SNAPSHOT_SECONDS = 60
"""Seconds a snapshot may last: while open it holds metadata locks, which can block replication at a DDL."""


class Snapshot:
    """A snapshot that begins with the first read of its scope and never moves to another node.

    It has its own connection, so that other reads of this thread or task stay outside it.

    Parameters:
        here: identifies the current thread or task.
    """

    def __init__(self, here: Here) -> None:
        self._here = here
        self._replica: Node | None = None
        self._database: NodeDatabase | None = None
        self._lock = new_lock()
        self._conn: ServerConnection | None = None
        self._owner: Hashable = None
        self._ends = 0.0

    def claim(self) -> bool:
        """Return True to the first caller only: its thread or task begins the snapshot."""
        with self._lock:
            if self._owner is not None:
                return False
            # Two threads on one connection would read each other's results.
            self._owner = self._here.current()
            return True

    def let_go(self) -> None:
        """Let another thread or task begin the snapshot, because this one failed to."""
        self._owner = None

    def begin(self, connections: ReplicaConnections, replica: Node, catch_up: CatchUp | None) -> bool:
        """Begin the snapshot on one node; return False if it does not show yet what the read must see."""
        # A separate database has its own state, so other reads keep the node's usual connection.
        database = connections.make(replica)
        connections.open(replica, database)
        conn = database.open_conn
        try:
            with __exception_wrapper__:
                if catch_up is not None and not catch_up.shown_by(replica, conn):
                    # Wait before the snapshot begins: an open one does not see what arrives later.
                    query = catch_up.query(replica, conn)
                    if query:
                        with catch_up.waiting():
                            answer = connections.ask_wait(conn, query, catch_up.answer_seconds(conn))
                    if not query or not catch_up.learn(replica, conn, answer):
                        database.discard()
                        return False
                for statement in conn.dialect.SNAPSHOT:
                    conn.run_setting(statement.format(seconds=SNAPSHOT_SECONDS))
        except BaseException as exc:
            late = is_behind_cluster(conn, exc)
            database.discard()
            if late:
                replica.fell_behind()
                return False
            raise
        self._replica, self._database, self._conn = replica, database, conn
        self._ends = Clock.monotonic() + SNAPSHOT_SECONDS
        return True

    def place(self) -> tuple[Node, NodeDatabase]:
        """Return the snapshot's node, and the database of its connection there.

        Raises:
            OperationalError: the snapshot has lasted too long, or belongs to another thread or task.
        """
        if self._owner != self._here.current():
            word = self._here.word
            raise OperationalError(
                f"the snapshot on {self._label} belongs to the {word} that began it; "
                f"enter readonly(snapshot=True) in each {word}"
            )
        if Clock.monotonic() > self._ends:
            self.end()
            raise OperationalError(
                f"the snapshot on {self._label} has lasted longer than {SNAPSHOT_SECONDS} s and is over; "
                "enter a new scope"
            )
        assert self._replica is not None  # its owner began it
        assert self._database is not None
        return self._replica, self._database

    @property
    def _label(self) -> str:
        return "a replica" if self._replica is None else self._replica.label

    def lost(self, exc: PeeweeException) -> OperationalError:
        """End the snapshot and return the error to raise after its connection failed."""
        label = self._label
        self.end()
        return OperationalError(
            f"the snapshot on {label} is lost, and cannot move to another node: {in_words(exc)}"
        )

    def end(self) -> None:
        """End the snapshot and close its connection, from any thread."""
        conn, self._conn = self._conn, None
        if conn is not None and self._database is not None:
            self._database.drop(conn)
