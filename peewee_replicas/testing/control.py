"""The cluster's own sessions on a server. Their statements do not count as clients' statements."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from peewee_replicas.concurrency import Clock
from peewee_replicas.servers.protocols import Row
from peewee_replicas.testing.counts import (
    CLUSTER,
    CONNECTIONS_BY_USER,
    DUMPS,
    OTHERS,
    REPLICATION,
    SESSION_COUNTERS,
    STATEMENTS_BY_USER,
    Role,
    SinceReset,
    combine,
    exact_counters,
)

APP, ADMIN = "app", "admin"

ANSWER_SECONDS = 60.0
_CONNECTING_SECONDS = 5.0
_LOST = (2002, 2003, 2006, 2013)
# As above, and as the servers say that they have ended a session: MariaDB, MySQL.
_ENDED = (*_LOST, 1927, 4031)

T = TypeVar("T")


class Control:
    """Opens sessions over the server's socket, and subtracts them from the server's counters.

    Each task has a session of its own, except for questions: most tests ask several times, and opening a
    session takes longer than most answers.
    """

    def __init__(self, role: Role, socket_path: str, password: str) -> None:
        self.since_reset = SinceReset()
        self._role = role
        self._socket_path = socket_path
        self._password = password
        self._kept: list[Connection[Cursor]] = []
        self._keeping = threading.Lock()

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

    def ask(self, sql: str, params: Sequence[object] | None = None) -> Row:
        """Run one ``SELECT`` that changes nothing, and return its first row."""

        def question(cursor: Cursor) -> tuple[Row, int]:
            cursor.execute(sql, params)
            return cursor.fetchone() or (), 1

        return self._on_kept_session(question)

    def counters(self, seconds: float | None = None) -> dict[str, int]:
        """Return the server's current counters.

        Parameters:
            seconds: how long one answer may take; None: as long as for any question.
        """
        if seconds is not None:
            with self.session(seconds=seconds) as cursor:
                return self._read_counters(cursor)[0]
        return self._on_kept_session(self._read_counters)

    def _read_counters(self, cursor: Cursor) -> tuple[dict[str, int], int]:
        """Return the counters, and how many ``SELECT`` they count of these questions."""
        deadline = Clock.monotonic() + _CONNECTING_SECONDS
        selects = 0
        while True:
            before = self._replicas(cursor)
            cursor.execute(CONNECTIONS_BY_USER)
            connections = cursor.fetchall()
            users = [user for user, _ in connections if user not in OTHERS]
            by_user: tuple[tuple[str, str, int], ...] = ()
            if users:
                # MySQL takes a millisecond for each user.
                cursor.execute(STATEMENTS_BY_USER, (users,))
                by_user = cursor.fetchall()
            selects += 2 if users else 1
            # Nothing may be selected after this, or it would be subtracted without having been counted.
            cursor.execute(exact_counters(self._role, "GLOBAL"))
            every = dict(cursor.fetchall())
            # What a replica sends to connect must be in both counts, or in none.
            settled = before == self._replicas(cursor) and set(before.values()) <= set(DUMPS)
            if settled or Clock.monotonic() > deadline:
                break
            time.sleep(0.01)  # the server has no event to wait for
        return combine(self._role, every, by_user, connections), selects

    def close(self) -> None:
        """Close the session that is kept for questions; the next question opens another."""
        while self._kept:
            self._kept.pop().close()

    def abandon(self) -> None:
        """Forget the session that is kept, in a forked child, because it belongs to the parent."""
        self._kept = []  # close() would end the parent's session
        self._keeping = threading.Lock()

    def _on_kept_session(self, question: Callable[[Cursor], tuple[T, int]]) -> T:
        """Ask on the session that is kept; `question` returns the answer and how many ``SELECT`` it sent."""
        while True:
            try:
                connection, was_kept = self._kept.pop(), True
            except IndexError:
                connection, was_kept = self._connect(CLUSTER, ANSWER_SECONDS), False
            try:
                with connection.cursor() as cursor:
                    answer, selects = question(cursor)
            except BaseException as exc:
                connection.close()
                ended = isinstance(exc, pymysql.err.OperationalError) and exc.args[0] in _ENDED
                if was_kept and ended:
                    continue
                raise
            self.since_reset.add_own({"Com_select": selects})
            self._keep(connection)
            return answer

    def _keep(self, connection: Connection[Cursor]) -> None:
        # One is enough: more of them, of several threads, would take places that the server has for clients.
        with self._keeping:
            if not self._kept:
                self._kept.append(connection)
                return
        connection.close()

    def _replicas(self, cursor: Cursor) -> dict[int, str]:
        """Return what each session of a replica is doing. ``SHOW``, because a ``SELECT`` would be counted."""
        cursor.execute("SHOW PROCESSLIST")
        return {row[0]: row[4] for row in cursor.fetchall() if row[1] == REPLICATION}

    @contextmanager
    def session(self, user: str = CLUSTER, seconds: float = ANSWER_SECONDS) -> Iterator[Cursor]:
        """Open a session in autocommit.

        Parameters:
            user: the user to log in as.
            seconds: how long one answer may take.
        """
        connection = self._connect(user, seconds)
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

    def _connect(self, user: str, seconds: float) -> Connection[Cursor]:
        return pymysql.connect(
            unix_socket=self._socket_path,
            user=user,
            password=self._password,
            ssl_disabled=True,
            autocommit=True,
            charset="utf8mb4",
            connect_timeout=int(ANSWER_SECONDS),
            read_timeout=seconds,
        )

    def _subtract(self, user: str, counted: Mapping[str, str]) -> None:
        own = {name: int(count) for name, count in counted.items()}
        if user != CLUSTER:  # the counters that are kept by user exclude the cluster's own
            own["Connections"] = 1
        self.since_reset.add_own(own)
