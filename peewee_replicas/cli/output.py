"""Print tables and JSON. A terminal gets colours if ``rich`` is installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

GOOD, BAD = "green", "red"


def print_json(value: object, out: TextIO | None = None) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value, ensure_ascii=False, default=str), file=out or sys.stdout, flush=True)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    colours: Mapping[str, str],
    out: TextIO | None = None,
) -> None:
    """Print a table.

    Parameters:
        columns: the heads of the columns.
        rows: the cells.
        colours: the colour of each cell with this text, on a terminal.
        out: where to; None: standard output.
    """
    out = out or sys.stdout
    if out.isatty() and _print_rich(columns, rows, colours, out):
        return
    for line in plain_table(columns, rows):
        print(line, file=out)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, in columns as wide as needed."""
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *rows]
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _print_rich(
    columns: Sequence[str], rows: Sequence[Sequence[str]], colours: Mapping[str, str], out: TextIO
) -> bool:
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
    Console(file=out).print(table)
    return True
