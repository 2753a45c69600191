"""Sessions at work on a real cluster: what they did becomes a history for the checker."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peewee
import pymysql
from peewee import BigIntegerField, CharField, IntegerField, Model
from support.checker import Event, Inherits, Key, Seen, Write

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
    """Rows that are only ever updated; each update makes the next version."""

    k = IntegerField(primary_key=True)
    version = BigIntegerField()
    token = BigIntegerField()


class Entry(Model):
    """Rows that are inserted and deleted; nothing keeps one from being there twice."""

    token = BigIntegerField(index=True)


class Detail(Model):
    """Goes with an entry, for deletes over two tables."""

    entry = BigIntegerField(index=True)


class Claim(Model):
    """Names that only one session can have."""

    name = CharField(unique=True)
    token = BigIntegerField()


MODELS = (Reg, Entry, Detail, Claim)


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
        """Empty tables; every register at version 1."""
        with database.bind_ctx(MODELS):
            database.drop_tables(MODELS, safe=True)
            database.create_tables(MODELS)
            began = self.tick()
            Reg.insert_many([{"k": k, "version": 1, "token": k} for k in range(REGISTERS)]).execute()
        made = tuple(Write(("reg", k), 1, k) for k in range(REGISTERS))
        self.events.append(Event("setup", "setup", "setup", began, self.tick(), writes=made))

    def audit(self, database: Any) -> None:
        """Read on the primary everything that anybody wrote: nothing acknowledged is missing or there twice."""
        began = self.tick()
        reads: dict[Key, Seen] = {}
        for event in self.events:
            if isinstance(event, Event):
                reads.update({write.key: (0, None) for write in event.writes})
        with database.primary():
            entries = Counter(row[0] for row in database.execute_sql("SELECT token FROM entry"))
            claims = database.execute_sql("SELECT name, token FROM claim").fetchall()
            registers = database.execute_sql("SELECT k, version, token FROM reg").fetchall()
        reads.update({("entry", token): (number, token) for token, number in entries.items()})
        reads.update({("claim", name): (1, token) for name, token in claims})
        reads.update({("reg", k): (version, token) for k, version, token in registers})
        self.events.append(Event("audit", "audit", "audit", began, self.tick(), reads, promise="strong"))


class Note:
    """What an operation writes down while it runs."""

    def __init__(self, began: int) -> None:
        self.began = began
        self.reads: dict[Key, Seen] = {}
        self.writes: tuple[Write, ...] = ()
        self.obliges = False
        self.done = False


class Actor:
    """One session, working in one thread at a time.

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
        self._numbers = itertools.count(1)
        self.models = {model: _bound(model, database) for model in MODELS}

    # Writing down

    @contextmanager
    def operation(self, what: str, *writes: Write) -> Iterator[Note]:
        """Note one operation that writes, or tries to; what a fault did to it is part of the history."""
        note = Note(self.shared.tick())
        try:
            yield note
        except _FAILURES as exc:
            if note.done:
                self._trouble(what, exc)
                return
            outcome = self._outcome(exc)
            self._trouble(what, exc)
            tried = tuple(write._replace(version=None) for write in writes if write.token is not None)
            note.reads = {}
            note.obliges = note.obliges or outcome == "failed"
            self._add(what, note, tried, outcome)
        else:
            if not note.done:
                self._add(what, note, note.writes, "ok")

    def _add(self, what: str, note: Note, writes: tuple[Write, ...], outcome: Any) -> None:
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

    def _outcome(self, exc: BaseException) -> str:
        number = exc.args[0] if exc.args else None
        if isinstance(exc, (peewee.IntegrityError, pymysql.err.IntegrityError)) or number in _NOT_APPLIED:
            return "failed"
        if number in _LOST or isinstance(exc, NoReplicaAvailable):
            return "unknown"
        raise exc

    def _trouble(self, what: str, exc: Exception) -> None:
        number = exc.args[0] if exc.args else type(exc).__name__
        self.shared.troubles[f"{self.group}: {type(exc).__name__} {number} in {what}"] += 1
        if not isinstance(exc, peewee.IntegrityError) and number not in _NOT_APPLIED:
            self.reconnect()

    def reconnect(self) -> None:
        """What a program does about a connection that is gone."""
        try:
            self.database.close()
        except peewee.PeeweeException as exc:
            self.shared.troubles[f"{self.group}: close: {type(exc).__name__}"] += 1

    def _send(self, sql: str, *params: object) -> Any:
        return self.database.execute_sql(sql, params)

    # Plain reads

    def read(self) -> None:
        """One read of many rows, as any program makes it."""
        pick = self.chance.random()
        if pick < 0.15 and self.entries:
            self.read_entries()
        else:
            count = REGISTERS if pick < 0.7 else self.chance.randint(1, 4)
            self.read_registers("read", self.chance.sample(range(REGISTERS), count))

    def read_registers(self, what: str, keys: Sequence[int]) -> None:
        with self.operation(what) as note:
            marks = ", ".join(["%s"] * len(keys))
            rows = self._send(f"SELECT k, version, token FROM reg WHERE k IN ({marks})", *keys).fetchall()
            note.reads = {("reg", k): (0, None) for k in keys}
            note.reads.update({("reg", k): (version, token) for k, version, token in rows})

    def read_entries(self) -> None:
        with self.operation("read of entries") as note:
            wanted = self.entries[-3:]
            model = self.models[Entry]
            found = Counter(row.token for row in model.select().where(model.token.in_(wanted)))
            # A row that is there twice is a version of its own, which nobody ever wrote.
            note.reads = {("entry", token): (found[token], token if found[token] else None) for token in wanted}

    # Writes that report their position

    def bump(self, key: int | None = None) -> Write:
        """One more version of a register; to be completed by what `_bumped` says."""
        k = self.chance.randrange(REGISTERS) if key is None else key
        return Write(("reg", k), None, self.shared.token())

    def _bumped(self, write: Write, send: Callable[..., Any] | None = None, more: str = "") -> Write:
        sql = "UPDATE reg SET version = LAST_INSERT_ID(version + 1), token = %s WHERE k = %s" + more
        cursor = (send or self._send)(sql, write.token, write.key[1])
        return write._replace(version=cursor.lastrowid)

    def update(self) -> None:
        write = self.bump()
        with self.operation("update", write) as note:
            note.writes = (self._bumped(write),)

    def raw_update(self) -> None:
        write = self.bump()
        with self.operation("raw cursor", write) as note:
            cursor = self.database.connection().cursor()

            def send(sql: str, *params: object) -> Any:
                cursor.execute(sql, params)
                return cursor

            note.writes = (self._bumped(write, send),)

    def replace(self) -> None:
        write = self.bump()
        with self.operation("REPLACE", write) as note:
            sql = "REPLACE INTO reg SELECT k, LAST_INSERT_ID(version + 1), %s FROM reg WHERE k = %s"
            cursor = self._send(sql, write.token, write.key[1])
            note.writes = (write._replace(version=cursor.lastrowid),)

    def insert(self) -> None:
        token = self.shared.token()
        write = Write(("entry", token), 1, token)
        with self.operation("insert", write) as note:
            self.models[Entry].create(token=token)
            note.writes = (write,)
        if note.writes:
            self.entries.append(token)

    def delete(self) -> None:
        if not self.entries:
            return
        token = self.entries.pop(self.chance.randrange(len(self.entries)))
        write = Write(("entry", token), 2, None)
        # Said before it is done: from now on, others may miss the row.
        began = self.shared.tick()
        gone = Event(self.group, f"{self.session}/delete", "deleting", began, self.shared.tick(), {}, (write,))
        self.shared.events.append(gone._replace(outcome="unknown"))
        with self.operation("multi-table DELETE", write) as note:
            self._send(
                "DELETE entry, detail FROM entry LEFT JOIN detail ON detail.entry = entry.token "
                "WHERE entry.token = %s",
                token,
            )
            note.writes = (write,)

    def transaction(self) -> None:
        """Several registers in one transaction, maybe with reads before, a savepoint, or a hook after."""
        keys = sorted(self.chance.sample(range(REGISTERS), self.chance.randint(1, 3)))
        writes = [self.bump(k) for k in keys]
        reads_first, nested, hook = (self.chance.random() < share for share in (0.4, 0.3, 0.3))

        with self.operation("transaction", *writes) as note:

            def committed() -> None:
                note.done = True
                self._add("transaction", note, note.writes, "ok")
                self.read_registers("after_commit()", [int(str(write.key[1])) for write in note.writes])

            with self.database.atomic():
                if reads_first:
                    self._send("SELECT COUNT(*) FROM reg").fetchall()
                    note.obliges = True
                if hook:
                    self.database.after_commit(committed)
                done = [self._bumped(write) for write in writes[:-1]]
                if nested:
                    with self.database.atomic():
                        done.append(self._bumped(writes[-1]))
                else:
                    done.append(self._bumped(writes[-1]))
                note.writes = tuple(done)

    def in_order(self) -> None:
        """Two rows, one after the other: nobody may see the second and not the first."""
        for _ in range(2):
            self.update()

    # Statements on the primary that report no position

    def locking_read(self) -> None:
        keys = sorted(self.chance.sample(range(REGISTERS), 2))
        with self.operation("locking read") as note:
            sql = "SELECT k, version, token FROM reg WHERE k IN (%s, %s) FOR UPDATE"
            note.reads = {("reg", k): (version, token) for k, version, token in self._send(sql, *keys)}
            note.obliges = True

    def no_op(self) -> None:
        with self.operation("update without effect") as note:
            self._send("UPDATE reg SET version = version WHERE k = %s", self.chance.randrange(REGISTERS))
            note.obliges = True

    def too_late(self) -> None:
        """An optimistic update whose row has changed."""
        key, version = self.chance.choice(list(self.known.items()) or [(("reg", 0), 1)])
        write = Write(key, None, self.shared.token())
        with self.operation("optimistic update", write) as note:
            made = self._bumped(write, more=f" AND version = {version - 1}")
            assert not made.version, "a version came back that was gone"
            note.obliges = True

    def roll_back(self) -> None:
        writes = [self.bump()]
        note = Note(self.shared.tick())
        try:
            with self.database.atomic() as transaction:
                for write in writes:
                    self._bumped(write)
                transaction.rollback()
            note.obliges = True
            self._add("rollback", note, tuple(writes), "failed")
        except peewee.PeeweeException as exc:
            self._outcome(exc)
            self._trouble("rollback", exc)
            self._add("rollback", note, tuple(writes), "failed")

    def read_transaction(self) -> None:
        with self.operation("transaction without a write") as note:
            with self.database.atomic():
                rows = self._send("SELECT k, version, token FROM reg").fetchall()
            note.reads = {("reg", k): (version, token) for k, version, token in rows}
            note.obliges = True

    # One name, many who want it

    def _claim(self) -> tuple[str, int, Write]:
        if self.chance.random() < 0.25:
            self.shared.claims += 1
        name = f"name {self.shared.claims}"
        token = self.shared.token()
        return name, token, Write(("claim", name), 1, token)

    def get_or_create(self) -> None:
        name, token, write = self._claim()
        with self.operation("get_or_create()", write) as note:
            model = self.models[Claim]
            try:
                row, made = model.get_or_create(name=name, defaults={"token": token})
            except peewee.IntegrityError:
                # Another one has it, as the primary said, and the read that followed did not find it.
                met = Note(note.began)
                met.obliges, met.reads = True, {write.key: (1, None)}
                self._add("insert that lost", met, (write,), "failed")
                note.began, note.reads = self.shared.tick(), {write.key: (0, None)}
                return
            if made:
                note.writes = (write,)
            else:
                self._failed(write)
                note.reads = {write.key: (1, row.token)}

    def _failed(self, write: Write) -> None:
        began = self.shared.tick()
        event = Event(self.group, f"{self.session}/unused", "not written", began, self.shared.tick(), {}, (write,))
        self.shared.events.append(event._replace(outcome="failed"))

    def insert_ignore(self) -> None:
        name, token, write = self._claim()
        with self.operation("INSERT IGNORE", write) as note:
            model = self.models[Claim]
            query = model.insert(name=name, token=token).on_conflict_ignore()
            if query.as_rowcount().execute():
                note.writes = (write,)
            else:
                self._failed(write)
                note.obliges, note.reads = True, {write.key: (1, None)}
        self._read_claim(name)

    def failed_insert(self) -> None:
        name, token, write = self._claim()
        note = Note(self.shared.tick())
        try:
            self.models[Claim].create(name=name, token=token)
            note.writes = (write,)
            self._add("insert of a name", note, note.writes, "ok")
        except peewee.IntegrityError:
            note.obliges, note.reads = True, {write.key: (1, None)}
            self._failed(write)
            self._add("insert that lost", note, (), "ok")
        except peewee.PeeweeException as exc:
            self._add("insert of a name", note, (write._replace(version=None),), self._outcome(exc))
            self._trouble("insert of a name", exc)
        self._read_claim(name)

    def _read_claim(self, name: str) -> None:
        with self.operation("read of a name") as note:
            row = self._send("SELECT token FROM claim WHERE name = %s", name).fetchone()
            note.reads = {("claim", name): (1, row[0]) if row else (0, None)}

    # Scopes

    @contextmanager
    def in_scope(self) -> Iterator[None]:
        """Reads in here never go backwards."""
        before = self.scope
        self.scope = before or f"{self.session} scope {next(self._numbers)}"
        try:
            yield
        finally:
            self.scope = before

    def readonly(self) -> None:
        with self.database.readonly(), self.in_scope():
            for _ in range(4):
                self.read()

    def unpinned(self) -> None:
        """Reads that are held to a scope's promise without being in one."""
        with self.in_scope():
            for _ in range(4):
                self.read()

    def rest(self) -> None:
        """Leave the machine to the others for a moment."""
        self.shared.stop.wait(0.005)

    def run(self, operations: Sequence[Callable[[], None]], weights: Sequence[float]) -> None:
        """Work until the round is over."""
        shared = self.shared
        try:
            while not shared.stop.is_set():
                operation = self.chance.choices(operations, weights)[0]
                operation()
        except BaseException as exc:
            shared.surprises.append(exc)
            shared.stop.set()
        finally:
            self.reconnect()


_answers = threading.local()


def _answered(database: Any) -> str:
    return str(getattr(_answers, "node", ""))


def listen(database: Any, served: Counter[str], group: str) -> None:
    """Count who answers the reads of a database, and let its events tell."""

    def hook(event: Any) -> None:
        _answers.node = event.node
        if event.kind == "read" and event.error is None and event.reason.split(",")[0] in _FREE:
            served[f"{group}: {event.role}"] += 1
        elif event.kind == "read" and event.error is None and event.reason.startswith(_FELL_BACK):
            served[f"{group}: fallback"] += 1

    database.route_hooks.append(hook)


_FREE = frozenset({"a proven read", "a read inside readonly()"})
_FELL_BACK = ("no replica can serve", "the servers keep")


def _bound(model: type[Model], database: Any) -> Any:
    meta = type("Meta", (), {"database": database, "table_name": model._meta.table_name})
    return type(model.__name__, (model,), {"Meta": meta})

