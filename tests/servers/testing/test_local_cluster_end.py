"""However a program with a LocalCluster ends, nothing of it is left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.clusters import SERVERS, own_cluster, require

from peewee_replicas.testing import janitor
from peewee_replicas.testing.cleanup import cleanup

PATIENCE = 30.0

CHILD = """
import ctypes, json, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would not hear it
from peewee_replicas.testing import LocalCluster
from peewee_replicas.testing.cleanup import cleanup

server, how = sys.argv[1:]
if how == "unregistered":
    cleanup.watch_process = lambda pid: None
cluster = LocalCluster(1, server)
cluster.start()
if how == "paused":
    cluster.primary.pause()
    cluster.replicas[0].pause()
if how == "second janitor":
    cleanup._process.kill()
    cleanup._process.wait()
    other = LocalCluster(0, server)
    other.start()
if how == "fork":
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
if how == "fork unseen by Python":
    if ctypes.PyDLL(None).fork() == 0:
        sys.stdin.read()
        os._exit(0)
if how == "fork ends":
    pid = os.fork()
    if pid == 0:
        assert cluster.primary.pid is not None
        try:
            cluster.primary.kill()
        except RuntimeError:
            cluster.stop()
            sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    cluster.sync()
told = {
    "servers": [node.pid for node in cluster.nodes],
    "janitor": cleanup._process.pid,
    "folder": str(cluster.primary.datadir.parent.parent),
}
print(json.dumps(told), flush=True)
sys.stdin.readline()
if how == "raise":
    raise RuntimeError("on purpose")
if how == "_exit":
    os._exit(0)
if how == "stop":
    cluster.stop()
if how == "abandon":
    del cluster
"""


class Ended:
    """Waits for processes that are not our children to be gone."""

    def __init__(self, pids: list[int]) -> None:
        self.handles = [os.pidfd_open(pid) for pid in pids]

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.handles:
            ready = select.select(self.handles, [], [], deadline - time.monotonic())[0]
            assert ready, f"{len(self.handles)} processes still run"
            for handle in ready:
                os.close(handle)
                self.handles.remove(handle)


@contextmanager
def child(server: str, how: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A program with a running cluster, waiting for a line, and what it told of itself."""
    require(server)
    command = [sys.executable, "-W", "error", "-c", CHILD, server, how]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.kill()


_OF_THE_SERVER = ("stop", "kill", "paused")


def ways(*hows: str) -> pytest.MarkDecorator:
    """Both servers for the ends in which the server takes part, and one for the others."""
    chosen = [(server, how) for how in hows for server in (SERVERS if how in _OF_THE_SERVER else SERVERS[:1])]
    return pytest.mark.parametrize(("server", "how"), chosen)


@ways("return", "stop", "abandon", "raise", "_exit", "fork ends")
def test_nothing_is_left_when_the_program_ends(server: str, how: str) -> None:
    with child(server, how) as (process, told):
        ended = Ended([*told["servers"], told["janitor"]])
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(PATIENCE)
        assert process.returncode == (1 if how == "raise" else 0)
        said = process.stderr.read()
        assert ("on purpose" in said) if how == "raise" else (said == "")
        ended.wait()
    assert not Path(told["folder"]).exists()


@ways("kill", "paused", "fork", "fork unseen by Python", "unregistered", "second janitor")
def test_nothing_is_left_when_the_program_is_killed(server: str, how: str) -> None:
    with child(server, how) as (process, told):
        ended = Ended([*told["servers"], told["janitor"]])
        process.kill()
        # With either fork a child of the program lives on, and holds what it inherited.
        ended.wait()
    assert not Path(told["folder"]).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_program_gets_a_signal(number: int) -> None:
    with child(SERVERS[0], "signal") as (process, told):
        ended = Ended([*told["servers"], told["janitor"]])
        os.kill(told["janitor"], number)  # as from a terminal or a careless hand: it stays
        process.send_signal(number)
        ended.wait()
    assert not Path(told["folder"]).exists()


def test_the_janitor_spares_a_process_that_only_has_the_same_number(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as bystander:
        folder = tmp_path / "folder"
        folder.mkdir()
        janitor.sweep({bystander.pid: "1"}, {os.fsencode(folder)})
        assert bystander.poll() is None
        assert not folder.exists()
        janitor.sweep({bystander.pid: janitor.start_time(bystander.pid)}, set())
        assert bystander.wait(PATIENCE) == -signal.SIGKILL


def test_nothing_is_kept_for_clusters_that_have_stopped() -> None:
    cluster = own_cluster("mariadb", 0)
    before = set(cleanup._orders)
    with cluster:
        assert len(set(cleanup._orders) - before) == 2  # its folder and its server
    assert set(cleanup._orders) == before
