"""Write tags into a comment that can be added to a statement, in the form of sqlcommenter."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from .tokens import first_word

# Text that may begin a comment, also inside a literal; the added one could end up inside it, or end it.
_BEGINS_COMMENT = ("/*", "--", "#")
# The server keeps the text of procedures, functions, triggers, events and views, comments included.
_KEEPS_TEXT = frozenset(("CREATE", "ALTER"))


def comment_of(tags: Mapping[str, object]) -> str:
    """Return the comment with these tags; ``""`` if there are none.

    Keys and values are URL-encoded, so that no value can end the comment or contain a quote.

    Parameters:
        tags: names and values; a value of None leaves its tag out.
    """
    parts = sorted((_encoded(key), _encoded(value)) for key, value in tags.items() if value is not None)
    pairs = ",".join(f"{key}='{value}'" for key, value in parts)
    return f"/*{pairs}*/" if pairs else ""


def _encoded(value: object) -> str:
    return quote(str(value), safe="")


def may_have_comment(sql: str) -> bool:
    """Return whether a comment may be added to a statement.

    It must not contain one already, and the server must not store it with something that lasts.
    """
    return not any(begin in sql for begin in _BEGINS_COMMENT) and first_word(sql) not in _KEEPS_TEXT


def with_comment(sql: str, comment: str) -> str:
    """Return a statement with a comment at its end, before its semicolon."""
    bare = sql.rstrip("; \t\r\n")
    return f"{bare} {comment}"
