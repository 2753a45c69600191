"""A program under gevent, all of its sockets and threads patched, while replicas come and go.

`benchmarks/faults.py gevent` is the long form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.clusters.repaired import repaired
from support.load.ledger import prepare
from support.load.programs import Flapping, Program, connections, settles

pytestmark = [
    pytest.mark.core,
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts sockets in /proc"),
]


@pytest.mark.parametrize("kind", ["plain", pytest.param("pooled", marks=pytest.mark.once)])
def test_greenlets_lose_no_read_and_leave_no_socket(server: str, kind: str) -> None:
    pytest.importorskip("gevent")
    with repaired(server, 2, []) as cluster:
        prepare(cluster)
        with Program("gevent_program.py", cluster, kind) as program:
            # What the prober has not opened yet would count as left behind afterwards.
            assert settles(lambda: program.ask(warm=True, greenlets=1, requests=10)["looked"], bool)
            sockets, sessions = program.ask(count=True)["sockets"], connections(cluster)
            with Flapping(cluster, ("killed", "restarted"), nodes=1) as faults:
                sent = 0
                while sent < 400 or (len(faults.done) < 2 and not faults.errors):
                    outcome = program.ask(greenlets=20, requests=200, write_every=10, first=sent)
                    sent += 200
            assert outcome["errors"] == {}
            assert outcome["done"] == sent
            rows = cluster.primary.execute(
                f"SELECT COUNT(*), COUNT(DISTINCT token) FROM {cluster.database_name}.ledger"
            )
            assert rows == [(sent // 10, sent // 10)]

            def now() -> Any:
                program.ask(warm=True, greenlets=1, requests=10)
                return program.ask(count=True)["sockets"], connections(cluster)

            if kind == "plain":  # the pool keeps what twenty greenlets have opened, idle
                assert settles(now, lambda found: found == (sockets, sessions)) == (sockets, sessions)
            else:
                opened = now()[0]
                assert opened <= sockets + 20 * 4
                assert program.ask(empty=True)["sockets"] <= sockets
        assert not program.errors, program.errors
        ended = settles(lambda: connections(cluster), lambda found: not any(found.values()))
        assert ended == {"primary": 0, "replica-1": 0, "replica-2": 0}


def test_a_program_that_ends_while_the_prober_asks_ends_in_order(cluster: Any) -> None:
    pytest.importorskip("gevent")
    # With so long an interval nothing has timed out before the program is told to end.
    with Program("gevent_ended.py", cluster, "plain", probe_interval=30.0) as program:
        assert program.ask()["asked"] >= 1
    assert not program.errors, program.errors
