"""Decides when a node has been silent for so long that it is asked, asked again, or taken for hung.

No I/O, no clock: the prober looks many times a second and passes in counters that the node keeps anyway, so
reads need no timers of their own.
"""

from __future__ import annotations

from typing import Literal

STEP = 0.1
"""Seconds between two looks while reads are under way."""
ASK_AFTER = 0.1
"""Seconds for which reads wait without any answer before the node is asked."""
FIRST_PATIENCE = 0.2
"""Seconds that it has for the first answer, before a new connection is opened to ask again."""
SECOND_PATIENCE = 0.3
"""Seconds that it has from then on. A lost packet is sent again within this time."""
_LONGEST_PAUSE = 1.0
_LONGEST_PATIENCE = 1.0
# A step that is late by more than this counts as one that was not.
_LONGEST_STEP = 1.2 * STEP
# A node that is usually slow to answer gets this many times its usual time.
_USUAL_TIMES = 4.0

Advice = Literal["", "ask", "ask again", "hung"]


class Silence:
    """Watches one node. Any sign of life lets it begin anew.

    Time is counted in looks: one that comes late counts as one step. So a process that was stopped, or a
    machine too busy to run it, has more patience and not less.

    Attributes:
        asked_at: when the question was sent that has no answer yet, by a monotonic clock.
    """

    def __init__(self) -> None:
        self.asked_at = 0.0
        self._awake = 0.0
        self._before: float | None = None
        self._answers = -1
        self._started = -1
        self._since = 0.0  # reads have been waiting from here without an answer
        self._pause = ASK_AFTER
        self._usual = 0.0
        self._asked: float | None = None
        self._asked_again: float | None = None

    def look(self, now: float, *, answers: int, waiting: int, started: int) -> Advice:
        """Return what to do about the node now.

        Parameters:
            now: a monotonic clock's reading, in seconds.
            answers: how many answers have come from it so far.
            waiting: how many reads wait for its answer, or for a connection to it.
            started: how many reads were sent to it so far.
        """
        self._advance(now)
        if answers > self._answers:
            self._answers = answers
            self._begin_anew()
        if started != self._started:
            self._started, self._pause = started, ASK_AFTER
        if not waiting:
            self._since = self._awake
            return ""
        if self._awake - self._since < self._pause:
            return ""
        if self._asked is None:
            return "ask"
        patience = min(_USUAL_TIMES * self._usual, _LONGEST_PATIENCE)
        if self._asked_again is None:
            return "ask again" if self._awake - self._asked >= max(FIRST_PATIENCE, patience) else ""
        return "hung" if self._awake - self._asked_again >= max(SECOND_PATIENCE, patience) else ""

    def asked(self, now: float, *, may_take: float = 0.0) -> None:
        """Record that a question was sent, unless an earlier one has no answer yet.

        Parameters:
            now: as for `look`.
            may_take: seconds that the node is allowed to work on the answer.
        """
        self._advance(now)
        if self._asked is None:
            self.asked_at = now
            self._asked = self._awake + may_take

    def asked_again(self, now: float) -> None:
        """Record that a second question was sent, on another connection."""
        self._advance(now)
        self._asked_again = self._awake

    def answered(self, now: float) -> None:
        """Record an answer to a question. Reads that go on waiting are long ones, so ask less often."""
        self._advance(now)
        if self._asked is not None:
            self._usual = max(self._awake - self._asked, self._usual * 0.8)
        self._begin_anew()
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def heard(self, now: float) -> None:
        """Record another sign of life, although the question has no answer yet."""
        self._advance(now)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._since = self._awake
        self._asked = self._asked_again = None

    def _advance(self, now: float) -> None:
        if self._before is not None:
            self._awake += min(max(now - self._before, 0.0), _LONGEST_STEP)
        self._before = now
