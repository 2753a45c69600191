"""What a context must see: its obligations, and how each statement on the primary adds to them. Pure."""

from __future__ import annotations

from typing import Any

from ..concurrency import new_lock
from ..positions import Position
from ..statements.tokens import first_word

# First words of statements that read nothing and change nothing a replica has to catch up with.
_SILENT = frozenset({"BEGIN", "START", "SET", "SAVEPOINT", "RELEASE", "USE", "LOCK", "UNLOCK", "DEALLOCATE"})
# First words of statements whose transaction's COMMIT reports for them.
_REPORTED_LATER = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})

SHORT = 64
"""A position of fewer intervals than this is left as it is."""
LONGEST = 4096
"""A position is given up for the primary's present one when it has so many intervals."""


class Session:
    """The obligations of one context: a thread, a task, or a ``causal_session()``.

    Attributes:
        seen: the position its reads must have reached, or None.
        debts: how many statements on the primary reported no position of their own.
        paid: to how many of these the primary's position has been asked for since.
        sticky_until: on a monotonic clock, until when reads stay on the primary; for servers without GTIDs.
        outer: the obligations of the context around a ``causal_session()``; what happens inside counts
            there too, what it began with (a bookmark) does not.
        bookmarked: `seen` has a bookmark in it, which may be of a history that was lost.
        lost: it is of such a history, as the primary has told.
        grown: how often something was added to `seen` since its size was last looked at.
    """

    __slots__ = (
        "_shorten_at", "bookmarked", "debts", "grown", "lock", "lost", "outer", "paid", "seen",
        "sticky_until",
    )  # fmt: skip

    def __init__(self, seen: Position | None = None, outer: Session | None = None) -> None:
        self.seen = seen
        self.outer = outer
        self.lost = False
        self.debts = self.paid = self.grown = 0
        self.sticky_until = 0.0
        self.bookmarked = False
        self._shorten_at = SHORT
        self.lock = new_lock()

    @property
    def owed(self) -> bool:
        """Whether the primary's present position has to be asked for before the next read on a replica."""
        return self.debts > self.paid

    def owe(self) -> None:
        """A statement on the primary has reported no position of its own."""
        with self.lock:
            self.debts += 1

    def pay(self, debts: int) -> None:
        """What was owed when there were so many debts is owed no more; what came after still is."""
        with self.lock:
            self.paid = max(self.paid, debts)

    def saw(self, position: Position) -> None:
        """Oblige later reads to see at least `position`."""
        with self.lock:
            seen: Any = self.seen
            if seen is None or type(seen) is not type(position):
                self.seen = position
            else:
                self.seen = seen.merge(position)
                self.grown += 1

    def saw_too(self, position: Position, before: Position | None, after: Position | None) -> None:
        """As `saw`. Where this had seen just `before`, it has now seen `after`, as another session has."""
        with self.lock:
            if self.seen is before:
                self.seen = after
                self.grown += 1
                return
        self.saw(position)

    def shortened_too(self, before: Position | None, after: Position) -> None:
        """Where this had seen just `before`, which another session has shortened to `after`, so has this."""
        with self.lock:
            if self.seen is before:
                self.seen, self.grown = after, 0
                self._shorten_at = max(SHORT, 2 * after.size)

    def begin_anew(self, position: Position) -> None:
        """Forget what was seen in a history that is lost: from here on reads see at least `position`."""
        with self.lock:
            self.seen = position
            self.lost = self.bookmarked = False

    def shorten(self, owner: Any) -> None:
        """Keep the position short where the writes of others leave gaps between this context's own.

        Parameters:
            owner: whose ``known_positions()`` tells what nodes are known to have executed.
        """
        with self.lock:
            seen: Any = self.seen
            self.grown = 0
            if seen is None or seen.size < self._shorten_at:
                return
            for known in owner.known_positions():
                if type(known) is type(seen):
                    seen = seen.compact(known)
            if seen.size >= LONGEST:
                # The primary's present position, asked for before the next read, has all of it.
                seen = None
                self.debts += 1
            self.seen = seen
            self._shorten_at = SHORT if seen is None else max(SHORT, 2 * seen.size)

    def take_over(self, other: Session) -> None:
        """Oblige later reads to what `other` is obliged to."""
        if other.owed:  # looked at first: once a debt is paid, its position is there
            self.owe()
        if other.seen is not None:
            self.saw(other.seen)
        self.stick(other.sticky_until)

    def stick(self, until: float) -> None:
        """Keep reads on the primary until then."""
        with self.lock:
            self.sticky_until = max(self.sticky_until, until)

    def sticks(self, now: float) -> bool:
        """Whether reads stay on the primary at `now`."""
        with self.lock:
            if now < self.sticky_until:
                return True
            self.sticky_until = 0.0
            return False


class Ended:
    """What one statement on the primary leaves to a context that it has ended in.

    Attributes:
        owes: the primary's present position is owed.
        transaction_read: the transaction that is open has read or failed at something.
    """

    __slots__ = ("owes", "transaction_read")

    def __init__(self, owes: bool, transaction_read: bool) -> None:
        self.owes = owes
        self.transaction_read = transaction_read


def ended(
    text: str | bytes,
    *,
    succeeded: bool,
    reported: bool,
    was_open: bool,
    is_open: bool,
    transaction_read: bool,
    commit_covers_reads: bool,
) -> Ended:
    """What a statement on the primary that has ended obliges its context to.

    Parameters:
        text: the statement.
        succeeded: whether it ended without an error.
        reported: whether the server reported a position for it.
        was_open, is_open: whether a transaction was open before it, and is open after it.
        transaction_read: whether the transaction had read or failed at something before.
        commit_covers_reads: whether a commit's own position covers all that its transaction had read.
    """
    if reported:
        return Ended(transaction_read and not commit_covers_reads, False)
    word = first_word(text)
    if is_open:
        harmless = succeeded and (word in _SILENT or word in _REPORTED_LATER)
        return Ended(False, transaction_read or not harmless)
    if was_open:
        return Ended(True, False)  # a COMMIT without a write, or a ROLLBACK: what it read was read
    return Ended(not (succeeded and word in _SILENT), False)
