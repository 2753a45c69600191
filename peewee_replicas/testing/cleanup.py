"""Controls the janitor, a process that ends the servers however this process ends."""

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


class Cleanup:
    """Gives the janitor its orders. Starts it on first use, and again if it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: dict[str, str] = {}

    def watch_process(self, pid: int) -> None:
        """Have a process killed once this one has ended."""
        self._add(f"p {pid}", f"+p {pid} {janitor.start_time(pid)}")

    def forget_process(self, pid: int) -> None:
        """Stop watching a process that has ended and been waited for."""
        self._remove(f"p {pid}")

    def watch_folder(self, folder: Path) -> None:
        """Have a folder removed, and the processes marked with it killed, once this process has ended."""
        name = os.fsencode(folder).hex()
        self._add(f"f {name}", f"+f {name}")

    def forget_folder(self, folder: Path) -> None:
        """Stop watching a folder that was removed or that must stay."""
        self._remove(f"f {os.fsencode(folder).hex()}")

    def close(self) -> None:
        """Have the janitor clean up everything still watched now, and wait for it."""
        with self._lock:
            process, self._process = self._process, None
            self._orders.clear()
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(_CLOSE_SECONDS)

    def abandon(self) -> None:
        """Forget everything, in a forked child, because it belongs to the parent."""
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
            # If the janitor kept our output open, a reader of that output would wait for the janitor to end.
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
        # The next janitor gets all orders again, so orders that could not be written are not lost.
        with suppress(BrokenPipeError):
            process.stdin.close()


cleanup = Cleanup()
"""The only instance in this process."""

atexit.register(cleanup.close)
os.register_at_fork(after_in_child=cleanup.abandon)
