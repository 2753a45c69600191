"""Importing the library loads what every program needs, and nothing more."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from peewee_replicas.statements import tokens

WHEN_USED = ("databases.sqlite", "connections.sqlite_files", "servers.sqlite", "aio", "ext", "testing", "cli")


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after this code."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_forms_and_companions_are_loaded_when_used() -> None:
    loaded = loaded_by("import peewee_replicas")
    assert not loaded & {f"peewee_replicas.{name}" for name in WHEN_USED}


@pytest.mark.parametrize(
    "code",
    [
        "from peewee_replicas import ReplicatedSqliteDatabase",
        "import peewee_replicas; peewee_replicas.ReplicatedSqliteDatabase",
        "from peewee_replicas import *; ReplicatedSqliteDatabase",
        "import peewee_replicas; from playhouse.db_url import connect; connect('sqlite+replicas:///x.db')",
    ],
)
def test_the_sqlite_form_is_found_in_every_way(code: str) -> None:
    assert "peewee_replicas.databases.sqlite" in loaded_by(code)


def test_an_unknown_name_is_no_attribute() -> None:
    import peewee_replicas

    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = peewee_replicas.Nothing  # type: ignore[attr-defined]


def test_a_name_has_the_characters_that_servers_allow() -> None:
    plain = re.compile(r"[A-Za-z0-9_$\x80-\U0010ffff]")
    ours = re.compile(tokens._NAME_CHARACTER)
    for number in (*range(0x180), 0xD7FF, 0xD800, 0xDFFF, 0xFFFF, 0x10000, 0x10FFFF):
        assert bool(ours.match(chr(number))) == bool(plain.match(chr(number))), number
