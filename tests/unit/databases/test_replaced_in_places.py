"""What was put into an `on_primary` or an `on_replicas()` can be taken out as from any other object.

What was put into the database is at the place for as long as it works, also where it is a generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from peewee_replicas import ReplicatedDatabase, ReplicatedSqliteDatabase

METHODS = pytest.mark.parametrize("name", ["execute_sql", "commit"])
PLACES = pytest.mark.parametrize(
    "choose", [lambda db: db.on_primary, lambda db: db.on_replicas(use="report")], ids=["primary", "replicas"]
)


def database() -> Any:
    return ReplicatedDatabase("app", host="p", replicas=[{"host": "r", "tags": {"use": "report"}}])


@METHODS
@PLACES
def test_of_two_mocks_the_outer_one_is_there_after_the_inner(choose: Callable[[Any], Any], name: str) -> None:
    place = choose(database())
    with mock.patch.object(place, name, return_value="outer"):
        with mock.patch.object(place, name, return_value="inner"):
            assert getattr(place, name)() == "inner"
        assert getattr(place, name)() == "outer"
    assert not place.replaced


@METHODS
@PLACES
@pytest.mark.parametrize("in_database", [False, True])
def test_what_was_found_there_can_be_put_back(
    choose: Callable[[Any], Any], name: str, in_database: bool
) -> None:
    db = database()
    place = choose(db)
    if in_database:
        setattr(db, name, lambda *args: "the database's")
    before = getattr(place, name)
    for _ in range(2):
        setattr(place, name, lambda: "mine")
        assert getattr(place, name)() == "mine"
        setattr(place, name, before)
        assert not place.replaced
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, lambda: "mine")
        assert getattr(place, name)() == "mine"
    assert not place.replaced


class Streaming(ReplicatedSqliteDatabase):
    def stream(self, sql: str) -> Iterator[Any]:
        yield from self.execute_sql(sql).fetchall()


def test_a_generator_runs_at_the_place_and_its_consumer_does_not(tmp_path: Path) -> None:
    db: Any = Streaming(str(tmp_path / "app.db"))
    nodes: list[str] = []
    db.route_hooks.append(lambda event: nodes.append(event.node))
    genuine = db.stream
    db.stream = lambda sql: genuine(sql)
    for _ in db.on_primary.stream("SELECT 1"):
        db.execute_sql("SELECT 2")
    assert nodes == ["primary", "reader-1"]
    db.close()
