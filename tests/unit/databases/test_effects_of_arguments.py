"""Every argument of the database classes changes something that a program can see.

The arguments are those in `OWN_ARGUMENTS`. Each has a test here, or one on servers, which `ON_SERVERS` names.
The last test holds both against that list.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from peewee_replicas import NoReplicaAvailable, ReplicatedDatabase
from peewee_replicas.routing.settings import OWN_ARGUMENTS

READ = "SELECT 1"
SERVER_TESTS = Path(__file__).parents[2] / "servers"
ON_SERVERS = {
    "follow_primary": (
        "nodes/test_follow_primary.py",
        "test_writes_follow_a_promotion_and_a_death",
    ),
    "policy": ("routing/test_policies.py", "test_a_callable_chooses"),
    "spread": ("routing/test_spread.py", "test_what_is_listed_can_be_followed"),
    "readonly_in_transaction": (
        "routing/test_transactions.py",
        "test_readonly_joins_a_transaction_where_it_is_told_to",
    ),
    "consistency": ("consistency/test_contexts.py", "test_to_thread_sees_what_was_written_before"),
    "catch_up_timeout": ("consistency/test_waiting.py", "test_waiting_is_bounded_over_all_nodes_together"),
    "sticky_seconds": (
        "consistency/test_without_gtids.py",
        "test_without_gtids_reads_stay_on_the_primary_for_a_while",
    ),
    "max_lag": ("nodes/test_prober.py", "test_a_lagging_replica_is_left_and_comes_back"),
    "max_fallback_share": (
        "routing/test_fallback_budget.py",
        "test_with_all_replicas_gone_only_that_share_of_the_reads_reaches_the_primary",
    ),
    "on_transaction_escape": (
        "scopes/test_transaction_escape.py",
        "test_a_statement_that_escapes_is_refused_before_it_is_sent",
    ),
    "max_connection_age": ("connections/test_connection_age.py", "test_a_moved_address_is_found"),
    "heartbeat_table": ("nodes/test_prober.py", "test_lag_from_a_heartbeat_table"),
}


def made(**arguments: Any) -> ReplicatedDatabase:
    return ReplicatedDatabase("app", **{"host": "p", "replicas": ["r1", "r2"], **arguments})


def place(database: ReplicatedDatabase, sql: str = READ) -> str:
    return database.explain_route(sql).role


def test_replicas() -> None:
    assert place(made()) == "replica"
    assert place(made(replicas=())) == "primary"


def test_refresh() -> None:
    asked = threading.Semaphore(0)
    database = made(replicas=lambda: asked.release() or ["r1"], refresh=0.01, probe_interval=None)
    database._parts.replicas.attend()
    try:
        assert all(asked.acquire(timeout=60) for _ in range(3))
    finally:
        database.dispose()


def test_reads() -> None:
    roles = [place(made(reads=reads)) for reads in ("replica", "primary", "observe")]
    assert roles == ["replica", "primary", "primary"]
    with made(reads="primary").readonly() as scoped:
        assert place(scoped) == "replica"


def test_fallback() -> None:
    for fallback in ("primary", "error"):
        database = made(fallback=fallback)
        for replica in database.replicas:
            replica.eject("maintenance")
        if fallback == "primary":
            assert place(database) == "primary"
        else:
            with pytest.raises(NoReplicaAvailable):
                database.execute_sql(READ)


def test_pure_functions() -> None:
    assert place(made(), "SELECT tax(1)") == "primary"
    assert place(made(pure_functions=["tax"]), "SELECT tax(1)") == "replica"


def test_probe_interval() -> None:
    prober = made(probe_interval=0.25)._parts.cluster.prober
    assert prober is not None
    assert prober.interval == 0.25
    assert made(probe_interval=None)._parts.cluster.prober is None


def test_every_argument_has_a_test() -> None:
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert set(OWN_ARGUMENTS) <= here | set(ON_SERVERS)
    for argument, (path, test) in ON_SERVERS.items():
        found = re.search(rf"^def {test}\(", (SERVER_TESTS / path).read_text(), re.MULTILINE)
        assert found, f"{path} has no {test}, which is to show what {argument} does"
