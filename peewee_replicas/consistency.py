"""Consistency: what a read must see, and whether a replica shows it yet."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, NamedTuple

from .events import Counters
from .positions import Position
from .replicas import Replica
from .scopes import Frame, causal
from .sessions import Session, ended

logger = logging.getLogger("peewee.replicas")

LEVELS = ("eventual", "session", "process", "strong")

# Threads that may wait on one replica at a time: a bulk load must not park every thread of a program.
WAITERS = 16
# Seconds for which a replica that timed out and has not moved is not even asked again.
STALL_PAUSE = 0.05


class Needs(NamedTuple):
    """What one read must see.

    Attributes:
        position: what a replica must have reached; None: nothing.
        primary: why the read has to go to the primary, or ``""``.
    """

    position: Position | None
    primary: str


NOTHING = Needs(None, "")


class Progress:
    """How far one node is known to have come; it belongs to the server that was met, not to its address.

    Attributes:
        server: the identity of that server, as a connection asked for it.
        reached: what it is known to have reached.
        stalled: what it had reached when a wait on it timed out, or None.
        retry_at: on a monotonic clock, when it may be asked again after that.
        waiting: threads that wait on it now.
    """

    __slots__ = ("lock", "reached", "retry_at", "server", "stalled", "waiting")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.server: Any = None
        self.reached: Position | None = None
        self.stalled: Position | None = None
        self.retry_at = 0.0
        self.waiting = 0

    def covers(self, position: Position, server: Any) -> bool:
        """Whether the node behind a connection to `server` is known to have reached `position`."""
        reached: Any = self.reached
        return reached is not None and server == self.server and bool(reached.covers(position))

    def learn(self, server: Any, position: Any, *, fresh: bool) -> None:
        """Take in where a node said that it is.

        Parameters:
            fresh: the connection has not been asked before, so the server behind it may be another one, or
                the same one with older data.
        """
        with self.lock:
            known: Any = self.reached
            anew = known is None or server != self.server
            if anew or (fresh and not position.covers(known)):
                self.server, self.reached, self.stalled = server, position, None
                return
            self.reached = known.merge(position)
            if self.stalled is not None and self.reached != self.stalled:
                self.stalled = None

    def stall(self, now: float) -> None:
        """Remember that a wait timed out."""
        with self.lock:
            self.stalled = self.reached
            self.retry_at = now + STALL_PAUSE


class Consistency:
    """The obligations of a database's contexts.

    Parameters:
        level: the default level.
        catch_up_timeout: seconds one read may spend waiting, over all nodes together.
        sticky_seconds: how long reads stay on the primary after a write where there are no GTIDs.
        counters: where what happens is counted.
    """

    def __init__(
        self, level: str, catch_up_timeout: float, sticky_seconds: float, counters: Counters
    ) -> None:
        self.level = level
        self.catch_up_timeout = catch_up_timeout
        self.sticky_seconds = sticky_seconds
        self.counters = counters
        self.shared = Session()
        self.rehearsing = False
        self._local = threading.local()
        self._said: set[str] = set()

    def own_session(self) -> Session:
        """The session of this thread."""
        try:
            return self._local.session  # type: ignore[no-any-return]  # a thread-local has no types
        except AttributeError:
            self._local.session = session = Session()
            return session

    def session(self, owner: object) -> Session:
        """The session of this context: the innermost ``causal_session()``, else the thread."""
        frame = causal(owner)
        return self.own_session() if frame is None else frame.session

    def heard(self, owner: object, conn: Any, succeeded: bool, was_open: bool) -> None:
        """Take in that a statement on the primary has ended, whoever sent it."""
        after = ended(
            conn._sent,
            succeeded=succeeded,
            reported=conn.gtid is not None and succeeded,
            was_open=was_open,
            is_open=bool(conn.transaction),
            transaction_read=conn.read_in_transaction,
            commit_covers_reads=conn.flavour.COMMIT_COVERS_READS,
        )
        conn.read_in_transaction = after.transaction_read
        for session in (self.session(owner), self.shared):
            if succeeded and conn.gtid:
                session.saw(conn.flavour.position(conn.gtid))
            if after.owes:
                session.owed = True

    def needs(self, owner: object, database: Any, frame: Frame | None) -> Needs:
        """What a read in this context must see; asks the primary where that is owed.

        Raises:
            OperationalError: the level is ``"strong"``, or the scope has to move, and the primary cannot
                be asked.
        """
        level = self.level
        if frame is not None and frame.level is not None:
            level = frame.level
        moved = frame.must_reach if frame is not None else None
        if level == "eventual":
            return NOTHING if moved is None else Needs(moved, "")
        if level == "strong":
            now = self._ask(database, owner)
            return Needs(None, self._sticky_reason("strong")) if now is None else Needs(now, "")
        session = self.shared if level == "process" else self.session(owner)
        if session.owed:
            self._settle(session, database, owner)
        if session.sticky_until:
            if time.monotonic() < session.sticky_until:
                return Needs(None, self._sticky_reason(f"after a write, for {self.sticky_seconds} s"))
            session.sticky_until = 0.0
        position: Any = session.seen
        if moved is not None:
            position = moved if position is None else position.merge(moved)
        return NOTHING if position is None else Needs(position, "")

    def _sticky_reason(self, why: str) -> str:
        return f"the servers keep no GTIDs, so reads stay on the primary ({why})"

    def _settle(self, session: Session, database: Any, owner: object) -> None:
        """Ask for what is owed; where the primary cannot be asked, the obligation is dropped, and said."""
        session.owed = False  # before asking: what ends meanwhile is owed anew
        try:
            now = self._ask(database, owner)
        except Exception as exc:
            if not database._is_connection_failure(exc):
                session.owed = True
                raise
            self.counters.add("unasked")
            logger.warning(
                "the primary cannot be asked how far it has come, so reads do not wait for statements "
                "that reported no position: %s",
                exc,
            )
            return
        if now is not None:
            session.saw(now)
            return
        session.sticky_until = time.monotonic() + self.sticky_seconds
        if "sticky" not in self._said:
            self._said.add("sticky")
            logger.warning(
                "%s; consistency is kept by that alone",
                self._sticky_reason(f"for {self.sticky_seconds} s after each write"),
            )

    def _ask(self, database: Any, owner: object) -> Any:
        self.counters.add("asked")
        conn = database._primary_to_ask()
        return conn.flavour.now(conn.ask(conn.flavour.NOW)[0])


def outcome(answer: Any) -> bool:
    """Whether the answer to a flavour's ``wait()`` says that the position was reached."""
    return answer is not None and not isinstance(answer, Exception) and answer[0] == 0


class CatchUp:
    """One read's way to a replica that shows what it must see.

    Parameters:
        position: what that is.
        seconds: what may be spent on waiting, over all nodes together.
    """

    __slots__ = ("_deadline", "_position", "_text")

    def __init__(self, position: Position, seconds: float) -> None:
        self._position = position
        self._deadline = time.monotonic() + seconds
        self._text = ""

    def known(self, replica: Replica, server: Any) -> bool:
        """Whether no wait is needed there."""
        return replica.is_primary or replica.progress.covers(self._position, server)

    def prefer(self, first: Replica, usable: tuple[Replica, ...]) -> Replica:
        """`first`, unless only others are known to be there."""
        progress = first.progress
        if first.is_primary or progress.covers(self._position, progress.server):
            return first
        for replica in usable:
            progress = replica.progress
            if not replica.is_primary and progress.covers(self._position, progress.server):
                return replica
        return first

    def query(self, replica: Replica, conn: Any) -> str:
        """The query that waits there, or ``""`` where there is no use in waiting."""
        now = time.monotonic()
        progress: Progress = replica.progress
        left = self._deadline - now
        if conn._read_timeout:
            left = min(left, conn._read_timeout / 2)
        if left <= 0 or progress.waiting >= WAITERS:
            return ""
        if progress.stalled is not None:
            if now < progress.retry_at:
                return ""
            left = 0.0  # it has to be seen to move before it is waited on again
        if not self._text:
            self._text = self._position.text()
        return str(conn.flavour.wait(self._text, left))

    def learn(self, replica: Replica, conn: Any, answer: Any) -> bool:
        """Take in the answer; True if the node has reached the position."""
        progress: Progress = replica.progress
        if answer is None or isinstance(answer, Exception):
            progress.stall(time.monotonic())
            return False
        reached = answer[0] == 0
        position = conn.flavour.position(answer[2] or "")
        if reached:
            position = position.merge(self._position)
        progress.learn(answer[1], position, fresh=conn.server is None)
        conn.server = answer[1]
        if not reached:
            progress.stall(time.monotonic())
        return reached
