"""Replicas that change again and again under load, as discovery changes them, and what a program notices.

A callable given as ``replicas`` names other nodes each time it is asked. Threads read meanwhile in each way:
single statements, ``readonly()``, snapshots, and what they have written themselves.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import peewee
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.testing import LocalCluster

FORMS: dict[str, type[ReplicatedDatabase]] = {
    "threads": ReplicatedDatabase,
    "pooled": PooledReplicatedDatabase,
}
THREADS = 4
USER = "members"
PATIENCE = 300.0
"""Seconds until the threads must have used all nodes, and closed what they no longer use."""


class Found(NamedTuple):
    """What one run has found.

    Attributes:
        changes: how often the nodes changed under load.
        seconds: how long that took.
        done: how many statements of each sort the threads executed meanwhile.
        wrong: what must not happen, by its kind, with its count.
        before, after, closed: the connections to each node, as the servers count them.
    """

    changes: int
    seconds: float
    done: Counter[str]
    wrong: Counter[str]
    before: dict[str, int]
    after: dict[str, int]
    closed: dict[str, int]


class Members:
    """The callable: the first replica while nothing is to change, else others again and again.

    Parameters:
        between: at least so many reads between two changes.

    Attributes:
        executed: how many reads there were.
    """

    def __init__(self, cluster: LocalCluster, between: int) -> None:
        self.changing = False
        self.executed = 0
        self._between, self._executed_before = between, 0
        self._specs = [{"name": node.name, "host": node.host, "port": node.port} for node in cluster.replicas]
        self.at_rest = self._specs[:1]
        self._now = self.at_rest
        self._random = random.Random(1)

    def __call__(self) -> list[dict[str, object]]:
        before = self._now
        if not self.changing:
            return self.at_rest
        if self.executed >= self._executed_before + self._between:
            self._executed_before = self.executed
            while self._now == before:
                self._now = [spec for spec in self._specs if self._random.random() < 0.5] or before
        return self._now


class Changes(logging.Handler):
    """Counts the changes that the database logs."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += getattr(record, "event", "") == "members_changed"


class Load:
    """Threads that read and write until they are stopped."""

    def __init__(self, database: ReplicatedDatabase, members: Members) -> None:
        self._database = database
        self._members = members
        self.done: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self._stop, self._held = threading.Event(), threading.Event()
        self._resting = threading.Semaphore(0)
        self._rounds: list[int] = [0] * THREADS
        self._threads = [threading.Thread(target=self._work, args=(place,)) for place in range(THREADS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._held.clear()
        for thread in self._threads:
            thread.join()

    def go_on(self, rounds: int = 2) -> None:
        """Wait until each thread has done everything some times more."""
        wanted = [before + rounds for before in self._rounds]
        until(lambda: all(now >= then for now, then in zip(self._rounds, wanted, strict=True)), PATIENCE)

    @contextmanager
    def held(self) -> Iterator[None]:
        """No thread does anything during the block; in pools, all connections are given back."""
        self._held.set()
        for _ in range(THREADS):
            self._resting.acquire()
        try:
            yield
        finally:
            self._held.clear()

    def _work(self, place: int) -> None:
        for number in itertools.count(1):
            try:
                self._one_round(place, number)
            except peewee.PeeweeException as exc:
                self.wrong[f"failed: {type(exc).__name__} {exc}"] += 1
            if isinstance(self._database, PooledReplicatedDatabase):
                self._database.close()
            self._rounds[place] += 1
            if self._held.is_set():
                self._resting.release()
                until(lambda: not self._held.is_set(), PATIENCE)
            if self._stop.is_set():
                break
        self._database.close()

    def _one_round(self, place: int, number: int) -> None:
        for _ in range(4):
            self._read("SELECT COUNT(*) FROM mark", "single reads")
        with self._database.readonly():
            for _ in range(4):
                self._read("SELECT COUNT(*) FROM mark", "in readonly()")
        with self._database.readonly(snapshot=True):
            counts = {self._read("SELECT COUNT(*) FROM mark", "in snapshots") for _ in range(4)}
        if len(counts) > 1:
            self.wrong["snapshots that moved"] += 1
        self._database.execute_sql("UPDATE mark SET number = %s WHERE thread = %s", (number, place))
        self.done["writes"] += 1
        if self._read(f"SELECT number FROM mark WHERE thread = {place}", "after writes") != number:
            self.wrong["reads that missed the own write"] += 1

    def _read(self, sql: str, sort: str) -> Any:
        (value,) = self._database.execute_sql(sql).fetchone()
        self.done[sort] += 1
        self._members.executed += 1
        return value


def connections(cluster: LocalCluster) -> dict[str, int]:
    """How many connections of the load's user each server has."""
    sql = f"SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{USER}'"
    return {node.name: node.execute(sql)[0][0] for node in cluster.nodes}


def _settled(cluster: LocalCluster, load: Load, form: str) -> dict[str, int]:
    """The connections while nothing runs, once only the first replica has any, of the replicas.

    Each thread has one there after it has read there, and the prober has one.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        load.go_on()
        with load.held():
            for _ in range(10):
                counted = connections(cluster)
                _, first, *others = counted.values()
                enough = not any(others) and (form == "pooled" or first == THREADS + 1)
                if enough or time.monotonic() > deadline:
                    return counted
                time.sleep(0.1)  # until the prober's next round


@contextmanager
def prepared(cluster: LocalCluster) -> Iterator[None]:
    """A table of marks, and a user whose connections are the load's alone."""
    primary, schema = cluster.primary, cluster.database_name
    primary.execute(f"CREATE TABLE {schema}.mark (thread INT PRIMARY KEY, number INT)")
    for place in range(THREADS):
        primary.execute(f"INSERT INTO {schema}.mark VALUES ({place}, 0)")
    primary.execute(f"CREATE USER {USER}@'%' IDENTIFIED BY '{cluster.password}'")
    primary.execute(f"GRANT ALL PRIVILEGES ON {schema}.* TO {USER}@'%'")
    cluster.sync()
    try:
        yield
    finally:
        primary.execute(f"DROP USER {USER}@'%'")
        primary.execute(f"DROP TABLE {schema}.mark")


def run(cluster: LocalCluster, form: str, changes: int, between: int = 0) -> Found:
    """Change the replicas so many times under load.

    Parameters:
        between: at least so many reads between two changes.
    """
    members, log = Members(cluster, between), Changes()
    logger = logging.getLogger("peewee.replicas")
    level = logger.level
    with prepared(cluster):
        options = {"user": USER, "replicas": members, "refresh": 0.02, "probe_interval": 0.1}
        database: Any = cluster.database(FORMS[form], **options)
        logger.addHandler(log)
        logger.setLevel(logging.INFO)
        load = Load(database, members)
        load.start()
        try:
            until(lambda: [one.name for one in database.replicas] == ["replica-1"], PATIENCE)
            before = _settled(cluster, load, form)
            log.count, began = 0, time.monotonic()
            members.changing = True
            until(lambda: log.count >= changes, PATIENCE + 5 * changes)
            seconds, changed = time.monotonic() - began, log.count
            members.changing = False
            until(lambda: [one.name for one in database.replicas] == ["replica-1"], PATIENCE)
            after = _settled(cluster, load, form)
        finally:
            members.changing = False
            load.stop()
            database.close()
            if form == "pooled":
                database.close_all()  # before `dispose`, which forgets connections without closing them
            database.dispose()
            logger.removeHandler(log)
            logger.setLevel(level)
        until(lambda: not any(connections(cluster).values()), PATIENCE)
        return Found(changed, seconds, load.done, load.wrong, before, after, connections(cluster))
