"""Workers that are forked from a program which has used its database, while replicas come and go.

`benchmarks/faults.py prefork` is the long form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.clusters.repaired import repaired
from support.load.ledger import prepare
from support.load.programs import Flapping, Prefork, Program, connections, settles

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts sockets in /proc")

EVERY = 10


@pytest.fixture
def flapping(server: str) -> Iterator[Any]:
    """A cluster whose nodes may be killed, with the tables of the load."""
    with repaired(server, 2, []) as cluster:
        prepare(cluster)
        yield cluster


def ledger(cluster: Any, below: int) -> tuple[int, int]:
    """How many rows the ledger has with tokens below that, and how many different tokens."""
    sql = f"SELECT COUNT(*), COUNT(DISTINCT token) FROM {cluster.database_name}.ledger WHERE token < %s"
    rows, different = cluster.primary.execute(sql, (below,))[0]
    return rows, different


@pytest.mark.lesson(28)
@pytest.mark.parametrize("kind", ["plain", "pooled"])
def test_preloaded_workers_lose_no_read_and_leave_no_socket(flapping: Any, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    with Prefork(flapping, kind, tmp_path) as served:
        served.warm(1_000_000)
        sockets, sessions = served.sockets(), connections(flapping)
        with Flapping(flapping, nodes=1) as faults:
            sent, outcome = 0, Counter[str]()
            while sent < 200 or not (faults.done or faults.errors):
                outcome += served.serve(100, write_every=EVERY, first=sent)
                sent += 100
        assert outcome == {"done": sent}
        assert ledger(flapping, below=1_000_000) == (sent // EVERY, sent // EVERY)

        # There may be less: the master's own are gone with the replica they were to. A pool keeps the
        # connection over which the primary was asked something, while its own was in use.
        kept = 1 if kind == "pooled" else 0
        begin = count(2_000_000, 10_000).__next__

        def grown() -> Any:
            served.warm(begin())
            now = connections(flapping)
            more = {pid: number for pid, number in served.sockets().items() if number > sockets[pid] + kept}
            return more, {
                name: number
                for name, number in now.items()
                if number > sessions[name] + (kept * 4 if name == "primary" else 0)
            }

        assert settles(grown, lambda found: found == ({}, {})) == ({}, {})
    # The one of another family is the server's own listener.
    assert [
        line
        for line in served.log.splitlines()
        if "ResourceWarning" in line and "family=1" not in line and "tracemalloc" not in line
    ] == []
    assert "Traceback" not in served.log
    ended = settles(lambda: connections(flapping), lambda found: not any(found.values()))
    assert ended == {"primary": 0, "replica-1": 0, "replica-2": 0}


@pytest.mark.lesson(28)
@pytest.mark.parametrize("kind", ["plain", "pooled"])
def test_generations_of_workers_lose_no_read_and_leave_no_socket(flapping: Any, kind: str) -> None:
    with Program("forking_program.py", flapping, kind) as program:
        before = program.ask(generations=1, workers=2, requests=10, write_every=100, first=1_000_000)["done"]
        sockets = program.ask(count=True)["sockets"]
        with Flapping(flapping, nodes=1) as faults:
            turns = 0
            while turns < 3 or not (faults.done or faults.errors):
                outcome = program.ask(
                    generations=1, workers=3, requests=50, write_every=EVERY, first=1_000 * turns
                )
                turns += 1
        assert outcome["errors"] == {}
        assert outcome["done"] - before == turns * (3 * 50 + 3 + 10)
        assert ledger(flapping, below=1_000_000) == (turns * 15, turns * 15)
        # Less where a replica that was killed has not been read from since; a pool keeps what has asked.
        most = sockets + (1 if kind == "pooled" else 0)
        assert settles(lambda: program.ask(count=True)["sockets"], lambda found: found <= most) <= most
    assert not program.errors, program.errors
    ended = settles(lambda: connections(flapping), lambda found: not any(found.values()))
    assert ended == {"primary": 0, "replica-1": 0, "replica-2": 0}
