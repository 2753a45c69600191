"""A database that is used only through one of its places is not garbage.

A place shares the dictionary of its database. Some releases of Python 3.13 and 3.14 reach what is in there
only by the object that the dictionary was made for (python/cpython#130327). The members of the kind were
found by looking for assignments to `__dict__`: places, the view that peewee's pool has (it keeps its
database), and one that lives no longer than a call.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from support.peewees import WITHOUT_ASYNCIO

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase, ReplicatedSqliteDatabase


def _over_servers(cls: Any) -> Any:
    return cls("app", host="p", replicas=[{"host": "r", "tags": {"use": "report"}}], probe_interval=None)


def _asynchronous() -> Any:
    from peewee_replicas.aio import AsyncReplicatedDatabase

    return _over_servers(AsyncReplicatedDatabase)


MAKE: dict[str, Callable[[], Any]] = {
    "plain": lambda: _over_servers(ReplicatedDatabase),
    "pooled": lambda: _over_servers(PooledReplicatedDatabase),
    "asyncio": _asynchronous,
    "SQLite": lambda: ReplicatedSqliteDatabase("app"),
}
PLACES: dict[str, Callable[[Any], Any]] = {
    "on_primary": lambda db: db.on_primary,
    "on_replicas": lambda db: db.on_replicas(use="report"),
    "a place of a place": lambda db: db.on_primary.on_replicas(use="report"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", MAKE)
def test_a_place_keeps_its_database(form: str, place: str) -> None:
    if form == "SQLite" and place != "on_primary":
        pytest.skip("SQLite has no replicas with tags")
    if form == "asyncio" and WITHOUT_ASYNCIO:
        pytest.skip("the asyncio form is not there")
    found = PLACES[place](MAKE[form]())
    gc.collect()
    assert found._members.db.database == "app"
    assert found.is_closed()
    assert found.explain_route("INSERT INTO t VALUES (1)").role == "primary"
