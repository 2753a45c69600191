"""The prober: one thread of a database, on connections of its own, that looks how the nodes are. I/O only.

A round asks all nodes at once and takes their answers as they come, so that one which hangs delays no
other. Connecting, which runs the user's code and may block, is done aside, by a thread for each node that
has no connection; it is gone once it has one. What the answers mean is decided in `probes`.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import time
import weakref
from typing import Any

from ..concurrency import new_lock
from ..routing.router import Replication
from ..servers.wire.polling import readable
from . import interview as probes
from .probe_run import Run, Talk, View, timed_out
from .replica import Replica

logger = logging.getLogger("peewee.replicas")

# So long without a use of the database, and the thread ends until the next; in seconds.
IDLE_SECONDS = 60.0
# Pauses between tries of a node that is out grow up to this: no read pays for them.
LONGEST_PAUSE = 5.0
# What a node is given, in each probe, to reach what the primary has just told; the precision of lag.
_SETTLE_SECONDS = 0.2
# A node that twice in a row says nothing hangs.
_STRIKES = 2
_LONGEST_LIMIT = 10.0
_SLICE = 1.0

_probers: weakref.WeakSet[Prober] = weakref.WeakSet()
_forking = threading.Event()


class Prober:
    """Looks how the nodes of one database are, while somebody uses it.

    Parameters:
        core: the database's replication.
        interval: seconds between two rounds.
    """

    def __init__(self, core: Replication, interval: float) -> None:
        self.interval = interval
        self.limit = min(max(interval, 1.0), _LONGEST_LIMIT)
        self.looked = threading.Event()
        """Set once every node was looked at, and each replica when the primary had been."""
        self._core = core
        self._lock = new_lock()
        self._run: Run | None = None
        # One life may have begun before the one before it has ended; they are not to meet.
        self._views: weakref.WeakKeyDictionary[Run, dict[Replica, View]] = weakref.WeakKeyDictionary()
        self._idle = 0.0
        self._said = ""
        self._forget()
        core.replicas.watch(True)
        _probers.add(self)

    def _forget(self) -> None:
        self._samples = probes.Samples()
        self._sampled = threading.Event()

    @property
    def at_work(self) -> bool:
        """Whether nodes are being looked at, so that nobody else has to try those that are out."""
        run = self._run
        return run is not None and not run.ended.is_set() and run.alive()

    def use(self, database: Any) -> None:
        """Somebody uses the database: start looking, if it is not being done."""
        with self._lock:
            if _forking.is_set():
                return
            self._core.replicas.watch(False)
            if self.at_work or not self._core.replicas.all:
                return
            self._forget()
            self._idle = 0.0
            run = Run()
            self._views[run] = {}
            try:
                # The thread is not to keep the database alive.
                round_ = weakref.WeakMethod(self.round)
                run.begin(f"prober of {database.database}", _work, weakref.ref(database), round_, run)
            except RuntimeError as exc:  # no more threads, or the interpreter is ending
                self._say(f"cannot be started: {exc}")
                return
            self._run = run

    def stop(self) -> None:
        """End it until the next use; its connections are closed."""
        with self._lock:
            run, self._run = self._run, None
        if run is not None:
            run.end(self.limit + 0.5)
            with self._lock:
                if self._run is None:  # else somebody has used the database meanwhile
                    self._rest()

    def _rest(self) -> None:
        self.looked.clear()
        for replica in self._core.replicas.all:
            replica.breaker.longest = None
            replica.unwatched()
        self._core.replicas.watch(True)

    def _say(self, words: str) -> None:
        if words != self._said:
            self._said = words
            if words:
                logger.warning("the prober of %s %s", self._core.news.database, words)

    # Rounds

    def round(self, database: Any, run: Run) -> float | None:
        """Look at every node; returns seconds until the next round, or None to end."""
        started = time.monotonic()
        with self._lock:
            if run is not self._run or database._replication is not self._core:
                return None
            if self._core.replicas.unwatched:
                self._idle += self.interval
            else:
                self._idle = 0.0
                self._core.replicas.watch(True)
            if self._idle > max(IDLE_SECONDS, 3 * self.interval):
                self._run = None
                self._rest()
                return None
        try:
            self._look(database, run, started)
            self._say("")
        except Exception as exc:
            if not run.ended.is_set():
                self._say(f"has failed and goes on: {type(exc).__name__}: {exc}")
        spread = 0.9 + random.random() / 5  # many processes are not to ask in step
        return max(0.0, started + self.interval * spread - time.monotonic())

    def _look(self, database: Any, run: Run, started: float) -> None:
        core = self._core
        nodes = list(dict.fromkeys((core.reader, *core.replicas.all)))
        views = self._views[run]
        for replica in [replica for replica in views if replica not in nodes]:
            self._close(run, views.pop(replica))
        for replica in nodes:  # all at once, or the first could be taken for all that there are
            views.setdefault(replica, View())
        talks: dict[Replica, Talk] = {}
        for replica in nodes:
            view = views[replica]
            if view.opener is not None and view.opener.is_alive():
                continue
            breaker = replica.breaker
            breaker.longest = LONGEST_PAUSE
            if breaker.open and not breaker.by_hand and replica in core.replicas.all:
                if breaker.due(started):
                    self._open_aside(database, replica, view, run)
            elif view.conn is None or view.outdated:
                self._open_aside(database, replica, view, run)
            elif replica is core.reader:
                self._ask(database, replica, view, run, talks, None)
                # The others are asked what the primary has just told, unless it takes its time.
                self._converse(database, run, talks, started + self.limit / 10)
            else:
                self._ask(database, replica, view, run, talks, self._samples.newest)
        self._converse(database, run, talks, started + self.limit)
        for replica in talks:
            self._lose(database, replica, views[replica], run, None, silent=True)

    def _ask(
        self, database: Any, replica: Replica, view: View, run: Run, talks: dict[Replica, Talk], target: Any
    ) -> None:
        if replica is self._core.reader or replica.role != "replica" or not self._samples.answers:
            target = None
        try:
            talks[replica] = Talk(
                view.conn, view.asking, target, self._settle_seconds, database._has_no_connection
            )
        except Exception as exc:
            self._lose(database, replica, view, run, exc)

    @property
    def _settle_seconds(self) -> float:
        return min(_SETTLE_SECONDS, self.interval / 4)

    def _converse(self, database: Any, run: Run, talks: dict[Replica, Talk], until: float) -> None:
        """Take answers as they come, and take what is over off the list; what came in time is never late."""
        while talks and not run.ended.is_set():
            left = until - time.monotonic()
            asked = {talk.conn._sock: replica for replica, talk in talks.items()}
            ready = readable(list(asked), max(0.0, left))
            if not ready and left <= 0:
                return
            for sock in ready:
                replica = asked[sock]
                talk, view = talks[replica], self._views[run][replica]
                try:
                    if not talk.hear():
                        continue
                    del talks[replica]
                    self._take(replica, view, talk)
                    self._note_looks(run)
                except Exception as exc:
                    talks.pop(replica, None)
                    self._lose(database, replica, view, run, exc)

    def _lose(
        self, database: Any, replica: Replica, view: View, run: Run, exc: Exception | None,
        *, silent: bool = False,
    ) -> None:  # fmt: skip
        """A probe came to nothing. That may be the connection's fault, so a new one tells about the node."""
        if run.ended.is_set():
            return
        if replica is self._core.reader:
            with self._lock:
                self._samples.miss()
        gone = view.conn is None or view.conn._sock is None
        if exc is not None and not (gone or database._has_no_connection(exc)):
            view.looked = True
            self._not_told(replica, view, exc)
            return
        self._close(run, view, in_order=False)
        if silent or (exc is not None and timed_out(exc)):
            view.silent += 1
        self._open_aside(database, replica, view, run)

    def _close(self, run: Run, view: View, *, in_order: bool = True) -> None:
        conn, view.conn = view.conn, None
        if conn is not None:
            run.close(conn, in_order=in_order)

    # Connecting

    def _open_aside(self, database: Any, replica: Replica, view: View, run: Run) -> None:
        name = f"prober of {database.database}, to {replica.name}"
        view.opener = run.begin(name, self._open, database, replica, view, run)

    def _open(self, database: Any, replica: Replica, view: View, run: Run) -> None:
        breaker = replica.breaker
        started = time.monotonic()
        tries = replica in self._core.replicas.all and breaker.may_try(time.monotonic())
        try:
            conn = database._open_probe(replica, self.limit, run.watch)
            self._close(run, view)
            view.conn, view.fresh = conn, True
            view.asking = probes.Asking(self._core.settings.heartbeat_table)
            if replica is not self._core.reader:
                self._sampled.wait(self.limit / 4)
            target = self._samples.newest if replica is not self._core.reader else None
            talk = Talk(conn, view.asking, target, self._settle_seconds, database._has_no_connection)
            while not talk.hear():
                pass
            self._take(replica, view, talk)
            replica.rest.end()
            if tries:
                replica.works()
        except Exception as exc:
            view.looked = True
            self._close(run, view, in_order=False)
            if not run.ended.is_set():
                # What reads on after a timeout says something else, so time itself is looked at too.
                silent = timed_out(exc) or time.monotonic() - started >= self.limit
                try:
                    self._not_opened(database, replica, view, exc, silent)
                except Exception as bug:
                    self._say(f"has failed and goes on: {type(bug).__name__}: {bug}")
        finally:
            if tries:
                breaker.let_go()
            if replica is self._core.reader:
                self._sampled.set()
            run.hand_over(view.conn)
            if run.ended.is_set() or self._views[run].get(replica) is not view:
                self._close(run, view)  # this life has ended, or the node has left, meanwhile
            self._note_looks(run)

    def _note_looks(self, run: Run) -> None:
        if run is self._run and all(view.looked for view in list(self._views[run].values())):
            self.looked.set()

    def _not_opened(self, database: Any, replica: Replica, view: View, exc: Exception, silent: bool) -> None:
        core = self._core
        if replica is core.reader:
            with self._lock:
                self._samples.miss()
        found = database._meaning(exc)
        unreachable = database._has_no_connection(exc) and found != "busy"
        cause = database._cause(exc)
        if replica not in core.replicas.all:
            self._not_told(replica, view, exc)
            return
        silent = unreachable and silent
        if silent:
            view.silent += 1
            if view.silent < _STRIKES and not replica.breaker.open:
                return
        if unreachable or replica.breaker.open:
            replica.failed(f"{cause}; it does not answer" if silent else cause)
            if silent and view.silent >= _STRIKES:
                core.counters.add("hung_up", replica.hang_up())
        else:
            self._not_told(replica, view, exc)

    def _not_told(self, replica: Replica, view: View, exc: Exception) -> None:
        """Say once that a node cannot be looked at; of a replica that is no verdict."""
        cause = f"{type(exc).__name__}: {exc}"
        plain_primary = replica not in self._core.replicas.all
        if plain_primary and not view.said:
            self._core.news.tell(replica, "down", cause)
        if type(exc).__name__ + str(exc.args[:1]) != view.said:
            view.said = type(exc).__name__ + str(exc.args[:1])
            what = "does not answer the prober" if plain_primary else "cannot be looked at by the prober"
            logger.warning("%s %s: %s", replica.title, what, cause)

    # Taking in

    def _take(self, replica: Replica, view: View, talk: Talk) -> None:
        """Take in what a node has answered."""
        core, conn = self._core, talk.conn
        assert talk.answers is not None
        told = probes.facts(talk.answers, conn.flavour)
        view.silent = 0
        compared = replica is core.reader or self._sampled.is_set()
        with self._lock:
            if replica is core.reader:
                self._samples.add(talk.asked_at, talk.answered_at, told)
                self._look_for_changed_roles(replica, view, told)
            verdict = view.judge(
                told, talk.answered_at, self._samples, serves=replica in core.replicas.all,
                listed=replica.is_primary, max_lag=core.settings.max_lag,
            )  # fmt: skip
        if view.said:
            view.said = ""
            logger.warning("%s answers the prober again", replica.title)
            if replica not in core.replicas.all:
                core.news.tell(replica, "up", "")
        if view.asking.complaint:
            logger.warning(
                "%s: %s; lag is taken from positions instead", replica.title, view.asking.complaint
            )
            view.asking.complaint, view.asking.heartbeat_table = "", None
        progress = replica.progress
        if verdict.role == "replica" and told.position is not None and told.server:
            if progress.server in (None, told.server):
                progress.learn(told.server, told.position, fresh=view.fresh)
            view.fresh = False
        reached = told.sample if verdict.role == "primary" else told.position
        replica.judged(verdict, None if reached is None else reached.text())
        view.looked = view.looked or compared

    def _look_for_changed_roles(self, replica: Replica, view: View, told: probes.Facts) -> None:
        words = probes.role_change(told, view.server, view.read_only)
        if words:
            self._core.generation += 1  # what was connected to it before is not used any more
            logger.warning("%s %s, so connections to it are made anew", replica.title, words)
        view.read_only = told.read_only
        # One that was demoted may live on behind this connection, while its address leads elsewhere.
        view.outdated = told.read_only


def _work(reference: Any, round_reference: Any, run: Run) -> None:
    """What the thread does; between rounds it holds nothing of the database."""
    pause: float | None = 0.0
    try:
        while pause is not None and not run.ended.wait(min(pause, _SLICE)):
            pause -= min(pause, _SLICE)
            database, round_ = reference(), round_reference()
            if database is None or round_ is None:
                break
            if not pause:
                pause = round_(database, run)
            del database, round_
    finally:
        run.ended.set()  # who still opens a connection closes it
        run.close_all()


def _before_fork() -> None:
    _forking.set()
    for prober in list(_probers):
        prober.stop()


def _at_exit() -> None:
    for prober in list(_probers):
        prober.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_forking.clear, after_in_child=_forking.clear)
atexit.register(_at_exit)
