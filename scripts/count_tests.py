#!/usr/bin/env python3
"""Count tests and assertions, and tell what one revision has lost against another.

    scripts/count_tests.py                  per file: test functions, assertions, and collected ids
    scripts/count_tests.py REV              the same for a revision
    scripts/count_tests.py OLD NEW          per function: what NEW has less of; "." is the working tree

An assertion is an ``assert`` statement or a call of ``pytest.raises`` or ``pytest.warns``. Functions are
compared by their names, wherever they stand, so that moving a test changes nothing. Fails where something
was lost.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from revisions import tree


def is_assertion(node: ast.AST) -> bool:
    """Whether the node is counted as one assertion."""
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    return called in ("raises", "warns")


def functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """The functions of a module and of its classes; what stands outside of them has the name ""."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from functions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        else:
            yield "", node


def is_test(name: str) -> bool:
    """Whether a function is a test by its name."""
    return name.rpartition(".")[2].startswith("test_")


def count(folder: Path) -> dict[str, Counter[tuple[str, str]]]:
    """Per file, and in it per function: how often it is defined, and how many assertions it has."""
    found: dict[str, Counter[tuple[str, str]]] = {}
    for path in sorted((folder / "tests").rglob("*.py")):
        counted = found[path.relative_to(folder).as_posix()] = Counter()
        for name, node in functions(ast.parse(path.read_text(encoding="utf-8")).body):
            counted[name, "defined"] += bool(name)
            counted[name, "assertions"] += sum(map(is_assertion, ast.walk(node)))
    return found


def collected(folder: Path) -> Counter[str]:
    """Per file, how many tests pytest collects."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run([*command, "tests"], cwd=folder, env=environment, capture_output=True, text=True)
    if told.returncode:
        sys.exit(told.stdout + told.stderr)
    return Counter(line.partition("::")[0] for line in told.stdout.splitlines() if "::" in line)


def show(revision: str) -> None:
    """Print the counts of a revision per file and in total."""
    with tree(revision) as folder:
        counted, ids = count(folder), collected(folder)
    total = [0, 0, 0]
    print("functions  assertions  ids")
    for file, of_file in counted.items():
        tests = sum(n for (name, what), n in of_file.items() if what == "defined" and is_test(name))
        row = [tests, sum(n for (_, what), n in of_file.items() if what == "assertions"), ids[file]]
        total = [a + b for a, b in zip(total, row, strict=True)]
        if any(row):
            print("{:9}  {:10}  {:4}  {}".format(*row, file))
    print("{:9}  {:10}  {:4}  in total".format(*total))


def compare(old: str, new: str) -> int:
    """Print what the new revision has less of, function by function; the number of such functions."""
    sums = []
    for revision in (old, new):
        with tree(revision) as folder:
            sums.append(sum(count(folder).values(), Counter()))
    before, after = sums
    lost = {key: n - after[key] for key, n in before.items() if n > after[key]}
    for (name, what), n in sorted(lost.items()):
        print(f"{name or '(outside of functions)'}: {n} fewer {what}")
    for label, counted in ((old, before), (new, after)):
        tests = sum(n for (name, what), n in counted.items() if what == "defined" and is_test(name))
        assertions = sum(n for (_, what), n in counted.items() if what == "assertions")
        print(f"{label}: {tests} test functions, {assertions} assertions")
    return len(lost)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.exit(bool(compare(*sys.argv[1:])))
    show(sys.argv[1] if sys.argv[1:] else ".")
