"""Keeps what the reads of one context must see. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable

from ..concurrency import HAS_GIL, new_lock
from ..positions import Position
from .delay import Since

SHORT = 64
"""A position of fewer intervals than this is not shortened."""
LONGEST = 512
"""A position of this many intervals gets its gaps filled, so that it cannot grow without bound."""


class Session:
    """What the reads of one context must see: a thread, a task, a ``causal_session()`` or the process.

    A thread's session begins anew with each unit of work. Until `begin` is called, it does not include what
    the process had written before.

    Attributes:
        settled: whether `seen` alone decides what the next read must see. Plain reads check only this
            attribute, so every change to what it depends on has to update it.
        seen: the position that a node must have reached for its reads, or None.
        debts: how many statements on the primary reported no position, or not the whole of it.
        paid: how many of these debts are paid, by asking the primary for its position since.
        begun: whether `seen` includes what the process had written before.
        sticky_until: on a monotonic clock, until when reads stay on the primary; for servers without GTIDs.
        outer: the session around a ``causal_session()``. It records writes inside at once, and everything
            else that was seen inside when the scope ends.
        additions: how often this context's own statements have added to `seen`.
        restarts: how often `seen` was given up because its history is lost.
        merges: how often `seen` was added to since its size was last checked.
        checked_at: on a monotonic clock, when the primary was last asked whether it has `seen`.
        written_at: on a monotonic clock, when a write was last added to `seen`.
        asked_at, received_at: the same for what the primary has reported, and for what came from elsewhere.
    """

    __slots__ = (
        "_shorten_at", "additions", "asked_at", "begun", "checked_at", "debts", "lock", "merges", "outer",
        "paid", "received_at", "restarts", "seen", "settled", "sticky_until", "written_at",
    )  # fmt: skip

    def __init__(
        self, seen: Position | None = None, outer: Session | None = None, *, begun: bool = False
    ) -> None:
        self.seen = seen
        self.outer = outer
        self.begun = self.settled = begun
        self.debts = self.paid = self.merges = self.additions = self.restarts = 0
        self.sticky_until = 0.0
        self.checked_at = self.written_at = self.asked_at = self.received_at = float("-inf")
        self._shorten_at = SHORT
        self.lock = new_lock()

    @property
    def owes(self) -> bool:
        """Whether to ask the primary for its present position before the next read on a replica."""
        return self.debts > self.paid

    def _settle(self) -> None:
        self.settled = self.begun and self.paid >= self.debts and not self.sticky_until

    # Units of work

    def begin(self, earlier: Iterable[Session]) -> None:
        """Begin a unit of work by taking over what `earlier` sessions must see."""
        for session in earlier:
            self.take_over(session)
        with self.lock:
            self.begun = True  # comes last, or another thread of this context would read without it
            self._settle()

    def begin_anew(self) -> None:
        """Let the next read call `begin` again, and keep what was seen."""
        with self.lock:
            self.begun = self.settled = False

    def end_unit(self) -> None:
        """Forget everything at the end of a unit of work; the next one calls `begin` again."""
        with self.lock:
            self.seen = None
            self.paid = self.debts  # not reset to 0: a thread may be paying an earlier debt now
            self.sticky_until = 0.0
            self.merges, self._shorten_at = 0, SHORT
            self.written_at = self.asked_at = self.received_at = float("-inf")
            self.begun = self.settled = False

    def end(self) -> None:
        """End a ``causal_session()``: the session around it must see from now on what this one has seen."""
        if self.outer is not None:
            self.outer.take_over(self)

    def start_from(self, position: Position, now: float) -> None:
        """Require later reads to see at least `position`, which came from elsewhere, as with a bookmark.

        Parameters:
            now: a monotonic clock's reading, in seconds.
        """
        with self.lock:
            before = self.seen
            self._add(position)
            if self.seen is not before:
                self.received_at = now

    # What was done

    def owe(self) -> None:
        """Record a debt: a statement on the primary reported no position, or not the whole of it."""
        with self.lock:
            self.debts += 1
            self.settled = False

    def pay(self, debts: int) -> None:
        """Mark the debts up to this count as paid; later ones stay."""
        with self.lock:
            self.additions += 1
            self.paid = max(self.paid, debts)
            self._settle()

    def saw(self, position: Position) -> None:
        """Require later reads to see at least `position`, because of what this context did."""
        with self.lock:
            self.additions += 1
            self._add(position)

    def was_told(self, position: Position, now: float) -> None:
        """Require later reads to see at least `position`, which the primary has reported.

        Parameters:
            now: a monotonic clock's reading when it did, in seconds.
        """
        before = self.seen
        self.saw(position)
        if self.seen is not before:
            self.asked_at = now

    def _add(self, position: Position) -> None:
        while True:
            seen = self.seen
            after = _merged(seen, position)
            if self.seen is seen:  # otherwise a signal handler wrote during merge(): merge with that too
                self.seen = after
                self.merges += 1
                return

    def take_over(self, other: Session) -> None:
        """Require later reads to see everything that the reads of `other` must see."""
        if other.owes:  # before reading `seen`: once a debt is paid, its position is there
            self.owe()
        position = other.seen
        if position is not None:
            with self.lock:
                self._add(position)
                self.written_at = max(self.written_at, other.written_at)
                self.asked_at = max(self.asked_at, other.asked_at)
                self.received_at = max(self.received_at, other.received_at)
        self.stick(other.sticky_until)

    def forget(self) -> None:
        """Discard `seen`, because its history is lost; the next read asks for the primary's current position.

        That position includes everything in the current history, and whatever is added while this runs.
        """
        with self.lock:
            self.seen = None
            self.debts += 1
            self.restarts += 1
            self.settled = False

    def since(self) -> Since:
        """Return how old the newest part of `seen` is."""
        written, asked, received = self.written_at, self.asked_at, self.received_at
        if written >= asked and written >= received:
            return Since(written, "written")
        return Since(asked, "asked") if asked >= received else Since(received, "received")

    # Size

    def shorten(self, known: Iterable[Position | None]) -> None:
        """Shorten the position by filling the gaps that other contexts' writes leave between this context's.

        Parameters:
            known: the positions that nodes are known to have reached.
        """
        with self.lock:
            before = self.seen
            seen = before
            self.merges = 0
            if seen is None or seen.size < self._shorten_at:
                return
            for position in known:
                if position is not None and type(position) is type(seen):
                    seen = seen.compact(position)
            if seen.size >= LONGEST:
                seen = seen.filled()
            if self.seen is before:  # otherwise somebody has just written; a later write shortens both
                self.seen = seen
                self._shorten_at = min(LONGEST, max(SHORT, 2 * seen.size))

    def shortened_too(self, before: Position | None, after: Position) -> None:
        """If `seen` is `before`, replace it by `after`, which another session has shortened."""
        with self.lock:
            if self.seen is before:
                self.seen, self.merges = after, 0
                self._shorten_at = min(LONGEST, max(SHORT, 2 * after.size))

    # Servers without GTIDs

    def stick(self, until: float) -> None:
        """Keep reads on the primary until `until`, on a monotonic clock."""
        if until:
            with self.lock:
                if until > self.sticky_until:
                    self.sticky_until = until
                self.settled = False

    def sticks(self, now: float) -> bool:
        """Return whether reads stay on the primary at `now`."""
        if not self.sticky_until:
            return False
        with self.lock:
            if now < self.sticky_until:
                return True
            self.sticky_until = 0.0
            self._settle()
            return False


def saw_both(own: Session, shared: Session, position: Position) -> None:
    """Do as `Session.saw` in both; but if they have seen the same before, merge only once.

    With one thread they always have, and merging is the most expensive part of recording a write.
    """
    if not HAS_GIL:
        own.saw(position)
        shared.saw(position)
        return
    before = own.seen
    # As `_merged` does.
    after = before.merge(position) if before is not None and type(before) is type(position) else position
    own.additions += 1
    if own.seen is before:  # nothing comes between this comparison and the assignment, see `HAS_GIL`
        own.seen = after
        own.merges += 1
    else:
        own._add(position)
    shared.additions += 1
    if shared.seen is before:
        shared.seen = after
        shared.merges += 1
    else:
        shared._add(position)


def _merged(seen: Position | None, position: Position) -> Position:
    return seen.merge(position) if seen is not None and type(seen) is type(position) else position
