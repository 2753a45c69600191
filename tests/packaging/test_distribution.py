"""The wheel and the sdist: what is in them, and what installing them brings along."""

from __future__ import annotations

import email
import email.message
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "_build", "*.egg-info", "__pycache__", "*.py[cod]")


def run(*command: str | Path, cwd: Path) -> str:
    # Nothing of this interpreter's settings may leak into the one that is looked at.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, since building leaves files behind that end up in the next wheel."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "tree", ignore=NOT_SOURCE))


@pytest.fixture(scope="session")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that was made from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, tree, cwd=folder)
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="session")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


@pytest.fixture(scope="session")
def clean_python(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment in which nothing but `pip install .` was done."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", ".", cwd=tree)
    return python


def test_both_forms_pass_twine(built: Path) -> None:
    files = sorted(built.iterdir())
    assert [file.name.endswith((".whl", ".tar.gz")) for file in files] == [True, True]
    run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=built)


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile, tree: Path) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = tree / "peewee_replicas"
    expected = {str(path.relative_to(tree)) for path in package.rglob("*.py")}
    assert packed == expected | {"peewee_replicas/py.typed", "_peewee_replicas_pytest.py"}


def test_wheel_runs_on_every_platform(built: Path) -> None:
    (path,) = built.glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl")


def test_wheel_carries_the_license(wheel: zipfile.ZipFile, tree: Path) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("/LICENSE"))
    assert wheel.read(name) == (tree / "LICENSE").read_bytes()


def test_the_license_is_an_spdx_expression(metadata: email.message.Message) -> None:
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License"] is None
    assert not [name for name in metadata.get_all("Classifier", []) if name.startswith("License")]


def test_requirements_are_peewee_and_pymysql(metadata: email.message.Message) -> None:
    required = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    names = sorted(text.split("<")[0].split(">")[0].strip().lower() for text in required)
    assert names == ["peewee", "pymysql"]
    assert metadata["Requires-Python"] == ">=3.10"


def test_the_asyncio_extra_leaves_out_releases_that_aiomysql_cannot_import(
    metadata: email.message.Message,
) -> None:
    required = [text.replace(" ", "") for text in metadata.get_all("Requires-Dist", []) if "asyncio" in text]
    (pymysql,) = (text for text in required if text.lower().startswith("pymysql"))
    assert {"!=1.2.1", "!=1.2.2"} == set(pymysql.lower().removeprefix("pymysql").split(";")[0].split(","))


def test_sdist_can_be_built_and_tested_from(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "setup.cfg", "pyproject.toml", "tox.ini"}
    wanted |= {"Makefile", "scripts/test", "scripts/demo", "docs/conf.py", "docs/index.md"}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "examples").rglob("*.py")}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    assert wanted <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".")]


def test_installing_brings_peewee_and_pymysql_only(clean_python: Path) -> None:
    listed = run(clean_python, "-m", "pip", "list", "--format=json", cwd=clean_python.parent)
    rows = json.loads(listed[listed.index("[{") : listed.rindex("}]") + 2])
    names = {row["name"].lower().replace("-", "_") for row in rows}
    assert names - {"pip", "setuptools", "wheel"} == {"peewee_replicas", "peewee", "pymysql"}


def test_installed_package_imports_without_a_warning(
    clean_python: Path, metadata: email.message.Message
) -> None:
    code = (
        "import importlib.metadata, pathlib, peewee_replicas\n"
        "folder = pathlib.Path(peewee_replicas.__file__).parent\n"
        "assert (folder / 'py.typed').is_file(), folder\n"
        "print(importlib.metadata.version('peewee_replicas'), folder)"
    )
    said = run(clean_python, "-I", "-W", "error", "-c", code, cwd=clean_python.parent)
    version, folder = said.split()
    assert version == metadata["Version"]
    assert Path(folder).is_relative_to(clean_python.parents[1])
