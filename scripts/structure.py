"""Measure how the package is built: its rooms, floors of imports, crossings of privacy, lines.

Usage: structure.py [--rev REVISION]... [--json] [--names]

Without ``--rev`` it measures this checkout. Several make one column each; ``.`` is this checkout:

    scripts/structure.py --rev main --rev .

What each row counts is said in `ROWS`. Only counting the classes of a database imports the package, in a
process of its own; where that fails (peewee is missing), those rows stay empty.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

from imports import cycles, floors, module_graph, read_package, room, room_graph
from revisions import tree

PACKAGE = "peewee_replicas"
COMPANIONS = {"aio", "ext", "testing", "cli", "discover"}
LARGE = 150
"""Lines from which a part is listed by itself."""

ROWS = {
    "entries": "entries at the top of the package: modules and folders",
    "modules": "modules",
    "room_floors": "floors of imports, by entries at the top; a circle stands on one floor",
    "module_floors": "floors of imports, by modules",
    "room_cycles": "entries that import each other in a circle",
    "module_cycles": "modules that import each other in a circle",
    "private_uses": "uses of another's private: object._name, no _name being defined in that file",
    "private_names": "names that are used so",
    "private_of_others": "uses of object._name, where object is neither self, cls nor super()",
    "undefined_members": "uses of self._name, no _name being defined in that file",
    "reached_members": "of these, where another file of the package defines it",
    "any": "uses of Any, without its imports",
    "most_classes": "our classes in the MRO of a database class, at most",
    "most_private_methods": "private methods that these define, at most",
    "not_implemented": "raise NotImplementedError",
    "super_of_another": "super(Class, object)",
    "mro": "__mro__",
    "lines": "lines",
    "core_lines": "lines of the core: without " + ", ".join(sorted(COMPANIONS)),
    "longest_module": "lines of the longest module",
    "comments": "comments",
    "comments_per_100": "comments in a hundred lines",
}

_COUNT_CLASSES = """
import importlib, json, sys
package = sys.argv[1]
import peewee
found = {}
for name in (package, package + ".aio"):
    try:
        module = importlib.import_module(name)
    except ImportError:
        if name == package:
            raise
        continue
    for public, cls in vars(module).items():
        if isinstance(cls, type) and issubclass(cls, peewee.Database) and not public.startswith("_"):
            own = [base for base in cls.__mro__ if base.__module__.split(".")[0] == package]
            private = {
                member for base in own for member, value in vars(base).items()
                if member.startswith("_") and not member.startswith("__") and callable(value)
            }
            found[public] = [len(own), len(private)]
print(json.dumps(found))
"""


def measure(folder: Path) -> dict[str, Any]:
    """All figures of the package in `folder`, by the names in `ROWS`, and the lists behind them."""
    modules = read_package(folder)
    by_rooms, by_modules = room_graph(modules), module_graph(modules)
    private: Counter[str] = Counter()
    undefined: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    definitions = {name: set(_defined(module.tree)) for name, module in modules.items()}
    # What a Protocol names is defined by the class it describes, which may be another package's.
    defined_somewhere = set().union(
        *(_defined(module.tree, _protocols(module.tree)) for module in modules.values())
    )
    for module in modules.values():
        defined = definitions[module.name]
        for name, of_self in _private_uses(module.tree):
            totals["private_of_others"] += not of_self
            if name not in defined:
                (undefined if of_self else private)[name] += 1
        totals += _counts(module.tree)
        totals["comments"] += _comments(module.text)
    lines = {name: len(module.text.splitlines()) for name, module in modules.items()}
    by_room: Counter[str] = Counter()
    for name, count in lines.items():
        by_room[room(name)] += count
    classes = _database_classes(folder)
    return {
        "entries": len(by_rooms),
        "modules": len(modules),
        "room_floors": len(floors(by_rooms)),
        "module_floors": len(floors(by_modules)),
        "room_cycles": len(cycles(by_rooms)),
        "module_cycles": len(cycles(by_modules)),
        "private_uses": sum(private.values()),
        "private_names": len(private),
        "private_of_others": totals["private_of_others"],
        "undefined_members": sum(undefined.values()),
        "reached_members": sum(undefined[name] for name in undefined.keys() & defined_somewhere),
        "any": totals["any"],
        "most_classes": max((count for count, _ in classes.values()), default=None),
        "most_private_methods": max((count for _, count in classes.values()), default=None),
        "not_implemented": totals["not_implemented"],
        "super_of_another": totals["super_of_another"],
        "mro": totals["mro"],
        "lines": sum(lines.values()),
        "core_lines": sum(count for name, count in by_room.items() if name not in COMPANIONS),
        "longest_module": max(lines.values()),
        "comments": totals["comments"],
        "comments_per_100": round(100 * totals["comments"] / sum(lines.values()), 1),
        "lists": {
            "circles": cycles(by_rooms) + cycles(by_modules),
            "private_uses": dict(private.most_common()),
            "undefined_members": dict(undefined.most_common()),
            "classes": classes,
            "rooms": dict(by_room.most_common()),
            f"modules over {LARGE} lines": {
                name.removeprefix(PACKAGE + "."): count
                for name, count in sorted(lines.items(), key=lambda item: -item[1])
                if count > LARGE
            },
        },
    }


# The documented members of every NamedTuple, which begin with _ so that no field can have their names.
_OF_NAMED_TUPLES = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in _OF_NAMED_TUPLES


def _protocols(tree: ast.Module) -> set[ast.AST]:
    """Everything in the bodies of a file's Protocols."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    protocols = (cls for cls in found if any("Protocol" in ast.unparse(base) for base in cls.bases))
    return {node for cls in protocols for node in ast.walk(cls)}


def _defined(tree: ast.Module, but: Container[ast.AST] = ()) -> Iterator[str]:
    """The names that a file defines: functions, classes, variables, slots, and attributes it sets on self."""
    for node in ast.walk(tree):
        if node in but:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
            continue
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node.value):
            yield node.attr
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__slots__" for target in node.targets
        ):
            for constant in ast.walk(node.value):
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                    yield constant.value


def _is_own(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _private_uses(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Each use of a private attribute, and whether it is of self or cls; super() and modules do not count."""
    modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not _private(node.attr):
            continue
        of = node.value
        if isinstance(of, ast.Name) and of.id in modules:
            continue
        if isinstance(of, ast.Call) and isinstance(of.func, ast.Name) and of.func.id == "super":
            continue
        yield node.attr, _is_own(of)


def _counts(tree: ast.Module) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "Any":
            found["any"] += 1
        elif isinstance(node, ast.Attribute) and node.attr == "__mro__":
            found["mro"] += 1
        elif isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node):
            found["not_implemented"] += 1
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super":
            found["super_of_another"] += bool(node.args)
    return found


def _comments(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def _database_classes(folder: Path) -> dict[str, tuple[int, int]]:
    """For each public database class: our classes in its MRO, and the private methods that they define."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _COUNT_CLASSES, folder.name],
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(f"database classes: not counted: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {}
    return {name: (classes, methods) for name, (classes, methods) in json.loads(done.stdout).items()}


def table(measured: dict[str, dict[str, Any]]) -> str:
    """One row for each figure, one column for each revision."""
    width = max(map(len, ROWS.values()))
    columns = [max(9, len(label)) for label in measured]
    head = " ".join(f"{label:>{wide}}" for label, wide in zip(measured, columns, strict=True))
    rows = [f"{'':{width}} {head}"]
    for name, words in ROWS.items():
        figures = ["-" if each[name] is None else f"{each[name]:,}" for each in measured.values()]
        cells = " ".join(f"{figure:>{wide}}" for figure, wide in zip(figures, columns, strict=True))
        rows.append(f"{words:{width}} {cells}")
    return "\n".join(rows)


def lists(figures: dict[str, Any]) -> str:
    """What the figures were counted from, by name."""
    parts = []
    for title, found in figures["lists"].items():
        items = [" <-> ".join(group) for group in found] if isinstance(found, list) else [
            f"{name} {count if isinstance(count, int) else '/'.join(map(str, count))}"
            for name, count in found.items()
        ]  # fmt: skip
        parts.append(f"{title}: {', '.join(items) or 'none'}")
    return "\n\n".join(parts)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rev", action="append", help="a git revision, or . for this checkout; repeatable")
    parser.add_argument("--json", action="store_true", help="all figures and lists, as JSON")
    parser.add_argument("--names", action="store_true", help="also list what the figures were counted from")
    options = parser.parse_args(arguments)
    measured = {}
    for revision in options.rev or ["."]:
        with tree(revision) as folder:
            measured[revision] = measure(folder / PACKAGE)
    if options.json:
        print(json.dumps(measured, indent=1))
        return
    print(table(measured))
    for revision, figures in measured.items() if options.names else ():
        print(f"\n{revision}\n\n{lists(figures)}")


if __name__ == "__main__":
    main(sys.argv[1:])
