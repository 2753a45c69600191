"""Tags of nodes: check them, and show them in words. Makes decisions only: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..statements.redaction import shown

Tags = Mapping[str, str]
"""Names with values that describe a node, such as ``{"use": "report", "zone": "a"}``."""

NO_TAGS: Tags = MappingProxyType({})


def check_tags(value: object, label: str, fail: Callable[[str], Exception], *, from_url: bool = True) -> Tags:
    """Return tags, checked.

    Parameters:
        value: a dict of texts.
        label: the beginning of the message.
        fail: turns a message into the exception to raise.
        from_url: whether they may also be one text, ``"use:report,zone:a"``, as a URL gives it.
    """
    found = _parsed(value) if from_url and isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise fail(f"{label}={shown(value)}: a dict is wanted, such as {{'use': 'report'}}")
    for name, content in found.items():
        if not (isinstance(name, str) and name and isinstance(content, str) and content):
            raise fail(f"{label}: {shown(name)}: {shown(content)}: names and values are texts, and not empty")
    return MappingProxyType(dict(found))


def _parsed(text: str) -> dict[str, str] | None:
    pairs = [part.partition(":") for part in text.split(",") if part.strip()]
    if not all(colon for _, colon, _ in pairs):
        return None
    return {name.strip(): content.strip() for name, _, content in pairs}


def tags_in_words(tags: Tags) -> str:
    """Return tags for a message or a table, as ``use=report, zone=a``."""
    return ", ".join(f"{name}={content}" for name, content in tags.items())
