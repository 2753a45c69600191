"""A module whose extra is not installed raises an error that names the extra.

The members are the packages of all extras of `setup.cfg` that the library imports. They are read from the
source of the package, imports inside functions included; each is imported in a new interpreter in which that
package cannot be found, and where it is found but broken. A new module with an import of its own is therefore
tested without a line here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from imports import imports, read_package
from support.peewees import WITHOUT_ASYNCIO, needs_asyncio

ROOT = Path(__file__).parents[2]

REQUIRED = {"peewee", "playhouse", "pymysql"}
FOR_TYPE_CHECKERS = {"_typeshed", "typing_extensions"}
# In the standard library, since 3.14.
NEWER = {"annotationlib"}
# Imported only where pytest has loaded the module.
PYTEST = {"pytest", "_pytest"}
# Without it, tables have no colours.
OPTIONAL = {"rich"}
# The extra that brings a package, unless it has the package's name.
EXTRA_OF = {"aiomysql": "asyncio", "greenlet": "asyncio"}


def third_party() -> set[tuple[str, str]]:
    """The modules of the package with the packages of others that each imports."""
    return {
        (each.importer, each.imported.partition(".")[0])
        for each in imports(read_package(ROOT / "peewee_replicas"))
        if each.imported.partition(".")[0] not in sys.stdlib_module_names | {"peewee_replicas"}
    }


def extras() -> dict[str, str]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return dict(config["options.extras_require"])


def extra_of(package: str) -> str:
    found = EXTRA_OF.get(package) or package.partition("_client")[0].partition("_instrumentation")[0]
    assert found in extras(), f"{package} belongs to no extra: add it to an extra, and to EXTRA_OF"
    return found


GUARDED = sorted(
    (module, package)
    for module, package in third_party()
    if package not in REQUIRED | FOR_TYPE_CHECKERS | NEWER | PYTEST | OPTIONAL
    and not (WITHOUT_ASYNCIO and ".aio" in module)
)
BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise {error}
sys.meta_path.insert(0, Blocked())
"""
MISSING = "ModuleNotFoundError(f'No module named {name!r}', name=name)"
BROKEN = "ImportError('cannot import name x from pymysql', name='pymysql')"


def import_without(package: str, statement: str, error: str = MISSING) -> str:
    """Run a statement where a package cannot be imported, and return the last line of its errors."""
    program = f"{BLOCK.format(package=package, error=error)}\n{statement}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or [""])[-1]


@pytest.mark.parametrize(("module", "package"), GUARDED)
def test_a_module_without_its_extra_names_it(module: str, package: str) -> None:
    extra = extra_of(package)
    said = import_without(package, f"import {module}")
    assert said.startswith(f"ModuleNotFoundError: peewee_replicas.{module.split('.')[1]}")
    assert f"needs the extra '{extra}'" in said
    assert f"No module named '{package}'" in said
    assert f'pip install "peewee_replicas[{extra}]"' in said


def test_there_is_a_module_that_needs_an_extra() -> None:
    assert WITHOUT_ASYNCIO or ("peewee_replicas.aio.connection", "aiomysql") in GUARDED


@needs_asyncio
def test_an_extra_that_does_not_work_is_named_with_the_cause() -> None:
    said = import_without("aiomysql", "import peewee_replicas.aio", BROKEN)
    assert re.match(
        r"ImportError: peewee_replicas\.aio needs the extra 'asyncio'.*cannot import name x", said
    )


def test_a_fault_of_the_package_itself_keeps_its_message() -> None:
    said = import_without(
        "greenlet",
        "from peewee_replicas.errors import importing_extra\n"
        "with importing_extra('asyncio', 'peewee_replicas.aio'):\n"
        "    from peewee_replicas.errors import absent",
    )
    assert said.startswith("ImportError: cannot import name 'absent'")


@pytest.mark.parametrize("package", sorted(OPTIONAL))
def test_the_command_works_without_what_is_optional(package: str) -> None:
    said = import_without(
        package,
        "import io\n"
        "from peewee_replicas.cli.output import print_table\n"
        "class Terminal(io.StringIO):\n"
        "    isatty = lambda self: True\n"
        "out = Terminal()\n"
        "print_table(['node'], [['primary']], {}, out)\n"
        "assert 'primary' in out.getvalue()",
    )
    assert said == ""
