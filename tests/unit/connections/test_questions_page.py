"""The table in `docs/questions.md` lists everything that the library sends for itself.

Held to it are the source (each call of what sends something, and each statement of the dialects) and the
module of server tests that spoils each question in turn. The members of the kind are therefore whatever calls
one of `SENDERS`; that list has the methods of `servers.protocols` that send, and the driver's own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.source

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "peewee_replicas"
PAGE = ROOT / "docs" / "questions.md"
SERVER_TESTS = ROOT / "tests" / "servers" / "connections" / "test_own_questions.py"

# What sends something that is not the user's. `execute` of a cursor and `query` are the user's own.
SENDERS = {
    "_can_reuse", "run_command", "_is_closed", "set_session", "ask", "ask_wait", "finish_query", "first_row",
    "hang_up", "is_alive", "kill", "ping", "rollback", "run_setting", "run_setting_when_idle", "send_ahead",
    "show_warnings", "start_query",
}  # fmt: skip
# These are such senders themselves, and hand on to another.
HAND_ON = {
    "connections.questions.ask",
    "connections.questions.first_row",
    "databases.mysql._Pool._is_closed",
    "servers.wire.connection.Connection.ask",
    "servers.wire.connection.Connection.run_setting",
    "servers.wire.connection.Connection.set_character_set",
    "servers.wire.connection.Connection.start_query",
}
# What only looks like one: a thread, a visitor's bookmark, a transaction of the user's, a note that somebody
# is asked, the program's own callable.
OTHERS = {
    "connections.primary_connection.PrimaryConnection.rollback",
    "connections.plain_database.PlainDatabase.rollback",
    "databases.replicated.Replicated.rollback",
    "databases.transactions.Transactions.rollback",
    "nodes.discovery.Source.__call__",
    "nodes.probe_records.ProbeRecords.ask_primary",
}
OTHER_FILES = ("testing/", "ext/", "cli/")  # the command is run by a person, not by a program
DIALECTS = ("mariadb", "mysql", "mysql_family")
NO_STATEMENTS = {"NAME", "REACHED", "HISTORY_NAMES", "WITHOUT_GTIDS"}
NOT_DRIVEN = {
    "hang-up": "tests/servers/nodes/test_hung_nodes.py",
    "discovery": "tests/servers/nodes/test_discovered_replicas.py",
    "SQLite": "tests/unit/databases/test_sqlite.py",
}


def rows() -> dict[str, list[str]]:
    """The table's cells by the row's name."""
    table, _, _ = PAGE.read_text(encoding="utf-8").partition("\n## ")
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| \n").split(" | ")] for line in lines[2:]]
    return {row[0]: row for row in cells}


def callers() -> Iterator[str]:
    """Where in the package something of the library's own is sent: module, class and function."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(OTHER_FILES):
            module = name.removesuffix(".py").replace("/", ".")
            yield from _callers_in(ast.parse(path.read_text(encoding="utf-8")), module)


def _callers_in(node: ast.AST, where: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            function = child.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            of_thread = re.search("thread|opener|other", ast.unparse(function))
            if name in SENDERS and not of_thread:
                yield where
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from _callers_in(child, f"{where}.{child.name}" if named else where)  # type: ignore[attr-defined]


def test_each_place_that_sends_something_has_a_row() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+\.)+\w+)`", page))
    found = set(callers()) - HAND_ON - OTHERS
    assert len(found) > 15
    missing = {
        place for place in found if place not in named and not any(place.startswith(f"{n}.") for n in named)
    }
    assert not missing, f"these send something of the library's own, and have no row: {sorted(missing)}"


def test_no_row_names_a_place_that_sends_nothing() -> None:
    found = set(callers())
    places = {place for row in rows().values() for place in re.findall(r"`([^`]+)`", row[-1])}
    sends = {place for place in places for one in found if f"{one}.".startswith(f"{place}.")}
    gone = places - sends
    assert gone <= {"servers.sqlite", "connections.sqlite_files", "databases.sqlite"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_statement_of_a_dialect_has_a_row(dialect: str) -> None:
    tree = ast.parse((PACKAGE / "servers" / f"{dialect}.py").read_text(encoding="utf-8"))
    statements = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            texts = [one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant)]
            copied = isinstance(node.value, ast.Name)
            if copied or any(isinstance(text, str) and text for text in texts):
                statements.add(node.targets[0].id)
        elif isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or node) == "str":
            statements.add(node.name)
    statements = {name for name in statements if not name.startswith("_")} - NO_STATEMENTS
    assert statements
    sent = " ".join(row[1] for row in rows().values())
    assert not {name for name in statements if f"`{name}`" not in sent}


def test_each_row_is_driven_by_a_test() -> None:
    driven = set(re.findall(r'Case\("([^"]+)"', SERVER_TESTS.read_text(encoding="utf-8")))
    assert driven | set(NOT_DRIVEN) == set(rows())
    assert all((ROOT / path).exists() for path in NOT_DRIVEN.values())


def test_each_row_says_everything() -> None:
    for name, cells in rows().items():
        assert len(cells) == 7, name
        assert all(cells), name
