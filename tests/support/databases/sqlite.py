"""A ReplicatedSqliteDatabase that traces the statements of each connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peewee import CharField, IntegerField, Model

from peewee_replicas import ReplicatedSqliteDatabase


class Row(Model):
    name = CharField()
    n = IntegerField(default=0)


class Traced(ReplicatedSqliteDatabase):
    """Keeps what SQLite's own trace reports of each connection, by node."""

    def _initialize_connection(self, conn: Any) -> None:
        trace: list[tuple[str, str]] = self.__dict__.setdefault("trace", [])
        name = "primary" if self.opening.node is None else self.opening.node.name
        if self.opening.node is not None and self.opening.node.is_primary:
            name = "reading primary"
        conn.set_trace_callback(lambda sql: trace.append((name, sql)))


def opened(path: str, **options: Any) -> Any:
    """A traced database with the table of `Row` in it, and `Row` bound to it."""
    db = Traced(path, **options)
    db.trace = []
    db.bind([Row])
    db.create_tables([Row])
    return db


@pytest.fixture(name="path")
def a_path(tmp_path: Path) -> str:
    """The path of a file that does not exist yet, with characters that are special in a URI."""
    return str(tmp_path / "a b#?%.db")


@pytest.fixture(name="db")
def one_row(path: str) -> Iterator[Any]:
    """A database with one row and an empty trace. It is closed afterwards."""
    database = opened(path)
    Row.create(name="first")
    database.trace.clear()
    yield database
    if not database.is_closed():
        database.close()


def nodes(db: Any, word: str = "SELECT") -> list[str]:
    """The nodes whose connections ran statements that begin with `word`."""
    return [name for name, sql in db.trace if sql.startswith(word)]
