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

from peewee_replicas.servers.protocols import Row
from peewee_replicas.testing.cleanup import cleanup
from peewee_replicas.testing.control import ADMIN, APP, Control
from peewee_replicas.testing.counts import CLUSTER, REPLICATION, Counts, Role, summarise
from peewee_replicas.testing.installations import Installation
from peewee_replicas.testing.launch import copy_template, log_tail, reserve_port, start_server
from peewee_replicas.testing.replication_sql import STATEMENTS, accounts

from ..concurrency import Clock

HOST = "127.0.0.1"

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_SNAPSHOT_SECONDS = 2.0
_PORT_ATTEMPTS = 5
_PORT_PAUSE = 0.5
_LAST_LINES = 20


@dataclass(frozen=True)
class ClusterSettings:
    """The settings that all nodes of one cluster share."""

    installation: Installation
    folder: Path
    database: str
    password: str


class ClusterNode:
    """A server that can be stopped, killed and paused, and whose replication can be frozen or delayed.

    Created by ``LocalCluster``. Every method may be called in any state, and does nothing if the node is
    already in the state asked for.

    Attributes:
        name: ``"primary"``, ``"replica-1"``, …
        role: ``"primary"`` or ``"replica"``.
        host, port: the address it listens on, which never changes.
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
        self._statements = STATEMENTS[settings.installation.server]
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
        self._ending = False
        self._paused = False
        self._frozen = False
        self._following = False
        self._followers: list[ClusterNode] = []

    def __repr__(self) -> str:
        return f"<{self.name} at {self.host}:{self.port}, {self.state}>"

    @property
    def pid(self) -> int | None:
        """The server's process id, ``None`` while it is down."""
        process = self._process  # another thread may be about to end it
        if process is None:
            return self._inherited_pid
        return process.pid if process.poll() is None else None

    @property
    def state(self) -> Literal["running", "paused", "stopped"]:
        """The state of the server process. A frozen node is ``"running"``."""
        if self.pid is None:
            return "stopped"
        return "paused" if self._paused else "running"

    @property
    def frozen(self) -> bool:
        """Whether ``freeze()`` is in effect."""
        return self._frozen

    # The process

    def start(self) -> None:
        """Start the server, wait until it answers, and let it replicate as before.

        Raises:
            RuntimeError: it did not start; the message ends with the server's log.
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
                self._run(self._statements.start_receiver if self._frozen else self._statements.start)

    def stop(self) -> None:
        """Shut the server down cleanly; kill it if that takes longer than 30 seconds."""
        with self._lock:
            followers = self._disconnect_followers()
            self._end(signal.SIGTERM)
            for node in followers:
                node.execute(self._statements.start_receiver)

    def kill(self) -> None:
        """Kill the server with SIGKILL, as if it crashed."""
        with self._lock:
            self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Suspend the process: its port still accepts connections, but nothing is answered."""
        with self._lock:
            self._check_owner()
            pid = self.pid
            if pid is None or self._paused:
                return
            self._snapshot()
            os.kill(pid, signal.SIGSTOP)
            # SIGSTOP takes effect only after all threads of the process have stopped.
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self._paused = True

    def resume(self) -> None:
        """Let a paused process continue."""
        with self._lock:
            self._check_owner()
            if self._paused and self.pid is not None:
                os.kill(self.pid, signal.SIGCONT)
            self._paused = False

    # Replication

    def follow(self, primary: ClusterNode) -> None:
        """Start replicating from a node. The cluster calls this when it starts."""
        password = self._settings.password
        where = (primary.host, primary.port, REPLICATION, password)
        with self._lock:
            self._run(self._statements.follow, where)
            self._run(self._statements.start)
            self._following = True
            primary._followers.append(self)

    def freeze(self) -> None:
        """Stop applying the primary's changes. The replica still receives them."""
        with self._lock:
            self._check_replica("freeze")
            self._run(self._statements.stop_applier)
            self._frozen = True

    def thaw(self) -> None:
        """Apply changes again, first those received meanwhile."""
        with self._lock:
            self._check_replica("thaw")
            if self._frozen:
                self._run(self._statements.start_applier)
            self._frozen = False

    def delay(self, seconds: int) -> None:
        """Apply each change this long after the primary made it; 0 ends the delay.

        Parameters:
            seconds: a whole number, 0 or more.

        Raises:
            ValueError: it is negative or a fraction, which the servers do not support.
        """
        if seconds != int(seconds) or seconds < 0:
            raise ValueError(f"delay takes whole seconds, 0 or more, not {seconds!r}")
        with self._lock:
            self._check_replica("delay")
            self._run(self._statements.stop)
            self._run(self._statements.delay, (int(seconds),))
            self._run(self._statements.start_receiver if self._frozen else self._statements.start)

    def position(self) -> str:
        """Return the position of a primary, in the server's notation of GTIDs."""
        self._check_running()
        return str(self._control.ask(self._statements.position)[0])

    def wait_for(self, position: str, deadline: float) -> bool:
        """Wait until the replica has applied a position; return whether it has.

        Returns early if applying has stopped with an error.

        Parameters:
            position: as given by `position`.
            deadline: when to give up, on ``Clock.monotonic()``, in seconds.
        """
        while True:
            seconds = min(max(deadline - Clock.monotonic(), 0.001), 1.0)
            self._check_running()
            if self._control.ask(self._statements.wait, (position, seconds))[0] == 0:
                return True
            if Clock.monotonic() >= deadline or self.replication_status().get("Last_SQL_Errno"):
                return False

    def replication_status(self) -> dict[str, Any]:
        """Return the row of ``SHOW REPLICA STATUS`` by column name; empty on a primary."""
        self._check_running()
        with self._control.session() as cursor:
            cursor.execute(self._statements.status)
            row = cursor.fetchone()
            names = [column[0] for column in cursor.description or ()]
        return dict(zip(names, row, strict=True)) if row else {}

    # Queries

    def execute(self, sql: str, params: Sequence[object] | None = None) -> list[Row]:
        """Run one statement as the administrator, in a new session, and return its rows.

        ``counts()`` does not count it.
        """
        return self._run(sql, params)

    def log_tail(self, lines: int = 10) -> str:
        """Return the last lines of the server's log, or of the errors in it if there are any."""
        return log_tail(self._home / "error.log", lines)

    def counts(self) -> Counts:
        """Return what clients did on this node since ``reset_counts()``, across restarts.

        While the node is paused or down, return the counts from just before.
        """
        return summarise(self._control.since_reset.changes(self._counters()))

    def reset_counts(self) -> None:
        """Start counting from zero."""
        self._control.since_reset.reset(self._counters())

    # For the cluster

    def drop_schema(self, name: str, seconds: int) -> None:
        """Drop a schema if there is one.

        Parameters:
            seconds: how long to wait for locks of other sessions.

        Raises:
            OperationalError: 1205, if another session holds a lock for longer.
        """
        self._check_running()
        with self._control.session() as cursor:
            cursor.execute("SET SESSION lock_wait_timeout = %s", (seconds,))
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def destroy(self) -> None:
        """Kill the server and free its port."""
        with self._lock:
            if self._process is not None:
                if self._process.poll() is None:
                    self._ending = True
                    self._process.kill()
                self._reap()
            self._free_port()

    def abandon(self) -> None:
        """Forget the server, in a forked child, because it belongs to the parent."""
        self._lock = threading.RLock()
        process, self._process = self._process, None
        if process is not None:
            self._inherited_pid = process.pid if process.returncode is None else None
            process.returncode = 0  # not our child: keeps Popen from calling it "still running"
        self._control.abandon()
        self._free_port()

    # Internals

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
                if "ddress already in use" not in str(error) or attempt == _PORT_ATTEMPTS:
                    raise
                if new_port:
                    self.port = 0
                else:
                    time.sleep(_PORT_PAUSE)  # clients know this port, and whoever has it may not keep it

    def _free_port(self) -> None:
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None

    def _launch(self) -> None:
        log, script = self._home / "error.log", self._home / "accounts.sql"
        log.unlink(missing_ok=True)
        self._control.since_reset.server_started()
        self._ending = False
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
            if self._control.accepts_logins():
                break
            time.sleep(0.01)  # its first answer is the only sign that a server is up
        script.unlink(missing_ok=True)

    def _end(self, how: signal.Signals) -> None:
        self._check_owner()
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            if not self._paused:
                self._snapshot()
            self._ending = True  # other threads may see its end before this one does
            self._control.close()  # or a shutdown would wait for it
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
            cleanup.forget_process(self._process.pid)
        self._control.close()
        self._process = None
        self._paused = False

    def _disconnect_followers(self) -> list[ClusterNode]:
        """Disconnect the replicas, if the primary would otherwise wait ten seconds for them."""
        if not self._statements.disconnect or self.state != "running":
            return []
        followers = [node for node in self._followers if node.state == "running"]
        for node in followers:
            node.execute(self._statements.disconnect)
        sessions = "SELECT id FROM information_schema.processlist WHERE user = %s"
        for (session,) in self._run(sessions, (REPLICATION,)):
            with suppress(pymysql.err.MySQLError):  # it has ended by itself
                self._run("KILL %s", (session,))
        return followers

    def _snapshot(self) -> None:
        # A server that is too busy or too broken to answer is stopped anyway.
        with suppress(pymysql.err.MySQLError):
            self._control.since_reset.changes(self._control.counters(_SNAPSHOT_SECONDS))

    def _counters(self) -> dict[str, int] | None:
        """Return the server's current counters; None if it is paused or down."""
        return self._control.counters() if self.state == "running" else None

    def _run(self, sql: str, params: Sequence[object] | None = None) -> list[Row]:
        self._check_running()
        return self._control.run(sql, params)

    def _check_running(self) -> None:
        if self.state == "paused":
            raise RuntimeError(f"{self.name} is paused and cannot answer: resume() it first")
        if self.state == "stopped":
            raise RuntimeError(f"{self.name} {self._how_it_went_down()}")

    def _how_it_went_down(self) -> str:
        remedy = "and cannot answer: start() it first"
        process = self._process
        if process is None or process.returncode is None or self._ending:
            return f"is down {remedy}"
        if process.returncode == -signal.SIGKILL:
            return f"was not stopped by its cluster, but killed, perhaps because memory ran out, {remedy}"
        # An older error, such as one of replication, would say nothing about its end.
        log = log_tail(self._home / "error.log", _LAST_LINES, errors_first=False)
        return f"has ended by itself with code {process.returncode} {remedy}\n{log}"

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(
                f"{self.name} belongs to process {self._owner}: only that one starts and stops it"
            )

    def _check_replica(self, what: str) -> None:
        if self.role != "replica":
            raise RuntimeError(f"{what}() is for replicas: the {self.name} applies nothing")
