"""One server of a local cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pymysql

from peewee_replicas.testing.control import ADMIN, APP, CLUSTER, REPLICATION, Control
from peewee_replicas.testing.counts import Counts, Role, summarise
from peewee_replicas.testing.guard import guard
from peewee_replicas.testing.installations import Installation
from peewee_replicas.testing.launch import copy_template, log_tail, reserve_port, start_server
from peewee_replicas.testing.replication_sql import WORDS, accounts

from ..concurrency import Clock

HOST = "127.0.0.1"

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_SNAPSHOT_SECONDS = 2.0
_PORT_ATTEMPTS = 5


@dataclass(frozen=True)
class ClusterSettings:
    """What the nodes of one cluster share."""

    installation: Installation
    folder: Path
    database: str
    password: str


class ClusterNode:
    """A server that can be stopped, killed, paused and held back.

    Made by ``LocalCluster``. Every method may be called in any state and leaves a node that is
    already so as it is.

    Attributes:
        name: ``"primary"``, ``"replica-1"``, …
        role: ``"primary"`` or ``"replica"``.
        host, port: where it listens; the same for the node's whole life.
        datadir: its data directory.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        name: str,
        role: Role,
        server_id: int,
        options: Mapping[str, object],
    ) -> None:
        self.name = name
        self.role = role
        self.host = HOST
        self.port = 0
        self._settings = settings
        self._words = WORDS[settings.installation.server]
        self._server_id = server_id
        self._options = options
        self._home = settings.folder / name
        self.datadir = self._home / "data"
        self._control = Control(role, str(self._home / "socket"), settings.password)
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._inherited_pid: int | None = None
        self._reservation: socket.socket | None = None
        self._paused = False
        self._frozen = False
        self._following = False
        self._followers: list[ClusterNode] = []

    def __repr__(self) -> str:
        return f"<{self.name} at {self.host}:{self.port}, {self.state}>"

    @property
    def pid(self) -> int | None:
        """The server's process id, ``None`` while it is down."""
        if self._process is None:
            return self._inherited_pid
        return self._process.pid if self._process.poll() is None else None

    @property
    def state(self) -> Literal["running", "paused", "stopped"]:
        """Of the process; a frozen node is running."""
        if self.pid is None:
            return "stopped"
        return "paused" if self._paused else "running"

    @property
    def frozen(self) -> bool:
        """Whether ``freeze()`` is in force."""
        return self._frozen

    # The process

    def start(self) -> None:
        """Start the server and wait until it answers, replicating as it did before.

        Raises ``RuntimeError`` with the server's own words if it does not come up.
        """
        with self._lock:
            self._check_owner()
            if self.pid is not None:
                return
            self._reap()
            if not self.datadir.exists():
                self._create()
            self._bring_up()
            if self._following:
                self._run(self._words.start_receiver if self._frozen else self._words.start)

    def stop(self) -> None:
        """Shut the server down in order; kill it if that takes longer than 30 s."""
        with self._lock:
            followers = self._send_followers_away()
            self._end(signal.SIGTERM)
            for node in followers:
                node.execute(self._words.start_receiver)

    def kill(self) -> None:
        """Kill the server at once, as a crash would."""
        with self._lock:
            self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop the process without ending it: its port takes connections, nothing is answered."""
        with self._lock:
            self._check_owner()
            pid = self.pid
            if pid is None or self._paused:
                return
            self._snapshot()
            os.kill(pid, signal.SIGSTOP)
            # Stopping is done when all threads have stopped, not when the signal is sent.
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self._paused = True

    def resume(self) -> None:
        """Let a paused process go on."""
        with self._lock:
            self._check_owner()
            if self._paused and self.pid is not None:
                os.kill(self.pid, signal.SIGCONT)
            self._paused = False

    # Replication

    def follow(self, primary: ClusterNode) -> None:
        """Begin to replicate from a node; done by the cluster when it starts."""
        password = self._settings.password
        where = (primary.host, primary.port, REPLICATION, password)
        with self._lock:
            self._run(self._words.follow, where)
            self._run(self._words.start)
            self._following = True
            primary._followers.append(self)

    def freeze(self) -> None:
        """Stop applying what the primary does; the replica goes on receiving it."""
        with self._lock:
            self._check_replica("freeze")
            self._run(self._words.stop_applier)
            self._frozen = True

    def thaw(self) -> None:
        """Apply again, beginning with what was received meanwhile."""
        with self._lock:
            self._check_replica("thaw")
            if self._frozen:
                self._run(self._words.start_applier)
            self._frozen = False

    def delay(self, seconds: int) -> None:
        """Apply everything so many whole seconds after it happened on the primary; 0 ends it.

        Raises ``ValueError`` for less than 0 or a fraction, which the servers do not know.
        """
        if seconds != int(seconds) or seconds < 0:
            raise ValueError(f"delay takes whole seconds, 0 or more, not {seconds!r}")
        with self._lock:
            self._check_replica("delay")
            self._run(self._words.stop)
            self._run(self._words.delay, (int(seconds),))
            self._run(self._words.start_receiver if self._frozen else self._words.start)

    def position(self) -> str:
        """What a primary has, in the server's notation of GTIDs."""
        return str(self._run(self._words.position)[0][0])

    def wait_for(self, position: str, deadline: float) -> bool:
        """Whether the replica has applied the position by ``deadline`` (of ``Clock.monotonic()``).

        Answers early if applying has stopped with an error.
        """
        while True:
            seconds = min(max(deadline - Clock.monotonic(), 0.001), 1.0)
            if self._run(self._words.wait, (position, seconds))[0][0] == 0:
                return True
            if Clock.monotonic() >= deadline or self.replication_status().get("Last_SQL_Errno"):
                return False

    def replication_status(self) -> dict[str, Any]:
        """The server's own report on replication, by its names; empty on a primary."""
        self._check_running()
        with self._control.session() as cursor:
            cursor.execute(self._words.status)
            row = cursor.fetchone()
            names = [column[0] for column in cursor.description or ()]
        return dict(zip(names, row, strict=True)) if row else {}

    # Asking

    def execute(self, sql: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement as the administrator, in a session of its own, and return its rows.

        ``counts()`` leaves it out.
        """
        return self._run(sql, params)

    def log_tail(self, lines: int = 10) -> str:
        """The last so many lines of the server's log, its errors if there are any."""
        return log_tail(self._home / "error.log", lines)

    def counts(self) -> Counts:
        """What clients did here since the cluster's ``reset_counts()``, over restarts too.

        While the node is paused or down: what it was when that began.
        """
        return summarise(self._control.ledger.moved(self._counters()))

    def reset_counts(self) -> None:
        """Count from here."""
        self._control.ledger.reset(self._counters())

    # For the cluster

    def destroy(self) -> None:
        """End the server without ceremony and free the port."""
        with self._lock:
            if self._process is not None:
                if self._process.poll() is None:
                    self._process.kill()
                self._reap()
            self._free_port()

    def abandon(self) -> None:
        """In a forked child: the server is the parent's."""
        self._lock = threading.RLock()
        process, self._process = self._process, None
        if process is not None:
            self._inherited_pid = process.pid if process.returncode is None else None
            process.returncode = 0  # not our child: keeps Popen from calling it "still running"
        self._free_port()

    # Inside

    def _create(self) -> None:
        settings = self._settings
        self._home.mkdir(exist_ok=True)
        copy_template(settings.installation, settings.folder, self.datadir)
        text = accounts(
            settings.installation.server,
            database=settings.database,
            app=APP,
            admins=(ADMIN, CLUSTER),
            replication=REPLICATION,
            password=settings.password,
        )
        (self._home / "accounts.sql").write_text(text)

    def _bring_up(self) -> None:
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            new_port = self.port == 0
            if new_port:
                self._free_port()
                self.port, self._reservation = reserve_port(self.host)
            try:
                self._launch()
                return
            except RuntimeError as error:
                taken = "ddress already in use" in str(error)
                if not (taken and new_port) or attempt == _PORT_ATTEMPTS:
                    raise
                self.port = 0

    def _free_port(self) -> None:
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None

    def _launch(self) -> None:
        log, script = self._home / "error.log", self._home / "accounts.sql"
        log.unlink(missing_ok=True)
        self._control.ledger.server_started()
        self._process = start_server(
            self._settings.installation,
            folder=self._settings.folder,
            home=self._home,
            port=self.port,
            server_id=self._server_id,
            replica=self.role == "replica",
            extra=self._options,
            init_file=script if script.exists() else None,
        )
        self._paused = False
        deadline = Clock.monotonic() + _START_SECONDS
        while True:
            if self._process.poll() is not None or Clock.monotonic() > deadline:
                code = self._process.poll()
                self._end(signal.SIGKILL)
                how = "did not answer in time" if code is None else f"ended with code {code}"
                raise RuntimeError(f"{self.name} on port {self.port} {how}:\n{log_tail(log)}")
            if self._control.greet():
                break
            time.sleep(0.01)  # a server gives no sign of being up but that it answers
        script.unlink(missing_ok=True)

    def _end(self, how: signal.Signals) -> None:
        self._check_owner()
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            if not self._paused:
                self._snapshot()
            process.send_signal(how)
            if self._paused:
                process.send_signal(signal.SIGCONT)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self._reap()

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            guard.forget_process(self._process.pid)
        self._process = None
        self._paused = False

    def _send_followers_away(self) -> list[ClusterNode]:
        """Cut the replicas off where the primary's shutdown would take ten seconds for them."""
        if not self._words.let_go or self.state != "running":
            return []
        followers = [node for node in self._followers if node.state == "running"]
        for node in followers:
            node.execute(self._words.let_go)
        sessions = "SELECT id FROM information_schema.processlist WHERE user = %s"
        for (session,) in self._run(sessions, (REPLICATION,)):
            with suppress(pymysql.err.MySQLError):  # gone by itself
                self._run("KILL %s", (session,))
        return followers

    def _snapshot(self) -> None:
        # A server that is too busy or too broken to be asked is ended all the same.
        with suppress(pymysql.err.MySQLError):
            self._control.ledger.moved(self._control.counters(_SNAPSHOT_SECONDS))

    def _counters(self) -> dict[str, int] | None:
        """The server's counters as they stand, ``None`` if it is paused or down."""
        return self._control.counters() if self.state == "running" else None

    def _run(self, sql: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        self._check_running()
        return self._control.run(sql, params)

    def _check_running(self) -> None:
        if self.state == "paused":
            raise RuntimeError(f"{self.name} is paused and cannot answer: resume() it first")
        if self.state == "stopped":
            raise RuntimeError(f"{self.name} is down and cannot answer: start() it first")

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(
                f"{self.name} belongs to process {self._owner}: only that one starts and stops it"
            )

    def _check_replica(self, what: str) -> None:
        if self.role != "replica":
            raise RuntimeError(f"{what}() is for replicas: the {self.name} applies nothing")
