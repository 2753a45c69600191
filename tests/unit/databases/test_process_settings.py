"""What belongs to the whole process is the program's: the library reads it and changes none of it.

The list is of what the standard library keeps once for a process and a library is tempted to set.
"""

from __future__ import annotations

import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import warnings
from functools import partial
from typing import Any

import peewee
import pytest
from support.forks import in_child

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.concurrency import chance
from peewee_replicas.routing.policies import Random


def settings() -> dict[str, Any]:
    return {
        "random": random.getstate(),
        "warnings": list(warnings.filters),
        "locale": locale.setlocale(locale.LC_ALL),
        "socket timeout": socket.getdefaulttimeout(),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "environment": dict(os.environ),
        "recursion": sys.getrecursionlimit(),
        "switching": sys.getswitchinterval(),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
        "logging": (logging.root.level, list(logging.root.handlers), logging.raiseExceptions),
    }


@pytest.mark.parametrize("policy", ["round-robin", "random", "least-busy"])
def test_failing_nodes_change_nothing_of_the_process(policy: Any) -> None:
    before = settings()
    nodes = [{"host": "127.0.0.1", "port": port} for port in (1, 2, 3)]
    database = ReplicatedDatabase(
        "app", host="127.0.0.1", port=4, replicas=nodes, policy=policy, probe_interval=0.01, connect_timeout=1
    )
    try:
        for _ in range(5):
            with pytest.raises(peewee.OperationalError):
                database.execute_sql("SELECT 1")
        database._parts.cluster.prober.looked.wait(10)
        for replica in database.replicas:
            replica.eject("by hand")
            replica.restore()
    finally:
        database.dispose()
    changed = {name for name, value in settings().items() if value != before[name]}
    assert not changed


@pytest.mark.parametrize(
    "number", [chance, partial(Random()._choices, range(1000))], ids=["jitter", "policy"]
)
def test_a_forked_child_draws_other_numbers_than_its_parent(number: Any) -> None:
    drawn = in_child(lambda: [repr(number()) for _ in range(3)])
    assert isinstance(drawn, list)  # not the words of an error
    assert drawn != [repr(number()) for _ in range(3)]
