"""The prober: a thread per database that checks all nodes once per interval, over its own connections.

A round sends its questions to all nodes at once and reads the answers as they arrive, so a node that hangs
does not delay others. Between two rounds, while reads are under way, the prober looks many times a second
whether they wait in vain somewhere, and asks that node at once. Connecting runs the user's code and may
block, so a short-lived thread per node does it. This module only does I/O; `fitness`, `lag` and
`probe_history` decide what the answers mean, and `silence` what it means when none comes.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

from ..concurrency import Clock, Registry, chance, new_lock
from ..log import log_event
from ..positions import Position
from ..servers.protocols import ServerConnection
from ..servers.wire.sockets import readable
from .failover import FailoverWatch, Seen
from .interview import Questionnaire
from .node import Node
from .primary_state import PrimaryState
from .probe_records import ProbedCluster, ProbeRecords
from .probe_run import Look, Probe, ProbeTarget, Question, Run, timed_out
from .silence import STEP, Silence

# The thread ends if nobody has used the database for this many seconds; the next use starts it again.
IDLE_SECONDS = 60.0
# The longest pause between two tries of an ejected node. Short, because no read waits for these tries.
LONGEST_PAUSE = 5.0
# How long each probe waits for a replica to reach the position that the primary has just reported.
# Lag is measured to this precision.
_SETTLE_SECONDS = 0.2
# A node that does not answer this many probes in a row is considered hung.
_STRIKES = 2
_LONGEST_LIMIT = 10.0
_SLICE = 1.0

_probers: Registry[Prober] = Registry()
_forking = threading.Event()


class ErrorReader(Protocol):
    """Explains the errors of a connection."""

    def ejects(self, node: Node, exc: BaseException) -> bool:
        """Return whether a node leaves the rotation when connecting to it fails with this error."""

    def bars(self, exc: BaseException) -> bool:
        """Return whether this error, raised while connecting, will meet the next attempt too."""

    def has_no_connection(self, exc: BaseException) -> bool:
        """Return whether an error means that the node cannot be reached, or has closed the connection."""

    def cause(self, exc: BaseException) -> str:
        """Return an error in words, with what to do about it."""


class Connector(Protocol):
    """Opens the prober's connections."""

    @property
    def diagnosis(self) -> ErrorReader:
        """Explains the errors of these connections."""

    def open_probe(
        self, replica: Node, seconds: float, watch: Callable[[ServerConnection], None]
    ) -> ServerConnection:
        """Open a connection for the prober alone.

        Parameters:
            seconds: the time limit.
            watch: called with the connection before it is opened.
        """


class Prober:
    """Checks the nodes of one database at regular intervals while somebody uses it.

    Parameters:
        cluster: the nodes.
        interval: seconds between two rounds.
    """

    def __init__(self, cluster: ProbedCluster, interval: float) -> None:
        self.interval = interval
        self.limit = min(max(interval, 1.0), _LONGEST_LIMIT)
        self.looked = threading.Event()
        """Set once every node has been probed, each replica after the primary."""
        self._cluster = cluster
        self._lock = new_lock()
        self._run: Run | None = None
        self._retired = False
        # A new run may begin before the last one has ended, so each run has its own targets.
        self._targets: weakref.WeakKeyDictionary[Run, dict[Node, ProbeTarget]] = weakref.WeakKeyDictionary()
        self._idle = 0.0
        self._said = ""
        self._moved = cluster.moved
        self._records = ProbeRecords(cluster)
        self._forget()
        cluster.replicas.watch(True)
        _probers.add(self)

    def _forget(self) -> None:
        self._records.forget()
        self._failover = FailoverWatch()
        self._looked_at = float("-inf")

    def wait_for_first_look(self, seconds: float) -> bool:
        """Wait until every node has been probed; return False after this many seconds."""
        return self.looked.wait(seconds)

    @property
    def at_work(self) -> bool:
        """Whether nodes are being probed, so that nobody else has to try ejected ones."""
        run = self._run
        return run is not None and not run.ended.is_set() and run.alive()

    def use(self, database: Connector) -> None:
        """Start probing unless it is running, because somebody uses the database."""
        failure = self._start(database)
        if failure:
            self._say(f"cannot be started: {failure}")  # not under the lock: handlers may use the database

    def _start(self, database: Connector) -> str:
        with self._lock:
            if _forking.is_set() or self._retired:
                return ""
            self._cluster.replicas.watch(False)
            if self.at_work:
                assert self._run is not None
                self._run.wake()  # it has to look at the reads that come now
                return ""
            if not self._cluster.replicas.all:
                return ""
            self._forget()
            self._idle = 0.0
            run = Run()
            self._targets[run] = {}
            try:
                # The thread must not keep the database alive.
                turn = weakref.WeakMethod(self.turn)
                name = f"prober of {self._cluster.news.database}"
                run.begin(name, _work, weakref.ref(database), turn, run)
            except RuntimeError as exc:  # no more threads, or the interpreter is ending
                return str(exc)
            self._run = run
            return ""

    def stop(self) -> None:
        """Stop until the next use, and close the connections."""
        with self._lock:
            run, self._run = self._run, None
        if run is not None:
            run.end(self.limit + 0.5)
            with self._lock:
                if self._run is None:  # otherwise somebody has used the database in the meantime
                    self._rest()
            self._cluster.news.tell_of_round()

    def retire(self) -> None:
        """Stop for good, because another prober has taken over."""
        self._retired = True
        self.stop()

    def _rest(self) -> None:
        self.looked.clear()
        for replica in self._cluster.replicas.all:
            replica.breaker.longest = None
            replica.unwatched()
        self._cluster.replicas.watch(True)

    def _say(self, words: str) -> None:
        if words != self._said:
            self._said = words
            if words:
                log_event(
                    "prober_failed", "the prober of %s %s", self._cluster.news.database, words, cause=words
                )

    # Rounds

    def turn(self, database: Connector, run: Run) -> float | None:
        """Begin a round if it is time, else look at the reads under way.

        Returns:
            the seconds until the next turn, or None to end.
        """
        if Clock.monotonic() >= run.due:
            pause = self.round(database, run)
            if pause is None:
                return None
            run.due = Clock.monotonic() + pause
        else:
            self._guarded(run, self._look_at_reads, database, run)
        left = max(0.0, run.due - Clock.monotonic())
        return min(left, STEP if self._is_used() else _SLICE)

    def _is_used(self) -> bool:
        replicas = self._cluster.replicas
        return not replicas.unwatched or any(node.waiting for node in replicas.all)

    def _guarded(self, run: Run, work: Callable[..., None], *given: object) -> bool:
        try:
            work(*given)
        except Exception as exc:
            if not run.ended.is_set():
                self._say(f"failed in this round and goes on: {type(exc).__name__}: {exc}")
            return False
        return True

    def round(self, database: Connector, run: Run) -> float | None:
        """Probe every node; return the seconds until the next round, or None to end."""
        started = Clock.monotonic()
        with self._lock:
            if run is not self._run:
                return None
            if self._cluster.replicas.unwatched:
                self._idle += self.interval
            else:
                self._idle = 0.0
                self._cluster.replicas.watch(True)
            idle = self._idle > max(IDLE_SECONDS, 3 * self.interval)
            if idle:
                self._run = None
                self._rest()
        if idle:
            self._cluster.news.tell_of_round()
            return None
        if self._guarded(run, self._look, database, run, started):
            self._say("")
        self._cluster.news.tell_of_round()
        spread = 0.9 + chance() / 5  # so that processes do not all probe at once
        return max(0.0, started + self.interval * spread - Clock.monotonic())

    def _look(self, database: Connector, run: Run, started: float) -> None:
        cluster = self._cluster
        nodes = list(dict.fromkeys((cluster.reader, *cluster.replicas.all)))
        targets = self._targets[run]
        if cluster.moved is not self._moved:
            self._begin_at_new_primary(run, targets)
        for replica in [replica for replica in targets if replica not in nodes]:
            self._close(run, targets.pop(replica))
        for replica in nodes:  # before any probe, or the first answer would look like the last one missing
            targets.setdefault(replica, ProbeTarget())
        questions: dict[Node, Question] = {}
        self._records.ask_primary()
        for replica in nodes:
            target = targets[replica]
            if target.is_opening:
                continue
            breaker = replica.breaker
            breaker.longest = LONGEST_PAUSE
            if breaker.open and not breaker.by_hand and replica in cluster.replicas.all:
                if breaker.due(started):
                    self._open_aside(database, replica, target, run)
            elif target.conn is None or target.outdated or target.is_old(started):
                self._open_aside(database, replica, target, run)
            elif replica is cluster.reader:
                self._ask(database, replica, target, run, questions, None)
                # The replicas are then asked for the position that it reports, if it answers quickly.
                self._converse(database, run, questions, self.limit / 10)
            else:
                self._ask(database, replica, target, run, questions, self._records.goal(replica))
        self._converse(database, run, questions, self.limit)
        self._give_up(database, run, questions)
        self._look_for_new_primary(nodes, targets)

    def _look_for_new_primary(self, nodes: list[Node], targets: dict[Node, ProbeTarget]) -> None:
        cluster, since = self._cluster, self._looked_at
        seen = []
        for node in nodes:
            target = targets[node]
            if target.asked_at >= since:
                told = target.history.told
            elif target.failed_at >= since or (node.breaker.open and not node.breaker.by_hand):
                told = None
            else:
                return  # it is being asked; until it answers or fails, it must not count as silent
            seen.append(Seen(node.name, node.label, node.address, told))
        self._looked_at = Clock.monotonic()
        found = self._failover.look(seen)
        cluster.finding = self._failover.finding
        if found is not None and cluster.settings.follow_primary:
            cluster.on_new_primary(found.primary, found.words)

    def _begin_at_new_primary(self, run: Run, targets: dict[Node, ProbeTarget]) -> None:
        """Forget all findings, which compare nodes with the old primary."""
        self._moved = self._cluster.moved
        self._forget()
        self.looked.clear()
        for target in list(targets.values()):
            self._close(run, target)
        targets.clear()

    def _ask(
        self,
        database: Connector,
        replica: Node,
        target: ProbeTarget,
        run: Run,
        questions: dict[Node, Question],
        goal: Position | None,
    ) -> None:
        if replica is self._cluster.reader or replica.role != "replica" or not self._records.samples.answers:
            goal = None
        try:
            assert target.conn is not None  # otherwise the caller opens one instead
            questions[replica] = Probe(
                target.conn,
                target.questionnaire,
                goal,
                self._settle_seconds,
                database.diagnosis.has_no_connection,
            )
        except Exception as exc:
            self._lose(database, replica, target, run, exc)
        else:
            may_take = 0.0 if goal is None else self._settle_seconds
            target.asked(Clock.monotonic(), may_take=may_take)

    @property
    def _settle_seconds(self) -> float:
        return min(_SETTLE_SECONDS, self.interval / 4)

    def _converse(
        self, database: Connector, run: Run, questions: dict[Node, Question], seconds: float
    ) -> None:
        """Read answers as they arrive, until time is up. Remove each question that has its answer."""
        left = seconds
        while questions and not run.ended.is_set():
            before = Clock.monotonic()
            asked = {question.socket: replica for replica, question in questions.items()}
            ready = readable(list(asked), max(0.0, min(left, STEP)))
            for sock in ready:
                self._receive(database, asked[sock], run, questions)
            # However long this process was stopped, the nodes have had time for one step only.
            left -= min(Clock.monotonic() - before, STEP)
            self._watch(database, run, questions)
            if not ready and left <= 0:
                return

    def _receive(self, database: Connector, replica: Node, run: Run, questions: dict[Node, Question]) -> None:
        question, target = questions[replica], self._targets[run][replica]
        try:
            done = question.receive()
            target.silence.answered(Clock.monotonic())
            if not done:
                target.silence.asked(Clock.monotonic())  # the next question was sent
                return
            del questions[replica]
            if isinstance(question, Probe):
                self._records.take(replica, target, self._targets[run], question)
                self._note_looks(run)
        except Exception as exc:
            questions.pop(replica, None)
            self._lose(database, replica, target, run, exc)
        self._close_replaced(run, target, question)

    def _give_up(self, database: Connector, run: Run, questions: dict[Node, Question]) -> None:
        """Handle the questions to which no answer has come in time."""
        for replica, question in questions.items():
            target = self._targets[run][replica]
            self._close_replaced(run, target, question)
            self._lose(database, replica, target, run, None, silent=True)

    def _close_replaced(self, run: Run, target: ProbeTarget, question: Question) -> None:
        """Close the connection of a question if it was given up for another, to ask again."""
        if question.conn is not target.conn:
            run.close(question.conn, in_order=False)

    # Reads that wait

    def _look_at_reads(self, database: Connector, run: Run) -> None:
        """Ask the nodes at which reads wait, and wait for the answers."""
        questions: dict[Node, Question] = {}
        self._watch(database, run, questions)
        self._converse(database, run, questions, self.limit)
        self._give_up(database, run, questions)

    def _watch(self, database: Connector, run: Run, questions: dict[Node, Question]) -> None:
        """Do what the silence of each node calls for."""
        for node, target in list(self._targets[run].items()):
            if node.breaker.open or node not in self._cluster.replicas.all:
                continue
            silence = target.silence
            advice = silence.look(
                Clock.monotonic(),
                answers=node.answers + target.answers,
                waiting=node.waiting,
                started=node.reads,
            )
            if advice == "ask":
                self._ask_now(database, node, target, run, questions)
            elif advice == "ask again":
                if node in questions:
                    target.conn = None  # an answer that still comes counts; `_receive` closes the connection
                if not target.is_opening:
                    self._open_aside(database, node, target, run)
                silence.asked_again(Clock.monotonic())
            elif advice == "hung":
                self._eject_hung(node, target, run, questions)

    def _ask_now(
        self, database: Connector, node: Node, target: ProbeTarget, run: Run, questions: dict[Node, Question]
    ) -> None:
        if node not in questions and not target.is_opening:
            if target.conn is None:
                self._open_aside(database, node, target, run)
            else:
                try:
                    questions[node] = Look(target.conn, database.diagnosis.has_no_connection)
                except Exception as exc:
                    self._lose(database, node, target, run, exc)
        target.silence.asked(Clock.monotonic())

    def _eject_hung(self, node: Node, target: ProbeTarget, run: Run, questions: dict[Node, Question]) -> None:
        """Eject a node that answers nobody, unless this process merely has not read what has arrived."""
        seconds = Clock.monotonic() - target.silence.asked_at
        opener = target.opener
        greeted = opener is not None and any(conn.greeted for conn in run.opened_by(opener))
        if greeted or node.heard_within(seconds):
            target.silence.heard(Clock.monotonic())
            return
        question = questions.pop(node, None)
        if question is not None:
            run.close(question.conn, in_order=False)
        target.silent = _STRIKES
        target.silence = Silence()
        node.failed(f"it does not answer: reads and the prober got nothing from it within {seconds:.1f} s")
        self._cluster.counters.add("hung_up", node.hang_up())

    def _lose(
        self, database: Connector, replica: Node, target: ProbeTarget, run: Run, exc: Exception | None,
        *, silent: bool = False,
    ) -> None:  # fmt: skip
        """Handle a failed probe. The connection may be at fault, so open a new one to find out."""
        if run.ended.is_set():
            return
        self._records.missed(replica)
        gone = target.conn is None or not target.conn.open
        if exc is not None and not (gone or database.diagnosis.has_no_connection(exc)):
            target.looked, target.failed_at = True, Clock.monotonic()
            self._records.unprobed(replica, target, exc)
            return
        self._close(run, target, in_order=False)
        if silent or (exc is not None and timed_out(exc)):
            target.silent += 1
        if not target.is_opening:
            self._open_aside(database, replica, target, run)

    def _close(self, run: Run, target: ProbeTarget, *, in_order: bool = True) -> None:
        conn, target.conn = target.conn, None
        if conn is not None:
            run.close(conn, in_order=in_order)

    # Connecting

    def _open_aside(self, database: Connector, replica: Node, target: ProbeTarget, run: Run) -> None:
        name = f"prober of {self._cluster.news.database}, to {replica.name}"
        target.asked(Clock.monotonic())
        target.opener = run.begin(name, self._open, database, replica, target, run)

    def _open(self, database: Connector, replica: Node, target: ProbeTarget, run: Run) -> None:
        breaker = replica.breaker
        started = Clock.monotonic()
        tries = replica in self._cluster.replicas.all and breaker.may_try(Clock.monotonic())
        try:
            conn = database.open_probe(replica, self.limit, run.watch)
            self._close(run, target)
            target.conn, target.fresh = conn, True
            target.questionnaire = Questionnaire(self._cluster.settings.heartbeat_table)
            if replica is not self._cluster.reader:
                self._records.sampled.wait(self.limit / 4)
            goal = self._records.goal(replica)
            probe = Probe(
                conn, target.questionnaire, goal, self._settle_seconds, database.diagnosis.has_no_connection
            )
            while not probe.receive():
                pass
            self._records.take(replica, target, self._targets[run], probe)
            replica.backoff.end()
            if tries:
                replica.works()
        except Exception as exc:
            target.looked, target.failed_at = True, Clock.monotonic()
            self._close(run, target, in_order=False)
            if not run.ended.is_set():
                # A driver that is used again after a timeout reports another error, so check the time too.
                silent = timed_out(exc) or Clock.monotonic() - started >= self.limit
                try:
                    self._not_opened(database, replica, target, exc, silent)
                except Exception as bug:
                    self._say(f"failed in this round and goes on: {type(bug).__name__}: {bug}")
        finally:
            if tries:
                breaker.let_go()
            if replica is self._cluster.reader:
                self._records.sampled.set()
            run.hand_over(target.conn)
            if run.ended.is_set() or self._targets[run].get(replica) is not target:
                self._close(run, target)  # the prober has just been stopped, or the node removed
            self._note_looks(run)

    def _note_looks(self, run: Run) -> None:
        if run is self._run and all(target.looked for target in list(self._targets[run].values())):
            self.looked.set()

    def _not_opened(
        self, database: Connector, replica: Node, target: ProbeTarget, exc: Exception, silent: bool
    ) -> None:
        cluster = self._cluster
        self._records.missed(replica)
        unreachable = database.diagnosis.ejects(replica, exc)
        cause = database.diagnosis.cause(exc)
        silent = unreachable and silent
        if silent:
            target.silent += 1
        suspect = silent and target.silent < _STRIKES  # a slow answer is not the end of a node
        if replica is cluster.reader and not suspect and database.diagnosis.bars(exc):
            cluster.primary_state = PrimaryState(cause, found_at=Clock.monotonic())
        if replica not in cluster.replicas.all:
            self._records.unprobed(replica, target, exc)
            return
        if suspect and not replica.breaker.open:
            return
        if unreachable or replica.breaker.open:
            replica.failed(f"{cause}; it does not answer" if silent else cause)
            if silent and target.silent >= _STRIKES:
                cluster.counters.add("hung_up", replica.hang_up())
        else:
            self._records.unprobed(replica, target, exc)


def _work(
    reference: Callable[[], Connector | None],
    turn_reference: Callable[[], Callable[[Connector, Run], float | None] | None],
    run: Run,
) -> None:
    """Take turns until this run ends. Between them, hold no reference to the database."""
    pause: float | None = 0.0
    try:
        while pause is not None and not run.ended.is_set():
            database, turn = reference(), turn_reference()
            if database is None or turn is None:
                break
            pause = turn(database, run)
            del database, turn
            if pause:
                run.rest(pause)
    finally:
        run.ended.set()  # a thread that is still opening a connection then closes it
        run.close_all()


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
