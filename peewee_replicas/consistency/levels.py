"""Consistency: what a read must see, and whether a replica shows it yet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, Protocol, cast

from ..concurrency import THREADS, Clock, Here
from ..events import Counters
from ..positions import Position
from ..scopes.frames import Frame, causal, pinning
from ..servers.protocols import ServerConnection
from .sessions import SHORT, Session, ended

logger = logging.getLogger("peewee.replicas")


class Needs(NamedTuple):
    """What one read must see.

    Attributes:
        position: what a replica must have reached; None: nothing.
        primary: why the read has to go to the primary, or ``""``.
        excused: whether that read obliges to nothing itself, so that the next may be on a replica again.
    """

    position: Position | None
    primary: str
    excused: bool = False


NOTHING = Needs(None, "")


class _Unknown(Enum):
    ASK = "ask"


ASK: Final = _Unknown.ASK
"""Stands for a need that is not known without a closer look, and perhaps a question to the primary."""


class PrimaryPositions(Protocol):
    """The primary, as it is asked about positions. Each question is one round trip with a time limit."""

    def may_ask(self) -> bool:
        """Whether to ask now. While the primary is known to be down, one caller at a time may."""

    def asked(self, answered: bool) -> None:
        """Report what became of a question that `may_ask` has allowed."""

    def current(self) -> Position | None:
        """The primary's position now; None where it keeps no GTIDs.

        Raises:
            PeeweeException: there was no answer.
        """

    def has(self, position: Position) -> bool:
        """Whether the primary's history contains a position, as far as it can tell.

        Raises:
            PeeweeException: there was no answer.
        """

    def is_unreachable(self, exc: BaseException) -> bool:
        """Whether an error of these questions means that the primary cannot be reached."""


def _both(one: Any, other: Any) -> Position | None:
    if type(one) is type(other) and one is not None:
        merged: Position = one.merge(other)
        return merged
    # A bookmark may hold a position of the other kind of server.
    found: Position | None = one if other is None else other
    return found


class Consistency:
    """The obligations of a database's contexts.

    Attributes:
        primary: answers questions about the primary's position; set once there is a database to ask.

    Parameters:
        owner: whose scopes these are, as frames name it; its ``known_positions()`` are what nodes are known
            to have executed.
        level: the default level.
        catch_up_timeout: seconds one read may spend waiting, over all nodes together.
        sticky_seconds: how long reads stay on the primary after a write where there are no GTIDs.
        counters: where what happens is counted.
        here: tells threads, or tasks, apart.
    """

    primary: PrimaryPositions

    def __init__(
        self,
        owner: Any,
        level: str,
        catch_up_timeout: float,
        sticky_seconds: float,
        counters: Counters,
        here: Here = THREADS,
    ) -> None:
        self._owner = owner
        self.level = level
        self.catch_up_timeout = catch_up_timeout
        self.sticky_seconds = sticky_seconds
        self.counters = counters
        self.shared = Session()
        self._local = here.local()
        self._said: set[str] = set()

    def own_session(self) -> Session:
        """The session of this thread or task."""
        try:
            return self._local.session  # type: ignore[no-any-return]  # a thread-local has no types
        except AttributeError:
            self._local.session = session = Session()
            return session

    def session(self) -> Session:
        """The session of this context: the innermost ``causal_session()``, else the thread or task."""
        frame = causal(self._owner)
        return self.own_session() if frame is None else cast(Session, frame.session)

    def statement_ended(self, conn: ServerConnection, succeeded: bool, was_open: bool) -> None:
        """Take in that a statement on the primary has ended, whoever sent it."""
        position = conn.position if succeeded else None
        if position is not None and not conn.transaction_has_read:
            owes = False  # as `ended` would say of most writes
        else:
            after = ended(
                conn.last_statement,
                succeeded=succeeded,
                reported=conn.gtid is not None and succeeded,
                was_open=was_open,
                is_open=bool(conn.transaction),
                transaction_read=conn.transaction_has_read,
                commit_covers_reads=conn.dialect.COMMIT_COVERS_READS,
            )
            conn.transaction_has_read = after.transaction_read
            owes = after.owes
            if position is None and not owes:
                return
        if position is not None:
            self._saw(position)
        if owes and not getattr(self._local, "excused", False):
            for session in self._concerned():
                session.owe()

    def _saw(self, position: Position) -> None:
        if causal(self._owner) is not None:
            for session in self._concerned():
                session.saw(position)
                if session.grown >= SHORT:
                    session.shorten(self._owner)
            return
        own = self.own_session()
        before = own.seen
        own.saw(position)
        # With one thread both have seen the same, and adding to both is the dearest part of a write.
        self.shared.saw_too(position, before, own.seen)
        if own.grown >= SHORT:
            before = own.seen
            own.shorten(self._owner)
            if own.seen is not None:
                self.shared.shortened_too(before, own.seen)
        if self.shared.grown >= SHORT:
            self.shared.shorten(self._owner)

    def abandoned(self) -> None:
        """Take in that a connection was closed with a transaction open: what it read there was read."""
        for session in self._concerned():
            session.owe()

    def _concerned(self) -> Iterator[Session]:
        """Whose obligations grow with what this context does: its own, those around it, the process's."""
        session: Session | None = self.session()
        while session is not None:
            yield session
            session = session.outer
        yield self.shared

    def look_for_lost_history(self) -> None:
        """After replicas were behind a bookmark: find out whether its writes exist at all any more."""
        session = self.session()
        if not session.bookmarked or session.lost or session.seen is None:
            return
        try:
            exists = self.primary.has(session.seen)
        except Exception:
            return  # the read itself will say that the primary cannot be had
        if not exists:
            session.lost = True
            logger.warning("a bookmark is of a history that the primary does not have: %s", session.seen)

    def at_hand(self) -> Position | Literal[_Unknown.ASK] | None:
        """What a read outside all scopes must see, where that is known as it is; else `ASK`, for `needs`."""
        if self.level == "session":
            session = self.own_session()
            if session.debts > session.paid or session.sticky_until or session.lost:
                return ASK
            return session.seen
        return None if self.level == "eventual" else ASK

    def needs(self, frame: Frame | None) -> Needs:
        """What a read in this context must see; asks the primary where that is owed.

        Raises:
            OperationalError: the level is ``"strong"``, or the scope has to move, and the primary cannot
                be asked.
        """
        level = self.level_of(frame)
        pin = pinning(self._owner)
        moved = None if pin is None else cast("Position | None", pin.must_reach)
        if level == "eventual" and (frame is None or frame.level is None) and causal(self._owner) is not None:
            level = "session"  # what a causal_session() promises, it promises at any level of the database
        if level == "eventual":
            return NOTHING if moved is None else Needs(moved, "")
        if level == "strong":
            now = self.primary.current()
            return Needs(None, self._sticky_reason("strong")) if now is None else Needs(now, "")
        session = self.shared if level == "process" else self.session()
        if session.owed:
            try:
                self._settle(session)
            except Exception as exc:
                return self._untold(exc)
        if session.lost:
            return Needs(None, "the bookmark is of a history that the primary does not have")
        if session.sticky_until and session.sticks(Clock.monotonic()):
            why = self._sticky_reason(f"after a write, for {self.sticky_seconds} s")
            # In a scope that must not go backwards, what was read on the primary counts as well.
            return Needs(None, why, excused=pin is None)
        position = session.seen
        if level == "process":
            position = _both(position, self.session().seen)  # which may have come with a bookmark
        position = _both(position, moved)
        return NOTHING if position is None else Needs(position, "")

    def stays(self, frame: Frame | None) -> str:
        """Why a read in this context stays on the primary, as far as is known without asking; or ``""``."""
        level = self.level_of(frame)
        if level not in ("session", "process"):
            return ""
        session = self.shared if level == "process" else self.session()
        if session.sticky_until and session.sticks(Clock.monotonic()):
            return self._sticky_reason(f"after a write, for {self.sticky_seconds} s")
        return ""

    def _sticky_reason(self, why: str) -> str:
        return f"the servers keep no GTIDs, so reads stay on the primary ({why})"

    def _untold(self, exc: Exception) -> Needs:
        """What a read needs where the primary answers and refuses to tell its position: the primary."""
        self.counters.add("unasked")
        if "refused" not in self._said:
            self._said.add("refused")
            logger.warning(
                "the primary does not tell its position, so reads stay on it after a write: %s", exc
            )
        return Needs(None, "the primary does not tell its position", excused=True)

    def _settle(self, session: Session) -> None:
        """Ask for what is owed; where the primary cannot be asked, it stays owed, and reads go on without."""
        if not self.primary.may_ask():
            return  # one caller at a time finds out whether it is back
        debts = session.debts  # before asking: what ends meanwhile is owed anew
        try:
            now = self.primary.current()
        except BaseException as exc:
            self.primary.asked(False)  # also where it was cancelled, or nobody would ask again
            if not (isinstance(exc, Exception) and self.primary.is_unreachable(exc)):
                raise
            self.counters.add("unasked")
            if "away" not in self._said:
                self._said.add("away")
                logger.warning(
                    "the primary cannot be asked how far it has come, so until it can be, reads do not wait "
                    "for statements that reported no position: %s",
                    exc,
                )
            return
        self.primary.asked(True)
        self._said.discard("away")
        if now is not None:
            session.saw(now)
            session.pay(debts)  # not before: another thread of this context would not wait for the answer
            return
        session.stick(Clock.monotonic() + self.sticky_seconds)
        session.pay(debts)
        if "sticky" not in self._said:
            self._said.add("sticky")
            logger.warning(
                "%s; consistency is kept by that alone",
                self._sticky_reason(f"for {self.sticky_seconds} s after each write"),
            )

    @contextmanager
    def excusing(self, excused: bool) -> Iterator[None]:
        """Whether what this thread reads on the primary meanwhile obliges it to nothing."""
        self._local.excused = excused
        try:
            yield
        finally:
            self._local.excused = False

    def settled(self, session: Session) -> Position | None:
        """What a session must see, once all that is owed was asked for."""
        if session.owed:
            self._settle(session)
        return session.seen

    def level_of(self, frame: Frame | None) -> str:
        """The level that holds in a scope."""
        return self.level if frame is None or frame.level is None else frame.level
