"""`docs/errors.md` says of each number what the table of errors says; if not, the failure tells how."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from peewee_replicas.connections.failures import TREATMENTS
from peewee_replicas.servers.error_table import NOT_LET_IN, TABLE, Meaning, Row

PAGE = Path(__file__).parents[2] / "docs/errors.md"
SERVERS = {None: "both", "mariadb": "MariaDB", "mysql": "MySQL"}
READ = {
    "next": "goes to the next node",
    "again": "is sent again on a new connection (on the primary up to three times), then to the next node",
    "once more": "is sent once more at most",
    "primary": "runs on the primary",
    "elsewhere": "goes to one other node",
    "raise": "raises it",
}
NODE = {
    "eject": "leaves the rotation",
    "eject if idle": "leaves the rotation unless it has open connections, which stay in use",
    "drop": "stays; the connection is dropped",
    "back off": "stays; no new connections for a moment",
    "suspect": "leaves the rotation the second time that another node could serve the read",
    "keep": "stays",
}
WRITE = {"not executed": "was not executed", "unknown": "may have been executed"}


def summary() -> str:
    lines = ["| meaning | a read in autocommit | the node | a write |", "| --- | --- | --- | --- |"]
    for found in get_args(Meaning):
        treatment = TREATMENTS[found]
        row = (f"*{found}*", READ[treatment.read], NODE[treatment.node], WRITE[treatment.write])
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def numbers(rows: tuple[Row, ...]) -> str:
    lines = ["| number | name | server | what it says |", "| --- | --- | --- | --- |"]
    for row in sorted(rows):
        lines.append(f"| {row.number} | `{row.name}` | {SERVERS[row.server]} | {row.says} |")
    return "\n".join(lines)


def sections() -> dict[str, str]:
    """What the page has between its marks, by their names."""
    tables = {found: numbers(rows) for found, rows in TABLE.items() if rows}
    return {"summary": summary(), **tables, "while connecting": numbers(NOT_LET_IN)}


@pytest.mark.parametrize("name", sections())
def test_the_page_has_what_the_table_has(name: str) -> None:
    marks = re.compile(rf"<!-- table: {name} -->\n(.*?)\n<!-- end -->", re.DOTALL)
    found = marks.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None, f"docs/errors.md has no section {name!r}"
    assert found[1] == sections()[name], f"put this into docs/errors.md:\n{sections()[name]}"


def test_the_page_has_no_section_of_a_meaning_that_is_gone() -> None:
    assert set(re.findall(r"<!-- table: (.*?) -->", PAGE.read_text(encoding="utf-8"))) == set(sections())
