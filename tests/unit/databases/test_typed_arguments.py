"""What a type checker and an editor know of the constructors' arguments is what the constructors take.

The names were taken from the signatures of peewee's classes and of both drivers' connections; each class here
is held against them, so that an argument of a newer release is missed at once.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_type_hints

import aiomysql
import peewee
import pymysql
import pytest
from playhouse import pool

from peewee_replicas.databases.argument_names import names_taken
from peewee_replicas.databases.argument_types import (
    AsyncArguments,
    MySQLArguments,
    PooledArguments,
    RoutingArguments,
    SqliteArguments,
)
from peewee_replicas.routing.settings import _CHOICES, OWN_ARGUMENTS

# What nobody gives by this name, or peewee and this library set themselves.
NOT_GIVEN = {"self", "database", "args", "kwargs", "connect_kwargs", "defer_connect", "loop"}
SERVER = [peewee.Database.__init__, peewee.MySQLDatabase.init]
POOL = [pool.PooledDatabase.__init__, pool.PooledDatabase.init]


@pytest.mark.parametrize(
    ("listed", "functions", "besides"),
    [
        (MySQLArguments, [*SERVER, pymysql.connections.Connection.__init__], set()),
        (PooledArguments, [*SERVER, *POOL, pymysql.connections.Connection.__init__], set()),
        (AsyncArguments, [*SERVER, aiomysql.Connection.__init__], {"db"}),
        (
            SqliteArguments,
            [peewee.Database.__init__, peewee.SqliteDatabase.init],
            {"pragmas"},  # ReplicatedSqliteDatabase lists it itself
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_argument_that_exists_is_listed(listed: Any, functions: list[Any], besides: set[str]) -> None:
    exist = {name for function in functions for name in inspect.signature(function).parameters}
    assert exist - NOT_GIVEN - besides <= set(get_type_hints(listed))


def test_every_argument_of_sqlite3_is_listed() -> None:
    taken = names_taken(peewee.sqlite3.connect)
    assert taken is not None
    assert taken - NOT_GIVEN <= set(get_type_hints(SqliteArguments))


def test_our_own_arguments_are_listed_with_their_values() -> None:
    hints = get_type_hints(RoutingArguments)
    assert {*hints, "replicas"} == set(OWN_ARGUMENTS)
    for name, allowed in _CHOICES.items():
        assert hints[name].__args__ == allowed


PROGRAM = """
from typing import Any
from peewee_replicas import *
from peewee_replicas.aio import AsyncReplicatedDatabase

ReplicatedDatabase("app", host="p", replicas=[{"host": "r"}, "x"], policy="random", max_lag=None)
ReplicatedDatabase("app", policy=RoundRobin)
ReplicatedDatabase("app", policy=lambda replicas: replicas[0])
ReplicatedDatabase(None)
PooledReplicatedDatabase("app", max_connections=3, reads="observe")
AsyncReplicatedDatabase("app", pool_size=3, spread="unit")
ReplicatedSqliteDatabase("app", readers=1, timeout=3, pragmas={"a": 1}, consistency="strong")
settings: dict[str, Any] = {}
ReplicatedDatabase("app", **settings).readonly(consistency="strong")

class Own(ReplicatedDatabase):
    def __init__(self, *args: Any, region: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

Own("app", region="eu", anything=1)

ReplicatedDatabase("app", polcy="random")  # refused: polcy
ReplicatedDatabase("app", policy="fastest")  # refused: fastest
ReplicatedDatabase("app", consistency="sesion")  # refused: sesion
ReplicatedDatabase("app", replicas="r")  # accepted: a string is a list of strings to a checker
PooledReplicatedDatabase("app", max_conections=3)  # refused: max_conections
AsyncReplicatedDatabase("app", maxlag=3)  # refused: maxlag
ReplicatedSqliteDatabase("app", replicas=[])  # refused: replicas
ReplicatedDatabase("app").readonly(consistency="sesion")  # refused: sesion
"""


@pytest.mark.once
def test_a_type_checker_refuses_what_the_constructors_would(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    (tmp_path / "program.py").write_text(PROGRAM)
    root = Path(__file__).parents[3]
    out, err, _ = api.run(
        [
            "--config-file",
            str(root / "pyproject.toml"),
            "--cache-dir",
            str(tmp_path / "cache"),
            str(tmp_path / "program.py"),
        ]
    )
    wrong = {int(number): text for number, text in re.findall(r"program\.py:(\d+): error: (.*)", out)}
    expected = {
        number: line.partition("# refused: ")[2]
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "# refused: " in line
    }
    assert set(wrong) == set(expected), out + err
    for number, word in expected.items():
        assert word in wrong[number]
