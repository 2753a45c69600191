"""Runs of pytest in a process of its own, with the plugin as in an environment that has it installed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGIN = "_peewee_replicas_pytest"


def plugin_environment(**variables: str) -> dict[str, str]:
    """The environment in which pytest loads the plugin, installed or from the source."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    if PLUGIN not in {each.value for each in entry_points(group="pytest11")}:
        environment["PYTEST_PLUGINS"] = PLUGIN
        path = os.environ.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), path] if path else [str(ROOT)])
    return {**environment, **variables}


def run_pytest(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on the tests in `folder`; warnings are errors."""
    (folder / "pytest.ini").touch()  # or settings of a folder above would count
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-W", "error"]
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=plugin_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
