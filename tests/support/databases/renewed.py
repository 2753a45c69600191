"""Empties the tables of a cluster that tests share, which is faster than making them again."""

from __future__ import annotations

import re
from typing import Any
from weakref import WeakKeyDictionary

import peewee
from support.databases.models import Item, Note

from peewee_replicas.testing import LocalCluster

_COUNTED = re.compile(r" AUTO_INCREMENT=\d+")

# What each cluster said of its tables when they were new.
_new: WeakKeyDictionary[LocalCluster, list[str]] = WeakKeyDictionary()


def renew(cluster: LocalCluster, database: Any) -> None:
    """Let `item` and `note` be as if they had just been made, on all nodes once these are in step.

    On MySQL, making both takes all nodes together 70 ms of processor time, emptying both 25, and one of them
    15. Each call writes, so that a test begins with a position whatever the one before it has done.

    Parameters:
        database: has both models bound.
    """
    with database.primary():
        found = _definitions(database)
        if not found or [_COUNTED.sub("", text) for text in found] != _new.get(cluster):
            database.drop_tables([Note, Item], safe=True)
            database.create_tables([Item, Note])
            _new[cluster] = _definitions(database)
            return
        database.execute_sql("SET foreign_key_checks = 0")  # of notes to items, of which there are none then
        database.execute_sql("TRUNCATE TABLE item")
        if _COUNTED.search(found[1]):  # it has had rows
            database.execute_sql("TRUNCATE TABLE note")
        database.execute_sql("SET foreign_key_checks = 1")


def _definitions(database: Any) -> list[str]:
    """The statements that make the tables as they are; none where one is missing."""
    try:
        return [database.execute_sql(f"SHOW CREATE TABLE {name}").fetchone()[1] for name in ("item", "note")]
    except peewee.ProgrammingError:
        return []
