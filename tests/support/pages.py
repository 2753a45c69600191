"""The blocks of code on the documentation's pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"(?:<!-- ([^>]*?) -->\n)?^( *)```([^\n]*)\n(.*?)^\2```$", re.DOTALL | re.MULTILINE)
_STATEMENTS = {"CREATE", "GRANT", "CHANGE", "START", "STOP", "SET", "RESET", "SHOW", "SELECT", "KILL"}


@dataclass
class Block:
    """One block of code."""

    page: str
    line: int
    language: str
    note: str
    source: str


def blocks(page: str) -> list[Block]:
    """Return the page's blocks of code, from top to bottom."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start(4)), found[3], found[1] or "", dedent(found[4]))
        for found in _BLOCK.finditer(text)
    ]


def noted(page: str, note: str) -> str:
    """Return the source of the one block with this note."""
    found = [block.source for block in blocks(page) if block.note == note]
    assert len(found) == 1, (page, note)
    return found[0]


def statements(page: str, note: str, replace: dict[str, str]) -> list[str]:
    """Return the SQL of the block with this note, one statement to a line, with texts replaced."""
    text = noted(page, note)
    for old, new in replace.items():
        text = text.replace(old, new)
    found = [line.rstrip(";") for line in text.splitlines()]
    assert {line.split()[0] for line in found} <= _STATEMENTS, note
    return found
