"""The cluster's own line to a server: its statements are left out of what the server counts."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql

from peewee_replicas.testing.counts import (
    CONNECTIONS_BY_USER,
    EXACT,
    GLOBAL_COUNTERS,
    SESSION_COUNTERS,
    STATEMENTS_BY_USER,
    Ledger,
    Role,
    combine,
)

APP, ADMIN = "app", "admin"
CLUSTER, REPLICATION = "cluster", "replication"

ANSWER_SECONDS = 60.0
_LOST = (2002, 2003, 2006, 2013)


class Control:
    """Sessions over a server's socket, each for one purpose, and the book kept of them."""

    def __init__(self, role: Role, socket_path: str, password: str) -> None:
        self.ledger = Ledger()
        self._role = role
        self._socket_path = socket_path
        self._password = password

    def greet(self) -> bool:
        """Log in once as each user; whether the server is there to let us."""
        # Asked before the driver is, because PyMySQL leaks the socket of a refused connection.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self._socket_path)
            except OSError:
                return False
        try:
            # MySQL remembers who has logged in over a safe line; then a password needs no TLS.
            for user in (CLUSTER, APP, ADMIN):
                with self.session(user):
                    pass
        except pymysql.err.OperationalError as error:
            if error.args[0] not in _LOST:
                raise
            return False
        return True

    def run(self, sql: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        with self.session() as cursor:
            cursor.execute(sql, params)
            rows = list(cursor.fetchall())
            while cursor.nextset():
                pass
        return rows

    def counters(self, seconds: float = ANSWER_SECONDS) -> dict[str, int]:
        """The server's counters as they stand, asked within so many seconds."""
        with self.session(seconds=seconds) as cursor:
            cursor.execute(STATEMENTS_BY_USER)
            by_user = cursor.fetchall()
            cursor.execute(CONNECTIONS_BY_USER)
            connections = cursor.fetchall()
            cursor.execute(GLOBAL_COUNTERS)
            every = dict(cursor.fetchall())
        return combine(self._role, every, by_user, connections, CLUSTER, REPLICATION)

    @contextmanager
    def session(
        self, user: str = CLUSTER, seconds: float = ANSWER_SECONDS
    ) -> Iterator[pymysql.cursors.Cursor]:
        """A session in autocommit in which an answer may take so many seconds."""
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
                        cursor.execute(SESSION_COUNTERS)
                        self._take_off(user, dict(cursor.fetchall()))
        finally:
            connection.close()

    def _take_off(self, user: str, counted: Mapping[str, str]) -> None:
        own = {name: int(count) for name, count in counted.items()}
        if user == CLUSTER:  # elsewhere it is told apart by its name
            own = {name: count for name, count in own.items() if name in EXACT[self._role]}
        else:
            own["Connections"] = 1
        self.ledger.add_own(own)
