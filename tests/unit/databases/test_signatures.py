"""Each call that a method of peewee's classes takes, the same method of our classes takes too.

The members of the kind are all public methods of the peewee class beside each of ours, as the installed
release declares them: releases differ. Our constructors declare names and take what peewee's take.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peewee
import pytest
from playhouse.pool import PooledMySQLDatabase
from support.peewees import WITHOUT_ASYNCIO, has_peewee

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase, ReplicatedSqliteDatabase

PAIRS: dict[type, type] = {
    peewee.MySQLDatabase: ReplicatedDatabase,
    PooledMySQLDatabase: PooledReplicatedDatabase,
    peewee.SqliteDatabase: ReplicatedSqliteDatabase,
}
if not WITHOUT_ASYNCIO:
    from playhouse.pwasyncio import AsyncMySQLDatabase

    from peewee_replicas.aio import AsyncReplicatedDatabase

    PAIRS[AsyncMySQLDatabase] = AsyncReplicatedDatabase

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def refused(theirs: Callable[..., Any], ours: Callable[..., Any]) -> list[str]:
    """What a caller may pass to the first function and not to the second."""
    wanted = list(inspect.signature(theirs).parameters.values())
    found = list(inspect.signature(ours).parameters.values())
    kinds = {parameter.kind for parameter in found}
    named = {parameter.name: parameter for parameter in found if parameter.kind in NAMED}
    positional = [parameter.name for parameter in found if parameter.kind in POSITIONAL]
    faults = []
    for place, parameter in enumerate(p for p in wanted if p.kind in POSITIONAL):
        if place < len(positional):
            same = positional[place] == parameter.name
        else:
            same = inspect.Parameter.VAR_POSITIONAL in kinds
        if not same:
            faults.append(f"{parameter.name} by position")
    for parameter in wanted:
        if parameter.kind in NAMED:
            if parameter.name not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
                faults.append(f"{parameter.name} by name")
        elif parameter.kind not in kinds:
            faults.append(str(parameter))
    optional = {parameter.name for parameter in wanted if parameter.default is not parameter.empty}
    needed = {name for name, parameter in named.items() if parameter.default is parameter.empty}
    return faults + [f"without {name}" for name in sorted(needed & optional)]


def functions(cls: type) -> list[str]:
    return [
        name
        for name in dir(cls)
        if not name.startswith("_") and inspect.isfunction(inspect.getattr_static(cls, name))
    ]


@pytest.mark.core
@pytest.mark.parametrize("theirs", PAIRS, ids=lambda cls: cls.__name__)
def test_each_call_of_peewees_methods_is_taken(theirs: type) -> None:
    ours = PAIRS[theirs]
    names = functions(theirs)
    assert len(names) > 50
    found = {name: refused(getattr(theirs, name), getattr(ours, name)) for name in names}
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.parametrize(
    ("ours", "faults"),
    [
        (lambda self, sql, params=None: None, ["commit by position", "commit by name"]),
        (lambda self, sql, commit=None, params=None: None, ["params by position", "commit by position"]),
        (lambda self, sql, params, commit=None: None, ["without params"]),
        (lambda self, sql, *, params=None, commit=None: None, ["params by position", "commit by position"]),
        (lambda self, *args, **kwargs: None, []),
        (lambda self, sql, params=None, commit=None, more=1: None, []),
        (lambda self, sql, *args, **kwargs: None, []),
    ],
)
def test_the_comparison_finds_what_a_call_could_not_pass(ours: Any, faults: list[str]) -> None:
    def theirs(self: Any, sql: str, params: Any = None, commit: Any = None) -> None: ...

    assert refused(theirs, ours) == faults


def test_arguments_by_position_arrive_as_with_peewees_class(tmp_path: Path) -> None:
    server = {"host": "127.0.0.1", "port": 1}
    databases = [cls("app", 3, 40, 5, **server) for cls in (PooledMySQLDatabase, PooledReplicatedDatabase)]
    for database in databases:
        assert (database._max_connections, database._stale_timeout) == (3, 40)
        database.init("other", 7, 80, 9)
        assert (database._max_connections, database._stale_timeout) == (7, 80)
        with pytest.raises(TypeError):
            database.init("other", 7, 80, 9, 11)
        with pytest.raises(TypeError, match="multiple values for argument 'max_connections'"):
            database.init("other", 8, max_connections=9)
        assert database._max_connections == 7
    file = str(tmp_path / "app.db")
    for database in (peewee.SqliteDatabase(file), ReplicatedSqliteDatabase(file)):
        database.init(file, {"cache_size": 10}, 7)
        assert (database._timeout, dict(database._pragmas)["cache_size"]) == (7, 10)


@pytest.mark.core
@pytest.mark.skipif(has_peewee("4.0"), reason="there is none since peewee 4.0")
def test_a_commit_of_peewee_3_is_taken_and_has_no_effect(tmp_path: Path) -> None:
    database = ReplicatedSqliteDatabase(str(tmp_path / "app.db"))
    for given in ((None,), (True, None)):
        assert database.cursor(*given).execute("SELECT 1").fetchone() == (1,)
    assert database.cursor(commit=False).execute("SELECT 1").fetchone() == (1,)
    assert database.execute_sql("SELECT 1", None, False).fetchone() == (1,)
    assert database.execute(peewee.SQL("SELECT 1"), False).fetchone() == (1,)
    assert database.execute(peewee.SQL("SELECT 1"), commit=True).fetchone() == (1,)
    with database.readonly():
        assert database.cursor(commit=False).execute("SELECT 1").fetchone() == (1,)
    database.close()


@pytest.mark.skipif(has_peewee("4.0"), reason="there is none since peewee 4.0")
def test_a_subclass_with_the_cursor_of_peewee_3_gets_the_name_as_the_name(tmp_path: Path) -> None:
    names = []

    class Own(ReplicatedSqliteDatabase):
        def cursor(self, commit: Any = None, named_cursor: Any = None) -> Any:
            names.append((commit, named_cursor))
            return super().cursor(commit, named_cursor)

    database = Own(str(tmp_path / "app.db"))
    with database.readonly():
        database.cursor(None, "mine").execute("SELECT 1").fetchone()
    assert names[0] == (None, "mine")
    assert set(names) <= {(None, "mine"), (None, None)}
    assert names.count((None, "mine")) == 2  # for the reader's own object too
    database.close()
