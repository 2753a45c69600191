"""Records what sessions did on a real cluster, as a history for the checker."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import peewee
import pymysql
from peewee import BigIntegerField, CharField, IntegerField, Model
from support.guarantees.checker import Event, Inherits, Key, Seen, Write

from peewee_replicas import NoReplicaAvailable

REGISTERS = 12
JOINT = frozenset({"reg"})

# What the driver or the server says of a connection that is gone; a write may have happened or not.
_LOST = frozenset({0, 1053, 1317, 1927, 2006, 2013, 2014, 3169})
# A raw cursor raises what the driver raises.
_FAILURES = (peewee.PeeweeException, pymysql.err.MySQLError)
# Nothing was applied: a deadlock, a lock that did not come, a row that changed under a snapshot.
_NOT_APPLIED = frozenset({1020, 1205, 1213})


class Reg(Model):
    """Rows that are only updated; each update makes the next version."""

    k = IntegerField(primary_key=True)
    version = BigIntegerField()
    token = BigIntegerField()


class Far(Model):
    """Rows like those of `Reg`, which only a set-up with several GTID domains writes, in one of its own."""

    k = IntegerField(primary_key=True)
    version = BigIntegerField()
    token = BigIntegerField()


class Entry(Model):
    """Rows that are inserted and deleted, without a unique key, so that a doubled insert shows."""

    token = BigIntegerField(index=True)


class Detail(Model):
    """A row that belongs to an entry, for deletes over two tables."""

    entry = BigIntegerField(index=True)


class Claim(Model):
    """Unique names, of which each can belong to one session only."""

    name = CharField(unique=True)
    token = BigIntegerField()


MODELS = (Reg, Far, Entry, Detail, Claim)


class Round:
    """What the sessions of one round share.

    Attributes:
        events: the history.
        troubles: what went wrong without being a violation, counted: lost connections and the like.
        surprises: exceptions that no fault explains; a round with any has failed.
        stop: set when the round is over.
    """

    def __init__(self) -> None:
        self.tick: Callable[[], int] = itertools.count(1).__next__
        self.token: Callable[[], int] = itertools.count(1000).__next__
        self.events: list[Event | Inherits] = []
        self.troubles: Counter[str] = Counter()
        self.surprises: list[BaseException] = []
        self.stop = threading.Event()
        self.claims = 0
        self.marks: list[tuple[str, str]] = []  # bookmarks on their way, and whose obligations they carry

    def prepare(self, database: Any) -> None:
        """Empty the tables, and set every register to version 1."""
        with database.bind_ctx(MODELS):
            database.drop_tables(MODELS, safe=True)
            database.create_tables(MODELS)
            began = self.tick()
            Reg.insert_many([{"k": k, "version": 1, "token": k} for k in range(REGISTERS)]).execute()
            Far.insert_many(
                [{"k": k, "version": 1, "token": k + REGISTERS} for k in range(REGISTERS)]
            ).execute()
        numbers = range(REGISTERS)
        made = (
            *(Write(("reg", k), 1, k) for k in numbers),
            *(Write(("far", k), 1, k + REGISTERS) for k in numbers),
        )
        self.events.append(Event("setup", "setup", "setup", began, self.tick(), writes=made))

    def audit(self, database: Any) -> None:
        """Check on the primary that no acknowledged write is missing or doubled."""
        began = self.tick()
        reads: dict[Key, Seen] = {}
        for event in self.events:
            if isinstance(event, Event):
                reads.update({write.key: (0, None) for write in event.writes})
        with database.primary():
            entries = Counter(row[0] for row in database.execute_sql("SELECT token FROM entry"))
            claims = database.execute_sql("SELECT name, token FROM claim").fetchall()
            registers = database.execute_sql("SELECT k, version, token FROM reg").fetchall()
            far = database.execute_sql("SELECT k, version, token FROM far").fetchall()
        reads.update({("entry", token): (number, token) for token, number in entries.items()})
        reads.update({("claim", name): (1, token) for name, token in claims})
        reads.update({("reg", k): (version, token) for k, version, token in registers})
        reads.update({("far", k): (version, token) for k, version, token in far})
        self.events.append(Event("audit", "audit", "audit", began, self.tick(), reads, promise="strong"))


class Note:
    """What an operation records while it runs."""

    def __init__(self, began: int) -> None:
        self.began = began
        self.reads: dict[Key, Seen] = {}
        self.writes: tuple[Write, ...] = ()
        self.obliges = False
        self.done = False


class Recorder:
    """One session, working in one thread at a time, and what it writes down.

    Parameters:
        shared: the round it belongs to.
        database: what it works on.
        group: what its reads are counted under.
        session: its name in the history.
        promise: what is expected of its reads, whatever the database promises.
        chance: its own randomness.
    """

    def __init__(
        self, shared: Round, database: Any, group: str, session: str, promise: Any, chance: random.Random
    ) -> None:
        self.shared = shared
        self.database = database
        self.group = group
        self.session = session
        self.promise = promise
        self.chance = chance
        self.scope = ""
        self.entries: list[int] = []
        self.known: dict[Key, int] = {}  # versions it has seen, to make updates that come too late
        self.models = {model: _bound(model, database) for model in MODELS}

    # Writing down

    @contextmanager
    def operation(self, what: str, *writes: Write) -> Iterator[Note]:
        """Record one operation that tries to write, and how it ended."""
        note = Note(self.shared.tick())
        try:
            yield note
        except _FAILURES as exc:
            if note.done:
                self.trouble(what, exc)
                return
            outcome = self.outcome(exc)
            self.trouble(what, exc)
            tried = tuple(write._replace(version=None) for write in writes if write.token is not None)
            note.reads = {}
            note.obliges = note.obliges or outcome == "failed"
            self.add(what, note, tried, outcome)
        else:
            if not note.done:
                self.add(what, note, note.writes, "ok")

    def add(self, what: str, note: Note, writes: tuple[Write, ...], outcome: Any) -> None:
        if outcome == "ok":
            seen = {key: version for key, (version, _) in note.reads.items()}
            seen.update({write.key: write.version or 0 for write in writes})
            self.known.update({key: version for key, version in seen.items() if key[0] == "reg"})
        self.shared.events.append(
            Event(
                self.group, self.session, what, note.began, self.shared.tick(), note.reads, writes, outcome,
                note.obliges, self.promise, self.scope, _answered(self.database),
            )
        )  # fmt: skip

    def outcome(self, exc: BaseException) -> str:
        number = exc.args[0] if exc.args else None
        if isinstance(exc, (peewee.IntegrityError, pymysql.err.IntegrityError)) or number in _NOT_APPLIED:
            return "failed"
        if number in _LOST or isinstance(exc, NoReplicaAvailable):
            return "unknown"
        raise exc

    def trouble(self, what: str, exc: Exception) -> None:
        number = exc.args[0] if exc.args else type(exc).__name__
        self.shared.troubles[f"{self.group}: {type(exc).__name__} {number} in {what}"] += 1
        if not isinstance(exc, peewee.IntegrityError) and number not in _NOT_APPLIED:
            self.reconnect()

    def reconnect(self) -> None:
        """Close the database after a lost connection, as a program would."""
        try:
            self.database.close()
        except peewee.PeeweeException as exc:
            self.shared.troubles[f"{self.group}: close: {type(exc).__name__}"] += 1

    def send(self, sql: str, *params: object) -> Any:
        return self.database.execute_sql(sql, params)


_group: ContextVar[str] = ContextVar("group", default="")
_node: ContextVar[str] = ContextVar("node", default="")


def work_for(group: str) -> None:
    """Count the reads of this thread or task under a group."""
    _group.set(group)


def _answered(database: Any) -> str:
    return _node.get()


def listen(database: Any, served: Counter[str], group: str) -> None:
    """Count which nodes answer the reads of a database, under the thread's group or else `group`."""

    def hook(event: Any) -> None:
        _node.set(event.node)
        who = _group.get() or group
        if event.kind == "read" and event.error is None and event.reason.split(",")[0] in _FREE:
            served[f"{who}: {event.role}"] += 1
        elif event.kind == "read" and event.error is None and event.reason.startswith(_FELL_BACK):
            served[f"{who}: fallback"] += 1

    database.route_hooks.append(hook)


_FREE = frozenset({"a proven read", "a read inside readonly()"})
_FELL_BACK = ("no replica can serve", "the servers keep")


def _bound(model: type[Model], database: Any) -> Any:
    meta = type("Meta", (), {"database": database, "table_name": model._meta.table_name})
    return type(model.__name__, (model,), {"Meta": meta})
