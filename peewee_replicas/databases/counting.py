"""Counts what one context executes: the ``counting()`` blocks of a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..concurrency import new_lock
from ..events import Cause, RouteEvent


class Counts:
    """What was executed while a ``counting()`` was in force. The numbers grow until the block ends.

    Attributes:
        reads: reads that the policy's choice served, by node.
        primary: statements that the primary served for another reason, by `Cause`.
        replica_seconds, primary_seconds: time spent on each, including waits and failed attempts.
        waits: executions that waited for a replica to catch up.
        waited: seconds that they waited; part of the times above.
        retries: attempts beyond each execution's first.
        errors: executions that ended in an error.
    """

    __slots__ = (
        "_lock", "errors", "primary", "primary_seconds", "reads", "replica_seconds", "retries", "waited",
        "waits",
    )  # fmt: skip

    def __init__(self) -> None:
        self._lock = new_lock()
        self.reads: dict[str, int] = {}
        self.primary: dict[Cause, int] = {}
        self.replica_seconds = self.primary_seconds = self.waited = 0.0
        self.waits = self.retries = self.errors = 0

    @property
    def seconds(self) -> float:
        """Seconds that all executions took. Those of concurrent tasks and threads add up."""
        return self.replica_seconds + self.primary_seconds

    @property
    def fallbacks(self) -> int:
        """Reads that the primary served because no replica could."""
        return self.primary.get("fallback", 0) + self.primary.get("behind", 0)

    def add(self, event: RouteEvent) -> None:
        """Count one execution. Threads that share the context may count at the same time."""
        with self._lock:
            if event.role == "replica":
                self.replica_seconds += event.duration
            else:
                self.primary_seconds += event.duration
            if event.attempts:  # otherwise no node was reached
                self.retries += event.attempts - 1
                if event.cause:
                    self.primary[event.cause] = self.primary.get(event.cause, 0) + 1
                else:
                    self.reads[event.node] = self.reads.get(event.node, 0) + 1
            if event.waited:
                self.waits += 1
                self.waited += event.waited
            self.errors += event.error is not None

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__ if name[0] != "_")
        return f"<Counts {numbers}>"

    def server_timing(self, name: str = "db") -> str:
        """Return the value of a ``Server-Timing`` header; it names causes, and no nodes.

        Parameters:
            name: the first word of its metrics' names.
        """
        with self._lock:
            causes = ", ".join(f"{cause} {number}" for cause, number in sorted(self.primary.items()))
            reads = sum(self.reads.values())
            parts = [
                f'{name}-replicas;dur={self.replica_seconds * 1000:.1f};desc="{reads} reads"',
                f'{name}-primary;dur={self.primary_seconds * 1000:.1f};desc="{causes or "nothing"}"',
            ]
            if self.waits:
                parts.append(f'{name}-waited;dur={self.waited * 1000:.1f};desc="{self.waits} waits"')
        return ", ".join(parts)


class Block:
    """One ``counting()`` of one database.

    Parameters:
        owner: the counting blocks of the database.
    """

    __slots__ = ("counts", "ended", "owner")

    def __init__(self, owner: Counting) -> None:
        self.owner = owner
        self.counts = Counts()
        self.ended = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """Return a context manager around one step of work that is done in steps."""
        token = _blocks.set((self, *_blocks.get()))
        try:
            yield
        finally:
            try:
                _blocks.reset(token)
            except ValueError:  # ended in another context, as an abandoned generator may be
                _take_off_ended()

    def end(self) -> None:
        """End the block; nothing more is counted, in whichever contexts it is still listed."""
        if not self.ended:
            self.ended = True
            self.owner.ended()


_blocks: ContextVar[tuple[Block, ...]] = ContextVar("peewee_replicas_counting", default=())


def _take_off_ended() -> None:
    before = _blocks.get()  # kept until set() has returned, as in `scopes.frames.put_in_force`
    _blocks.set(tuple(block for block in before if not block.ended))


class Counting:
    """The ``counting()`` blocks of one database.

    Attributes:
        in_use: how many blocks there are in the whole process, so that statements look for them only then.
    """

    def __init__(self) -> None:
        self.in_use = 0
        self._lock = new_lock()

    def begin(self) -> Block:
        """Return a new block."""
        with self._lock:
            self.in_use += 1
        return Block(self)

    def ended(self) -> None:
        """Record that a block has ended."""
        with self._lock:
            self.in_use -= 1

    @contextmanager
    def block(self) -> Iterator[Counts]:
        """Return a context manager that counts what this context and its copies execute."""
        block = self.begin()
        try:
            before = _blocks.get()
            _blocks.set((block, *before))
            yield block.counts
        finally:
            block.end()
            _take_off_ended()

    def add(self, event: RouteEvent) -> None:
        """Count one execution in each block of the database that is in force here."""
        for block in _blocks.get():
            if block.owner is self and not block.ended:
                block.counts.add(event)
