"""Starts programs under load and talks to them, while replicas come and go."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import count, cycle
from pathlib import Path
from typing import Any

from support.load.faults import FAULTS
from support.load.one_request import parameters, sockets

STRICT = ("-W", "error", "-X", "faulthandler")


class Flapping:
    """Replicas that fail in turn, one at a time, until the block is left; all are whole then.

    Parameters:
        faults: which, by their words in `FAULTS`.
        nodes: how many of the replicas; with one no read can lose its connection on two of them.
        hold: seconds that each lasts, beside those that the node needs to return.
        rest: seconds that lie between two. By default 0.3 until each of `faults` has happened once, and then
            three times as many as the last one took: a busy machine, whose servers start slowly, would do
            little else.
    """

    def __init__(
        self,
        cluster: Any,
        faults: tuple[str, ...] = ("killed",),
        *,
        nodes: int | None = None,
        hold: float = 0.3,
        rest: float | None = None,
    ) -> None:
        self.done: Counter[str] = Counter()
        self.errors: list[BaseException] = []
        self._cluster = cluster
        self._turns = zip(cycle(cluster.replicas[:nodes]), cycle(faults), strict=False)
        self._hold, self._rest, self._kinds = hold, rest, len(faults)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Flapping:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.errors:
            raise self.errors[0]

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                node, fault = next(self._turns)
                began = time.monotonic()
                with FAULTS[fault](self._cluster, node):
                    self._stop.wait(self._hold)
                self.done[fault] += 1
                self._stop.wait(self._pause(time.monotonic() - began))
        except BaseException as exc:
            self.errors.append(exc)

    def _pause(self, took: float) -> float:
        if self._rest is not None:
            return self._rest
        return 0.3 if len(self.done) < self._kinds else 3 * took


class Program:
    """A Python program that answers lines of JSON; a context manager, which ends it.

    Every warning is an error there, except what `warnings` says.

    Attributes:
        errors: what it wrote to its standard error, once it has ended.
    """

    def __init__(self, name: str, cluster: Any, kind: str, *, warnings: str = "", **options: Any) -> None:
        path = Path(__file__).with_name(name)
        environment = parameters(cluster, kind, **options)
        self.errors = ""
        self._process = subprocess.Popen(
            [sys.executable, *STRICT, *(("-W", warnings) if warnings else ()), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        for line in self._process.stderr or ():
            self._said.append(line)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self.errors = "".join(self._said)
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send one order; the program's answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(10)
            raise AssertionError(f"the program ended: {''.join(self._said)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Prefork:
    """gunicorn with preloaded workers of `wsgi_program`; a context manager.

    Attributes:
        workers: their process ids, once each has answered.
        log: what it wrote, once it has ended.
    """

    def __init__(self, cluster: Any, kind: str, folder: Path, workers: int = 3, **options: Any) -> None:
        self.log = ""
        self.workers: set[int] = set()
        self._wanted = workers
        self._file = (folder / "gunicorn.log").open("w+")
        self._socket = str(folder / "http")
        command = [
            sys.executable, *STRICT[2:], "-W", "always::ResourceWarning", "-m", "gunicorn",
            "--preload", "--workers", str(workers), "--bind", f"unix:{self._socket}", "--timeout", "60",
            "--worker-tmp-dir", str(folder), "--no-control-socket", "--log-level", "warning",
            "support.load.wsgi_program:application",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdout=self._file, stderr=self._file, env=parameters(cluster, kind, **options)
        )

    def __enter__(self) -> Prefork:
        try:
            deadline = time.monotonic() + 60
            while len(self.workers) < self._wanted:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"gunicorn did not come up: {self._read()}")
                try:
                    status, text = self.get()
                except OSError:
                    time.sleep(0.05)
                    continue
                assert status == 200, text
                self.workers.add(int(text))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.log = self._read()
        self._file.close()

    def _read(self) -> str:
        self._file.seek(0)
        return self._file.read()

    def get(self, token: int = 0) -> tuple[int, str]:
        """Send one request; the status and text of the response."""
        connection = _UnixConnection(self._socket)
        try:
            connection.request("GET", f"/?token={token}")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def serve(
        self, requests: int, *, clients: int = 4, write_every: int = 20, first: int = 0
    ) -> Counter[str]:
        """Send requests from several clients at once; counts of errors by text, and of ``"done"``."""
        outcome: Counter[str] = Counter()
        numbers = count(1).__next__
        lock = threading.Lock()

        def work() -> None:
            while (number := numbers()) <= requests:
                status, text = self.get(first + number if number % write_every == 0 else 0)
                with lock:
                    outcome["done" if status == 200 else text] += 1

        threads = [threading.Thread(target=work) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcome

    def warm(self, first: int, seconds: float = 60.0) -> None:
        """Send requests that write, with tokens from `first` on, until every worker has served several."""
        served: Counter[int] = Counter()
        tokens = count(first).__next__
        deadline = time.monotonic() + seconds
        while min((served[pid] for pid in self.workers), default=0) < 10:
            assert time.monotonic() < deadline, served
            status, text = self.get(tokens())
            assert status == 200, text
            served[int(text)] += 1

    def sockets(self) -> dict[int, int]:
        """The number of open sockets of each process, the master included."""
        return {pid: sockets(pid) for pid in (self._process.pid, *sorted(self.workers))}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


def connections(cluster: Any) -> dict[str, int]:
    """The number of the program's sessions on each node."""
    sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = %s"
    return {node.name: int(node.execute(sql, (cluster.user,))[0][0]) for node in cluster.nodes}


def settles(look: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 60.0) -> Any:
    """Call `look` until its result is as wanted or time is over; the last result."""
    deadline = time.monotonic() + seconds
    while not wanted(found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
