"""The prober of one database: takes part in rounds while the database is used, and keeps what they find.

Databases for which a probe would find the same share the rounds, see `probe_rounds` and `probe_sharers`. The
findings are each one's own, as are bounds, breakers, counters and hooks. `fitness`, `lag` and `probe_history`
decide what the answers mean, and `silence` what it means when none comes.
"""

from __future__ import annotations

import atexit
import os
import threading

from ..concurrency import Clock, Registry, new_lock
from .failover import FailoverWatch, Seen
from .node import Node
from .primary_state import PrimaryState
from .probe_line import Answer, Connector
from .probe_records import ProbedCluster, ProbeRecords
from .probe_rounds import LONGEST_PAUSE, STRIKES, Complaints, begin, limit_of
from .probe_sharers import Seat, Sharers, join, move

# A database that nobody has used for this many seconds takes no part in rounds until its next use.
IDLE_SECONDS = 60.0

_probers: Registry[Prober] = Registry()
_forking = threading.Event()


class Prober:
    """Has the nodes of one database checked at regular intervals while somebody uses it.

    Parameters:
        cluster: the nodes.
        interval: seconds between two rounds.
    """

    def __init__(self, cluster: ProbedCluster, interval: float) -> None:
        self.interval = interval
        self.limit = limit_of(interval)
        self.looked = threading.Event()
        """Set once every node has been probed, each replica after the primary."""
        self.cluster = cluster
        self.records = ProbeRecords(cluster)
        self.seat: Seat | None = None
        self._lock = new_lock()
        self._retired = False
        self._parameters: object = None
        self._idle = 0.0
        self._complaints = Complaints()
        self._failed_at = float("-inf")
        self._forget()
        cluster.replicas.watch(True)
        _probers.add(self)

    def _forget(self) -> None:
        """Forget all findings, which compare nodes with the primary of that time."""
        self._moved = self.cluster.moved
        self.records.forget()
        self._failover = FailoverWatch()
        self._looked_at = float("-inf")

    @property
    def name(self) -> str:
        """The database's name, for messages."""
        return self.cluster.news.database

    def wait_for_first_look(self, seconds: float) -> bool:
        """Wait until every node has been probed; return False after this many seconds."""
        return self.looked.wait(seconds)

    @property
    def at_work(self) -> bool:
        """Whether nodes are being probed, so that nobody else has to try ejected ones."""
        seat = self.seat
        return seat is not None and seat.sharers.at_work

    # Its life

    def use(self, database: Connector) -> None:
        """Start probing unless it is running, because somebody uses the database."""
        try:
            failure = self._start(database)
        except BaseException:
            self.cluster.replicas.watch(True)  # interrupted: let the next use start it
            raise
        if failure:
            self._cannot_start(failure)  # not under the lock: handlers may use the database

    def _cannot_start(self, failure: str) -> None:
        self._complaints.say(self.name, f"cannot be started: {failure}")

    def _start(self, database: Connector) -> str:
        with self._lock:
            if _forking.is_set() or self._retired:
                return ""
            self.cluster.replicas.watch(False)
            if self.at_work:
                assert self.seat is not None
                self.seat.sharers.wake()
                return ""
            if not self.cluster.replicas.all:
                return ""
            self._forget()
            self._idle = 0.0
            nodes = self._nodes()
            self._parameters = database.parameters
            key = database.probe_key(nodes, self.interval)
            self.records.keep(nodes, on_other_connections=True)
            try:
                join(self, database, key, nodes, self._begin)
            except RuntimeError as exc:  # no more threads, or the interpreter is ending
                return str(exc)
            return ""

    def _begin(self, sharers: Sharers) -> None:
        begin(sharers, self.interval, self.name)

    def stop(self) -> None:
        """Stop until the next use; close the connections unless other databases need them."""
        with self._lock:
            seat, self.seat = self.seat, None
        if seat is not None:
            seat.sharers.leave(self, self.limit + 0.5)
            with self._lock:
                if self.seat is None:  # otherwise somebody has used the database in the meantime
                    self._rest()
            self.cluster.news.tell_of_round()

    def retire(self) -> None:
        """Stop for good, because another prober has taken over."""
        self._retired = True
        self.stop()

    def _rest(self) -> None:
        self.looked.clear()
        for replica in self.cluster.replicas.all:
            replica.breaker.longest = None
            replica.unwatched()
        self.cluster.replicas.watch(True)

    # Rounds

    def begin_round(self, database: Connector, seconds: float, thorough: bool, /) -> None:
        """See `probe_sharers.Member`."""
        replicas = self.cluster.replicas
        # What waits for a primary that hangs ends only if rounds go on until its address leads elsewhere.
        unused = replicas.unwatched and not (self.cluster.is_awaited() or self.cluster.reader.waiting)
        with self._lock:
            seat = self.seat
            if unused:
                self._idle += seconds
            else:
                self._idle = 0.0
                replicas.watch(True)
            idle = self._idle > max(IDLE_SECONDS, 3 * self.interval)
            if idle and seat is not None:
                self.seat = None
                self._rest()
        if seat is None:
            return
        if idle:
            seat.sharers.leave(self)
            self.cluster.news.tell_of_round()
            return
        failure = self._take_seat(seat, database, thorough)
        if failure:
            seat.sharers.leave(self)
            self._cannot_start(failure)

    def bereft(self) -> None:
        """See `probe_sharers.Member`."""
        with self._lock:
            seat = self.seat
            if seat is None or seat.sharers.at_work:
                return  # somebody has used the database in the meantime
            self.seat = None
            self._rest()

    def _take_seat(self, seat: Seat, database: Connector, thorough: bool) -> str:
        """Go on elsewhere if the nodes or their parameters have changed."""
        nodes = self._nodes()
        moved = self.cluster.moved is not self._moved
        changed = nodes != tuple(seat.nodes.values()) or database.parameters is not self._parameters
        if not (thorough or moved or changed):
            return ""
        self._parameters = database.parameters
        key = database.probe_key(nodes, self.interval)
        with self._lock:
            if self.seat is not seat or _forking.is_set():
                return ""
            if moved:
                self._forget()
                self.looked.clear()
            self.records.keep(nodes, on_other_connections=key != seat.sharers.key)
            try:
                move(self, database, key, nodes, self._begin)
            except RuntimeError as exc:
                self._rest()
                return str(exc)
            return ""

    def _nodes(self) -> tuple[Node, ...]:
        return tuple(dict.fromkeys((self.cluster.reader, *self.cluster.replicas.all)))

    def end_round(self) -> None:
        """See `probe_sharers.Member`."""
        try:
            self._look_for_new_primary()
        except Exception as exc:
            self._fail(exc)
        # What fails while a node is tried fails again only at the next try.
        if Clock.monotonic() - self._failed_at > 2 * LONGEST_PAUSE + self.interval:
            self._complaints.say(self.name, "")
        self.cluster.news.tell_of_round()

    def _fail(self, exc: Exception) -> None:
        self._failed_at = Clock.monotonic()
        self._complaints.failed(self.name, exc)

    def _look_for_new_primary(self) -> None:
        cluster, since, seat = self.cluster, self._looked_at, self.seat
        if seat is None:
            return
        seen = []
        for node in seat.nodes.values():
            found = self.records.findings.get(node)
            if found is None:
                return  # the nodes are being replaced
            if found.asked_at >= since:
                told = found.history.told
            elif found.failed_at >= since or (node.breaker.open and not node.breaker.by_hand):
                told = None
            else:
                return  # it is being asked; until it answers or fails, it must not count as silent
            seen.append(Seen(node.name, node.label, node.address, told))
        self._looked_at = Clock.monotonic()
        new = self._failover.look(seen)
        cluster.finding = self._failover.finding
        if new is not None and cluster.settings.follow_primary:
            cluster.on_new_primary(new.primary, new.words)

    # Findings

    def take(self, node: Node, answer: Answer) -> None:
        """See `probe_sharers.Member`."""
        try:
            self.records.take(node, answer)
        except Exception as exc:
            self._fail(exc)
        if node is self.cluster.reader:
            self.records.sampled.set()
        self._note_looks()

    def sampled(self) -> None:
        """See `probe_sharers.Member`."""
        self.records.sampled.set()
        self._note_looks()

    def _note_looks(self) -> None:
        if self.seat is not None and self.records.all_looked():
            self.looked.set()

    def unprobed(self, node: Node, exc: Exception) -> None:
        """See `probe_sharers.Member`."""
        self.records.failed(node)
        self.records.unprobed(node, exc)
        self._note_looks()

    def not_opened(
        self, node: Node, database: Connector, exc: Exception, *, silent: bool, strikes: int
    ) -> None:
        """See `probe_sharers.Member`."""
        self.records.failed(node)
        try:
            self._judge_failure(node, database, exc, silent=silent, strikes=strikes)
        except Exception as bug:
            self._fail(bug)
        self._note_looks()

    def _judge_failure(
        self, node: Node, database: Connector, exc: Exception, *, silent: bool, strikes: int
    ) -> None:
        cluster = self.cluster
        self.records.missed(node)
        unreachable = database.diagnosis.ejects(node, exc)
        cause = database.diagnosis.cause(exc)
        silent = unreachable and silent
        suspect = silent and strikes < STRIKES  # a slow answer is not the end of a node
        if node is cluster.reader and not suspect and database.diagnosis.bars(exc):
            cluster.primary_state = PrimaryState(cause, found_at=Clock.monotonic())
        if node not in cluster.replicas.all:
            self.records.unprobed(node, exc)
            return
        if suspect and not node.breaker.open:
            return
        if unreachable or node.breaker.open:
            refuses = database.diagnosis.refuses(exc)
            node.failed(f"{cause}; it does not answer" if silent else cause, refuses=refuses)
            if silent and strikes >= STRIKES:
                cluster.counters.add("hung_up", node.hang_up())
        else:
            self.records.unprobed(node, exc)


def _before_fork() -> None:
    _forking.set()
    for prober in _probers.all():
        prober.stop()


def _at_exit() -> None:
    for prober in _probers.all():
        prober.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_forking.clear, after_in_child=_forking.clear)
atexit.register(_at_exit)
