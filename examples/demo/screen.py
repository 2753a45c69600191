"""Plain text for people: progress with the time, checks, and a table. Colour on a terminal only."""

from __future__ import annotations

import logging
import os
import textwrap
import time
from collections.abc import Sequence
from typing import TextIO

WIDTH = 96

_GREEN, _RED, _BOLD, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"


class Screen:
    """Prints progress to one stream and keeps the results of all checks.

    Parameters:
        stream: where to; it is coloured if it is a terminal and ``NO_COLOR`` is not set.

    Attributes:
        passed, failed: the checks so far, in words.
    """

    def __init__(self, stream: TextIO) -> None:
        self.passed: list[str] = []
        self.failed: list[str] = []
        self._stream = stream
        self._colour = stream.isatty() and not os.environ.get("NO_COLOR")
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def title(self, text: str) -> None:
        """A heading, after an empty line."""
        self._write("", self._paint(_BOLD, text))

    def step(self, text: str) -> None:
        """A line of progress, with the seconds since the beginning."""
        first, *rest = textwrap.wrap(text, WIDTH - 9, break_long_words=True)
        self._write(f"{self.seconds:5.1f} s  {first}", *(f"         {line}" for line in rest))

    def quote(self, label: str, text: str) -> None:
        """Print what a program would get: an error, or a line of the log."""
        self.step(f"{label}: {text}")

    def check(self, holds: bool, text: str) -> None:
        """Print and keep whether something that the library promises holds."""
        (self.passed if holds else self.failed).append(text)
        first, *rest = textwrap.wrap(text, WIDTH - 9)
        word = self._paint(_GREEN, "PASS") if holds else self._paint(_RED, "FAIL")
        self._write(f"   {word}  {first}", *(f"         {line}" for line in rest))

    def table(self, header: Sequence[Sequence[str]], rows: Sequence[Sequence[object]]) -> None:
        """Rows under a header of one or more lines; the first column to the left, the others to the right."""
        cells = [[str(cell) for cell in row] for row in (*header, *rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        rule = "-" * max(map(len, lines))
        height = len(header)
        self._write("", *(self._paint(_BOLD, line) for line in lines[:height]), rule, *lines[height:])

    def result(self) -> bool:
        """Print all checks and their number; True if none has failed."""
        self.title("Checks")
        for word, colour, texts in (("PASS", _GREEN, self.passed), ("FAIL", _RED, self.failed)):
            for text in texts:
                first, *rest = textwrap.wrap(text, WIDTH - 6)
                self._write(f"{self._paint(colour, word)}  {first}", *(f"      {line}" for line in rest))
        whole = len(self.passed) + len(self.failed)
        self._write("", f"{len(self.passed)} of {whole} checks passed in {self.seconds:.1f} s")
        return bool(self.passed) and not self.failed

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colour else text

    def _write(self, *lines: str) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()


class ScreenHandler(logging.Handler):
    """Shows what the library logs among the progress."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        self._screen.quote("the log says", record.getMessage())
