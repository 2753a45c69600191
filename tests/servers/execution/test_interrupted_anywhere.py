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
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import peewee
import pytest
from support.clusters.lagging import frozen
from support.collecting import collect_quietly
from support.interrupts import Interrupt, Steps, comes_from
from support.peewees import has_peewee

from peewee_replicas import OutcomeUnknown, PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.scopes.frames import here

pytestmark = [
    # What an interrupt takes out of the hands of a close() is closed by the collector, which warns of it.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    # PyMySQL's finalizer is its _force_close() by another name, so an interrupt may be raised in it.
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]

EVERY_STEP = os.environ.get("PEEWEE_REPLICAS_EVERY_STEP") == "1"
SAMPLE = 15
SEED = int(os.environ.get("PEEWEE_REPLICAS_SEED", "0")) or random.randrange(1, 1 << 30)


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Collects what the tests have left, so that no test of another module is warned of it."""
    yield
    collect_quietly()


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


def check_out_and_check_in(db: Any, mark: int) -> None:
    """As `connection_context`, but what a pool hands out is idle in it."""
    connection_context(db, mark)


def first_commit(db: Any, mark: int) -> None:
    commit(db, mark)


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


def transaction(db: Any, mark: int) -> None:
    """One block, several transactions."""
    with db.transaction() as block:
        write(db, mark)
        block.commit()
        write(db, -mark)
        block.rollback()
        read(db, mark)


def manual_commit(db: Any, mark: int) -> None:
    with db.manual_commit():
        db.begin()
        try:
            write(db, mark)
            db.commit()
        except BaseException:
            db.rollback()
            raise


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


def decorated(db: Any, mark: int) -> None:
    @db.readonly()
    def function() -> None:
        read(db, mark)

    @db.readonly()
    def generator() -> Iterator[int]:
        read(db, mark)
        yield mark
        read(db, mark)

    function()
    list(generator())


def nested_scopes(db: Any, mark: int) -> None:
    with db.readonly():
        read(db, mark)
        with db.primary():
            write(db, mark)
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


def wait_in_readonly(db: Any, mark: int) -> None:
    """In vain as well, so the primary serves it under its guard."""
    write(db, mark)
    with db.readonly():
        read(db, mark)


def snapshot_after_write(db: Any, mark: int) -> None:
    write(db, mark)
    with db.readonly(snapshot=True):
        read(db, mark)


def read_after_an_error(db: Any, mark: int) -> None:
    """Before it, the library asks the primary what the failed statement has changed."""
    write(db, mark)
    with suppress(peewee.IntegrityError):
        db.execute_sql("INSERT INTO interrupted (id) SELECT id FROM interrupted LIMIT 1")
    read(db, mark)


def raw_cursors(db: Any, mark: int) -> None:
    cursor = db.cursor()
    cursor.execute(WRITE, (mark,))
    cursor.close()
    with db.readonly():
        cursor = db.cursor()
        cursor.execute(READ)
        cursor.fetchall()
        cursor.close()


class Operation(NamedTuple):
    """What is interrupted.

    Attributes:
        run: it; the mark is what it writes, minus the mark what it rolls back.
        closed: begin without connections, also in a pool.
        idle: the same, but a pool has some.
        frozen: while the replica applies nothing.
        writes: whether it has written its mark once it has got through.
    """

    run: Callable[[Any, int], None]
    closed: bool = False
    idle: bool = False
    frozen: bool = False
    writes: bool = True


OPERATIONS = [
    Operation(first_read, closed=True, writes=False),
    Operation(read, writes=False),
    Operation(first_write, closed=True),
    Operation(write),
    Operation(first_commit, closed=True),
    Operation(commit),
    Operation(roll_back, writes=False),
    Operation(transaction),
    Operation(manual_commit),
    Operation(savepoint),
    Operation(readonly, writes=False),
    Operation(decorated, writes=False),
    Operation(nested_scopes),
    Operation(snapshot, writes=False),
    Operation(snapshot_after_write),
    Operation(causal_session),
    Operation(wait, frozen=True),
    Operation(wait_in_readonly, frozen=True),
    Operation(read_after_an_error),
    Operation(raw_cursors),
    Operation(connect_and_close, closed=True),
    Operation(connection_context, closed=True),
    Operation(check_out_and_check_in, idle=True),
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
        if self.operation.closed or self.operation.idle:
            self.db.close()
        if self.operation.closed and isinstance(self.db, PooledReplicatedDatabase):
            self.db.close_idle()
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
            found += _lost_places(node.name, node.made and node.made.db)
        found += _lost_places("primary", db)
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
            if isinstance(db, PooledReplicatedDatabase):
                db.close_all()
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


def _lost_places(name: str, db: Any) -> list[str]:
    """What a pool counts as in use, although this thread, the only one, does not hold it."""
    held = getattr(db, "_in_use", {})
    lost = [one for one in held.values() if one.connection is not db._state.conn]
    return [f"{name}: {len(lost)} places of the pool are lost"] if lost else []


def _forget_counts(node: Any) -> None:
    node._in_flight.clear()
    node.progress.waiters.clear()


def create_table(cluster: Any, db: Any) -> None:
    # A snapshot that an earlier test has left would keep the replica from dropping the table.
    collect_quietly()
    with db.primary():
        db.execute_sql("DROP TABLE IF EXISTS interrupted")
        db.execute_sql("CREATE TABLE interrupted (id INT AUTO_INCREMENT PRIMARY KEY, n INT, KEY (n))")
    cluster.sync(60)


def sweep(cluster: Any, cls: Any, operation: Operation, sample: int) -> Sweep:
    db = cluster.database(cls, catch_up_timeout=0.001 if operation.frozen else 0.5)
    create_table(cluster, db)
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


def _commit_interrupted_at(db: Any, number: int, mark: int) -> Steps:
    """Commit the mark in a transaction of its own, outside of any block of peewee's."""
    db.begin()
    write(db, mark)
    steps = Steps(number)
    with suppress(Interrupt), steps.counted():
        db.commit()
    return steps


@pytest.mark.parametrize("cls", CLASSES)
def test_a_second_commit_tells_what_became_of_the_interrupted_one(pair: Any, cls: Any) -> None:
    db = pair.database(cls)
    create_table(pair, db)
    count = _commit_interrupted_at(db, 0, 1).count
    numbers = range(1, count + 1)
    tried = numbers if EVERY_STEP else sorted(random.Random(SEED).sample(numbers, min(SAMPLE, count)))
    wrong = []
    for number in tried:
        steps = _commit_interrupted_at(db, number, number + 1)
        said = "is there"
        try:
            db.commit()
        except OutcomeUnknown:
            said = "unknown"
        except peewee.OperationalError:
            said = "is not there"
        db.rollback()
        found = db.on_primary.execute_sql(f"SELECT 1 FROM interrupted WHERE n = {number + 1}").fetchall()
        if said not in ("unknown", "is there" if found else "is not there"):
            wrong.append(f"{steps.where}: the second COMMIT says that it {said}")
    db.close()
    print(f"seed {SEED}: {count} steps, {len(tried)} tried, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)


def test_a_changed_session_stays_known_when_the_question_for_it_is_interrupted(pair: Any) -> None:
    db = pair.database()
    with db.primary():
        db.execute_sql("DROP PROCEDURE IF EXISTS changes_and_fails")
        db.execute_sql(
            "CREATE PROCEDURE changes_and_fails() BEGIN SET SESSION sql_mode = 'ANSI_QUOTES'; "
            "SIGNAL SQLSTATE '45000'; END"
        )
    wrong, number, steps = [], 0, Steps(0)
    while number == 0 or steps.where:
        number += 1
        db.close()
        with pytest.raises(peewee.DatabaseError):
            db.execute_sql("CALL changes_and_fails()")
        conn = db._state.conn
        steps = Steps(number)
        with suppress(Interrupt), steps.counted():
            db._parts.session.settle(conn)
        if conn.internal or not (conn.dropped() or conn.suspect_statement or conn.changes):
            wrong.append(f"{steps.where}: internal={conn.internal}, changes={conn.changes}")
    db.close()
    assert number > 20
    assert not wrong, "\n".join(wrong)


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
    # Open on the server, whatever the program does next. Before 4.0, peewee rolls back after every exception
    # in COMMIT, and leaves the block only then.
    still_open = has_peewee("4.0") or name not in ("commit", "pop_transaction")
    assert bool(db.connection().server_status & 1) == still_open
    db.connection().close()


def test_the_interrupt_arrives() -> None:
    steps = Steps(3)
    with pytest.raises(Interrupt), steps.counted():
        ReplicatedDatabase("app", replicas=[{"host": "r"}])
    assert steps.where
