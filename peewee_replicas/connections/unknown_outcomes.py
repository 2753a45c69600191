"""Keep a retry in a subclass's own method from repeating a write that may have happened.

Programs override ``execute_sql()``, ``execute()`` and ``commit()`` to try again after an error. The first
error of a write whose outcome is unknown must then be the last.
"""

from __future__ import annotations

from typing import Final

from ..concurrency import Here
from ..errors import OutcomeUnknown
from ..statements.tokens import UNREADABLE, QuotingMode, lex

_RAW: Final = ""
"""The key of a raw cursor's statement: its text contains the parameters, unlike that of `execute_sql`."""
_REPEATABLE = frozenset({"read", "locking", "session", "transaction"})


class UnknownOutcomes:
    """The writes of unknown outcome within one call of a subclass's own method, for each thread or task.

    Parameters:
        here: identifies the current thread or task.

    Attributes:
        any: whether there ever was one; spares every statement a look-up until the first.
    """

    def __init__(self, here: Here) -> None:
        self.any = False
        self._local = here.local()

    def enter(self) -> bool:
        """Begin a call of such a method; return whether it is the outermost, which must `leave`."""
        if getattr(self._local, "raised", None) is not None:
            return False
        self._local.raised = {}
        return True

    def leave(self) -> None:
        """End the outermost call: what the program repeats afterwards, it repeats knowingly."""
        self._local.raised = None

    def remember(self, text: str | bytes, error: Exception) -> None:
        """Remember the error of a write, unless no such call is running."""
        raised = getattr(self._local, "raised", None)
        if raised is not None:
            raised[_key(text)] = error
            self.any = True

    def remember_raw(self, error: OutcomeUnknown) -> None:
        """Remember the error of a raw cursor's write, unless no such call is running."""
        raised = getattr(self._local, "raised", None)
        if raised is not None:
            raised[_RAW] = error
            self.any = True

    def check(self, text: str, kind: str) -> None:
        """Raise the error of this same statement again, if there is one; its comments may differ."""
        raised = getattr(self._local, "raised", None)
        if not raised:
            return
        error = raised.get(_key(text))
        if error is None and kind not in _REPEATABLE:
            error = raised.get(_RAW)
        if error is not None:
            raise error

    def original(self, exc: Exception) -> Exception | None:
        """Return the error that `exc` repeats, if peewee has turned it into one of its own classes."""
        raised: dict[object, Exception] = getattr(self._local, "raised", None) or {}
        return next((error for error in raised.values() if error.args == exc.args and error is not exc), None)

    def check_cursor(self) -> None:
        """Raise the last error again before giving out a raw cursor, which may send anything."""
        raised = getattr(self._local, "raised", None)
        unknown = [error for error in (raised or {}).values() if isinstance(error, OutcomeUnknown)]
        if unknown:
            raise unknown[-1]


def _key(text: str | bytes) -> object:
    """Return the text without its comments, in which a subclass may number its attempts."""
    whole = text if isinstance(text, str) else bytes(text).decode("latin1")
    tokens = tuple((token.kind, token.text) for token in lex(whole, None, QuotingMode()))
    return whole if tokens and tokens[-1][0] == UNREADABLE else tokens
