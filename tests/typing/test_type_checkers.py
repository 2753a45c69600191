"""mypy and pyright accept every file of ``good``, and refuse each marked line of ``bad``, and no other.

What there is to give was listed from the signatures: the constructors of all four classes, ``init()``,
``set_replicas()``, the scopes of a database and of a proxy, transactions, and what test suites call. The last
test holds the lines for wrong values against the list of arguments. The checkers see the package as a program
does that has installed it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import peewee_replicas
from peewee_replicas.routing.settings import OWN_ARGUMENTS

HERE = Path(__file__).parent
FILES = sorted(path.relative_to(HERE).as_posix() for path in HERE.glob("*/*.py"))
WHERE = Path(peewee_replicas.__file__).parents[1]
INSTALLED = "site-packages" in WHERE.parts
MARK = re.compile(r"#\s*refused:(.*)")

# Lines with the text of the errors there.
Errors = Mapping[int, str]


def run(checker: str, *options: str, folder: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", checker, *options],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def run_mypy(folder: Path) -> Iterator[tuple[str, int, str]]:
    options = ["--strict", "--ignore-missing-imports", "--no-error-summary", "--no-pretty", "--config-file="]
    # mypy refuses a path to the place where packages are installed.
    env = {} if INSTALLED else {"MYPYPATH": str(WHERE)}
    out = run("mypy", *options, "--explicit-package-bases", "good", "bad", folder=folder, **env)
    for path, line, text in re.findall(r"^([^:\n]+):(\d+): error: (.*)", out, re.MULTILINE):
        yield path, int(line), text


def run_pyright(folder: Path) -> Iterator[tuple[str, int, str]]:
    config = {"typeCheckingMode": "standard", "extraPaths": [] if INSTALLED else [str(WHERE)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    out = run("pyright", "--outputjson", "--pythonpath", sys.executable, folder=folder)
    for each in json.loads(out[out.index("{") :])["generalDiagnostics"]:
        if each["severity"] == "error":
            path = Path(each["file"]).relative_to(folder.resolve()).as_posix()
            yield path, each["range"]["start"]["line"] + 1, each["message"]


CHECKERS = {"mypy": run_mypy, "pyright": run_pyright}


@pytest.fixture(scope="module", params=CHECKERS)
def errors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Errors]:
    """What a checker says of all files, by file and line."""
    name = request.param
    if not is_there(name):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name.upper()} IS NOT INSTALLED: WHAT IT SAYS IS NOT TESTED")
    folder = tmp_path_factory.mktemp(name)
    for part in ("good", "bad"):
        shutil.copytree(HERE / part, folder / part)
    found: dict[str, dict[int, str]] = {}
    for path, line, text in CHECKERS[name](folder):
        found.setdefault(path, {})[line] = found.get(path, {}).get(line, "") + text + "\n"
    return dict(found)


def is_there(checker: str) -> bool:
    if importlib.util.find_spec(checker) is None:
        return False
    # pyright needs Node.js.
    done = subprocess.run([sys.executable, "-m", checker, "--version"], capture_output=True, timeout=300)
    return done.returncode == 0


@pytest.mark.parametrize("name", FILES)
def test_mistakes_are_refused_on_their_line_and_nothing_else_is(errors: dict[str, Errors], name: str) -> None:
    marked = {
        number: found[1].strip()
        for number, line in enumerate((HERE / name).read_text().splitlines(), 1)
        if (found := MARK.search(line))
    }
    assert bool(marked) == name.startswith("bad/")
    said = errors.get(name, {})
    assert {number: said[number] for number in said if number not in marked} == {}
    assert [number for number in marked if number not in said] == []
    for number, word in marked.items():
        assert word.lower() in said[number].lower()


def test_a_wrong_value_of_every_argument_of_ours_is_among_the_mistakes() -> None:
    lines = [line for line in (HERE / "bad/constructors.py").read_text().splitlines() if "refused" in line]
    tried = {name for line in lines for name in OWN_ARGUMENTS if f'ReplicatedDatabase("app", {name}=' in line}
    assert tried == set(OWN_ARGUMENTS)
