"""The page of packages has a row for each test of a package, and each row names a test that exists.

The tests were listed from the modules of `tests/servers/programs` that try packages; those of the demo and of
the benchmarks try none.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "programs.md"
MODULES = ("test_migrations", "test_packages", "test_tracing_tools")


def names_of_tests(module: str) -> list[str]:
    text = (ROOT / "tests" / "servers" / "programs" / f"{module}.py").read_text(encoding="utf-8")
    return re.findall(r"^def (test_\w+)", text, re.MULTILINE)


def test_each_package_names_its_test_and_each_test_has_its_row() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| package |"))
    named = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found = re.search(r"\| `(test_\w+)` \|$", line)
        assert found, line
        named.append(found[1])
    assert sorted(named) == sorted(name for module in MODULES for name in names_of_tests(module))
