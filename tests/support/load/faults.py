"""Faults of one node under load, and how the load noticed each of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import pymysql
from support.load.ledger import Group, Load, Read

_USERS = "SELECT id FROM information_schema.processlist WHERE user = %s"
_FEW = 10  # MariaDB takes no smaller max_connections
SLOW = 0.25
"""A read that took so many seconds has waited for something."""


@contextmanager
def killed(cluster: Any, node: Any) -> Iterator[None]:
    """Killed with -9, and started again."""
    node.kill()
    try:
        yield
    finally:
        node.start()


@contextmanager
def paused(cluster: Any, node: Any) -> Iterator[None]:
    """Suspended: its port accepts connections, but nothing is answered."""
    node.pause()
    try:
        yield
    finally:
        node.resume()


@contextmanager
def frozen(cluster: Any, node: Any) -> Iterator[None]:
    """The replica applies nothing, but still answers."""
    node.freeze()
    try:
        yield
    finally:
        node.thaw()


@contextmanager
def restarted(cluster: Any, node: Any) -> Iterator[None]:
    """Shut down cleanly, and started again."""
    node.stop()
    try:
        yield
    finally:
        node.start()


@contextmanager
def refusing(cluster: Any, node: Any) -> Iterator[None]:
    """Others take all of its connections, and those of the program are killed."""
    with ExitStack() as held:
        admin = held.enter_context(_connection(cluster, node, cluster.admin_user))
        before = _ask(admin, "SELECT @@GLOBAL.max_connections")
        for _ in range(_FEW):
            held.enter_context(_connection(cluster, node, cluster.admin_user))
        try:
            _ask(admin, f"SET GLOBAL max_connections = {_FEW}")
            _disconnect(admin, cluster.user)
            yield
        finally:
            _ask(admin, f"SET GLOBAL max_connections = {before}")


@contextmanager
def disconnecting(cluster: Any, node: Any) -> Iterator[None]:
    """Every connection of the program is killed, several times a second."""
    stop = threading.Event()
    with _connection(cluster, node, cluster.admin_user) as admin:

        def work() -> None:
            while not stop.is_set():
                _disconnect(admin, cluster.user)
                stop.wait(0.2)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


Fault = Callable[[Any, Any], AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {
    "killed": killed,
    "paused": paused,
    "frozen": frozen,
    "restarted": restarted,
    "refusing": refusing,
    "disconnected": disconnecting,
}
"""By the word that reports use."""


def _ask(connection: Any, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
    return row and row[0]


def _disconnect(admin: Any, user: str) -> None:
    with admin.cursor() as cursor:
        cursor.execute(_USERS, (user,))
        for (session,) in cursor.fetchall():
            with suppress(pymysql.err.MySQLError):  # gone by itself
                cursor.execute("KILL %s", (session,))


def _connection(cluster: Any, node: Any, user: str) -> Any:
    parameters = {**cluster.parameters(node), "user": user}
    return pymysql.connect(**parameters, autocommit=True, connect_timeout=10)


class Found(NamedTuple):
    """What the load saw of one fault.

    Attributes:
        fault, node: which, and where.
        reads: how many reads ended between the fault and the node's return; `failed`: of these.
        fallbacks: of these, served by the primary for want of a replica.
        longest: seconds of the longest of these.
        noticed: seconds until the library counted the node as unusable; None: it never did.
        avoided: seconds until the last read that was served by the node, tried it or waited.
        again: seconds from the fault's end until the first read that the node serves; None: not in time.
    """

    fault: str
    node: str
    reads: int
    failed: int
    fallbacks: int
    longest: float
    noticed: float | None
    avoided: float
    again: float | None


class States:
    """Records when each replica changes its state in the databases of the groups."""

    def __init__(self, load: Load) -> None:
        self.changes: list[tuple[float, str, str, str]] = []
        self._load = load
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> States:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        last: dict[tuple[str, str], str] = {}
        while not self._stop.wait(0.01):
            for group in self._load.groups:
                for replica in group.database.replicas:
                    key, state = (group.name, replica.name), replica.state
                    if last.get(key, "up") != state:
                        self.changes.append((time.monotonic(), *key, state))
                    last[key] = state

    def noticed(self, node: str, began: float) -> float | None:
        """Seconds until no group counted the node as up any more; None if one always did."""
        first: dict[str, float] = {}
        for when, group, name, state in self.changes:
            if name == node and state != "up" and when >= began:
                first.setdefault(group, when - began)
        return max(first.values()) if len(first) == len(self._load.groups) else None


def until_served(load: Load, names: list[str], since: float, seconds: float, reads: int = 1) -> bool:
    """Wait until each of these nodes has answered reads of every group; False if they have not in time."""
    wanted = {(group.name, name) for group in load.groups for name in names}

    def served() -> bool:
        counted = load.served_since(since)
        return all(counted[pair] >= reads for pair in wanted)

    return load.wait_until(served, seconds)


def follow_again(cluster: Any) -> None:
    """Let the replicas connect to a primary that is back, because MySQL's give up after ten seconds."""
    for node in cluster.replicas:
        node.execute("START REPLICA")


def until_written(load: Load, since: float, seconds: float) -> dict[str, float]:
    """Wait until every group has completed a write begun after this call; the seconds that took."""

    def first(group: Group) -> float | None:
        ended = (w.ended - since for w in list(group.writes) if w.began >= since and not w.error)
        return min(ended, default=None)

    if not load.wait_until(lambda: all(first(group) is not None for group in load.groups), seconds):
        raise AssertionError(f"no write within {seconds} s: {[write.error for write in load.writes[-5:]]}")
    return {group.name: first(group) or 0.0 for group in load.groups}


def befall(
    load: Load,
    states: States,
    cluster: Any,
    fault: str,
    node: Any,
    *,
    hold: float,
    patience: float = 45.0,
) -> Found:
    """Let one fault befall one replica, and wait until it is used again.

    Parameters:
        hold: seconds that the fault lasts.
        patience: seconds after which a node that is not used again is given up.
    """
    names = [replica.name for replica in cluster.replicas]
    if not until_served(load, names, time.monotonic(), patience, reads=3):
        raise AssertionError(f"not all replicas serve before {fault}: {load.served_since(0)}")
    before = time.monotonic()
    with FAULTS[fault](cluster, node):
        began = before
        load.wait(hold)
        lifted = time.monotonic()
    ended = lifted if fault in ("paused", "frozen", "refusing", "disconnected") else time.monotonic()
    back = until_served(load, [node.name], ended, patience, reads=2)
    done = time.monotonic()
    reads = [read for read in load.reads if began <= read.ended <= done]
    again = _used_again(load, node.name, ended) if back else None
    return Found(
        fault,
        node.name,
        len(reads),
        sum(bool(read.error) for read in reads),
        sum(read.fell_back for read in reads),
        max((read.took for read in reads), default=0.0),
        states.noticed(node.name, began),
        max((read.ended - began for read in reads if _touched(read, node.name, lifted)), default=0.0),
        again,
    )


def _touched(read: Read, name: str, lifted: float) -> bool:
    waited = read.node == name or read.attempts > 1 or read.took > SLOW
    return read.began < lifted and waited


def _used_again(load: Load, name: str, ended: float) -> float:
    """Seconds until all groups have read from the node again."""
    first: dict[str, float] = {}
    for group in load.groups:
        for read in list(group.reads):
            if read.node == name and read.began >= ended:
                first.setdefault(group.name, read.ended - ended)
    return max(first.values())


def table(found: list[Found]) -> str:
    """The findings as a text."""
    lines = [
        f"{'fault':14}{'node':11}{'reads':>8}{'failed':>8}{'fell back':>11}{'longest':>10}"
        f"{'noticed':>10}{'avoided':>10}{'used again':>12}"
    ]
    for one in found:
        lines.append(
            f"{one.fault:14}{one.node:11}{one.reads:>8}{one.failed:>8}{one.fallbacks:>11}"
            f"{one.longest:>9.3f}s{_seconds(one.noticed):>10}{one.avoided:>9.3f}s{_seconds(one.again):>12}"
        )
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}s"
