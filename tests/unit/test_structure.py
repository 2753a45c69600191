"""What `scripts/structure.py` counts, on a package made for it: for each figure something that counts and
something alike that does not. And what it may count in this package, for the figures that tell of a seam
that was cut badly: they are the rows of `ROWS` of which less is better whatever the package grows to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from imports import cycles, floors
from structure import ROWS, measure
from support.peewees import has_peewee

pytestmark = pytest.mark.source

FILES = {
    "__init__.py": "from .high.top import Database\n",
    "low.py": '''
        from typing import Any  # an import of Any is none

        class Base:
            """Any in words is none."""

            _shared = 1

            def given(self, value: Any) -> "list[Any]":
                return [self._shared, self._later]

            def _own(self, other: "Base"):
                return other._own  # another object, though of this file
        ''',
    "high/__init__.py": "",
    "high/middle.py": """
        import sys
        from ..low import Base

        class Middle(Base):
            def hook(self):
                raise NotImplementedError

            def other(self, stranger):
                super()._own(stranger)
                super(Middle, stranger).given(sys._getframe)
                return stranger._secret, stranger._secret, stranger._replace(), self._shared, Middle.__mro__
        """,
    "high/top.py": """
        import peewee
        from .middle import Middle

        class Database(Middle, peewee.Database):
            _later = 2

            def _private(self):
                from .. import low
        """,
}


LIMITS = {
    "entries": 22,
    "room_floors": 14,
    "room_cycles": 0,
    "module_cycles": 0,
    "private_uses": 24,
    "reached_members": 0,
    "any": 99,
    "most_classes": 3,
    "not_implemented": 0,
    "super_of_another": 2,  # one of them is that of the class itself, in databases/signatures.py
}


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tree") / "counted"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in text.strip("\n").splitlines()))
    return measure(folder)


@pytest.mark.parametrize(
    ("row", "count"),
    {
        "entries": 3,
        "modules": 5,
        "room_floors": 3,
        "module_floors": 4,
        "room_cycles": 0,
        "private_uses": 2,  # stranger._secret
        "private_names": 1,
        "private_of_others": 3,  # and other._own
        "undefined_members": 2,  # self._later, self._shared in another file than Base
        "reached_members": 2,
        "any": 1,
        "most_classes": 3,
        "most_private_methods": 2,
        "not_implemented": 1,
        "super_of_another": 1,
        "mro": 1,
        "comments": 2,
        "longest_module": 12,
    }.items(),
)
def test_each_figure_counts_what_it_says(figures: dict[str, Any], row: str, count: int) -> None:
    assert figures[row] == count


@pytest.fixture(scope="module")
def own_figures() -> dict[str, Any]:
    script = Path(__file__).parents[2] / "scripts" / "structure.py"
    done = subprocess.run([sys.executable, script, "--json"], capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout).values()
    return dict(found)


def test_every_figure_has_a_row(own_figures: dict[str, Any]) -> None:
    assert set(own_figures) - {"lists"} == set(ROWS)
    assert own_figures["most_classes"] > 0


@pytest.mark.parametrize(("row", "limit"), LIMITS.items())
def test_the_package_stays_as_well_divided_as_it_is(
    own_figures: dict[str, Any], row: str, limit: int
) -> None:
    if row == "most_classes" and not has_peewee("4.5"):
        pytest.skip("classes that stand for what an older peewee lacks are counted")
    assert own_figures[row] <= limit, (
        f"{ROWS[row]}: {own_figures[row]}, and {limit} are allowed; "
        "`python scripts/structure.py --names` lists them"
    )


def test_a_circle_stands_on_one_floor() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set(), "e": set()}
    assert cycles(graph) == [["b", "c"]]
    assert floors(graph) == [["d", "e"], ["b", "c"], ["a"]]
