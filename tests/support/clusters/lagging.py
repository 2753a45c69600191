"""Clusters whose replicas can be frozen, and helpers for tests of consistency."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest
from peewee import CharField, IntegerField, Model
from support.clusters import as_in_another_process, own_cluster

from peewee_replicas import ReplicatedDatabase, RouteEvent
from peewee_replicas.servers import mariadb, mysql
from peewee_replicas.testing import LocalCluster

# How long a read waits for a replica that will not come, and for one that will.
SHORT, LONG = 0.05, 20.0


class Slot(Model):
    """Rows that several sessions compete for."""

    name = CharField(unique=True)
    n = IntegerField(default=0)


class Mark(Model):
    """A second table."""

    name = CharField(unique=True)


MODELS = [Slot, Mark]


@contextmanager
def held_back(server: str, replicas: int = 1, **arguments: Any) -> Iterator[LocalCluster]:
    """Start a new cluster with the tables and the row ("a", 1) in `slot` on all nodes."""
    with own_cluster(server, replicas, **arguments) as cluster:
        with as_in_another_process():  # or the tests would begin with what this has written
            database = cluster.database(consistency="eventual")
        with database.bind_ctx(MODELS):
            database.create_tables(MODELS)
        database.close()
        clear(cluster, ("a", 1))
        yield cluster


def clear(cluster: LocalCluster, *rows: tuple[str, int]) -> None:
    """Empty the tables on all nodes, and insert `rows` into `slot`."""
    for node in cluster.replicas:
        node.thaw()
    schema = cluster.database_name
    with cluster.primary._control.session() as cursor:  # one for all, since opening it is most of the work
        for table in ("slot", "mark"):
            cursor.execute(f"DELETE FROM {schema}.{table}")
        for name, n in rows:
            cursor.execute(f"INSERT INTO {schema}.slot (name, n) VALUES ('{name}', {n})")
    cluster.sync()


def elsewhere(cluster: LocalCluster, sql: str) -> None:
    """Run a statement on the primary as another program would."""
    schema = cluster.database_name
    for table in ("slot", "mark"):
        sql = f" {sql} ".replace(f" {table} ", f" {schema}.{table} ")
    cluster.primary.execute(sql)


@contextmanager
def frozen(cluster: LocalCluster) -> Iterator[None]:
    """Freeze all replicas during the block."""
    for node in cluster.replicas:
        node.freeze()
    try:
        yield
    finally:
        for node in cluster.replicas:
            node.thaw()


@contextmanager
def soon(work: Callable[[], Any], seconds: float = 0.1) -> Iterator[None]:
    """Call a function shortly after the block is entered; wait for it at the end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as exc:
            failed.append(exc)

    timer = threading.Timer(seconds, run)
    timer.start()
    try:
        yield
    finally:
        timer.join()
    assert not failed, failed


def n_of(name: str = "a") -> int | None:
    """The value in the slot, as one read sees it."""
    row = Slot.select(Slot.n).where(Slot.name == name).tuples().first()
    return None if row is None else row[0]


def read_and_close(db: Any) -> int | None:
    """The same for a new thread, which closes its connection afterwards."""
    with db.connection_context():
        return n_of()


@contextmanager
def bound(cluster: LocalCluster, kind: Any = None, *, apart: bool = False, **options: Any) -> Iterator[Any]:
    """A database over the cluster, with the models bound to it; closed afterwards.

    Parameters:
        apart: it is as if in another process.
    """
    with as_in_another_process() if apart else nullcontext():
        db = cluster.database(kind, **options)
    with db.bind_ctx(MODELS):
        yield db
    db.close()


# Gives up waiting for a replica soon.
impatient = partial(bound, catch_up_timeout=SHORT)


@contextmanager
def watched(database: Any) -> Iterator[list[RouteEvent]]:
    """Collect the route events of a database during the block."""
    events: list[RouteEvent] = []
    database.route_hooks.append(events.append)
    try:
        yield events
    finally:
        database.route_hooks.remove(events.append)


@contextmanager
def waits_asked_for(position: str = "") -> Iterator[list[float]]:
    """For how many seconds each question meanwhile has its node wait; with 0 it only looks.

    Parameters:
        position: what those that count wait for, or a part of it.
    """
    noted: list[float] = []

    def noting(wait: Callable[[str, float], str]) -> Callable[[str, float], str]:
        def asked(target: str, seconds: float) -> str:
            if position in target:
                noted.append(seconds)
            return wait(target, seconds)

        return asked

    with pytest.MonkeyPatch.context() as patch:
        for dialect in (mariadb, mysql):
            patch.setattr(dialect, "wait", noting(dialect.wait))
        yield noted


def read_in_another_process(parameters: dict[str, Any], mark: str, answer: Any) -> None:
    """Put what a new process reads with a bookmark into `answer`; here, where a spawned one can import it."""
    db = ReplicatedDatabase(**parameters)
    with db.bind_ctx(MODELS), db.causal_session(mark):
        answer.put(n_of())
    db.close()
