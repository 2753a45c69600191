"""What a type checker and an editor know of the constructors' arguments is what the constructors take.

The names were taken from the signatures of peewee's classes and of both drivers' connections; each class here
is held against them, so that an argument of a newer release is missed at once. What type checkers say of good
and of wrong programs is tested in tests/typing.
"""

from __future__ import annotations

import inspect
from typing import Any, get_args, get_type_hints

import aiomysql
import peewee
import pymysql
import pytest
from playhouse import pool

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase, ReplicatedSqliteDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.databases.argument_names import names_taken
from peewee_replicas.databases.argument_types import (
    AiomysqlArguments,
    AsyncArguments,
    MySQLArguments,
    PooledArguments,
    PyMySQLArguments,
    RoutingArguments,
    SqliteArguments,
    SqliteDriverArguments,
)
from peewee_replicas.databases.mysql import _PooledMembers
from peewee_replicas.routing.settings import _CHOICES, OWN_ARGUMENTS, ReadsWord

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
    assert {*hints, "replicas", *FOR_SERVERS} == set(OWN_ARGUMENTS)
    assert hints["reads"] == ReadsWord | float
    for name, allowed in _CHOICES.items():
        if name == "writes":
            continue  # not an argument
        assert get_args(ReadsWord if name == "reads" else hints[name]) == allowed


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The arguments of a constructor as `inspect` and editors show them."""
    return dict(inspect.signature(cls).parameters)


FOR_SERVERS = {"follow_primary", "max_connection_age", "refresh"}
POOLS = {
    ReplicatedDatabase: set[str](),
    PooledReplicatedDatabase: {"max_connections", "stale_timeout", "timeout"},
    AsyncReplicatedDatabase: {"pool_size", "pool_min_size", "acquire_timeout", "pool_recycle"},
    ReplicatedSqliteDatabase: set[str](),
}
LISTED: list[tuple[Any, Any, Any]] = [
    (ReplicatedDatabase, MySQLArguments, PyMySQLArguments),
    (PooledReplicatedDatabase, PooledArguments, PyMySQLArguments),
    (AsyncReplicatedDatabase, AsyncArguments, AiomysqlArguments),
    (ReplicatedSqliteDatabase, SqliteArguments, SqliteDriverArguments),
]


@pytest.mark.parametrize(("cls", "in_init", "beneath"), LISTED, ids=lambda value: value.__name__)
def test_constructor_and_init_take_the_same(cls: Any, in_init: Any, beneath: Any) -> None:
    named = {
        name: each
        for name, each in parameters(cls).items()
        if each.kind in (each.KEYWORD_ONLY, each.VAR_KEYWORD)
    }
    assert named.pop("kwargs").annotation == f"Unpack[{beneath.__name__}]"
    own = set(OWN_ARGUMENTS) - ({"replicas", *FOR_SERVERS} if cls is ReplicatedSqliteDatabase else set())
    assert set(named) - {"readers"} == own | POOLS[cls]
    assert set(get_type_hints(in_init)) == {*named, *get_type_hints(beneath)}


@pytest.mark.parametrize("cls", POOLS)
def test_the_defaults_shown_are_those_in_force(cls: Any) -> None:
    database = cls("app.db")
    shown = {name: each.default for name, each in parameters(cls).items()}
    settings = database._parts.router.settings
    for name in set(settings._fields) - (FOR_SERVERS if cls is ReplicatedSqliteDatabase else set()):
        value = getattr(settings, name)
        assert shown[name] == (value.name if name == "policy" else value)
    assert shown.get("readers", len(database.replicas)) == len(database.replicas)
    for name in POOLS[cls]:
        held = "_wait_timeout" if name == "timeout" else f"_{name}"
        assert shown[name] == getattr(database, held)


class Between(ReplicatedDatabase):
    """A class that comes between two of ours in the order of methods."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seen = dict(kwargs)
        super().__init__(*args, **kwargs)


class Both(PooledReplicatedDatabase, Between):
    pass


def test_the_arguments_given_are_passed_on_and_no_others() -> None:
    database = Both("app", max_lag=3, user="someone")
    assert database.seen == {"max_lag": 3, "user": "someone"}
    assert database._members.nodes.given == {"max_lag": 3}
    assert isinstance(database._members, _PooledMembers)
    # as peewee allows
    assert ReplicatedDatabase("app", False).thread_safe is False


def test_arguments_given_by_position_are_known_by_name() -> None:
    database = ReplicatedSqliteDatabase("app.db", {"cache_size": -1}, True)
    assert database.plain_arguments == ((), {"pragmas": {"cache_size": -1}, "regexp_function": True})
    with pytest.raises(TypeError, match=r"multiple values.*pragmas"):
        ReplicatedSqliteDatabase("app.db", {}, pragmas={})


@pytest.mark.parametrize("cls", POOLS)
def test_a_wrong_call_is_a_type_error(cls: Any) -> None:
    with pytest.raises(TypeError, match="database"):
        cls(policy="random")
