"""What the demo does and checks on any database; the stages that need servers are in `on_servers`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from peewee import CharField, IntegerField

from peewee_replicas import ReadOnlyViolation

from .screen import Screen

ACCOUNTS = 40
THREADS = 4
READS_PER_THREAD = 150
READS_IN_SCOPE = 24

_WAIT_SECONDS = 30.0


class Tally(NamedTuple):
    """Statements that one node has received."""

    reads: int
    writes: int


class StatementCounter(Protocol):
    """Counts the statements that each node receives."""

    def reset(self) -> None:
        """Start counting from zero."""

    def counts(self) -> Mapping[str, Tally]:
        """What each node has received since then, the primary first."""


class Load:
    """Threads that read accounts by their id, each row held against what it must be.

    Parameters:
        account: the model.
        expected: the balance by id.
        each: reads per thread; None: until `stop`.

    Attributes:
        failures: what reads raised, and rows that were wrong, in words.
    """

    def __init__(self, account: Any, expected: Mapping[int, int], each: int | None = None) -> None:
        self.failures: list[str] = []
        self._account = account
        self._expected = list(expected.items())
        self._each = each
        self._reads = [0] * THREADS
        self._stopping = threading.Event()
        self._progress = threading.Condition()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(THREADS)]

    @property
    def reads(self) -> int:
        """How many reads were asked for so far."""
        return sum(self._reads)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._each is None:
            self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Wait until reading has made something true; False if it has not in 30 seconds."""
        with self._progress:
            return self._progress.wait_for(condition, _WAIT_SECONDS)

    def wait_for_reads(self, more: int) -> bool:
        """Wait until each thread has done so many reads more; False if one has not in 30 seconds."""
        before = list(self._reads)
        return self.wait_for(
            lambda: all(now - then >= more for now, then in zip(self._reads, before, strict=True))
        )

    def _run(self, number: int) -> None:
        with self._account._meta.database.connection_context():
            while not self._stopping.is_set() and self._reads[number] != self._each:
                key, balance = self._expected[(self._reads[number] + number) % len(self._expected)]
                try:
                    found = self._account.get_by_id(key).balance
                except Exception as exc:  # whatever it is, a read was lost
                    self.failures.append(f"{type(exc).__name__}: {exc}")
                else:
                    if found != balance:
                        self.failures.append(f"account {key} has {found} instead of {balance}")
                with self._progress:
                    self._reads[number] += 1
                    self._progress.notify_all()


class Demo:
    """The stages that work on servers and on SQLite.

    Parameters:
        db: the database.
        counter: counts the statements of each node.
        screen: where progress and checks are printed.
        settle: called after writes; returns when the replicas have applied them.

    Attributes:
        stages: by name, what each node received and how many reads the program asked for.
        writes: the writes that each node received in all stages.
        needs_writer: a SELECT that is not for replicas, in the server's own dialect.
    """

    needs_writer = "SELECT name FROM account WHERE id = 1 FOR UPDATE"

    def __init__(
        self, db: Any, counter: StatementCounter, screen: Screen, settle: Callable[[], None]
    ) -> None:
        self.db = db
        self.counter = counter
        self.screen = screen
        self.settle = settle
        self.stages: dict[str, tuple[Mapping[str, Tally], int]] = {}
        self.writes: dict[str, int] = {}
        self.account = make_account(db)
        self.balances: dict[int, int] = {}

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[Callable[[int], Mapping[str, Tally]]]:
        """Count one stage; what it yields takes the number of reads asked for and returns the counts."""
        self.screen.title(title)
        # What the library asks the nodes once after a write is not to be among what the program asked for.
        self.db.bookmark()
        for _ in self.db.replicas:
            self.account.select().first()
        self.counter.reset()
        found: Mapping[str, Tally] = {}

        def finish(asked: int) -> Mapping[str, Tally]:
            nonlocal found
            found = self.counter.counts()
            self.stages[name] = (found, asked)
            for node, tally in found.items():
                self.writes[node] = self.writes.get(node, 0) + tally.writes
            return found

        yield finish

    def show_writes(self) -> None:
        """Rows are written outside any scope."""
        self.db.create_tables([self.account])
        with self.stage("writing", f"Writing {ACCOUNTS} rows") as finish:
            for number in range(1, ACCOUNTS + 1):
                key = self.account.insert(name=f"account {number}", balance=number * 10).execute()
                self.balances[key] = number * 10
            self.settle()
            primary, *others = finish(0).values()
            self.screen.check(
                primary.writes == ACCOUNTS and not any(node.writes for node in others),
                f"{ACCOUNTS} writes: {primary.writes} on the primary, "
                f"{sum(node.writes for node in others)} on the others",
            )

    def show_routes(self) -> None:
        """Some statements, with where they would go and why."""
        self.screen.title("Asking where statements would go (explain_route; nothing is sent)")
        for sql in (
            "SELECT name FROM account WHERE id = 1",
            self.needs_writer,
            "SELECT my_function(name) FROM account",
            "UPDATE account SET balance = 0 WHERE id = 1",
        ):
            route = self.db.explain_route(sql)
            self.screen.step(f"{sql}  ->  {route.role}: {route.reason}")

    def show_reads(self) -> None:
        """Threads read outside any scope."""
        asked = THREADS * READS_PER_THREAD
        with self.stage("threads", f"{THREADS} threads reading {READS_PER_THREAD} rows each") as finish:
            with Load(self.account, self.balances, READS_PER_THREAD) as load:
                pass
            primary, *others = finish(load.reads).values()
            reads = [node.reads for node in others]
            even = max(reads) - min(reads) <= THREADS
            # Each thread's work begins with what the program has written, so with its first read on a replica
            # goes the question whether that replica has it. Servers count the question as a read, too.
            questions = sum(reads) - asked
            few = 0 <= questions <= THREADS * len(others)
            self.screen.check(
                not load.failures and not primary.reads and load.reads == asked and few and even,
                f"{asked} reads from {THREADS} threads: {primary.reads} on the primary, "
                f"{' + '.join(map(str, reads))} on the others, {questions} of them the library's questions; "
                f"{describe_failures(load.failures)}",
            )

    def show_readonly(self) -> None:
        """Reads and a refused write inside ``readonly()``."""
        with self.stage("readonly()", "Inside readonly(): one node, and no writes") as finish:
            refused = ""
            with self.db.readonly():
                for _ in range(READS_IN_SCOPE):
                    self.account.select().count()
                try:
                    self.account.create(name="never", balance=0)
                except ReadOnlyViolation as exc:
                    refused = str(exc)
                    self.screen.quote("ReadOnlyViolation", refused)
            counts = finish(READS_IN_SCOPE)
            served = {name: node.reads for name, node in counts.items() if node.reads}
            primary = next(iter(counts))
            self.screen.check(
                list(served.values()) == [READS_IN_SCOPE] and primary not in served,
                f"{READS_IN_SCOPE} reads in readonly(): {_by_node(served)}",
            )
            self.screen.check(
                bool(refused) and not any(node.writes for node in counts.values()),
                "a write in readonly() was refused and reached no node",
            )

    def show_transaction(self) -> None:
        """A transaction stays on the primary and sees its own writes."""
        key = next(iter(self.balances))
        with self.stage("atomic()", "Inside atomic(): a transaction stays on the primary") as finish:
            with self.db.atomic():
                self.account.update(balance=7).where(self.account.id == key).execute()
                seen = {self.account.get_by_id(key).balance for _ in range(READS_IN_SCOPE)}
            self.balances[key] = 7
            self.settle()
            counts = finish(READS_IN_SCOPE)
            served = {name: node.reads for name, node in counts.items() if node.reads}
            self.screen.check(
                served == {next(iter(counts)): READS_IN_SCOPE} and seen == {7},
                f"{READS_IN_SCOPE} reads in atomic(): {_by_node(served)}, "
                f"{'all' if seen == {7} else 'NOT all'} seeing the row it had just changed",
            )

    def show_counts(self, heading: str, states: Mapping[str, str]) -> None:
        """The closing table."""
        self.screen.title(heading)
        stages = {name: told for name, told in self.stages.items() if told[1]}
        rows: list[list[object]] = [
            [node, states[node], self.writes[node], *(counts[node].reads for counts, _ in stages.values())]
            for node in self.writes
        ]
        rows.append(["the program asked for", "", "", *(asked for _, asked in stages.values())])
        names = list(stages)
        self.screen.table(
            [["", "", "", "reads", *[""] * (len(names) - 1)], ["node", "state", "writes", *names]], rows
        )


def make_account(db: Any) -> Any:
    """The demo's one table, bound to `db`."""

    class Account(db.Model):
        name = CharField()
        balance = IntegerField()

    return Account


def describe_failures(failures: list[str]) -> str:
    """How many reads failed, and why the first one did."""
    if not failures:
        return "none lost, none wrong"
    return f"{len(failures)} LOST OR WRONG, the first: {failures[0]}"


def _by_node(served: Mapping[str, int]) -> str:
    return ", ".join(f"{reads} on {name}" for name, reads in served.items()) or "none anywhere"
