"""Tools that trace PyMySQL see with our classes what they see with peewee's.

Members of the kind are a tool (OpenTelemetry's, Datadog's, Elastic's and New Relic's, which wrap PyMySQL or
aiomysql and can run without an account), set up before or after the import of this library; and each form of
the library, against peewee's class of the same form. `tests/unit/servers/test_wrapped_driver.py` has the ways
of wrapping PyMySQL that were found in their sources.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "support" / "tracing" / "instrumented_program.py"
MODULES = {
    "opentelemetry": "opentelemetry.instrumentation.pymysql",
    "ddtrace": "ddtrace",
    "elasticapm": "elasticapm",
    "newrelic": "newrelic",
}


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


# What a pool asks for when it takes a connection back, which depends on what was done there.
POOLS_OWN = ("pymysql.connection.rollback", "ROLLBACK")


def programs_own(texts: list[str]) -> list[str]:
    """The program's statements, without the random names of savepoints."""
    if texts and texts[-1] in POOLS_OWN:
        texts.pop()
    return [re.sub(r"`s[0-9a-f]{32}`", "`s`", text) for text in texts]


@pytest.mark.parametrize("server", ["mariadb"], indirect=True)  # the tools see only the driver
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("tool", MODULES)
def test_a_tool_sees_the_same_statements(cluster: Any, tool: str, order: str) -> None:
    if not installed(MODULES[tool]):
        pytest.skip(f"{MODULES[tool]} is not installed; the extra `programs` has it")
    parameters = [cluster.parameters("primary"), cluster.parameters(cluster.replicas[0])]
    parameters[1].pop("database", None)
    done = subprocess.run(
        [sys.executable, PROGRAM, tool, order, json.dumps(parameters)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    told = {name: programs_own(texts) for name, texts in json.loads(done.stdout).items()}
    assert len(told["plain"]) >= 15
    for form in ("", " pooled", " asyncio"):
        assert told[f"ours{form}"] == told[f"plain{form}"], form
    # OpenTelemetry has nothing for aiomysql.
    assert bool(told["plain asyncio"]) is (tool != "opentelemetry")
