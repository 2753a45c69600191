"""Finds a replica that shows what one read must see, and waits for it if necessary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Protocol, TypeVar

from ..concurrency import Clock
from ..log import log_event
from ..positions import Position, Unmeasured
from ..scopes.frames import Frame
from ..servers.protocols import Row, ServerConnection
from ..servers.refusals import refusal
from .delay import WORTH_WAITING, Since
from .progress import Progress

# Threads that may wait on one replica at a time, so that a bulk load cannot block every thread of a program.
WAITERS = 16


class Node(Protocol):
    """A node that may have to catch up.

    Attributes:
        progress: the position that the node is known to have reached.
        is_primary: whether the node is the primary, which never lags.
        role: the role that the prober found.
        name: its name.
        title: its name and address, for messages.
    """

    progress: Progress
    is_primary: bool
    role: str | None

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...


class Ages(Protocol):
    """Knows how old what a read must see is."""

    def seen_since(self, frame: Frame | None) -> Since | None:
        """Return how old the newest part of what a read in this scope must see is; None if not known."""


class Late(Enum):
    """What a read does about a replica that is not known to show what the read must see."""

    WAIT = "wait"
    """It waits there, as long as it may."""
    CHECK = "check"
    """It asks whether the replica is there, and waits only briefly."""
    LEAVE = "leave"
    """It does not ask: the replica would take longer than a read is worth waiting for."""


N = TypeVar("N", bound=Node)


class CatchUp:
    """Decides, for one read, where to wait until a replica shows what the read must see.

    Parameters:
        position: the position that a replica must reach. `Unmeasured`: only connections whose reads wait by
            themselves will do.
        seconds: the time to spend waiting, over all nodes together.
        ages: knows how old the position is; None: nobody does, so waiting is always worth it.
        frame: the scope of the read.

    Attributes:
        waited: seconds spent waiting so far, over all nodes together.
        briefly: whether the next wait is a brief one, which may well be in vain.
        has_better: whether that wait only checks a late replica, and another one is expected to be sooner.
    """

    __slots__ = (
        "_ages", "_checked", "_due", "_frame", "_left", "_position", "_sent", "_since", "_text", "_waits",
        "_worth", "briefly", "has_better", "waited",
    )  # fmt: skip

    def __init__(
        self,
        position: Position | Unmeasured,
        seconds: float,
        ages: Ages | None = None,
        frame: Frame | None = None,
    ) -> None:
        self._position = position
        self._left = seconds
        self._worth = WORTH_WAITING if seconds > WORTH_WAITING else seconds
        self._ages = ages
        self._frame = frame
        self._since: Since | None = None
        self._due: Node | None = None
        self.briefly = self.has_better = self._checked = False
        self._text = ""
        self._sent = 0.0
        self._waits = 0.0
        self.waited = 0.0

    def add(self, position: Position) -> None:
        """Require this position as well."""
        mine = self._position
        self._ages = self._since = None  # how old the other one is, is not known
        if isinstance(mine, Unmeasured):
            return  # no connection that will do lacks anything
        merged = mine.merge(position) if type(mine) is type(position) else position
        if merged is not mine:
            self._position, self._text = merged, ""

    def known(self, replica: Node, server: str | None) -> bool:
        """Return whether no wait is needed on this replica.

        Parameters:
            replica: the node.
            server: the identity of the server on the connection to it.
        """
        if replica.is_primary:
            return True
        wanted = self._position
        return not isinstance(wanted, Unmeasured) and replica.progress.covers(wanted, server)

    def shown_by(self, replica: Node, conn: ServerConnection) -> bool:
        """Return whether a read on this connection to a replica needs no wait of the library's."""
        return conn.cluster_waits or self.known(replica, conn.server_identity)

    def prefer(self, first: N, usable: tuple[N, ...], *, checks: bool = False) -> N:
        """Return `first`; if it is late, a replica known to have caught up, or the one expected to be first.

        A replica that keeps up gets the wait and the read in one send, so that reads stay spread over all.

        Parameters:
            first: the policy's choice.
            usable: the replicas that may serve the read.
            checks: whether to return a late replica all the same if it is time to check it; see
                `begin_check`.
        """
        late_by = first.progress.delay.seconds
        if late_by is None or late_by <= self._worth:
            return first
        now = Clock.monotonic()
        if self.known(first, first.progress.server):
            self._learn_from_report(first.progress, now)
            return first
        least = self._expected(first, now)
        if least <= self._worth and not self._is_received():
            return first
        best = self._soonest(first, least, usable, now)
        # Otherwise nobody would find out that it keeps up again while another replica does.
        if checks and best is not first and self._may_check(first.progress, now):
            self._due = first
            return first
        return best

    def _soonest(self, first: N, least: float, usable: tuple[N, ...], now: float) -> N:
        best = first
        # Beginning after the policy's choice, so that the reads that leave it are spread over the others.
        place = usable.index(first) + 1 if first in usable else 0
        for replica in (*usable[place:], *usable[:place]):
            if self.known(replica, replica.progress.server):
                return replica
            expected = self._expected(replica, now)
            if expected < least:
                best, least = replica, expected
        return best

    def judge(self, replica: Node, *, foresee: bool = False) -> Late:
        """Return what to do about a replica that is not known to have caught up.

        Of several reads at a time, only one is told to check a replica that is expected to take too long.

        Parameters:
            replica: the replica.
            foresee: whether only to tell what most reads would do; then none is told to check.
        """
        self.briefly = self.has_better = False
        now = Clock.monotonic()
        progress = replica.progress
        usual = progress.delay.seconds
        if self._expected(replica, now) <= self._worth:
            guessed = self._is_received() and not self._reported_since(progress)
            if not guessed or usual is None or usual <= self._worth:
                return Late.WAIT
            self.briefly = not self._checked
        elif not self._checked and not foresee:
            self.briefly = self._may_check(progress, now)
        self._checked = self._checked or self.briefly
        return Late.CHECK if self.briefly else Late.LEAVE

    def begin_check(self, replica: Node) -> bool:
        """Return whether `prefer` chose this replica only to check it; then the next wait is a brief one."""
        if replica is not self._due:
            return False
        self._due = None
        self.briefly = self.has_better = self._checked = True
        return True

    def _may_check(self, progress: Progress, now: float) -> bool:
        with progress.lock:
            return progress.delay.may_check(now)

    def wait_in_full(self) -> None:
        """Let the next wait be as long as it may, because the read has nowhere else to go."""
        self.briefly = self.has_better = False

    def _expected(self, replica: Node, now: float) -> float:
        """Return how many seconds a read is expected to wait there; 0 if nothing is known."""
        if replica.is_primary:
            return 0.0
        progress = replica.progress
        if progress.stalled is not None and now < progress.retry_at:
            return float("inf")
        if progress.delay.seconds is None or isinstance(self._position, Unmeasured):
            return 0.0
        since = self._age()
        if since is None:
            return 0.0
        if since.origin == "received" and not self._reported_since(progress):
            return 0.0  # it is probably old, and the node has not been asked since
        return progress.delay.left(now - since.at)

    def _age(self) -> Since | None:
        if self._since is None and self._ages is not None:
            self._since = self._ages.seen_since(self._frame)
            self._ages = None
        return self._since

    def _is_received(self) -> bool:
        return self._since is not None and self._since.origin == "received"

    def _reported_since(self, progress: Progress) -> bool:
        return self._since is not None and progress.reported_at >= self._since.at

    def _learn_from_report(self, progress: Progress, now: float) -> None:
        """Note that a node has shown a write by the time of its last report, whoever asked for that."""
        delay, reported = progress.delay, progress.reported_at
        before = delay.seconds
        position, at, estimate = progress.taught
        if position is self._position and at == reported and estimate == before:
            return  # as at each read until something is written
        since = self._age()
        if since is not None and since.origin == "written" and since.at <= reported:
            delay.shown(reported - since.at, now)
        if delay.seconds == before:
            progress.taught = (self._position, reported, before)

    def query(self, replica: Node, conn: ServerConnection) -> str:
        """Return the query that waits on this replica, or ``""`` if waiting is pointless."""
        now = Clock.monotonic()
        progress = replica.progress
        left = max(self._left, 0.0)  # with no time left, still ask without waiting, in the read's own send
        if conn.read_timeout:
            left = min(left, conn.read_timeout / 2)
        if isinstance(self._position, Unmeasured):
            return ""  # the connection's reads do not wait by themselves
        if progress.waiting >= WAITERS or (progress.refusal and now < progress.refused_until):
            return ""
        if progress.stalled is not None:
            if now < progress.retry_at:
                return ""
            left = 0.0  # the replica must move before anyone waits on it again
        if replica.role in ("primary", "detached"):
            # The primary, by another address, or a node that replicates from nobody. On some servers the wait
            # would never end.
            left = 0.0
        if self.briefly:
            left = min(left, WORTH_WAITING)
        self._age()  # before the wait: afterwards, this context may have written more
        self._sent, self._waits = now, left
        if not self._text:
            self._text = self._position.text()
        return str(conn.dialect.wait(self._text, left))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Return a context manager that adds the duration of its block to `waited`."""
        started = Clock.monotonic()
        try:
            yield
        except BaseException:
            self._spend(Clock.monotonic())  # there is no answer to `learn` from
            raise
        finally:
            self.waited += Clock.monotonic() - started

    def _spend(self, now: float) -> None:
        """Count the time since the last question against the time limit of all nodes together."""
        self._left -= now - self._sent

    def answer_seconds(self, conn: ServerConnection) -> float | None:
        """Return the time limit for the last `query` in seconds: its wait and time to answer."""
        spare = conn.connect_timeout
        return None if spare is None else self._waits + spare

    def learn(
        self, replica: Node, conn: ServerConnection, answer: Row | Exception | None, answered_at: float = 0.0
    ) -> bool:
        """Record the answer; return whether the node has reached the position.

        Parameters:
            replica, conn: the node, and the connection on which it answered.
            answer: its answer, an error, or None if none came.
            answered_at: when the answer came, if that was not just now.
        """
        progress = replica.progress
        if answer is None or isinstance(answer, Exception):
            # A wait that ends in an error, such as the user's limit on statements, has still used up time.
            now = Clock.monotonic()
            self._spend(now)
            why = "" if answer is None else refusal(answer)
            if not why:
                progress.stall(now)
                self._learn_delay(progress, now, reached=False)
            elif progress.refuse(why, now):
                log_event(
                    "node_refuses_position",
                    "%s refuses to be asked what it has reached, so reads after a write go elsewhere: %s",
                    replica.title,
                    why,
                    node=replica.name,
                    cause=why,
                )
            return False
        now = answered_at or Clock.monotonic()
        progress.refusal = ""
        reached = answer[0] == 0
        position = conn.dialect.position(answer[2] or "")
        if reached and not isinstance(self._position, Unmeasured):
            position = position.merge(self._position)
        progress.learn(answer[1], position, fresh=conn.server_identity is None, now=now)
        conn.server_identity = answer[1]
        self._learn_delay(progress, now, reached=reached)
        if not reached:
            self._spend(now)
            # A question without a wait, or with a brief one, does not show whether the node has stalled.
            if (self._waits > 0 and not self.briefly) or progress.stalled is not None:
                progress.stall(now)
        return bool(reached)

    def _learn_delay(self, progress: Progress, now: float, *, reached: bool) -> None:
        """Note what an answer says about the time that the node needs to show a write."""
        since = self._since
        if since is None:
            return
        before, after = self._sent - since.at, now - since.at
        if not reached:
            progress.delay.missed(min(after, before + self._waits), now)
        elif since.origin != "received" or (
            after - before > WORTH_WAITING and after > (progress.delay.seconds or 0.0)
        ):
            progress.delay.waited(before, after, now)
