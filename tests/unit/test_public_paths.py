"""Documented import paths stay where they are, and importing the library brings no companion along.

The list holds what the README, `docs/` and the docstrings import from each module, and of the modules that
are public as a whole every public name.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.peewees import needs_asyncio

ROOT = Path(__file__).parents[2]
COMPANIONS = ("aio", "discover", "ext", "testing")

PUBLIC = {
    "": """
        BookmarkError ConfigurationError Health LeastBusy Nearest NoReplicaAvailable NodeEvent NodeHealth
        OutcomeUnknown PasswordUnavailable PooledReplicatedDatabase PrimaryReadOnly Random ReadOnlyViolation
        Replica ReplicatedDatabase ReplicatedDatabaseProxy ReplicatedSqliteDatabase RoundRobin Route
        RouteEvent
        TransactionEscapeError TransactionEscapeWarning
    """,
    ".bookmarks": """
        MAX_HISTORY MAX_LENGTH Bookmark BookmarkError BookmarkExpired decode encode sign unsign
    """,
    ".errors": """
        BookmarkError ConfigurationError NoReplicaAvailable OutcomeUnknown PasswordUnavailable PrimaryReadOnly
        ReadOnlyViolation TransactionEscapeError TransactionEscapeWarning
    """,
    ".events": "NodeEvent Route RouteEvent",
    ".positions": """
        MAX_ID MAX_NUMBER MAX_SEQUENCE POSITIONS MariaDBGTID MariaDBPosition MySQLInterval MySQLPosition
        Position
    """,
    ".aio": "AsyncReplicatedDatabase",
    ".discover": "aurora dns galera group_replication replicas_of_primary srv",
    ".ext.asgi": "CausalSessionMiddleware",
    ".ext.health": "ASGIHealth WSGIHealth",
    ".ext.jobs": "in_session",
    ".ext.opentelemetry": "ReplicasInstrumentor",
    ".ext.prometheus": "instrument uninstrument",
    ".ext.wsgi": "CausalSessionMiddleware",
    ".servers.sqlite": "Connection",
    ".testing": """
        ClusterNode Counts LocalCluster MissingServer assert_no_replica_reads assert_routes available
        one_server raise_on_next
    """,
}


def loaded_by(statement: str) -> set[str]:
    """The modules that are loaded when a fresh interpreter has run `statement`."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=needs_asyncio) if path == ".aio" else path for path in PUBLIC]
)
def test_a_public_path_is_kept(path: str) -> None:
    # Each in an interpreter of its own, so that none works only because of what was imported before it.
    loaded_by(f"from peewee_replicas{path} import {', '.join(PUBLIC[path].split())}")


def test_bookmark_errors_are_caught_by_either_path() -> None:
    loaded_by(
        "from peewee_replicas import BookmarkError, bookmarks, errors\n"
        "assert BookmarkError is errors.BookmarkError\n"
        "assert issubclass(BookmarkError, bookmarks.BookmarkError)"
    )


def test_the_top_names_are_all_that_is_exported() -> None:
    loaded_by(f"import peewee_replicas\nassert set(peewee_replicas.__all__) == set({PUBLIC[''].split()})")


def test_importing_the_library_brings_no_companion_along() -> None:
    loaded = loaded_by("import peewee_replicas")
    assert "peewee_replicas" in loaded
    companions = {name for name in loaded if name.split(".")[:1] == ["peewee_replicas"]
                  and name.split(".")[1:2] and name.split(".")[1] in COMPANIONS}  # fmt: skip
    assert not companions
    assert not {"aiomysql", "asyncio", "gevent", "greenlet"} & loaded


def test_what_the_documentation_imports_is_in_the_list() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    blocks = [
        code for page in pages for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    documented = {
        (node.module.removeprefix("peewee_replicas"), alias.name)
        for code in blocks
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "peewee_replicas"
        for alias in node.names
    }
    assert documented
    known = {(path, name) for path, names in PUBLIC.items() for name in names.split()}
    modules = {tuple(path.rpartition(".")[::2]) for path in PUBLIC}
    assert documented <= known | modules
