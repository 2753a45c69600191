"""One session's operations: all that a program does with peewee, recorded for the checker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peewee
from support.guarantees.checker import Event, Write
from support.guarantees.workload import REGISTERS, Claim, Entry, Note, Recorder, work_for


class Actor(Recorder):
    """A session, and the operations it chooses from."""

    # Plain reads

    def read(self) -> None:
        """Read many rows in one statement."""
        pick = self.chance.random()
        if pick < 0.15 and self.entries:
            self.read_entries()
        else:
            count = REGISTERS if pick < 0.7 else self.chance.randint(1, 4)
            self.read_registers("read", self.chance.sample(range(REGISTERS), count))

    def read_registers(self, what: str, keys: Sequence[int]) -> None:
        with self.operation(what) as note:
            marks = ", ".join(["%s"] * len(keys))
            rows = self.send(f"SELECT k, version, token FROM reg WHERE k IN ({marks})", *keys).fetchall()
            note.reads = {("reg", k): (0, None) for k in keys}
            note.reads.update({("reg", k): (version, token) for k, version, token in rows})

    def read_entries(self) -> None:
        with self.operation("read of entries") as note:
            wanted = self.entries[-3:]
            model = self.models[Entry]
            found = Counter(row.token for row in model.select().where(model.token.in_(wanted)))
            # A row that is there twice is a version of its own, which nobody ever wrote.
            note.reads = {
                ("entry", token): (found[token], token if found[token] else None) for token in wanted
            }

    # Writes that report their position

    def bump(self, key: int | None = None) -> Write:
        """One more version of a register; to be completed by what `_bumped` says."""
        k = self.chance.randrange(REGISTERS) if key is None else key
        return Write(("reg", k), None, self.shared.token())

    def _bumped(self, write: Write, send: Callable[..., Any] | None = None, more: str = "") -> Write:
        sql = "UPDATE reg SET version = LAST_INSERT_ID(version + 1), token = %s WHERE k = %s" + more
        cursor = (send or self.send)(sql, write.token, write.key[1])
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
            cursor = self.send(sql, write.token, write.key[1])
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
        gone = Event(
            self.group, f"{self.session}/delete", "deleting", began, self.shared.tick(), {}, (write,)
        )
        self.shared.events.append(gone._replace(outcome="unknown"))
        with self.operation("multi-table DELETE", write) as note:
            self.send(
                "DELETE entry, detail FROM entry LEFT JOIN detail ON detail.entry = entry.token "
                "WHERE entry.token = %s",
                token,
            )
            note.writes = (write,)

    def transaction(self) -> None:
        """Update several registers in one transaction, perhaps with reads, a savepoint or a hook."""
        keys = sorted(self.chance.sample(range(REGISTERS), self.chance.randint(1, 3)))
        writes = [self.bump(k) for k in keys]
        reads_first, nested, hook = (self.chance.random() < share for share in (0.4, 0.3, 0.3))

        with self.operation("transaction", *writes) as note:

            def committed() -> None:
                note.done = True
                self.add("transaction", note, note.writes, "ok")
                self.read_registers("after_commit()", [int(str(write.key[1])) for write in note.writes])

            with self.database.atomic():
                if reads_first:
                    self.send("SELECT COUNT(*) FROM reg").fetchall()
                    note.obliges = True
                if hook and hasattr(self.database, "after_commit"):  # not in every peewee
                    self.database.after_commit(committed)
                done = [self._bumped(write) for write in writes[:-1]]
                if nested:
                    with self.database.atomic():
                        done.append(self._bumped(writes[-1]))
                else:
                    done.append(self._bumped(writes[-1]))
                note.writes = tuple(done)

    def in_order(self) -> None:
        """Write two rows one after the other. Nobody may see the second without the first."""
        for _ in range(2):
            self.update()

    # Statements on the primary that report no position

    def locking_read(self) -> None:
        keys = sorted(self.chance.sample(range(REGISTERS), 2))
        with self.operation("locking read") as note:
            sql = "SELECT k, version, token FROM reg WHERE k IN (%s, %s) FOR UPDATE"
            note.reads = {("reg", k): (version, token) for k, version, token in self.send(sql, *keys)}
            note.obliges = True

    def no_op(self) -> None:
        with self.operation("update without effect") as note:
            self.send("UPDATE reg SET version = version WHERE k = %s", self.chance.randrange(REGISTERS))
            note.obliges = True

    def too_late(self) -> None:
        """Try an optimistic update of a row that has changed."""
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
            self.add("rollback", note, tuple(writes), "failed")
        except peewee.PeeweeException as exc:
            self.outcome(exc)
            self.trouble("rollback", exc)
            self.add("rollback", note, tuple(writes), "failed")

    def read_transaction(self) -> None:
        with self.operation("transaction without a write") as note:
            with self.database.atomic():
                rows = self.send("SELECT k, version, token FROM reg").fetchall()
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
                self.add("insert that lost", met, (write,), "failed")
                note.began, note.reads = self.shared.tick(), {write.key: (0, None)}
                return
            if made:
                note.writes = (write,)
            else:
                self._failed(write)
                note.reads = {write.key: (1, row.token)}

    def _failed(self, write: Write) -> None:
        began = self.shared.tick()
        event = Event(
            self.group, f"{self.session}/unused", "not written", began, self.shared.tick(), {}, (write,)
        )
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
            self.add("insert of a name", note, note.writes, "ok")
        except peewee.IntegrityError:
            note.obliges, note.reads = True, {write.key: (1, None)}
            self._failed(write)
            self.add("insert that lost", note, (), "ok")
        except peewee.PeeweeException as exc:
            self.add("insert of a name", note, (write._replace(version=None),), self.outcome(exc))
            self.trouble("insert of a name", exc)
        self._read_claim(name)

    def _read_claim(self, name: str) -> None:
        with self.operation("read of a name") as note:
            row = self.send("SELECT token FROM claim WHERE name = %s", name).fetchone()
            note.reads = {("claim", name): (1, row[0]) if row else (0, None)}

    # Scopes

    @contextmanager
    def in_scope(self) -> Iterator[None]:
        """Read several times in a scope, where reads never go backwards."""
        before = self.scope
        self.scope = before or f"{self.session} scope {self.shared.tick()}"
        try:
            yield
        finally:
            self.scope = before

    def readonly(self) -> None:
        with self.database.readonly(), self.in_scope():
            for _ in range(4):
                self.read()

    def unpinned(self) -> None:
        """Read outside any scope, and check it as if in one: a negative control."""
        with self.in_scope():
            for _ in range(4):
                self.read()

    def rest(self) -> None:
        """Pause for a moment, so that others can work."""
        self.shared.stop.wait(0.005)

    def run(self, operations: Sequence[Callable[[], None]], weights: Sequence[float]) -> None:
        """Choose and run operations until the round ends."""
        shared = self.shared
        work_for(self.group)
        try:
            while not shared.stop.is_set():
                operation = self.chance.choices(operations, weights)[0]
                operation()
        except BaseException as exc:
            shared.surprises.append(exc)
            shared.stop.set()
        finally:
            self.reconnect()
