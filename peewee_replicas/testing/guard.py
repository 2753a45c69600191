"""This process's line to its janitor, which ends the servers however this process ends."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from peewee_replicas.testing import janitor

_CLOSE_SECONDS = 40.0


class Guard:
    """Tells the janitor what to clean up; starts it when first needed, again if it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: dict[str, str] = {}

    def watch_process(self, pid: int) -> None:
        """Have the process killed when this one is gone."""
        self._add(f"p {pid}", f"+p {pid} {janitor.start_time(pid)}")

    def forget_process(self, pid: int) -> None:
        """The process has ended and been waited for."""
        self._remove(f"p {pid}")

    def watch_folder(self, folder: Path) -> None:
        """Have the folder removed, and the processes marked with it killed, when we are gone."""
        name = os.fsencode(folder).hex()
        self._add(f"f {name}", f"+f {name}")

    def forget_folder(self, folder: Path) -> None:
        """The folder has been removed, or is to stay."""
        self._remove(f"f {os.fsencode(folder).hex()}")

    def close(self) -> None:
        """Let the janitor clean up what is left, and wait until it has."""
        with self._lock:
            process, self._process = self._process, None
            self._orders.clear()
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(_CLOSE_SECONDS)

    def abandon(self) -> None:
        """In a forked child: nothing here is ours."""
        self._lock = threading.Lock()
        process, self._process = self._process, None
        self._orders = {}
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.returncode = 0  # not our child: keeps Popen from calling it "still running"

    def _add(self, key: str, order: str) -> None:
        with self._lock:
            self._orders[key] = order
            if self._process is not None and self._process.poll() is None:
                self._send(self._process, [order])
            else:
                self._start()

    def _remove(self, key: str) -> None:
        with self._lock:
            if self._orders.pop(key, None) is None or self._process is None:
                return
            if self._process.poll() is None:
                self._send(self._process, [f"-{key}"])

    def _send(self, process: subprocess.Popen[bytes], orders: list[str]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write("".join(f"{order}\n" for order in orders).encode())
            process.stdin.flush()
        except BrokenPipeError:
            self._start()

    def _start(self) -> None:
        if self._process is not None:
            self._reap(self._process)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", janitor.__file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            # Whoever reads our output must not have to wait for the janitor to let go of it.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self._send(self._process, list(self._orders.values()))

    @staticmethod
    def _reap(process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.wait(_CLOSE_SECONDS)
        # What could not be written is in the orders, which the next one gets.
        with suppress(BrokenPipeError):
            process.stdin.close()


guard = Guard()
"""The one guard of this process."""

atexit.register(guard.close)
os.register_at_fork(after_in_child=guard.abandon)
