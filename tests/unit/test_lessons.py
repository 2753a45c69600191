"""Each lesson in ``tests/README.md`` is held by a test, and each test names one that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.source

TESTS = Path(__file__).parents[1]


def marked(path: Path) -> set[int]:
    """The numbers in the `lesson` marks of a file."""
    return {
        number.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.lesson"
        for number in node.args
        if isinstance(number, ast.Constant) and isinstance(number.value, int)
    }


def test_each_lesson_is_held_by_tests_that_exist() -> None:
    held = set().union(*map(marked, TESTS.rglob("test_*.py")))
    listed = re.findall(r"^(\d+)\. \S", (TESTS / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert {int(number) for number in listed} == held
    assert set(range(1, 36)) <= held
