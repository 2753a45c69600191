"""What one request of a small program does with its database; the programs under load share it.

A request reads by plain routing and now and then writes a token and reads it back. Every read carries a mark
of its own, so that an answer meant for another is noticed.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import peewee

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase

PARAMETERS = "LOAD_PARAMETERS"
"""Name of the environment's variable that says how to connect, as JSON."""


def parameters(cluster: Any, kind: str, **options: Any) -> dict[str, str]:
    """The environment of a program over this cluster.

    Parameters:
        kind: ``"plain"`` or ``"pooled"``.
    """
    own = cluster.parameters(cluster.primary)
    replicas = [{"name": node.name, "host": node.host, "port": node.port} for node in cluster.replicas]
    arguments = {**own, "replicas": replicas, "kind": kind, **options}
    folder = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), folder)))
    return {**os.environ, PARAMETERS: json.dumps(arguments), "PYTHONPATH": path}


def database() -> Any:
    """The database that the environment variable describes."""
    arguments = json.loads(os.environ[PARAMETERS])
    pooled = arguments.pop("kind") == "pooled"
    if pooled:
        arguments = {"max_connections": 40, "timeout": 10, **arguments}
    cls = PooledReplicatedDatabase if pooled else ReplicatedDatabase
    return cls(arguments.pop("database"), **arguments)


def request(db: Any, token: int = 0) -> None:
    """Serve one request: reads, and with a token also a write that the next read must see.

    Raises:
        AssertionError: an answer is not that of the question.
        PeeweeException: a statement failed.
    """
    with db.connection_context():
        for _ in range(2):
            mark, row = random.randrange(1 << 40), random.randrange(100)
            found = db.execute_sql("SELECT %s, n FROM item WHERE id = %s", (mark, row)).fetchone()
            assert found == (mark, row * 7), f"{found} instead of {(mark, row * 7)}"
        if token:
            db.execute_sql("INSERT INTO ledger (token) VALUES (%s)", (token,))
            found = db.execute_sql("SELECT COUNT(*) FROM ledger WHERE token = %s", (token,)).fetchone()
            assert found == (1,), f"{found} rows of {token}"


class Outcome:
    """How requests ended: `done` of them well, and what the others failed with."""

    def __init__(self) -> None:
        self.done = 0
        self.errors: Counter[str] = Counter()

    def serve(self, db: Any, token: int = 0) -> bool:
        """Serve one request; True if it succeeded."""
        try:
            request(db, token)
        except (peewee.PeeweeException, AssertionError) as exc:
            self.errors[f"{type(exc).__name__}: {exc}"] += 1
            return False
        self.done += 1
        return True


def sockets(pid: int | str = "self") -> int:
    """The number of open sockets of a process."""
    folder = f"/proc/{pid}/fd"
    found = 0
    for name in os.listdir(folder):
        try:
            found += os.readlink(f"{folder}/{name}").startswith("socket:")
        except OSError:
            continue  # it was the one that lists the folder
    return found


def say(**told: Any) -> None:
    """Send one line of JSON to the test that started this program."""
    print(json.dumps(told), flush=True)


def told() -> Any:
    """Receive the next line of JSON from the test that started this program; None at the end."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None
