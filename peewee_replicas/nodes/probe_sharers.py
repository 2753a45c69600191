"""The databases of one process that share a prober, because it would find the same for each of them.

The prober holds no reference to a database between two turns, so that an unused one can be collected.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from ..concurrency import new_lock
from .node import Node
from .probe_key import ProbeKey
from .probe_line import Answer, Connector, Line
from .probe_records import ProbedCluster, ProbeRecords
from .probe_run import Run


class Seat(NamedTuple):
    """A database's place among those that share a prober.

    Attributes:
        sharers: all of them.
        nodes: its node at the end of each line, the primary first.
        schema: its schema.
    """

    sharers: Sharers
    nodes: Mapping[Line, Node]
    schema: object


class Member(Protocol):
    """One database, as the prober that it shares sees it.

    Attributes:
        seat: its place; None while nobody probes its nodes.
    """

    seat: Seat | None

    @property
    def name(self) -> str:
        """The database's name, for messages."""

    @property
    def cluster(self) -> ProbedCluster:
        """The database's nodes."""

    @property
    def records(self) -> ProbeRecords:
        """What is known of them."""

    def begin_round(self, database: Connector, seconds: float, thorough: bool, /) -> None:
        """Prepare for a round, or leave: nobody uses the database, or its nodes are others now.

        Parameters:
            database: opens its connections.
            seconds: how long ago the last round began.
            thorough: whether to compare all parameters of its connections.
        """

    def end_round(self) -> None:
        """Draw conclusions from a round."""

    def bereft(self) -> None:
        """Rest until the next use, because the prober's thread has ended."""

    def take(self, node: Node, answer: Answer) -> None:
        """Record a node's answers."""

    def sampled(self) -> None:
        """Record that the primary was asked for its position, or could not be asked."""

    def unprobed(self, node: Node, exc: Exception) -> None:
        """Record that a node does not answer the prober's questions, though it can be reached."""

    def not_opened(
        self, node: Node, database: Connector, exc: Exception, *, silent: bool, strikes: int
    ) -> None:
        """Record that no connection to a node could be opened.

        Parameters:
            silent: whether it ended because nothing came in time.
            strikes: how many times in a row that happened.
        """


class Place(NamedTuple):
    """One database's view of the node at the end of a line."""

    member: Member
    database: Connector
    seat: Seat
    node: Node

    @property
    def is_kept(self) -> bool:
        """Whether the database still has this node probed."""
        seat = self.member.seat
        return seat is not None and self.node in seat.nodes.values()

    @property
    def is_listed(self) -> bool:
        """Whether the node serves reads."""
        return self.node in self.member.cluster.replicas.all

    @property
    def is_watched(self) -> bool:
        """Whether reads may wait there that are to be helped."""
        return not self.node.breaker.open and self.is_listed

    @property
    def is_out(self) -> bool:
        """Whether the node was found unreachable, and is tried from time to time."""
        breaker = self.node.breaker
        return breaker.open and not breaker.by_hand and self.is_listed


class Sharers:
    """The databases that share one prober, and the prober's threads and connections.

    Parameters:
        key: equal for all of them.

    Attributes:
        key: as given, until a database that is alone gets other nodes.
        lines: the connections to the nodes, the primary's first.
        run: the threads.
        dozes: whether nobody looks at the reads that come now.
    """

    def __init__(self, key: ProbeKey) -> None:
        self.key = key
        self.lines = tuple(Line() for _ in key.nodes)
        self.run = Run()
        self.dozes = False
        # Each with what opens its connections. In a dict, one of thousands comes and goes at no cost.
        self._seated: dict[weakref.ref[Member], weakref.ref[Connector]] = {}
        self._new: deque[weakref.ref[Member]] = deque()  # threads may add to it while it is emptied

    @property
    def at_work(self) -> bool:
        """Whether the prober goes on."""
        return not self.run.ended.is_set() and self.run.alive()

    def wake(self) -> None:
        """Have the prober look at the reads that come now."""
        if self.dozes:  # otherwise all databases together would never let it rest
            self.dozes = False
            self.run.wake()

    def present(self) -> list[tuple[Member, Connector, Seat]]:
        """Return the databases, what opens their connections, and their seats."""
        return list(self._present())

    def _present(self) -> Iterator[tuple[Member, Connector, Seat]]:
        for of_member, of_database in list(self._seated.items()):
            member, database = of_member(), of_database()
            seat = None if member is None else member.seat
            if member is not None and database is not None and seat is not None and seat.sharers is self:
                yield member, database, seat

    def at(self, line: Line) -> list[Place]:
        """Return the node at the end of a line, as each database knows it."""
        return [
            Place(member, database, seat, seat.nodes[line])
            for member, database, seat in self.present()
            if line in seat.nodes
        ]

    def newcomers(self) -> set[Member]:
        """Return the databases that have joined since the last call."""
        new = set()
        while self._new:
            member = self._new.popleft()()
            if member is not None:
                new.add(member)
        return new

    def leave(self, member: Member, seconds: float | None = None) -> None:
        """Let a database go that has given up its seat; the last one ends the prober.

        Parameters:
            seconds: how long to wait until it has ended; None: not at all.
        """
        with _lock:
            seat = member.seat
            if seat is None or seat.sharers is not self:  # otherwise it has come back in the meantime
                self._remove(member)
            last = self._is_empty
            if last:
                self._close()
        if last and seconds is not None:
            self.run.end(seconds)

    def end_if_empty(self) -> bool:
        """End the prober if no database is left; return whether it has ended."""
        with _lock:
            if not self._is_empty:
                return False
            self._close()
            self.run.ended.set()
            return True

    def end(self) -> list[Member]:
        """End the prober in any case, and return the databases that are left."""
        with _lock:
            self._close()
            self.run.ended.set()
            return [member for member, _, _ in self._present()]

    # While the lock is held

    @property
    def _is_empty(self) -> bool:
        return next(self._present(), None) is None

    def _is_alone(self, member: Member) -> bool:
        return all(other is member for other, _, _ in self._present())

    def _close(self) -> None:
        """Let no other database join."""
        if _at_work.get(self.key) is self:
            del _at_work[self.key]

    def _add(self, member: Member, database: Connector, nodes: Sequence[Node], schema: object) -> None:
        self._seat(member, nodes, schema)
        reference = weakref.ref(member, self._forget)
        self._seated[reference] = weakref.ref(database)
        self._new.append(reference)  # last: the prober looks for the seat and the place of each new one

    def _remove(self, member: Member) -> None:
        self._seated.pop(weakref.ref(member), None)

    def _forget(self, reference: weakref.ref[Member]) -> None:
        self._seated.pop(reference, None)

    def _seat(self, member: Member, nodes: Sequence[Node], schema: object) -> None:
        member.seat = Seat(self, dict(zip(self.lines, nodes, strict=True)), schema)

    def _become(self, key: ProbeKey) -> None:
        """Have other nodes probed from now on, on the lines to those that stay."""
        kept = dict(zip(self.key.nodes, self.lines, strict=True))
        self.lines = tuple(kept.get(node) or Line() for node in key.nodes)
        del _at_work[self.key]
        self.key = key
        _at_work[key] = self


_lock = new_lock()
_at_work: dict[ProbeKey, Sharers] = {}


def join(
    member: Member, database: Connector, key: ProbeKey, nodes: Sequence[Node],
    begin: Callable[[Sharers], object],
) -> None:  # fmt: skip
    """Seat a database among those that share its prober, or begin one for it.

    Parameters:
        key: its key.
        nodes: its nodes, the primary first.
        begin: starts the prober's thread.

    Raises:
        RuntimeError: no thread can be started.
    """
    with _lock:
        sharers = _at_work.get(key)
        if sharers is not None and sharers.at_work:
            sharers._add(member, database, nodes, key.schema)
            sharers.wake()
            return
        sharers = Sharers(key)
        sharers._add(member, database, nodes, key.schema)
        try:
            begin(sharers)
        except RuntimeError:
            member.seat = None
            raise
        _at_work[key] = sharers


def move(
    member: Member, database: Connector, key: ProbeKey, nodes: Sequence[Node],
    begin: Callable[[Sharers], object],
) -> None:  # fmt: skip
    """Give a database the seat that fits its nodes now. The parameters and errors are as for `join`."""
    assert member.seat is not None  # only its prober's thread calls this
    sharers = member.seat.sharers
    with _lock:
        free = sharers.key != key and key not in _at_work and _at_work.get(sharers.key) is sharers
        if free and sharers._is_alone(member):
            sharers._become(key)
        if sharers.key == key:
            sharers._seat(member, nodes, key.schema)
        else:
            join(member, database, key, nodes, begin)
            sharers._remove(member)
