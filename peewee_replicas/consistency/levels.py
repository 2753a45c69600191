"""Decides what a read must see, at each consistency level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Final, Literal, NamedTuple, Protocol, cast

from .. import bookmarks
from ..concurrency import THREADS, Clock, Here
from ..events import Cause, Counters
from ..log import log_event
from ..positions import Position, Unmeasured
from ..scopes.frames import Frame, causal, pinning
from ..scopes.frames import Owner as FrameOwner
from ..servers.protocols import ServerConnection
from .companions import join
from .debts import PLAIN_BEGIN, PLAIN_INSIDE, PLAIN_WRITES, left_by
from .delay import Since
from .inquiry import Inquiry, PrimaryPositions, log_unanswered
from .process_history import ProcessHistory, process_history
from .sessions import SHORT, Session, saw_both

RECHECK_SECONDS = 1.0
"""Seconds before the primary may be asked again whether it has the position that replicas do not reach."""


class Needs(NamedTuple):
    """What one read must see.

    Attributes:
        position: the position that a replica must have reached; None: none. `Unmeasured`: only a node whose
            reads wait by themselves will do.
        primary: why the read has to go to the primary, or ``""``.
        excused: whether this read creates no debt, so that the next one may use a replica again.
        cause: `primary` in one word.
    """

    position: Position | Unmeasured | None
    primary: str
    excused: bool = False
    cause: Cause = "sticky"


NOTHING = Needs(None, "")
_BY_THEMSELVES = Needs(Unmeasured.WRITES, "")


class _Unknown(Enum):
    ASK = "ask"


ASK: Final = _Unknown.ASK
"""The need is not known yet; `Consistency.needs` finds it, and may ask the primary."""


class Owner(FrameOwner, Protocol):
    """The database, which has nodes and scopes."""

    def known_positions(self) -> Sequence[Position | None]:
        """Return the positions that nodes are known to have reached."""

    def waits_for_itself(self) -> bool:
        """Return whether some node is a member of a Galera cluster, where each read waits by itself."""


def _both(one: Position | None, other: Position | None) -> Position | None:
    if one is not None and other is not None and type(one) is type(other):
        return one.merge(other)
    # A bookmark may hold a position of the other kind of server.
    return one if other is None else other


class Consistency:
    """Decides what the reads of each context must see, at each level.

    Attributes:
        primary: answers questions about the primary's position; set by `attach`.
        history: what this process has written to the same servers; set by `attach`.

    Parameters:
        owner: the database whose scopes and nodes these are.
        level: the default level.
        catch_up_timeout: seconds one read may spend waiting, over all nodes together.
        sticky_seconds: seconds that reads stay on the primary after a write, if there are no GTIDs.
        counters: the counters of ``db.stats()``.
        here: identifies the running thread or task.
    """

    primary: PrimaryPositions
    history: ProcessHistory

    def __init__(
        self,
        owner: Owner,
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
        self._here = here
        self._local = here.local()
        self._inquiry = Inquiry(counters, sticky_seconds, owner.waits_for_itself)

    def attach(self, primary: PrimaryPositions, endpoint: str) -> None:
        """Set the primary.

        Parameters:
            primary: answers questions about the primary's position.
            endpoint: the primary's endpoint; writes there through other database objects count too.
        """
        self.primary = self._inquiry.primary = primary
        self.history = process_history(endpoint)
        self.history.companions.count += 1

    def continue_from(self, before: Consistency) -> None:
        """Take over the sessions of another `Consistency`, when a database is initialised again."""
        self._local = before._local
        join(self.history.companions.scoped, self)  # reads of other threads have begun through `before`
        if before.history is not self.history:
            # Reads at the new endpoint must also see what was written before.
            self.history.session.take_over(before.history.session)

    def follow_primary(self, endpoint: str) -> None:
        """Go on at another endpoint, because the primary has moved there; its history has these writes."""
        history = process_history(endpoint)
        if history is not self.history:
            # First, because units of work of other threads may begin at any moment.
            history.continue_from(self.history)
            history.companions.count += 1
            self.history = history

    def primary_answered(self, server: str, position: Position | None) -> None:
        """Record the primary's identity and position, as just reported to the prober."""
        self.history.primary_told(position, Clock.monotonic(), server)

    # Sessions

    def own_session(self) -> Session:
        """Return the session of this thread or task."""
        try:
            return self._local.session  # type: ignore[no-any-return]  # a thread-local has no types
        except AttributeError:
            self._local.session = session = Session()
            return session

    def session(self) -> Session:
        """Return the session of the innermost ``causal_session()``, or else of this thread or task."""
        frame = causal(self._owner)
        return self.own_session() if frame is None else cast(Session, frame.session)

    def inner_session(self, positions: Iterable[Position | None], *, apart: bool = False) -> Session:
        """Return a session for a ``causal_session()`` that is entered now.

        Parameters:
            positions: what it begins with; None means the primary's present position.
            apart: whether it is its own unit of work, such as a request, and not part of this thread's.
        """
        join(self.history.companions.scoped, self)
        outer = None if apart and causal(self._owner) is None else self.session()
        session = Session(outer=outer, begun=outer is not None and outer.begun)
        if outer is not None:
            session.take_over(outer)
        for position in positions:
            if position is None:
                session.owe()
            else:
                session.start_from(position, Clock.monotonic())
        return session

    def unit_begins(self) -> None:
        """Let a unit of work begin now, because this thread or task has no connection.

        Something other than a successful statement may have begun one before, such as taking a bookmark.
        """
        session = getattr(self._local, "session", None)
        if session is not None and session.begun:
            session.begin_anew()

    def unit_ended(self) -> None:
        """End the unit of work, because this thread or task has closed the database."""
        session = getattr(self._local, "session", None)
        if session is not None:
            session.end_unit()

    def _own_sessions(self) -> Iterator[Session]:
        """Yield the sessions that record what this context does: its own, and those around it."""
        session: Session | None = self.session()
        while session is not None:
            yield session
            session = session.outer

    def _concerned(self) -> Iterator[Session]:
        """Yield the sessions that record this context's writes: its own, those around it, the process's."""
        yield from self._own_sessions()
        yield self.history.session

    # What was done on the primary

    def statement_ended(self, conn: ServerConnection, succeeded: bool, was_open: bool) -> None:
        """Record the end of a statement on the primary, whoever sent it.

        Parameters:
            conn: the connection to the primary.
            succeeded: whether the statement ended without an error.
            was_open: whether a transaction was open before it.
        """
        position = conn.position if succeeded else None
        if succeeded and not (conn.transaction_has_read or conn.more_results):
            # A shortcut for most writes, and most statements in transactions. `left_by` says the same.
            if position is not None:
                if conn.last_statement[:7] in PLAIN_WRITES:
                    self._wrote(position)
                    return
            elif conn.transaction:
                start = conn.last_statement[:7]
                if start in PLAIN_BEGIN or (conn.changed_rows and start in PLAIN_INSIDE):
                    return
        left = left_by(
            conn.last_statement,
            succeeded=succeeded,
            reported=position is not None,
            was_open=was_open,
            is_open=bool(conn.transaction),
            transaction_has_read=conn.transaction_has_read,
            commit_covers_reads=self._commit_covers_reads(conn),
            more_results=conn.more_results,
            changed_rows=conn.changed_rows,
        )
        conn.transaction_has_read = left.transaction_has_read
        owes = left.owes
        if position is not None:
            self._wrote(position)
        if owes and not getattr(self._local, "excused", False):
            for session in self._own_sessions():
                session.owe()
            # Reads here are not writes of the process. If each read that fell back to the primary made every
            # later unit of work wait for the primary's present position, those would fall back too.
            if not (conn.executing == "read" or conn.guarded):
                self.history.session.owe()
                self._tell_companions()

    def _commit_covers_reads(self, conn: ServerConnection) -> bool:
        if not (conn.dialect.COMMIT_COVERS_READS and conn.transaction_has_read):
            return False
        return self.history.has_one_domain(Clock.monotonic())

    def _wrote(self, position: Position) -> None:
        shared = self.history.session
        now = Clock.monotonic()
        if causal(self._owner) is not None:
            for session in self._concerned():
                session.saw(position)
                session.written_at = now
                if session.merges >= SHORT:
                    session.shorten(self._owner.known_positions())
            self._tell_companions()
            return
        try:
            own: Session = self._local.session  # as `own_session` does, without a call for each write
        except AttributeError:
            own = self.own_session()
        saw_both(own, shared, position)
        own.written_at = shared.written_at = now
        if self.history.companions.count > 1 or self.history.others:
            self._tell_companions()
        if own.merges >= SHORT:
            before = own.seen
            own.shorten(self._owner.known_positions())
            if own.seen is not None:
                shared.shortened_too(before, own.seen)
        if shared.merges >= SHORT:
            shared.shorten(self._owner.known_positions())

    def abandoned(self) -> None:
        """Record that a connection was closed inside a transaction; the program has seen its reads."""
        for session in self._concerned():
            session.owe()
        self._tell_companions()

    def _tell_companions(self) -> None:
        """Let this context's reads through other database objects see what it has just written.

        They begin anew, with what the process wrote. To hand each of them the position would make every write
        dearer, and after the first there is nothing more to tell.
        """
        for history in (self.history, *self.history.others):
            history.companions.tell(self._here, self)

    def hear(self) -> None:
        """Let the reads of this context begin anew, because it has written through another object."""
        own = getattr(self._local, "session", None)
        for session in (*self._own_sessions(), own):
            if session is not None and session.begun:
                session.begin_anew()

    @contextmanager
    def excusing(self, excused: bool) -> Iterator[None]:
        """If `excused`, let this thread's reads on the primary create no debt within the block."""
        self._local.excused = excused
        try:
            yield
        finally:
            self._local.excused = False

    # What a read must see

    def level_of(self, frame: Frame | None) -> str:
        """Return the consistency level of a scope; of reads outside scopes if `frame` is None."""
        level = self.level if frame is None or frame.level is None else frame.level
        if level == "eventual" and (frame is None or frame.level is None) and causal(self._owner) is not None:
            return "session"  # a causal_session() keeps its promise at any level of the database
        return level

    def need_outside_scopes(self) -> Position | Literal[_Unknown.ASK] | None:
        """Return what a read outside all scopes must see, if known; else `ASK`: call `needs`."""
        if self.level == "session":
            try:
                session = self._local.session
            except AttributeError:
                return ASK
            return session.seen if session.settled else ASK
        return None if self.level == "eventual" else ASK

    def needs(self, frame: Frame | None) -> Needs:
        """Return what a read in this context must see; ask the primary if a debt is open.

        Raises:
            OperationalError: the level is ``"strong"``, and the primary cannot be asked.
        """
        level = self.level_of(frame)
        pin = pinning(self._owner)
        moved = None if pin is None else cast("Position | None", pin.must_reach)
        if level == "eventual":
            return NOTHING if moved is None else Needs(moved, "")
        # Ask before each read, because anyone may have written since the last one.
        if level == "strong":
            try:
                now = self.primary.current()
            except Exception as exc:
                if self.primary.is_unreachable(exc):
                    raise
                return self._position_refused(exc)  # the primary itself shows everything
            if now is None and self._owner.waits_for_itself():
                return _BY_THEMSELVES
            return Needs(None, self._sticky_reason("strong")) if now is None else Needs(now, "")
        sessions = self._sessions(level)
        if not (level == "session" and sessions[0].settled):  # then there is nothing to ask or to wait for
            try:
                self._make_ready(sessions)
            except Exception as exc:
                return self._position_refused(exc)
            if self._stick(sessions):
                if self._owner.waits_for_itself():
                    return _BY_THEMSELVES
                # In a scope that must not go backwards, reads on the primary create debts too.
                return Needs(None, self._sticky_reason(self._after_a_write()), excused=pin is None)
        position = moved
        for session in sessions:
            position = _both(session.seen, position)
        if position is None:
            return NOTHING
        if self.history.may_be_lost(position):
            given_up = self._give_up_lost(frame)
            if given_up:
                return self.needs(frame)
            if given_up is not None:
                self.history.not_lost()
        return Needs(position, "")

    def stays(self, frame: Frame | None) -> str:
        """Return why a read here stays on the primary, as far as is known without asking; or ``""``."""
        level = self.level_of(frame)
        if self._owner.waits_for_itself():
            return ""
        if level in ("session", "process") and self._stick(self._sessions(level)):
            return self._sticky_reason(self._after_a_write())
        return ""

    def seen_since(self, frame: Frame | None) -> Since | None:
        """Return how old the newest part of what a read here must see is; None if that is not known.

        At level ``"strong"``, call it right after `needs`.
        """
        level = self.level_of(frame)
        pin = pinning(self._owner)
        if level == "eventual" or (pin is not None and pin.must_reach is not None):
            return None  # only a scope that had to move must see something then
        if level == "strong":
            return Since(Clock.monotonic(), "asked")
        since = max(session.since() for session in self._sessions(level))
        return None if since.at == float("-inf") else since

    def known_need(self, frame: Frame | None) -> Position | None:
        """Return what a read here must see, as far as is known without asking the primary; None: nothing."""
        level = self.level_of(frame)
        if level not in ("session", "process"):
            return None
        position: Position | None = None
        for session in self._sessions(level):
            if session.owes or not session.begun:
                return None  # the next read may have to see more
            position = _both(session.seen, position)
        return position

    def _sessions(self, level: str) -> tuple[Session, ...]:
        """Return the sessions whose writes a read must see at a level."""
        session = self.session()
        if level == "process":
            return (*self.history.sessions(), session)  # `session` may have begun with a bookmark
        return (session,)

    def _make_ready(self, sessions: tuple[Session, ...]) -> None:
        """Begin sessions that have not begun, and fetch the primary's position for those that need it."""
        shared = self.history.sessions()
        earlier = () if all(session.begun for session in sessions) else shared
        if any(session.owes for session in (*sessions, *earlier)):
            # One answer pays for all of them, so that the next unit of work need not ask again.
            owing = [session for session in dict.fromkeys((*sessions, *shared)) if session.owes]
            self._inquiry.pay_unless_refused(owing, self.history)
        for session in sessions:
            if not session.begun:
                here = self.history.companions.here(self._here)
                join(here, self)
                session.begin(earlier)
                if not join(here, self):  # a signal handler has written through another one meanwhile
                    session.begin_anew()

    def _stick(self, sessions: tuple[Session, ...]) -> bool:
        now = Clock.monotonic()
        # Not any(): sticks() must be called on each session, to reset those whose time is over.
        return True in [session.sticks(now) for session in sessions]

    def _after_a_write(self) -> str:
        return f"after a write, for {self.sticky_seconds} s"

    def _sticky_reason(self, why: str) -> str:
        return f"the primary keeps no GTIDs, so reads stay there ({why})"

    # Asking the primary

    def _position_refused(self, exc: Exception) -> Needs:
        """Send a read to the primary, because it refuses to report its position."""
        self._inquiry.note_refusal(exc, self.history)
        return Needs(None, "the primary does not report its position", excused=True, cause="position_unknown")

    def pay(self, session: Session) -> None:
        """Ask the primary for what a session owes. If the primary cannot be asked, the debt stays."""
        if session.owes:
            self._inquiry.pay([session], self.history)

    # Bookmarks

    def bookmark(self, session: Session, history: str, issued: float) -> str | None:
        """Return as a string the position that a session must see; None if there is none.

        Parameters:
            session: the session; it is begun, and its debts are paid, if not done yet.
            history: the name of the database's history.
            issued: the time now, in seconds since the epoch.
        """
        try:
            self._make_ready((session,))
        except Exception as exc:
            self._position_refused(exc)
        if session.owes:  # the primary has not reported it
            return bookmarks.encode(None, history, issued)
        return None if session.seen is None else bookmarks.encode_within_limit(session.seen, history, issued)

    # Lost histories

    def forget_lost_history(self, frame: Frame | None) -> bool:
        """Give up positions that no replica can reach, because a failover, for example, lost the writes.

        Call it after replicas were too far behind. The primary is asked at most once in `RECHECK_SECONDS` for
        each context.

        Returns:
            Whether anything was given up, so that the read now has other `needs`.
        """
        return bool(self._give_up_lost(frame))

    def _give_up_lost(self, frame: Frame | None) -> bool | None:
        """Do the work of `forget_lost_history`; return None if the primary was not asked."""
        level = self.level_of(frame)
        session, now = self.session(), Clock.monotonic()
        pin = pinning(self._owner)
        moved = None if pin is None else cast("Position | None", pin.must_reach)
        if now - session.checked_at < RECHECK_SECONDS or (level in ("eventual", "strong") and moved is None):
            return None
        session.checked_at = now
        sessions = [one for one in (*self._concerned(), *self.history.sessions()) if one.seen is not None]
        held = [cast(Position, one.seen) for one in sessions] + ([] if moved is None else [moved])
        missing = self._inquiry.missing(held)
        if missing is None:
            return None
        for one, lost in zip(sessions, missing, strict=False):
            if lost is not None:
                one.forget()
        if pin is not None and moved is not None and missing[-1] is not None:
            self._move_anew(pin)
        found = [lost for lost in missing if lost is not None]
        if found:
            self.counters.add("positions_lost")
        for lost in found:
            if self.history.lost(lost, now):
                log_event(
                    "position_lost",
                    "the history of the primary (%s) does not have %s: it was lost, for example in a "
                    "failover, so reads no longer wait for it",
                    self.history.endpoint,
                    lost.text(),
                    node="primary",
                    cause=f"the primary's history does not have {lost.text()}",
                )
        return bool(found)

    def _move_anew(self, pin: Frame) -> None:
        try:
            now = self.primary.current()
        except Exception as exc:
            log_unanswered("how far it has come", exc)
        else:
            pin.must_reach = now
