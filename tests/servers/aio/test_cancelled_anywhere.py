"""A task that is cancelled at any of its awaits goes on with a database that works.

The members of the kind are the awaits of each operation, all of which are tried, each in two ways: cancelled
before what it waits for has come, and just after it has come, before the task could take it in. The other
forms are in `tests/servers/execution/test_interrupted_anywhere.py`.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
from support.clusters.lagging import frozen
from support.interrupts import comes_from

from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.scopes.frames import here

READ = "SELECT COUNT(*) FROM interrupted"
WRITE = "INSERT INTO interrupted (n) VALUES (%s)"


class Back(Exception):
    """Rolls a transaction back."""


async def read(db: Any, mark: int) -> None:
    await db.aexecute_sql(READ)


async def write(db: Any, mark: int) -> None:
    await db.aexecute_sql(WRITE, (mark,))


async def both(db: Any, mark: int) -> None:
    await write(db, mark)
    await read(db, mark)


async def commit(db: Any, mark: int) -> None:
    async with db.atomic():
        await write(db, mark)


async def roll_back(db: Any, mark: int) -> None:
    try:
        async with db.atomic():
            await write(db, -mark)
            raise Back
    except Back:
        pass


async def savepoint(db: Any, mark: int) -> None:
    async with db.atomic():
        async with db.atomic():
            await write(db, mark)
        try:
            async with db.atomic():
                await write(db, -mark)
                raise Back
        except Back:
            pass


async def readonly(db: Any, mark: int) -> None:
    async with db.readonly():
        await read(db, mark)


async def snapshot(db: Any, mark: int) -> None:
    async with db.readonly(snapshot=True):
        await read(db, mark)


async def causal_session(db: Any, mark: int) -> None:
    async with db.causal_session():
        await both(db, mark)


async def connect_and_close(db: Any, mark: int) -> None:
    async with db:
        await both(db, mark)


class Operation(NamedTuple):
    """What is cancelled.

    Attributes:
        run: it; the mark is what it writes, minus the mark what it rolls back.
        closed: begin without any connection.
        frozen: while the replica applies nothing.
        writes: whether it has written its mark once it has got through.
    """

    run: Callable[[Any, int], Coroutine[Any, Any, None]]
    closed: bool = False
    frozen: bool = False
    writes: bool = True


OPERATIONS = {
    "first read": Operation(read, closed=True, writes=False),
    "read": Operation(read, writes=False),
    "first write": Operation(write, closed=True),
    "write": Operation(write),
    "read after write": Operation(both),
    "commit": Operation(commit),
    "first commit": Operation(commit, closed=True),
    "roll back": Operation(roll_back, writes=False),
    "savepoint": Operation(savepoint),
    "readonly": Operation(readonly, writes=False),
    "snapshot": Operation(snapshot, writes=False),
    "causal session": Operation(causal_session),
    "wait": Operation(both, frozen=True),
    "connect and close": Operation(connect_and_close, closed=True),
}


class Cancelling:
    """Awaits something, and cancels its task at one of the awaits in it.

    Parameters:
        number: at which; 0: at none.
        late: once what it waits for has come, instead of at once.
    """

    def __init__(self, number: int, *, late: bool) -> None:
        self.number, self.late, self.count = number, late, 0

    @types.coroutine
    def awaiting(self, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        send: Callable[[Any], Any] = work.send
        value: Any = None
        while True:
            try:
                waited = send(value)
            except StopIteration:
                return
            self.count += 1
            if self.count == self.number:
                if self.late and waited is not None:
                    waited.add_done_callback(lambda _: task.cancel())
                else:
                    task.cancel()
            try:
                value, send = (yield waited), work.send
            except BaseException as exc:
                value, send = exc, work.throw


class Trials:
    """One operation, cancelled at each of its awaits."""

    def __init__(self, cluster: Any, operation: Operation, late: bool) -> None:
        self.cluster, self.operation, self.late = cluster, operation, late
        self.wrong: list[str] = []
        self.awaits = 0
        self._mark = 0
        self._must_be_there: set[int] = set()

    async def run(self) -> None:
        db: Any = self.cluster.database(
            AsyncReplicatedDatabase, catch_up_timeout=0.02 if self.operation.frozen else 0.5
        )
        for _ in range(2):
            counting = await self._once(db, Cancelling(0, late=False))
        self.awaits = counting.count
        for number in range(1, self.awaits + 1):
            cancelling = Cancelling(number, late=self.late)
            try:
                await self._once(db, cancelling)
            except asyncio.CancelledError:
                getattr(asyncio.current_task(), "uncancel", lambda: 0)()
            except BaseException as exc:
                # peewee rolls back to a savepoint on what was broken off: that error chains the cancellation.
                getattr(asyncio.current_task(), "uncancel", lambda: 0)()
                if not comes_from(exc, asyncio.CancelledError):
                    self.wrong.append(f"await {number}: the error is {type(exc).__name__}: {exc}")
            else:
                await self._take_late_cancellation()
            await self._check(db, number)
        await db.close_pool()

    async def _take_late_cancellation(self) -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            getattr(asyncio.current_task(), "uncancel", lambda: 0)()

    async def _once(self, db: Any, cancelling: Cancelling) -> Cancelling:
        self._mark += 2
        if self.operation.closed:
            await db.close_pool()
        await cancelling.awaiting(self.operation.run(db, self._mark))
        if self.operation.writes:
            self._must_be_there.add(self._mark)
        return cancelling

    async def _check(self, db: Any, number: int) -> None:
        found = []
        if db.transaction_depth() or db.in_transaction():
            found.append(f"{db.transaction_depth()} transactions are open")
        if any(not frame.ended for frame in here()):
            found.append("a scope is in force")
        mark = self._mark + 1
        work: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
            ("a write", lambda: db.aexecute_sql(WRITE, (mark,))),
            ("a read", lambda: db.aexecute_sql("SELECT COUNT(*) FROM interrupted WHERE n = %s", (mark,))),
        ]
        for what, execute in work:
            try:
                cursor = await asyncio.wait_for(execute(), 10)
                if what == "a write":
                    self._must_be_there.add(mark)
                elif cursor.fetchall() != ((1,),) and mark in self._must_be_there:
                    found.append("a read: it does not see the write")
            except Exception as exc:
                found.append(f"{what}: {type(exc).__name__}: {exc}")
        await db.aclose()
        for node in db._parts.cluster.nodes():
            if node.in_flight or node.progress.waiting:
                found.append(f"{node.name}: in_flight={node.in_flight}, waiting={node.progress.waiting}")
        for pool in [db.pool_here(), *(node.database.db.pool_here() for node in db._parts.cluster.nodes())]:
            if pool._used or pool._opening or pool._held or pool._waiters:
                found.append(f"{len(pool._used)} used, {pool._opening} being opened, {pool._held} held")
        self.wrong += [f"await {number} of {self.awaits}: {what}" for what in found]

    def look_for_marks(self) -> None:
        """What was acknowledged is there once; nothing is there twice, or was to be rolled back."""
        rows = self.cluster.primary.execute(
            f"SELECT n, COUNT(*) FROM {self.cluster.database_name}.interrupted GROUP BY n"
        )
        counts = {int(n): int(count) for n, count in rows}
        lost = sorted(mark for mark in self._must_be_there if counts.get(mark) != 1)
        self.wrong += [f"what was acknowledged is there {counts.get(mark, 0)} times" for mark in lost]
        self.wrong += [f"{n} is there {count} times" for n, count in counts.items() if count > 1]
        self.wrong += [f"{n} was to be rolled back" for n in counts if n < 0]


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
def test_a_cancelled_task_goes_on(pair: Any, operation: Operation, late: bool) -> None:
    with pair.database(replicas=()) as db:
        db.execute_sql("DROP TABLE IF EXISTS interrupted")
        db.execute_sql("CREATE TABLE interrupted (id INT AUTO_INCREMENT PRIMARY KEY, n INT, KEY (n))")
    pair.sync()
    trials = Trials(pair, operation, late)
    with frozen(pair) if operation.frozen else nullcontext():
        asyncio.run(trials.run())
    trials.look_for_marks()
    print(f"{trials.awaits} awaits, {len(trials.wrong)} wrong")
    assert trials.awaits
    assert not trials.wrong, "\n".join(trials.wrong)
