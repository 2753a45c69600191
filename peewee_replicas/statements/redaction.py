"""Prepare statements and arguments for messages: statements without values, arguments without secrets.

The text that goes to a server contains the parameters, which can be passwords and personal data. Messages
are logged, mailed and stored, so they show a question mark for each value.
"""

from __future__ import annotations

import re
from typing import Final

LIMIT: Final = 200
"""The number of characters of a statement that a message shows."""

_CUT: Final = "…"
_WORD: Final = re.compile(r"[\w. +-]{0,40}|[\w.-]+:[0-9]{1,5}")
# Matches only text that all servers read alike, whatever their sql_mode. A statement is cut off at anything
# else: at a literal with a backslash, an executable comment, a hint with quotes, a bracket, a dollar quote,
# or a "--" that only SQLite takes for a comment.
_PIECE = re.compile(
    r"(?P<gap>[ \t\n\v\f\r]+|\#[^\n]*|--(?=[ \t\n\v\f\r]|\Z)[^\n]*"
    r"|/\*(?![+!]|[mM]!).*?\*/|/\*\+[^'\"`]*?\*/)"
    r"|(?P<value>'[^'\\]*'|[0-9][\w.$]*)"
    r"|(?P<quoted>\"[^\"\\]*\")"
    r"|(?P<shown>`[^`]*`|[^\W\d][\w$]*|/(?!\*)|-(?!-)|[+*%^&|~!=<>(),.;:?@{}])",
    re.DOTALL,
)
# Matches the dot and the first character of a name, which can follow only a name. A string could be followed
# by a dot and a digit.
_NAMED: Final = re.compile(r"\.(?:[\"`*]|[^\W\d])")


def redacted(text: str | bytes, limit: int = LIMIT) -> str:
    """Return the statement `text` on one line, with a question mark for each literal and without comments.

    Names and keywords stay. The rest of the text is replaced by an ellipsis from the first place that servers
    could read in different ways, such as a quote that is never closed or a literal with a backslash, because
    values cannot be recognised after it. Only the beginning of a long text is read, so the time is bounded.

    Parameters:
        text: the statement, with its values or with placeholders. Bytes are read as Latin-1.
        limit: the greatest number of characters to show.
    """
    start = text[: 20 * limit]
    source = start if isinstance(start, str) else bytes(start).decode("latin1")
    shown = ""
    at, gap = 0, False
    while len(shown) <= limit and (match := _PIECE.match(source, at)) is not None:
        at = match.end()
        part = match[0]
        if match.lastgroup == "gap":
            gap = True
            continue
        # Some servers take text in double quotes for a string; next to a dot, all of them take it for a name.
        name = match.lastgroup == "quoted" and (shown.endswith(".") or _NAMED.match(source, at))
        if match.lastgroup == "value" or (match.lastgroup == "quoted" and not name):
            part = "" if shown.endswith("?") and not gap else "?"  # 'it''s' is one value
        shown += " " + part if gap and shown else part
        gap = False
    if len(shown) > limit:
        return shown[:limit] + _CUT
    return shown if at == len(text) else shown + _CUT


def shown(value: object) -> str:
    """Return a wrong argument as messages show it: numbers and words unchanged, otherwise only the type.

    A URL, a dict or an object may contain a password.
    """
    simple = value is None or isinstance(value, (bool, int, float))
    if simple or (isinstance(value, str) and _WORD.fullmatch(value)):
        return repr(value)
    return f"<{type(value).__name__}>"
