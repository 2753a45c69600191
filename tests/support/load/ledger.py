"""Threads that read by plain routing and write unique tokens, with a ledger of the outcome of each."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import peewee
import pymysql

ROWS = 100
_ATTEMPTS = threading.local()


class Read(NamedTuple):
    """One read: when it began and ended on a monotonic clock, and who answered.

    Attributes:
        node: the name of the node, or ``""`` where it failed.
        attempts: how often it was handed to a node.
        fell_back: whether the primary served it for want of a replica.
        error: what it failed with, or ``""``.
    """

    began: float
    ended: float
    node: str
    attempts: int
    fell_back: bool
    error: str

    @property
    def took(self) -> float:
        """How many seconds it took."""
        return self.ended - self.began


class Write(NamedTuple):
    """One write: its tokens, which are written together, and what the program was told.

    Attributes:
        error: ``""`` where it was acknowledged.
    """

    began: float
    ended: float
    tokens: tuple[int, ...]
    error: str

    @property
    def took(self) -> float:
        """How many seconds it took."""
        return self.ended - self.began


class Group:
    """A database under load, and what its threads saw.

    Parameters:
        name: how it is called in reports.
        database: it keeps its connections from request to request, unless `per_request`.
        per_request: open before each request and close after it, as web programs do.
    """

    def __init__(self, name: str, database: Any, *, per_request: bool) -> None:
        self.name = name
        self.database = database
        self.per_request = per_request
        self.reads: list[Read] = []
        self.writes: list[Write] = []
        self.wrong: list[str] = []
        database.route_hooks.append(_remember)


def _remember(event: Any) -> None:
    _ATTEMPTS.event = event


class Load:
    """Threads at work on one or more databases over one cluster.

    Parameters:
        groups: the databases; the threads are dealt out to them in turn.
        threads: how many in all.
        writers: how many of them also write; None: all.
        write_share: how often one of these writes, instead of reading.
        rest: seconds between two operations of one thread.
    """

    def __init__(
        self,
        groups: list[Group],
        threads: int,
        *,
        writers: int | None = None,
        write_share: float = 0.05,
        rest: float = 0.002,
    ) -> None:
        self.groups = groups
        self.write_share = write_share
        self.rest = rest
        self.surprises: list[BaseException] = []
        self._token = itertools.count(1).__next__
        self._stop = threading.Event()
        self._writing = threading.Event()
        self._writing.set()
        self._rounds = [0] * threads
        writing = threads if writers is None else writers
        self._threads = [
            threading.Thread(target=self._work, args=(groups[number % len(groups)], number, number < writing))
            for number in range(threads)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.surprises:
            raise self.surprises[0]

    def wait(self, seconds: float) -> None:
        """Let the threads work for some seconds; return early if one met an error that no fault explains."""
        self._stop.wait(seconds)

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition while the threads work; False if it did not come true in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self.surprises:
                return False
            self._stop.wait(0.02)
        return True

    @contextmanager
    def everything_replicated(self, cluster: Any) -> Iterator[None]:
        """Stop writing, and wait until the replicas have everything, before the block begins."""
        self._writing.clear()
        seen = list(self._rounds)
        self.wait_until(
            lambda: all(now >= then + 2 for now, then in zip(self._rounds, seen, strict=True)), 30.0
        )
        cluster.sync()
        try:
            yield
        finally:
            self._writing.set()

    @staticmethod
    def now() -> float:
        """The time on the clock by which reads and writes are recorded."""
        return time.monotonic()

    @property
    def reads(self) -> list[Read]:
        """All reads of all groups so far."""
        return [read for group in self.groups for read in list(group.reads)]

    @property
    def writes(self) -> list[Write]:
        """All writes of all groups so far."""
        return [write for group in self.groups for write in list(group.writes)]

    def served_since(self, moment: float) -> Counter[tuple[str, str]]:
        """How many of the reads begun since then each node has answered, by group and node."""
        found: Counter[tuple[str, str]] = Counter()
        for group in self.groups:
            for read in reversed(group.reads):
                if read.ended < moment:
                    break
                if read.began >= moment and not read.error:
                    found[group.name, read.node] += 1
        return found

    # One thread

    def _work(self, group: Group, number: int, writes: bool) -> None:
        chance = random.Random(number)
        own: list[int] = []
        try:
            while not self._stop.is_set():
                self._rounds[number] += 1
                with _request(group):
                    for _ in range(3):
                        if writes and self._writing.is_set() and chance.random() < self.write_share:
                            self._write(group, chance, own)
                        else:
                            self._read(group, chance, own)
                self._stop.wait(self.rest)
        except BaseException as exc:
            self.surprises.append(exc)
            self._stop.set()
        finally:
            if not group.database.is_closed():
                group.database.close()

    def _read(self, group: Group, chance: random.Random, own: list[int]) -> None:
        mark, row = chance.randrange(1 << 40), chance.randrange(ROWS)
        token = own[-1] if own else 0
        _ATTEMPTS.event = None
        began = time.monotonic()
        error = ""
        try:
            if token and chance.random() < 0.3:
                sql = "SELECT %s, COUNT(*) FROM ledger WHERE token = %s"
                found, expected = group.database.execute_sql(sql, (mark, token)).fetchone(), (mark, 1)
            else:
                sql = "SELECT %s, n FROM item WHERE id = %s"
                found, expected = group.database.execute_sql(sql, (mark, row)).fetchone(), (mark, row * 7)
            if found != expected:
                group.wrong.append(f"{found} instead of {expected} from {_ATTEMPTS.event}")
        except (peewee.PeeweeException, pymysql.err.MySQLError) as exc:
            error = f"{type(exc).__name__}: {exc}"
        ended, event = time.monotonic(), _ATTEMPTS.event
        group.reads.append(
            Read(
                began,
                ended,
                "" if error else event.node,
                event.attempts if event else 0,
                bool(event) and not error and event.reason.startswith("no replica"),
                error,
            )
        )

    def _write(self, group: Group, chance: random.Random, own: list[int]) -> None:
        together = 2 if chance.random() < 0.25 else 1
        tokens = tuple(self._token() for _ in range(together))
        sql = "INSERT INTO ledger (token) VALUES (%s)"
        began = time.monotonic()
        error = ""
        try:
            with group.database.atomic() if together > 1 else nullcontext():
                for token in tokens:
                    group.database.execute_sql(sql, (token,))
            own.append(tokens[-1])
        except (peewee.PeeweeException, pymysql.err.MySQLError) as exc:
            error = f"{type(exc).__name__}: {exc}"
        group.writes.append(Write(began, time.monotonic(), tokens, error))


@contextmanager
def _request(group: Group) -> Iterator[None]:
    if not group.per_request:
        yield
        return
    database = group.database
    try:
        database.connect()
    except peewee.PeeweeException as exc:
        now = time.monotonic()
        group.reads.append(Read(now, now, "", 0, False, f"connect(): {type(exc).__name__}: {exc}"))
    try:
        yield
    finally:
        if not database.is_closed():
            database.close()


def prepare(cluster: Any) -> None:
    """The tables: `item`, which nobody changes, and an empty `ledger`, which nothing keeps from repeats."""
    run = cluster.primary.execute
    name = cluster.database_name
    run(f"DROP TABLE IF EXISTS {name}.item, {name}.ledger")
    run(f"CREATE TABLE {name}.item (id INT PRIMARY KEY, n INT NOT NULL)")
    run(f"CREATE TABLE {name}.ledger (id INT PRIMARY KEY AUTO_INCREMENT, token BIGINT, INDEX (token))")
    values = ", ".join(f"({row}, {row * 7})" for row in range(ROWS))
    run(f"INSERT INTO {name}.item VALUES {values}")
    cluster.sync()


class Audit(NamedTuple):
    """The ledger on the primary, held against what the program was told.

    Attributes:
        acknowledged: tokens that the program was told are written.
        missing: of these, not there.
        twice: tokens that are there more than once.
        unknown: tokens of writes that failed; `happened`: those of them that are there all the same.
        torn: writes of several tokens of which only some are there.
        strange: tokens that nobody wrote.
    """

    acknowledged: int
    missing: int
    twice: int
    unknown: int
    happened: int
    torn: int
    strange: int

    @property
    def sound(self) -> bool:
        """Whether no write was doubled, lost or torn."""
        return not (self.missing or self.twice or self.torn or self.strange)


def audit(cluster: Any, writes: list[Write]) -> Audit:
    """Compare the tokens on the primary with what the program was told."""
    sql = f"SELECT token, COUNT(*) FROM {cluster.database_name}.ledger GROUP BY token"
    rows = cluster.primary.execute(sql)
    there = {int(token): int(number) for token, number in rows}
    told = [token for write in writes if not write.error for token in write.tokens]
    failed = [token for write in writes if write.error for token in write.tokens]
    return Audit(
        acknowledged=len(told),
        missing=sum(token not in there for token in told),
        twice=sum(number > 1 for number in there.values()),
        unknown=len(failed),
        happened=sum(token in there for token in failed),
        torn=sum(len({token in there for token in write.tokens}) > 1 for write in writes),
        strange=len(set(there) - set(told) - set(failed)),
    )
