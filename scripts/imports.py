"""The imports of a package, read from its source: which module imports what, on which line.

Nothing is imported or run, so every import counts, also one inside a function or under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple

Graph = Mapping[str, Set[str]]


class Module(NamedTuple):
    """One file of the package.

    Attributes:
        name: its dotted name, such as ``peewee_replicas.routing.decision``; a package is its ``__init__.py``.
        path: the file.
        text: its source.
        tree: the same, parsed.
    """

    name: str
    path: Path
    text: str
    tree: ast.Module


class Import(NamedTuple):
    """One import of one module.

    Attributes:
        importer: the name of the module that imports.
        imported: the name of what it imports: a module of the package, or as written where it is another's.
        line: where.
    """

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def read_package(folder: Path) -> dict[str, Module]:
    """All modules of the package in `folder`, by name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, path, text, ast.parse(text, str(path)))
    return found


def imports(modules: Mapping[str, Module]) -> list[Import]:
    """All imports of all modules, each name of ``from x import a, b`` by itself."""
    return [found for module in modules.values() for found in imports_of(module, modules)]


def imports_of(module: Module, modules: Mapping[str, Module]) -> Iterator[Import]:
    """The imports of one module; `modules` are those of its package."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module.name, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            start = _start(module, node)
            for alias in node.names:
                submodule = f"{start}.{alias.name}"
                # A name out of the package is kept, so that `from peewee import sqlite3` tells itself apart.
                ours = start in modules and submodule not in modules
                yield Import(module.name, start if ours else submodule, node.lineno)


def _start(module: Module, node: ast.ImportFrom) -> str:
    """The module that ``from ... import`` names, with its dots resolved."""
    if not node.level:
        return node.module or ""
    climbs = node.level - (module.path.name == "__init__.py")
    parts = module.name.split(".")
    return ".".join([*parts[: len(parts) - climbs], *([node.module] if node.module else [])])


def room(name: str) -> str:
    """The entry at the top of the package that a module belongs to: a folder, a file, or ``__init__``."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Which modules of the package each one imports."""
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for found in imports(modules):
        if found.imported in modules and found.imported != found.importer:
            graph[found.importer].add(found.imported)
    return graph


def room_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Which rooms each room imports."""
    graph: dict[str, set[str]] = {room(name): set() for name in modules}
    for importer, imported in module_graph(modules).items():
        graph[room(importer)] |= {room(name) for name in imported} - {room(importer)}
    return graph


def knots(graph: Graph) -> list[set[str]]:
    """The graph's strongly connected parts, those that others import first (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], index[other])
        if lowest[name] == index[name]:
            start = stack.index(name)
            found.append(set(stack[start:]))
            del stack[start:]

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def cycles(graph: Graph) -> list[list[str]]:
    """The groups of names that import each other in a circle, each sorted."""
    return [sorted(group) for group in knots(graph) if len(group) > 1]


def floors(graph: Graph) -> list[list[str]]:
    """Names by floor, lowest first: each is one above the highest it imports; a circle shares a floor."""
    floor_of: dict[str, int] = {}
    for group in knots(graph):
        below = [floor_of[other] for name in group for other in graph[name] if other not in group]
        for name in group:
            floor_of[name] = max(below, default=-1) + 1
    return [
        sorted(name for name, floor in floor_of.items() if floor == level)
        for level in range(max(floor_of.values(), default=-1) + 1)
    ]
