"""Runs web applications in other processes, with an HTTP client that knows which worker answers."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from peewee_replicas.testing.cleanup import cleanup
from peewee_replicas.testing.janitor import MARK

TESTS = Path(__file__).parents[2]
_START_SECONDS = 60.0

SERVERS = {
    "gunicorn": "-m gunicorn --workers {workers} --threads 2 --worker-class gthread --keep-alive 60 "
    "--log-level warning --bind fd://{fd} {app}",
    "uvicorn": "-m uvicorn --workers {workers} --timeout-keep-alive 60 --log-level warning --fd {fd} {app}",
}


@contextmanager
def program(arguments: list[str], settings: dict[str, Any], *fds: int) -> Iterator[Path]:
    """A Python program of a group of its own, which ends with the block or with this process.

    Gives the file with what it has printed.
    """
    folder = Path(tempfile.mkdtemp(prefix="webapp-"))
    cleanup.watch_folder(folder)
    env = {
        **os.environ,
        MARK: str(folder),  # the janitor finds its children by that
        "WEBAPP_SETTINGS": json.dumps(settings),
        "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=env,
            pass_fds=fds,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        cleanup.forget_folder(folder)


class Worker:
    """A connection that stays open, and therefore leads to one worker process.

    Attributes:
        pid: that process.
    """

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            self.pid = self.ask("GET", "/pid", {})["pid"]
        except BaseException:
            self.close()  # or the socket is found open in a later test, which fails by it
            raise

    def ask(self, method: str, path: str, cookies: dict[str, str], **headers: str) -> Any:
        """Send a request and return its answer; fails unless it succeeded. Keeps cookies."""
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        self._connection.request(method, path, headers=headers)
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, (response.status, body)
        for name, value in response.getheaders():
            if name.lower() == "set-cookie":
                cookie, _, worth = value.partition(";")[0].partition("=")
                cookies[cookie] = worth
        return json.loads(body)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


@contextmanager
def serving(
    server: str, app: str, settings: dict[str, Any], *options: str, workers: int = 2
) -> Iterator[tuple[Worker, ...]]:
    """Run an application in several worker processes; gives a connection to each.

    Parameters:
        options: further options of the server's command.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        fd = listening.fileno()
        arguments = [*SERVERS[server].format(fd=fd, app=app, workers=workers).split(), *options]
        found: dict[int, Worker] = {}
        spare: list[Worker] = []
        with program(arguments, settings, fd) as log:
            until = time.monotonic() + _START_SECONDS
            try:
                while len(found) < workers:
                    assert time.monotonic() < until, log.read_text()
                    try:
                        worker = Worker(port)
                    except (http.client.HTTPException, OSError) as exc:
                        raise AssertionError(f"{server}: {exc}\n{log.read_text()}") from exc
                    # Those of a worker that is known are kept open too: an event loop takes turns.
                    spare.append(worker)
                    found.setdefault(worker.pid, worker)
                yield tuple(found.values())
            finally:
                for worker in spare:
                    worker.close()
