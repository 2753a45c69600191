"""The prober's thread: it checks servers once per interval, for all databases that would find the same there.

A round sends its questions to all nodes at once and reads the answers as they arrive, so a node that hangs
does not delay others. Between two rounds, while reads are under way, the thread looks many times a second
whether they wait in vain somewhere, and asks that node at once. Connecting may block, so a short-lived thread
per node does it. This module only does I/O; each database's `Prober` takes the answers for its own nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..concurrency import Clock, chance
from ..log import log_event
from ..positions import Position
from ..servers.protocols import ServerConnection
from ..servers.wire.sockets import readable
from .node import Node
from .probe_line import Line
from .probe_run import Look, Probe, Question, timed_out
from .probe_sharers import Member, Place, Sharers
from .silence import STEP
from .waiting_reads import Tally

# The longest pause between two tries of an ejected node. Short, because no read waits for these tries.
LONGEST_PAUSE = 5.0
# How long each probe waits for a replica to reach the position that the primary has just reported.
# Lag is measured to this precision.
_SETTLE_SECONDS = 0.2
# A node that does not answer this many probes in a row is considered hung.
STRIKES = 2
_LONGEST_LIMIT = 10.0
_SLICE = 1.0
# A database that joins is told answers up to this old, in seconds; otherwise all nodes are asked at once.
_RECENT = 1.5


class Complaints:
    """Logs each problem of a prober once."""

    def __init__(self) -> None:
        self._said = ""

    def say(self, name: str, words: str) -> None:
        """Log a problem of the prober of this database; ``""``: it has none now."""
        if words != self._said:
            self._said = words
            if words:
                log_event("prober_failed", "the prober of %s %s", name, words, cause=words)

    def failed(self, name: str, exc: Exception) -> None:
        """Log an error in a round."""
        self.say(name, f"failed in this round and goes on: {type(exc).__name__}: {exc}")


class ProbeRounds:
    """Checks servers at regular intervals, while somebody uses one of the databases that share the prober.

    Parameters:
        sharers: these databases.
        interval: seconds between two rounds.
    """

    def __init__(self, sharers: Sharers, interval: float) -> None:
        self.sharers = sharers
        self.run = sharers.run
        self.limit = limit_of(interval)
        self._interval = interval
        self._began = float("-inf")
        self._watched = float("-inf")
        self._turns = 0
        self._complaints = Complaints()

    # Rounds

    def turn(self) -> float | None:
        """Begin a round if it is time, else look at the reads under way.

        Returns:
            the seconds until the next turn, or None to end.
        """
        self._greet()
        now = Clock.monotonic()
        if now >= self.run.due:
            spread = 0.9 + chance() / 5  # so that processes do not all probe at once
            # Set before the round, because a database that joins during it may bring the next one forward.
            self.run.due = now + self._interval * spread
            self._round(now)
        else:
            self._guarded(self._look_at_reads)
        self.sharers.dozes = True  # before looking, or a use in between would go unnoticed
        left = max(0.0, self.run.due - Clock.monotonic())
        here = self.sharers.present()
        if not here:
            return None if self.sharers.end_if_empty() else 0.0
        if any(_is_used(member) for member, _, _ in here):
            self.sharers.dozes = False
            return min(left, STEP)
        return min(left, _SLICE)

    def _guarded(self, work: Callable[..., None], *given: object) -> bool:
        try:
            work(*given)
        except Exception as exc:
            here = self.sharers.present()
            if here and not self.run.ended.is_set():
                self._complaints.failed(here[0][0].name, exc)
            return False
        return True

    def _greet(self) -> None:
        """Tell the databases that have just joined what is known already."""
        here = self.sharers.newcomers()
        if not here:
            return
        second = min(self._interval, 1.0)
        oldest = Clock.monotonic() - _RECENT * second
        for line in self.sharers.lines:
            is_primary = line is self.sharers.lines[0]
            if max(line.answered_at, line.failed_at) < oldest:
                self._bring_forward(self._began)
                if is_primary:
                    return  # replicas are compared with it
                continue
            told = line.last if line.answered_at > line.failed_at else None
            if told is None:  # a failure is each one's own to judge, so there is another try
                self._bring_forward(line.failed_at + second)
            for place in self.sharers.at(line):
                if place.member not in here:
                    continue
                if told is not None:
                    place.member.take(place.node, told)
                elif is_primary:
                    place.member.sampled()

    def _bring_forward(self, due: float) -> None:
        """Begin the next round at this time, by a monotonic clock, or very soon if that is over."""
        self.run.due = min(self.run.due, max(self._began + STEP, due))

    def _round(self, started: float) -> None:
        """Probe every node."""
        seconds = min(started - self._began, self._interval)
        self._began = started
        thorough = any(line.to_open(started) for line in self.sharers.lines)
        before = self.sharers.lines
        for member, database, _ in self.sharers.present():
            self._guarded(member.begin_round, database, max(seconds, 0.0), thorough)
        for line in before:
            if line not in self.sharers.lines:
                self._close(line)
        if self._guarded(self._look, started):
            self._complaints.say("", "")
        for member, _, _ in self.sharers.present():
            member.end_round()

    def _look(self, started: float) -> None:
        for member, _, _ in self.sharers.present():
            member.records.ask_primary()
        questions: dict[Line, Question] = {}
        for line in self.sharers.lines:
            places = self.sharers.at(line)
            if line.is_opening or not places:
                continue
            for place in places:
                place.node.breaker.longest = LONGEST_PAUSE
            if any(place.is_out and place.node.breaker.due(started) for place in places):
                self._open_aside(line)
            elif all(place.is_out for place in places):
                continue
            elif line.to_open(started):
                self._open_aside(line)
            elif line is self.sharers.lines[0]:
                self._ask(line, questions, None)
                # The replicas are then asked for the position that it reports, if it answers quickly.
                self._converse(questions, self.limit / 10)
            else:
                self._ask(line, questions, _goal(places))
        self._converse(questions, self.limit)
        self._give_up(questions)

    def _ask(self, line: Line, questions: dict[Line, Question], goal: Position | None) -> None:
        try:
            assert line.conn is not None  # otherwise the caller opens one instead
            questions[line] = Probe(
                line.conn, line.questionnaire, goal, self._settle_seconds, self._has_no_connection
            )
        except Exception as exc:
            self._lose(line, exc)
        else:
            may_take = 0.0 if goal is None else self._settle_seconds
            line.asked(Clock.monotonic(), may_take=may_take)

    @property
    def _settle_seconds(self) -> float:
        return min(_SETTLE_SECONDS, self._interval / 4)

    def _has_no_connection(self, exc: Exception) -> bool:
        here = self.sharers.present()
        return not here or here[0][1].diagnosis.has_no_connection(exc)

    def _converse(self, questions: dict[Line, Question], seconds: float) -> None:
        """Read answers as they arrive, until time is up. Remove each question that has its answer."""
        left = seconds
        while questions and not self.run.ended.is_set():
            before = Clock.monotonic()
            asked = {question.socket: line for line, question in questions.items()}
            ready = readable(list(asked), max(0.0, min(left, STEP)))
            for sock in ready:
                self._receive(asked[sock], questions)
            # However long this process was stopped, the nodes have had time for one step only.
            left -= min(Clock.monotonic() - before, STEP)
            if not ready or Clock.monotonic() - self._watched >= STEP:
                self._watch(questions)
            if not ready and left <= 0:
                return

    def _receive(self, line: Line, questions: dict[Line, Question]) -> None:
        question = questions[line]
        try:
            done = question.receive()
            line.silence.answered(Clock.monotonic())
            if not done:
                line.silence.asked(Clock.monotonic())  # the next question was sent
                return
            del questions[line]
            if isinstance(question, Probe):
                self._take(line, question)
        except Exception as exc:
            questions.pop(line, None)
            self._lose(line, exc)
        self._close_replaced(line, question)

    def _take(self, line: Line, probe: Probe) -> None:
        answer = line.take(probe, is_primary=line is self.sharers.lines[0])
        for place in self.sharers.at(line):
            place.member.take(place.node, answer)
        line.sampled.set()

    def _give_up(self, questions: dict[Line, Question]) -> None:
        """Handle the questions to which no answer has come in time."""
        for line, question in questions.items():
            self._close_replaced(line, question)
            self._lose(line, None, silent=True)

    def _close_replaced(self, line: Line, question: Question) -> None:
        """Close the connection of a question if it was given up for another, to ask again."""
        if question.conn is not line.conn:
            self.run.close(question.conn, in_order=False)

    # Reads that wait

    def _look_at_reads(self) -> None:
        """Ask the nodes at which reads wait, and wait for the answers."""
        questions: dict[Line, Question] = {}
        self._watch(questions)
        self._converse(questions, self.limit)
        self._give_up(questions)

    def _watch(self, questions: dict[Line, Question]) -> None:
        """Do what the silence of each node calls for."""
        self._greet()
        self._watched = Clock.monotonic()
        for line in self.sharers.lines:
            places = [place for place in self.sharers.at(line) if place.is_watched]
            if not places:
                continue
            advice = line.reads.look(Clock.monotonic(), _tallies(places))
            if advice == "ask":
                self._ask_now(line, questions)
            elif advice == "ask again":
                if line in questions:
                    line.conn = None  # an answer that still comes counts; `_receive` closes the connection
                if not line.is_opening:
                    self._open_aside(line)
                line.silence.asked_again(Clock.monotonic())
            elif advice == "hung":
                self._eject_hung(line, places, questions)

    def _ask_now(self, line: Line, questions: dict[Line, Question]) -> None:
        if line not in questions and not line.is_opening:
            if line.conn is None:
                self._open_aside(line)
            else:
                try:
                    questions[line] = Look(line.conn, self._has_no_connection)
                except Exception as exc:
                    self._lose(line, exc)
        line.silence.asked(Clock.monotonic())

    def _eject_hung(self, line: Line, places: Sequence[Place], questions: dict[Line, Question]) -> None:
        """Eject a node that answers nobody, unless this process merely has not read what has arrived."""
        seconds = Clock.monotonic() - line.silence.asked_at
        opener = line.opener
        greeted = opener is not None and any(conn.greeted for conn in self.run.opened_by(opener))
        if greeted or any(place.node.heard_within(seconds) for place in places):
            line.silence.heard(Clock.monotonic())
            return
        question = questions.pop(line, None)
        if question is not None:
            self.run.close(question.conn, in_order=False)
        line.silent = STRIKES
        line.reads.begin_anew()
        for member, _, _, node in places:
            node.failed(
                f"it does not answer: reads and the prober got nothing from it within {seconds:.1f} s"
            )
            member.cluster.counters.add("hung_up", node.hang_up())

    def _lose(self, line: Line, exc: Exception | None, *, silent: bool = False) -> None:
        """Handle a failed probe. The connection may be at fault, so open a new one to find out."""
        if self.run.ended.is_set():
            return
        places = self.sharers.at(line)
        for place in places:
            place.member.records.missed(place.node)
        gone = line.conn is None or not line.conn.open
        if exc is not None and not (gone or self._has_no_connection(exc)):
            line.failed_at = Clock.monotonic()
            for place in places:
                place.member.unprobed(place.node, exc)
            return
        self._close(line, in_order=False)
        if silent or (exc is not None and timed_out(exc)):
            line.silent += 1
        if not line.is_opening:
            self._open_aside(line)

    def _close(self, line: Line, *, in_order: bool = True) -> None:
        conn, line.conn = line.conn, None
        if conn is not None:
            self.run.close(conn, in_order=in_order)

    # Connecting

    def _open_aside(self, line: Line) -> None:
        opener = self._opener(line)
        if opener is None:
            return  # all have other parameters now; the next round asks on other lines
        name = f"prober of {opener.member.name}, to {opener.node.name}"
        line.asked(Clock.monotonic())
        line.opener = self.run.begin(name, self._open, line, opener)

    def _opener(self, line: Line) -> Place | None:
        """Return a database whose parameters are still those of this key. Each takes its turn."""
        places = self.sharers.at(line)
        self._turns += 1
        first = self._turns % len(places) if places else 0
        # One that has met a node which was not ready yet asks the node whether it is now.
        for place in sorted([*places[first:], *places[:first]], key=lambda place: not place.node.unready):
            nodes = tuple(place.seat.nodes.values())
            if place.database.probe_key(nodes, self._interval) == self.sharers.key:
                return place
        return None

    def _open(self, line: Line, opener: Place) -> None:
        started = Clock.monotonic()
        places = self.sharers.at(line)
        tries = [place for place in places if place.is_listed and place.node.breaker.may_try(started)]
        was_unready = opener.node.unready  # then it is asked
        # A schema that one of several databases lacks says nothing about the others.
        alike = all(place.seat.schema == opener.seat.schema for place in places)
        try:
            conn = opener.database.open_probe(opener.node, self.limit, self.run.watch, alike)
            self._close(line)
            line.adopt(conn, opener.member.cluster.settings.heartbeat_table)
            goal = None
            if line is not self.sharers.lines[0]:
                self.sharers.lines[0].sampled.wait(self.limit / 4)
                goal = _goal(self.sharers.at(line), asked=False)
            probe = Probe(conn, line.questionnaire, goal, self._settle_seconds, self._has_no_connection)
            while not probe.receive():
                pass
            self._take(line, probe)
            for place in places:
                place.node.unready = place.node.unready and not was_unready
                place.node.backoff.end()
            for place in tries:
                if place.is_kept:
                    self._restore(place, conn, has_schema=alike)
        except Exception as exc:
            line.failed_at = Clock.monotonic()
            self._close(line, in_order=False)
            if not self.run.ended.is_set():
                # A driver that is used again after a timeout reports another error, so check the time too.
                silent = timed_out(exc) or Clock.monotonic() - started >= self.limit
                self._not_opened(line, places, exc, silent)
        finally:
            for place in tries:
                place.node.breaker.let_go()
            if line is self.sharers.lines[0]:
                line.sampled.set()
                for place in self.sharers.at(line):
                    place.member.sampled()
            self.run.hand_over(line.conn)
            if self.run.ended.is_set() or line not in self.sharers.lines:
                self._close(line)  # the prober has just been stopped, or the node removed

    def _restore(self, place: Place, conn: ServerConnection, *, has_schema: bool) -> None:
        """Bring a node back into rotation, if the database could open a connection of its own to it."""
        try:
            if not has_schema:
                place.database.choose_schema(conn)
        except Exception as exc:
            if not conn.open:
                raise
            place.member.not_opened(place.node, place.database, exc, silent=False, strikes=0)
        else:
            place.node.works()

    def _not_opened(self, line: Line, places: Sequence[Place], exc: Exception, silent: bool) -> None:
        places = [place for place in places if place.is_kept]
        if silent and any(place.database.diagnosis.ejects(place.node, exc) for place in places):
            line.silent += 1
        for member, database, _, node in places:
            member.not_opened(node, database, exc, silent=silent, strikes=line.silent)


def limit_of(interval: float) -> float:
    """Return the time limit of each step of a probe, in seconds."""
    return min(max(interval, 1.0), _LONGEST_LIMIT)


def _is_used(member: Member) -> bool:
    replicas = member.cluster.replicas
    return not replicas.unwatched or any(node.waiting for node in replicas.all)


def _goal(places: Iterable[Place], *, asked: bool = True) -> Position | None:
    """Return the position of the primary that a node is asked to reach, or None.

    Parameters:
        asked: whether the node is a replica for sure and the primary has just been asked.
    """
    goals = (
        member.records.goal(node)
        for member, _, _, node in places
        if not asked or (node.role == "replica" and member.records.samples.answers)
    )
    return next((goal for goal in goals if goal is not None), None)


def _tallies(places: Iterable[Place]) -> Iterator[tuple[Node, Tally]]:
    for member, _, _, node in places:
        found = member.records.findings.get(node)
        if found is not None:
            yield node, found.tally


def begin(sharers: Sharers, interval: float, name: str) -> None:
    """Start a prober's thread.

    Parameters:
        interval: seconds between two rounds.
        name: the name of the database that is the first to need it.

    Raises:
        RuntimeError: no thread can be started.
    """
    sharers.run.begin(f"prober of {name}", _work, ProbeRounds(sharers, interval))


def _work(rounds: ProbeRounds) -> None:
    """Take turns until the rounds end."""
    run = rounds.run
    pause: float | None = 0.0
    try:
        while pause is not None and not run.ended.is_set():
            pause = rounds.turn()
            if pause:
                run.rest(pause)
    finally:
        # A thread that is still opening a connection then closes it. No database is left, unless something
        # like `sys.exit()` in a hook has ended this thread.
        for member in rounds.sharers.end():
            member.bereft()
        run.close_all()
