"""Replicas that a callable names: one whose answers change under load, and what the primary reports."""

from __future__ import annotations

import itertools
import threading
from typing import Any

from support.clusters.membership import specs
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.discover import replicas_of_primary

CHANGES = 60


def test_answers_that_change_under_load_fail_no_read_and_leave_no_connection(cluster: Any) -> None:
    answers = itertools.cycle([specs(cluster, 1), specs(cluster, 1, 2), specs(cluster, 2)])
    asked, reads = itertools.count(), [0] * 2
    failures: list[Exception] = []
    done = threading.Event()

    def found() -> Any:
        if next(asked) >= CHANGES:
            done.set()
            return specs(cluster, 1)
        return next(answers)

    before = own_connections(cluster)
    database = cluster.database(
        PooledReplicatedDatabase, replicas=found, refresh=0.02, probe_interval=None, consistency="eventual"
    )

    def read(place: int) -> None:
        try:
            while not done.is_set():
                assert database.execute_sql("SELECT 1").fetchone() == (1,)
                reads[place] += 1
        except Exception as exc:
            failures.append(exc)
        finally:
            database.close()

    readers = [threading.Thread(target=read, args=(place,)) for place in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert failures == []
    assert min(reads) > 0
    until(lambda: [replica.name for replica in database.replicas] == ["replica-1"])
    # This also closes what a removed node has left.
    assert database.execute_sql("SELECT 1").fetchone() == (1,)
    database.close()
    assert database.stats()["replicas"] > 0
    database.dispose()
    database.close_all()
    until(lambda: own_connections(cluster) <= before)


def own_connections(cluster: Any) -> int:
    """The connections of the program's user to all nodes."""
    return sum(
        len(node.execute(f"SELECT id FROM information_schema.processlist WHERE user = '{cluster.user}'"))
        for node in (cluster.primary, *cluster.replicas)
    )


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
