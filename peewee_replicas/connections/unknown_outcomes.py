"""Keep a retry in a subclass's own method from repeating a write that may have happened.

Programs override ``execute_sql()``, ``execute()`` and ``commit()`` to try again after an error. The first
error of a write whose outcome is unknown must then be the last.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from ..errors import OutcomeUnknown
from ..statements.tokens import UNREADABLE, QuotingMode, lex

_RAW: Final = ""
"""The key of a raw cursor's statement: its text contains the parameters, unlike that of `execute_sql`."""
_REPEATABLE = frozenset({"read", "locking", "session", "transaction"})


class Call:
    """One call of a subclass's own method.

    Attributes:
        of: what it belongs to.
        raised: the errors of its writes of unknown outcome, by the statement.
        ended: whether it is over.
    """

    __slots__ = ("ended", "of", "raised")

    def __init__(self, of: UnknownOutcomes) -> None:
        self.of = of
        self.raised: dict[object, Exception] = {}
        self.ended = False


# By context and not by task: before Python 3.12, `asyncio.wait_for()` runs what it limits in another task.
_calls: ContextVar[tuple[Call, ...]] = ContextVar("peewee_replicas_calls", default=())


class UnknownOutcomes:
    """The writes of unknown outcome within one call of a subclass's own method, also in tasks that it starts.

    Attributes:
        any: whether there ever was one; spares every statement a look-up until the first.
    """

    def __init__(self) -> None:
        self.any = False

    def _running(self) -> list[Call]:
        return [call for call in _calls.get() if call.of is self and not call.ended]

    def enter(self) -> Call:
        """Begin a call of such a method, which may be inside others."""
        call = Call(self)
        # Keep the old value until set() has returned, see `scopes.frames`.
        before = _calls.get()
        _calls.set((call, *before))
        return call

    def leave(self, call: Call) -> None:
        """End a call: what is repeated after the outermost, the program repeats knowingly."""
        call.ended = True
        call.raised.clear()
        before = _calls.get()
        _calls.set(tuple(each for each in before if not each.ended))

    def remember(self, text: str | bytes, error: Exception) -> None:
        """Remember the error of a write, unless no such call is running."""
        self._remember(_key(text), error)

    def remember_raw(self, error: OutcomeUnknown) -> None:
        """Remember the error of a raw cursor's write, unless no such call is running."""
        self._remember(_RAW, error)

    def _remember(self, key: object, error: Exception) -> None:
        # In all of them: a task that was started in a call may be in one of its own, which ends later.
        for call in self._running():
            call.raised[key] = error
            self.any = True

    def check(self, text: str, kind: str) -> None:
        """Raise the error of this same statement again, if there is one; its comments may differ."""
        for call in self._running():
            if call.raised:
                error = call.raised.get(_key(text))
                if error is None and kind not in _REPEATABLE:
                    error = call.raised.get(_RAW)
                if error is not None:
                    raise error

    def original(self, exc: Exception) -> Exception | None:
        """Return the error that `exc` repeats, if peewee has turned it into one of its own classes."""
        return next((error for error in self._errors() if error.args == exc.args and error is not exc), None)

    def check_cursor(self) -> None:
        """Raise the last error again before giving out a raw cursor, which may send anything."""
        unknown = [error for error in self._errors() if isinstance(error, OutcomeUnknown)]
        if unknown:
            raise unknown[-1]

    def _errors(self) -> list[Exception]:
        """Return what was remembered, once for each call."""
        return [error for call in self._running() for error in call.raised.values()]


def _key(text: str | bytes) -> object:
    """Return the text without its comments, in which a subclass may number its attempts."""
    whole = text if isinstance(text, str) else bytes(text).decode("latin1")
    tokens = tuple((token.kind, token.text) for token in lex(whole, None, QuotingMode()))
    return whole if tokens and tokens[-1][0] == UNREADABLE else tokens
