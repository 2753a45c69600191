"""The named locks that one connection holds, as far as the texts of its statements tell. Pure."""

from __future__ import annotations

import re

# One function and nothing else, with a literal as the lock's name: what PyMySQL makes of a placeholder.
_ALONE = re.compile(
    r"\s*(?P<verb>SELECT|DO)\s+(?P<function>GET_LOCK|RELEASE_LOCK|RELEASE_ALL_LOCKS)\(\s*"
    r"(?:(?P<name>'(?:[^'\\]|\\.|'')*')\s*(?:,\s*-?[\d.]+\s*)?)?\)"
    r"(?:\s+(?:AS\s+)?[`\"]?\w+[`\"]?)?\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)


class NamedLocks:
    """Counts the named locks of one connection, so that it is known when none is held any more.

    A lock may be taken several times, and is held until it was released as often.

    Parameters:
        uncertain: whether a lock may be held already, of which nothing else is known.
    """

    def __init__(self, *, uncertain: bool = False) -> None:
        self._held: dict[str, int] = {}
        self._uncertain = uncertain

    @property
    def any_held(self) -> bool:
        """Whether a lock is held, or may be."""
        return self._uncertain or bool(self._held)

    def executed(self, text: str, takes: bool, value: object) -> None:
        """Take in that a statement about named locks has succeeded.

        Parameters:
            text: what was sent, with its parameters in it.
            takes: whether it calls a function that takes a lock.
            value: what it returned, if that was one row of one column; else None.
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
            # What is known to be held is released, whether the statement returns that or not.
            left = self._held.get(name, 0) - 1
            if left > 0:
                self._held[name] = left
            else:
                self._held.pop(name, None)
        elif not name or match["verb"].upper() == "DO":
            self._uncertain = True  # whether it was got is not told
        elif value == 1:
            self._held[name] = self._held.get(name, 0) + 1
