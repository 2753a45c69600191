"""Replicas that a callable names: one whose answers change under load, and what the primary reports.

The ways to read under load are those of `support.load.changing_members`, which ``benchmarks/membership.py``
uses with more changes.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.load.changing_members import FORMS, run
from support.waiting import until

from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.discover import replicas_of_primary

CHANGES = 30


@pytest.mark.parametrize("threads", FORMS)
def test_answers_that_change_under_load_fail_no_read_and_leave_no_connection(
    cluster: Any, threads: str
) -> None:
    found = run(cluster, threads, CHANGES)
    assert found.changes >= CHANGES
    assert not found.wrong
    assert min(found.done.values()) > 0
    assert not any(found.after[node.name] for node in cluster.replicas[1:])
    assert not any(found.closed.values())
    if threads == "threads":  # in pools, more connections only mean that more statements ran at once
        assert found.after["replica-1"] == found.before["replica-1"] > 0


def test_the_primary_names_its_replicas_in_each_form(cluster: Any) -> None:
    wanted = sorted(node.port for node in cluster.replicas)
    database = cluster.database(user="admin", replicas=replicas_of_primary(seconds=60), refresh=0.1)
    database.execute_sql("SELECT 1")
    until(lambda: sorted(replica.port for replica in database.replicas) == wanted)
    assert database.explain_route("SELECT 1").role == "replica"
    database.close()
    database.dispose()
    in_tasks = cluster.database(AsyncReplicatedDatabase, user="admin")
    found: Any = replicas_of_primary(seconds=60)(in_tasks)
    assert sorted(each["port"] for each in found) == wanted
