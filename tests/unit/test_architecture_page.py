"""The map in `docs/architecture.md` agrees with the code.

What it says about the code, and is held here: which rooms there are, which arrows lead from one to another,
and every module, class and function that the page or a picture names. Each picture is drawn from the text
beside it.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from imports import Module, read_package, room, room_graph

pytestmark = pytest.mark.source

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PICTURES = sorted((ROOT / "docs" / "architecture").glob("*.dot"))
ROOMS_PICTURE = ROOT / "docs" / "architecture" / "rooms.dot"


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return read_package(ROOT / "peewee_replicas")


def nodes_and_arrows(dot: str) -> tuple[set[str], set[tuple[str, str]]]:
    lines = [line.strip() for line in dot.splitlines()]
    nodes = {match[1] for line in lines if (match := re.match(r"(\w+) \[label=", line))}
    arrows = {(match[1], match[2]) for line in lines if (match := re.match(r"(\w+) -> (\w+);", line))}
    return nodes, arrows


def without_shortcuts(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The arrows of a graph that has no circles, but for those beside which there is a longer way."""

    def reached(name: str) -> set[str]:
        return graph[name].union(*(reached(other) for other in graph[name]))

    return {
        (start, end)
        for start, ends in graph.items()
        for end in ends
        if not any(end in reached(other) for other in ends - {end})
    }


def named(text: str, rooms: set[str]) -> set[str]:
    """The dotted names in `text` that begin with a room; names of files are none."""
    dotted = re.findall(r"(?<![\w./])((?:\w+\.)+\w+)", text)
    files = (".py", ".md", ".svg")
    return {name for name in dotted if name.split(".")[0] in rooms and not name.endswith(files)}


def exists(name: str, modules: dict[str, Module]) -> bool:
    """Whether ``room.module.Class.method``, or a part of it, is defined in the source."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = modules.get(".".join(("peewee_replicas", *parts[:length])))
        if module is not None:
            return _has(module.tree, parts[length:])
    return False


def _has(scope: ast.Module | ast.ClassDef, parts: list[str]) -> bool:
    if not parts:
        return True
    for node in scope.body:
        if parts[0] in _names_of(node):
            return len(parts) == 1 or (isinstance(node, ast.ClassDef) and _has(node, parts[1:]))
    return False


def _names_of(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                yield target.id


def test_the_picture_of_the_rooms_has_the_rooms_and_arrows_of_the_code(modules: dict[str, Module]) -> None:
    graph = room_graph(modules)
    nodes, arrows = nodes_and_arrows(ROOMS_PICTURE.read_text())
    assert nodes == set(graph)
    assert arrows == without_shortcuts(graph), "correct docs/architecture/rooms.dot, then run scripts/draw"


@pytest.mark.parametrize("source", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_drawn_from_the_text_beside_it(source: Path) -> None:
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    drawn = source.with_suffix(".svg").read_text()
    assert f"from {source.name}, sha256 {digest}" in drawn, "run scripts/draw"


@pytest.mark.parametrize("path", [PAGE, *PICTURES], ids=lambda path: path.name)
def test_every_name_on_the_map_is_one_in_the_code(path: Path, modules: dict[str, Module]) -> None:
    text = path.read_text()
    names = named(text, {room(name) for name in modules})
    assert names or path == ROOMS_PICTURE
    missing = sorted(name for name in names if not exists(name, modules))
    assert not missing, f"{path.name} names what is not there: {missing}"


def test_the_page_has_a_line_for_every_room(modules: dict[str, Module]) -> None:
    lines = set(re.findall(r"^\| `(\w+)/?` \|", PAGE.read_text(), re.MULTILINE))
    assert lines == {room(name) for name in modules} - {"__init__"}


def test_every_test_on_the_page_is_there() -> None:
    paths = re.findall(r"`(tests/[\w/.]+)`", PAGE.read_text())
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_page_shows_every_picture() -> None:
    shown = set(re.findall(r"\]\(architecture/([\w.]+)\)", PAGE.read_text()))
    assert {source.with_suffix(".svg").name for source in PICTURES} <= shown


@pytest.mark.parametrize(
    ("name", "there"),
    {
        "routing.policies": True,
        "routing.policies.POLICIES": True,
        "routing.policies.RoundRobin.peek": True,
        "events.Counters.add": True,
        "routing.policy": False,
        "routing.policies.gone": False,
        "routing.policies.RoundRobin.gone": False,
        "routing.policies.spread.gone": False,
    }.items(),
)
def test_what_is_not_there_is_found_out(name: str, there: bool, modules: dict[str, Module]) -> None:
    assert named(f"see `{name}()`.", {"routing", "events"}) == {name}
    assert exists(name, modules) is there


def test_shortcuts_are_left_out() -> None:
    graph = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert without_shortcuts(graph) == {("a", "b"), ("b", "c"), ("a", "d")}
    assert nodes_and_arrows("a [label=<x>];\n a -> b;\n// c -> d;") == ({"a"}, {("a", "b")})
