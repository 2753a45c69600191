"""Count the named locks of one connection from its statements. Makes decisions only: no I/O, no clock."""

from __future__ import annotations

import re

# Matches a statement that is one call and nothing else. The lock's name is a literal, because PyMySQL fills
# in placeholders on the client.
_ALONE = re.compile(
    r"\s*(?P<verb>SELECT|DO)\s+(?P<function>GET_LOCK|RELEASE_LOCK|RELEASE_ALL_LOCKS)\(\s*"
    r"(?:(?P<name>'(?:[^'\\]|\\.|'')*')\s*(?:,\s*-?[\d.]+\s*)?)?\)"
    r"(?:\s+(?:AS\s+)?[`\"]?\w+[`\"]?)?\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)


class NamedLocks:
    """Counts the named locks of one connection, to find out when the last one is released.

    A connection may take the same lock several times and must release it as often.

    Parameters:
        uncertain: whether the connection may already hold a lock of unknown name.
    """

    def __init__(self, *, uncertain: bool = False) -> None:
        self._held: dict[str, int] = {}
        self._uncertain = uncertain

    @property
    def any_held(self) -> bool:
        """Whether a lock is held, or may be."""
        return self._uncertain or bool(self._held)

    def executed(self, text: str, takes: bool, value: object) -> None:
        """Record a statement about named locks that succeeded.

        Parameters:
            text: the statement, with its parameters filled in.
            takes: whether it calls a function that takes a lock.
            value: its result if that was one row of one column, else None.
        """
        match = _ALONE.fullmatch(text)
        if match is None:
            self._uncertain = self._uncertain or takes
            return
        function, name = match["function"].upper(), (match["name"] or "").lower()
        if function == "RELEASE_ALL_LOCKS":
            self._held.clear()
            self._uncertain = False
        elif function == "RELEASE_LOCK":
            # The value is not needed (DO returns none): releasing a lock known to be held always works.
            left = self._held.get(name, 0) - 1
            if left > 0:
                self._held[name] = left
            else:
                self._held.pop(name, None)
        elif not name or match["verb"].upper() == "DO":
            self._uncertain = True  # the server does not report whether the lock was taken
        elif value == 1:
            self._held[name] = self._held.get(name, 0) + 1
