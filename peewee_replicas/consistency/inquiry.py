"""Asks the primary how far it has come, for sessions that must see it, and logs when it does not answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..concurrency import Clock
from ..events import Counters
from ..log import log_event
from ..positions import Position
from ..servers.error_meanings import in_words
from ..servers.refusals import PAUSE_SECONDS, knows_no_such_variable, refusal
from .process_history import ProcessHistory
from .sessions import Session


class PrimaryPositions(Protocol):
    """Asks the primary about positions. Each question takes one round trip and has a time limit."""

    def may_ask(self) -> bool:
        """Return whether to ask now. While the primary is known to be down, one caller at a time may."""

    def asked(self, answered: bool) -> None:
        """Report whether a question that `may_ask` allowed was answered."""

    def current(self) -> Position | None:
        """Return the primary's position now; None if it keeps no GTIDs.

        Raises:
            PeeweeException: there was no answer.
        """

    def missing(self, positions: Sequence[Position]) -> list[Position | None]:
        """Return the part of each position that the primary's history lacks; None: no part.

        Raises:
            PeeweeException: there was no answer.
        """

    @property
    def without_gtids(self) -> str:
        """Why the primary keeps no GTIDs, and what to set, in words; ``""`` if its server is not known."""

    def is_unreachable(self, exc: BaseException) -> bool:
        """Return whether an error of these questions means that the primary cannot be reached."""


class RefusedBefore(Exception):
    """The primary refused for good, a moment ago, to report its position."""


def log_unanswered(what: str, exc: Exception) -> None:
    """Log that the primary does not answer one of the library's questions.

    Parameters:
        what: what it was asked, in words.
        exc: the error.
    """
    cause = in_words(exc)
    log_event(
        "question_failed", "the primary cannot be asked %s: %s", what, cause, node="primary", cause=cause
    )


class Inquiry:
    """Asks the primary about positions, and remembers whether it answers.

    Attributes:
        primary: the primary; set once it is known.

    Parameters:
        counters: the counters of ``db.stats()``.
        sticky_seconds: seconds that reads stay on the primary after a write, if there are no GTIDs.
        waits_for_itself: returns whether reads wait by themselves on some node, so that GTIDs are not needed.
    """

    primary: PrimaryPositions

    def __init__(
        self, counters: Counters, sticky_seconds: float, waits_for_itself: Callable[[], bool]
    ) -> None:
        self._counters = counters
        self._sticky_seconds = sticky_seconds
        self._waits_for_itself = waits_for_itself
        self._logged: set[str] = set()
        self._refused_until = float("-inf")

    def pay_unless_refused(self, owing: list[Session], history: ProcessHistory) -> None:
        """As `pay`, but do not ask a primary that has just refused for good.

        Raises:
            RefusedBefore: it has.
            PeeweeException: the primary refuses to report its position.
        """
        if Clock.monotonic() < self._refused_until:
            raise RefusedBefore
        self.pay(owing, history)

    def note_refusal(self, exc: Exception, history: ProcessHistory) -> None:
        """Count and log that the primary refuses to report its position; if for good, pause the question."""
        if isinstance(exc, RefusedBefore):
            return
        self._counters.add("unasked")
        why = refusal(exc)
        if why:
            self._refused_until = Clock.monotonic() + PAUSE_SECONDS
        if "refused" not in self._logged:
            self._logged.add("refused")
            cause = why or in_words(exc)
            log_event(
                "primary_position_unknown",
                "the primary (%s) does not report its position, so reads stay on it after a write: %s",
                history.endpoint,
                cause,
                node="primary",
                cause=cause,
            )

    def pay(self, owing: list[Session], history: ProcessHistory) -> None:
        """Ask the primary once for its position, for all sessions that must see it.

        If the primary is unreachable, reads go on without the position, and the sessions still owe it.

        Raises:
            PeeweeException: the primary refuses to report its position.
        """
        if not self.primary.may_ask():
            return  # another caller is finding out whether it is back
        # Counted before asking: statements that end in the meantime leave new debts.
        debts = [session.debts for session in owing]
        try:
            now = self.primary.current()
        except BaseException as exc:
            self.primary.asked(False)  # also if cancelled, or nobody would ask again
            if not isinstance(exc, Exception):
                raise
            # A proxy may lack the variable in front of a server that has GTIDs, as its reports have shown.
            if not knows_no_such_variable(exc) or history.session.seen is not None:
                if not self.primary.is_unreachable(exc):
                    raise
                self._counters.add("unasked")
                self._warn_away(exc, history)
                return
            now = None  # a server without the variable keeps no GTIDs
        self.primary.asked(True)
        self._logged.discard("away")
        told_at = Clock.monotonic()
        history.primary_told(now, told_at)
        if now is None:
            self._warn_sticky(history)
        until = told_at + self._sticky_seconds
        for session, count in zip(owing, debts, strict=True):
            if now is None:
                session.stick(until)
            else:
                session.was_told(now, told_at)
            session.pay(count)  # comes last, or another thread of this context would not wait for it

    def _warn_away(self, exc: Exception, history: ProcessHistory) -> None:
        if "away" not in self._logged:
            self._logged.add("away")
            cause = in_words(exc)
            log_event(
                "primary_position_unknown",
                "the primary (%s) cannot be asked how far it has come, so until it can be, reads do not wait "
                "for statements that reported no position: %s",
                history.endpoint,
                cause,
                node="primary",
                cause=cause,
            )

    def _warn_sticky(self, history: ProcessHistory) -> None:
        if "sticky" not in self._logged and not self._waits_for_itself():
            self._logged.add("sticky")
            cause = self.primary.without_gtids or "it has no variable for its position"
            log_event(
                "no_gtids",
                "the primary (%s) keeps no GTIDs (%s). Reads stay there for %s s after each write; a replica "
                "that lags more than that shows older rows",
                history.endpoint,
                cause,
                self._sticky_seconds,
                node="primary",
                cause=cause,
            )

    def missing(self, positions: list[Position]) -> list[Position | None] | None:
        """Return the lost part of each position; None if the primary does not answer."""
        if not positions or not self.primary.may_ask():
            return None
        answered = False
        try:
            found = self.primary.missing(positions)
            answered = True
        except Exception as exc:
            # The read goes on without it; if the primary is down, the fallback to it will report that.
            log_unanswered("for its history", exc)
            return None
        finally:
            self.primary.asked(answered)
        return found
