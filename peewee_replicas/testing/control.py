"""The cluster's own sessions on a server. Their statements do not count as clients' statements."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pymysql

from peewee_replicas.concurrency import Clock
from peewee_replicas.servers.protocols import Row
from peewee_replicas.testing.counts import (
    CONNECTIONS_BY_USER,
    DUMPS,
    SESSION_COUNTERS,
    STATEMENTS_BY_USER,
    Role,
    SinceReset,
    combine,
    exact_counters,
)

APP, ADMIN = "app", "admin"
CLUSTER, REPLICATION = "cluster", "replication"

ANSWER_SECONDS = 60.0
_CONNECTING_SECONDS = 5.0
_LOST = (2002, 2003, 2006, 2013)


class Control:
    """Opens a session over the server's socket for each task, and subtracts it from the server's counters."""

    def __init__(self, role: Role, socket_path: str, password: str) -> None:
        self.since_reset = SinceReset()
        self._role = role
        self._socket_path = socket_path
        self._password = password

    def accepts_logins(self) -> bool:
        """Log in once as each user; return False if the server does not answer."""
        # PyMySQL leaks the socket of a refused connection, so first connect without it.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self._socket_path)
            except OSError:
                return False
        try:
            # MySQL caches a login over its socket, and then also accepts the password without TLS.
            for user in (CLUSTER, APP, ADMIN):
                with self.session(user):
                    pass
        except pymysql.err.OperationalError as error:
            if error.args[0] not in _LOST:
                raise
            return False
        return True

    def run(self, sql: str, params: Sequence[object] | None = None) -> list[Row]:
        """Run one statement and return its rows."""
        with self.session() as cursor:
            cursor.execute(sql, params)
            rows = list(cursor.fetchall())
            while cursor.nextset():
                pass
        return rows

    def counters(self, seconds: float = ANSWER_SECONDS) -> dict[str, int]:
        """Return the server's current counters.

        Parameters:
            seconds: how long one answer may take.
        """
        with self.session(seconds=seconds) as cursor:
            deadline = Clock.monotonic() + _CONNECTING_SECONDS
            while True:
                before = self._replicas(cursor)
                cursor.execute(STATEMENTS_BY_USER)
                by_user = cursor.fetchall()
                cursor.execute(CONNECTIONS_BY_USER)
                connections = cursor.fetchall()
                # Nothing may be selected after this, or it would be subtracted without having been counted.
                cursor.execute(exact_counters(self._role, "GLOBAL"))
                every = dict(cursor.fetchall())
                # What a replica sends to connect must be in both counts, or in none.
                settled = before == self._replicas(cursor) and set(before.values()) <= set(DUMPS)
                if settled or Clock.monotonic() > deadline:
                    break
                time.sleep(0.01)  # the server has no event to wait for
        return combine(self._role, every, by_user, connections, CLUSTER, REPLICATION)

    def _replicas(self, cursor: pymysql.cursors.Cursor) -> dict[int, str]:
        """Return what each session of a replica is doing. ``SHOW``, because a ``SELECT`` would be counted."""
        cursor.execute("SHOW PROCESSLIST")
        return {row[0]: row[4] for row in cursor.fetchall() if row[1] == REPLICATION}

    @contextmanager
    def session(
        self, user: str = CLUSTER, seconds: float = ANSWER_SECONDS
    ) -> Iterator[pymysql.cursors.Cursor]:
        """Open a session in autocommit.

        Parameters:
            user: the user to log in as.
            seconds: how long one answer may take.
        """
        connection = pymysql.connect(
            unix_socket=self._socket_path,
            user=user,
            password=self._password,
            ssl_disabled=True,
            autocommit=True,
            charset="utf8mb4",
            connect_timeout=int(ANSWER_SECONDS),
            read_timeout=seconds,
        )
        try:
            with connection.cursor() as cursor:
                try:
                    yield cursor
                finally:
                    if connection.open:
                        exact = exact_counters(self._role, "SESSION")
                        cursor.execute(exact if user == CLUSTER else SESSION_COUNTERS)
                        self._subtract(user, dict(cursor.fetchall()))
        finally:
            connection.close()

    def _subtract(self, user: str, counted: Mapping[str, str]) -> None:
        own = {name: int(count) for name, count in counted.items()}
        if user != CLUSTER:  # the counters that are kept by user exclude the cluster's own
            own["Connections"] = 1
        self.since_reset.add_own(own)
