"""What one context must see. Pure: the time is passed in."""

from __future__ import annotations

from collections.abc import Iterable

from ..concurrency import new_lock
from ..positions import Position

SHORT = 64
"""A position of fewer intervals than this is left as it is."""
LONGEST = 512
"""A position of this many intervals gets its gaps closed, so that it cannot grow without end."""


class Session:
    """What the reads of one context must see: of a thread, a task, a ``causal_session()``, or the process.

    A thread's session begins anew with each unit of work. Until `begin` has been called, it lacks what the
    process had written before.

    Attributes:
        settled: nothing but `seen` has to be considered for the next read. The only attribute that a plain
            read looks at, so everything that changes what it depends on has to keep it right.
        seen: the position that its reads must have reached, or None.
        debts: how many statements on the primary reported no position, or not all of it.
        paid: for how many of them the primary's position has been asked since.
        begun: `seen` includes what the process had written before.
        sticky_until: on a monotonic clock, until when reads stay on the primary; for servers without GTIDs.
        outer: the session around a ``causal_session()``. What is done inside counts there at once, and what
            was seen inside counts there from the end on.
        additions: how often what this context did itself has added to `seen`.
        restarts: how often `seen` was given up because its history is lost.
        merges: how often something was added to `seen` since its size was last looked at.
        checked_at: on a monotonic clock, when the primary was last asked whether it has `seen`.
    """

    __slots__ = (
        "_shorten_at", "additions", "begun", "checked_at", "debts", "lock", "merges", "outer", "paid",
        "restarts", "seen", "settled", "sticky_until",
    )  # fmt: skip

    def __init__(
        self, seen: Position | None = None, outer: Session | None = None, *, begun: bool = False
    ) -> None:
        self.seen = seen
        self.outer = outer
        self.begun = self.settled = begun
        self.debts = self.paid = self.merges = self.additions = self.restarts = 0
        self.sticky_until = 0.0
        self.checked_at = float("-inf")
        self._shorten_at = SHORT
        self.lock = new_lock()

    @property
    def owes(self) -> bool:
        """Whether the primary's present position has to be asked for before the next read on a replica."""
        return self.debts > self.paid

    def _settle(self) -> None:
        self.settled = self.begun and self.paid >= self.debts and not self.sticky_until

    # Units of work

    def begin(self, earlier: Iterable[Session]) -> None:
        """Take over what the process must see, unless that was done in this unit of work already."""
        for session in earlier:
            self.take_over(session)
        with self.lock:
            self.begun = True  # not before: another thread of this context would read without it
            self._settle()

    def end_unit(self) -> None:
        """Forget everything; the next unit of work has a `begin` of its own."""
        with self.lock:
            self.seen = None
            self.paid = self.debts  # counting goes on: somebody may be asking for an earlier debt
            self.sticky_until = 0.0
            self.merges, self._shorten_at = 0, SHORT
            self.begun = self.settled = False

    def end(self) -> None:
        """A ``causal_session()`` ends: what it has seen, the session around it must see from now on."""
        if self.outer is not None:
            self.outer.take_over(self)

    def start_from(self, position: Position) -> None:
        """Later reads must see at least `position`, which came from elsewhere, as with a bookmark."""
        with self.lock:
            self._add(position)

    # What was done

    def owe(self) -> None:
        """A statement on the primary has reported no position, or not all of it."""
        with self.lock:
            self.debts += 1
            self.settled = False

    def pay(self, debts: int) -> None:
        """Settle the debts up to this count; later ones stay."""
        with self.lock:
            self.additions += 1
            self.paid = max(self.paid, debts)
            self._settle()

    def saw(self, position: Position) -> None:
        """Later reads must see at least `position`, because of what this context did."""
        with self.lock:
            self.additions += 1
            self._add(position)

    def saw_too(self, position: Position, before: Position | None, after: Position | None) -> None:
        """As `saw`. If this session had seen exactly `before`, it has now seen `after`, like another one."""
        with self.lock:
            self.additions += 1
            if self.seen is before:
                self.seen = after
                self.merges += 1
            else:
                self._add(position)

    def _add(self, position: Position) -> None:
        while True:
            seen = self.seen
            grows = seen is not None and type(seen) is type(position)
            after = seen.merge(position) if seen is not None and grows else position
            if self.seen is seen:  # else a signal handler wrote during merge(): that must be seen too
                self.seen = after
                self.merges += grows
                return

    def take_over(self, other: Session) -> None:
        """Later reads must see everything that those of `other` must see."""
        if other.owes:  # looked at first: once a debt is paid, its position is in `seen`
            self.owe()
        position = other.seen
        if position is not None:
            with self.lock:
                self._add(position)
        self.stick(other.sticky_until)

    def forget(self) -> None:
        """Give up `seen`, whose history is lost; the next read asks for the primary's present position.

        That includes everything that is in the present history, also what is added while this runs.
        """
        with self.lock:
            self.seen = None
            self.debts += 1
            self.restarts += 1
            self.settled = False

    # Size

    def shorten(self, known: Iterable[Position | None]) -> None:
        """Keep the position short where the writes of others leave gaps between this context's own.

        Parameters:
            known: what nodes are known to have executed.
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
            if self.seen is not before:
                return  # a signal handler wrote in the meantime; a later write shortens both
            self.seen = seen
            self._shorten_at = min(LONGEST, max(SHORT, 2 * seen.size))

    def shortened_too(self, before: Position | None, after: Position) -> None:
        """If this session had seen exactly `before`, which another has shortened to `after`, so has this."""
        with self.lock:
            if self.seen is before:
                self.seen, self.merges = after, 0
                self._shorten_at = min(LONGEST, max(SHORT, 2 * after.size))

    # Servers without GTIDs

    def stick(self, until: float) -> None:
        """Keep reads on the primary until then."""
        if until:
            with self.lock:
                if until > self.sticky_until:
                    self.sticky_until = until
                self.settled = False

    def sticks(self, now: float) -> bool:
        """Whether reads stay on the primary at `now`."""
        if not self.sticky_until:
            return False
        with self.lock:
            if now < self.sticky_until:
                return True
            self.sticky_until = 0.0
            self._settle()
            return False
