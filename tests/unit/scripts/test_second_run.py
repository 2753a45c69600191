"""`scripts/run_pytest.py` runs a few failed tests once more, alone; `scripts/summary.py` names them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import run_pytest

pytestmark = pytest.mark.once

SCRIPTS = Path(__file__).parents[3] / "scripts"

# `beside` fails the first time; `always` each time.
TESTS = """
import pathlib, pytest

@pytest.mark.parametrize("number", range({beside}))
def test_beside(number):
    met = pathlib.Path(__file__).with_name(f"met-{{number}}")
    known = met.exists()
    met.touch()
    assert known

@pytest.mark.parametrize("number", range({always}))
def test_always(number):
    assert not number + 1

def test_fine():
    with pathlib.Path(__file__).with_name("fine").open("a") as file:
        file.write("run ")
"""


def run(folder: Path, beside: int, always: int) -> tuple[int, str]:
    """Run such tests and the summary; return pytest's exit code and what the summary said."""
    (folder / "test_some.py").write_text(TESTS.format(beside=beside, always=always))
    results = folder / "results"
    results.mkdir()
    command = [sys.executable, SCRIPTS / "run_pytest.py", results / "some.xml", "-q", "-n", "1"]
    code = subprocess.run([*command, folder / "test_some.py", "--rootdir", folder], check=False).returncode
    ran = {"testenvs": {"some": {"test": [{"retcode": code}]}}}
    (results / "tox.json").write_text(json.dumps(ran))
    summary = [sys.executable, SCRIPTS / "summary.py", results, "some"]
    return code, subprocess.run(summary, capture_output=True, text=True, check=False).stdout


def test_what_passes_alone_has_passed_and_is_named(tmp_path: Path) -> None:
    code, said = run(tmp_path, beside=2, always=0)
    assert code == 0
    assert said.count("failed beside others, passed alone: test_some::test_beside[") == 2
    assert said.endswith("3 passed, 0 failed\n")
    assert (tmp_path / "fine").read_text() == "run "  # what had passed is not run again


def test_what_fails_alone_as_well_has_failed_and_is_named(tmp_path: Path) -> None:
    code, said = run(tmp_path, beside=1, always=1)
    assert code == 1
    assert "some: failed beside others, passed alone: test_some::test_beside[0]\n" in said
    assert "some: FAILED test_some::test_always[0]\n" in said
    assert said.endswith("2 passed, 1 failed\n")


def test_many_failures_are_no_accident(tmp_path: Path) -> None:
    code, said = run(tmp_path, beside=run_pytest.FEW + 1, always=0)
    assert code == 1
    assert said.count("some: FAILED test_some::test_beside[") == run_pytest.FEW + 1
    assert said.endswith(f"1 passed, {run_pytest.FEW + 1} failed\n")


@pytest.mark.parametrize("text", ["import nothing_of_this_name", "def test_of_a_fixture(missing): pass"])
def test_tests_that_cannot_begin_fail(tmp_path: Path, text: str) -> None:
    (tmp_path / "test_some.py").write_text(text)
    arguments = ["-q", "--rootdir", str(tmp_path), str(tmp_path)]
    assert run_pytest.main(tmp_path / "some.xml", arguments) != 0


@pytest.mark.parametrize(("workers", "collects"), [("3", False), ("4", True), ("auto", False)])
def test_before_many_workers_start_the_modules_are_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str, collects: bool
) -> None:
    commands: list[list[str]] = []

    def call(command: list[str], **_: object) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    run_pytest.main(tmp_path / "some.xml", ["-n", workers])
    assert ["--collect-only" in command for command in commands] == ([True, False] if collects else [False])
