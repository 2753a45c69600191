"""An exception that arrives at any step leaves a database that works, with nothing counted that is over.

The members of the kind are the steps: every line of the library and of the driver that runs in the operations
below, for each form. `support.interrupts` raises at the first, the second, the third … until the operation
gets through. `PEEWEE_REPLICAS_EVERY_STEP=1` tries every step; otherwise a sample of each operation is tried,
and its seed is shown. What is in peewee's own hands then is left out, and named: `PEEWEES_OWN`.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import peewee
import pytest
from support.clusters.lagging import frozen
from support.interrupts import Interrupt, Steps, comes_from

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.scopes.frames import here

pytestmark = [
    pytest.mark.once,
    # What an interrupt takes out of the hands of a close() is closed by the collector, which warns of it.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    # PyMySQL's finalizer is its _force_close() by another name, so an interrupt may be raised in it.
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]

EVERY_STEP = os.environ.get("PEEWEE_REPLICAS_EVERY_STEP") == "1"
SAMPLE = 40
SEED = int(os.environ.get("PEEWEE_REPLICAS_SEED", "0")) or random.randrange(1, 1 << 30)

READ = "SELECT COUNT(*) FROM interrupted"
WRITE = "INSERT INTO interrupted (n) VALUES (%s)"


class Back(Exception):
    """Rolls a transaction back."""


def read(db: Any, mark: int) -> None:
    db.execute_sql(READ).fetchall()


def write(db: Any, mark: int) -> None:
    db.execute_sql(WRITE, (mark,))


def first_read(db: Any, mark: int) -> None:
    read(db, mark)


def first_write(db: Any, mark: int) -> None:
    write(db, mark)


def connect_and_close(db: Any, mark: int) -> None:
    db.connect()
    read(db, mark)
    write(db, mark)
    db.close()


def connection_context(db: Any, mark: int) -> None:
    with db.connection_context():
        read(db, mark)
        write(db, mark)


def commit(db: Any, mark: int) -> None:
    with db.atomic():
        write(db, mark)


def roll_back(db: Any, mark: int) -> None:
    try:
        with db.atomic():
            write(db, -mark)
            raise Back
    except Back:
        pass


def savepoint(db: Any, mark: int) -> None:
    with db.atomic():
        with db.atomic():
            write(db, mark)
        try:
            with db.atomic():
                write(db, -mark)
                raise Back
        except Back:
            pass


def readonly(db: Any, mark: int) -> None:
    with db.readonly():
        read(db, mark)


def snapshot(db: Any, mark: int) -> None:
    with db.readonly(snapshot=True):
        read(db, mark)


def causal_session(db: Any, mark: int) -> None:
    with db.causal_session():
        write(db, mark)
        read(db, mark)


def wait(db: Any, mark: int) -> None:
    """The replica is frozen, so the read waits there, in vain."""
    write(db, mark)
    read(db, mark)


class Operation(NamedTuple):
    """What is interrupted.

    Attributes:
        run: it; the mark is what it writes, minus the mark what it rolls back.
        closed: begin without connections.
        frozen: while the replica applies nothing.
        writes: whether it has written its mark once it has got through.
    """

    run: Callable[[Any, int], None]
    closed: bool = False
    frozen: bool = False
    writes: bool = True


OPERATIONS = [
    Operation(first_read, closed=True, writes=False),
    Operation(read, writes=False),
    Operation(first_write, closed=True),
    Operation(write),
    Operation(commit),
    Operation(roll_back, writes=False),
    Operation(savepoint),
    Operation(readonly, writes=False),
    Operation(snapshot, writes=False),
    Operation(causal_session),
    Operation(wait, frozen=True),
    Operation(connect_and_close, closed=True),
    Operation(connection_context, closed=True),
]
CLASSES = [ReplicatedDatabase, PooledReplicatedDatabase]

# The first lines of what peewee calls as it enters and leaves a transaction. A transaction stays open when
# something is raised there, before anything of ours can know of it, and so it does with plain peewee, when it
# is raised at the first line of the member of this name (`test_plain_peewee_is_in_the_same_state`).
PEEWEES_OWN = {
    ("push_transaction", "try:"),
    ("pop_transaction", "depth = self.transaction_depth()"),
    ("pop_transaction", "try:"),
    ("commit", "try:"),
    ("rollback", "try:"),
}


class Sweep:
    """One operation, interrupted at many steps.

    Attributes:
        steps: how many there are.
        trials: how many were tried.
        wrong: what was found, each with its step.
    """

    def __init__(self, cluster: Any, db: Any, operation: Operation) -> None:
        self.cluster, self.db, self.operation = cluster, db, operation
        self.steps = self.trials = 0
        self.wrong: list[str] = []
        self._mark = 0
        self._must_be_there: set[int] = set()

    def run(self, sample: int) -> None:
        """Try as many of the steps, taken at random; 0: all of them."""
        with frozen(self.cluster) if self.operation.frozen else _nothing():
            for _ in range(2):
                counting = Steps()
                self._once(counting)
            self.steps = counting.count
            numbers: list[int] = list(range(1, self.steps + 1))
            if 0 < sample < self.steps:
                numbers = sorted(random.Random(SEED).sample(numbers, sample))
            for number in numbers:
                self._try(number)
        self._look_for_marks()

    def _once(self, steps: Steps) -> None:
        self._mark += 2
        if self.operation.closed:
            self.db.close()
        with steps.counted():
            self.operation.run(self.db, self._mark)
        if self.operation.writes:
            self._must_be_there.add(self._mark)

    def _try(self, number: int) -> None:
        steps = Steps(number)
        self.trials += 1
        try:
            self._once(steps)
        except BaseException as exc:
            if not comes_from(exc):
                self._found(steps, f"the error is {type(exc).__name__}: {exc}")
        self._check(steps)

    def _found(self, steps: Steps, what: str) -> None:
        if steps.line not in PEEWEES_OWN:
            self.wrong.append(f"{self.operation.run.__name__}: {steps.where}: {what}")

    def _check(self, steps: Steps) -> None:
        db, found = self.db, []
        if db.transaction_depth() or db.in_transaction():
            found.append(f"{db.transaction_depth()} transactions are open")
        elif db._state.conn is not None and db._state.conn.transaction and not db._state.conn.dropped():
            found.append("a transaction is open on the server")
        if any(not frame.ended for frame in here()):
            found.append("a scope is in force")
        if found:
            self._mend()
        mark = self._mark + 1
        try:
            db.execute_sql(WRITE, (mark,))
            self._must_be_there.add(mark)
        except Exception as exc:
            found.append(f"a write: {type(exc).__name__}: {exc}")
        try:
            rows = db.execute_sql("SELECT COUNT(*) FROM interrupted WHERE n = %s", (mark,)).fetchall()
            if rows != ((1,),) and mark in self._must_be_there:
                found.append(f"a read: {rows}")
        except Exception as exc:
            found.append(f"a read: {type(exc).__name__}: {exc}")
        for node in db._parts.cluster.nodes():
            if node.in_flight or node.progress.waiting:
                found.append(f"{node.name}: in_flight={node.in_flight}, waiting={node.progress.waiting}")
        conn = db._state.conn
        if conn is not None and (conn.executing or conn.internal or conn.effect_known):
            found.append("the connection counts as executing")
        for what in found:
            self._found(steps, what)
        if found:
            self._mend()

    def _mend(self) -> None:
        """Begin anew after something wrong, so that it is found once."""
        db = self.db
        while db._state.transactions:
            db._state.transactions.pop()
        for node in db._parts.cluster.nodes():
            _forget_counts(node)
        for frame in here():
            frame.end()
        try:
            db.close()
        except Exception:
            db.dispose()

    def _look_for_marks(self) -> None:
        """What was acknowledged is there once; nothing is there twice, or was to be rolled back."""
        rows = self.cluster.primary.execute(
            f"SELECT n, COUNT(*) FROM {self.cluster.database_name}.interrupted GROUP BY n"
        )
        counts = {int(n): int(count) for n, count in rows}
        name = self.operation.run.__name__
        for mark in sorted(self._must_be_there):
            if counts.get(mark) != 1:
                self.wrong.append(f"{name}: what was acknowledged is there {counts.get(mark, 0)} times")
        self.wrong += [f"{name}: {n} is there {count} times" for n, count in counts.items() if count > 1]
        self.wrong += [f"{name}: {n} was to be rolled back" for n in counts if n < 0]


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _forget_counts(node: Any) -> None:
    node._in_flight.clear()
    node.progress.waiters.clear()


def sweep(cluster: Any, cls: Any, operation: Operation, sample: int) -> Sweep:
    db = cluster.database(cls, catch_up_timeout=0.001 if operation.frozen else 0.5)
    with db.primary():
        db.execute_sql("DROP TABLE IF EXISTS interrupted")
        db.execute_sql("CREATE TABLE interrupted (id INT AUTO_INCREMENT PRIMARY KEY, n INT, KEY (n))")
    cluster.sync()
    done = Sweep(cluster, db, operation)
    try:
        done.run(sample)
    finally:
        db.close()
        db.dispose()
    return done


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=[one.run.__name__ for one in OPERATIONS])
def test_an_interrupt_leaves_a_database_that_works(pair: Any, cls: Any, operation: Operation) -> None:
    done = sweep(pair, cls, operation, 0 if EVERY_STEP else SAMPLE)
    print(f"seed {SEED}: {done.steps} steps, {done.trials} tried, {len(done.wrong)} wrong")
    assert done.trials
    assert not done.wrong, "\n".join(done.wrong)


def _raising(name: str) -> Callable[..., Any]:
    """A trace function that raises at the first line of peewee's own member of this name."""
    raised = False

    def line(frame: Any, event: str, _arg: Any) -> Any:
        nonlocal raised
        if event == "line" and not raised:
            raised = True
            raise Interrupt(name)
        return line

    def call(frame: Any, _event: str, _arg: Any) -> Any:
        code = frame.f_code
        return line if code.co_name == name and code.co_filename == peewee.__file__ else None

    return call


@pytest.mark.parametrize("name", sorted({name for name, _ in PEEWEES_OWN}))
def test_plain_peewee_is_in_the_same_state(pair: Any, name: str) -> None:
    parameters = pair.parameters(pair.primary)
    db = peewee.MySQLDatabase(parameters.pop("database"), **parameters)
    db.execute_sql("DO 1")

    def transaction() -> None:
        with db.atomic():
            db.execute_sql("DO 1")
            if name == "rollback":
                raise Back

    before = sys.gettrace()
    sys.settrace(_raising(name))
    try:
        with pytest.raises((Interrupt, Back)):
            transaction()
    finally:
        sys.settrace(before)
    on_stack = db.in_transaction()
    db._state.transactions.clear()
    db.execute_sql("DO 1")
    assert on_stack == (name == "pop_transaction")
    assert db.connection().server_status & 1  # open on the server, whatever the program does next
    db.connection().close()


def test_the_interrupt_arrives() -> None:
    steps = Steps(3)
    with pytest.raises(Interrupt), steps.counted():
        ReplicatedDatabase("app", replicas=[{"host": "r"}])
    assert steps.where
