"""Empties the tables of a cluster that tests share, which is faster than making them again."""

from __future__ import annotations

import re
from typing import Any
from weakref import WeakKeyDictionary

import peewee
from support.databases.models import Item, Note

from peewee_replicas.testing import LocalCluster

COUNTED = re.compile(r" AUTO_INCREMENT=\d+")

# What each cluster said of its tables when they were new.
_new: WeakKeyDictionary[LocalCluster, list[str]] = WeakKeyDictionary()


def renew(cluster: LocalCluster, database: Any) -> None:
    """Let `item` and `note` be as if they had just been made, on all nodes once these are in step.

    On MySQL, making both takes all nodes together 70 ms of processor time, emptying both 25, one of them 15,
    and the write that is left where no row was ever in them 3. Each call writes, so that a test begins with a
    position whatever the one before it has done.

    Parameters:
        database: has both models bound.
    """
    with database.primary():
        found = _definitions(database)
        if not found or [COUNTED.sub("", text) for text in found] != _new.get(cluster):
            database.drop_tables([Note, Item], safe=True)
            database.create_tables([Item, Note])
            _new[cluster] = _definitions(database)
            return
        if not any(COUNTED.search(text) for text in found) and not _rows(database):
            database.execute_sql("DROP TABLE IF EXISTS never_made")  # the cheapest write that changes nothing
            return
        database.execute_sql("SET foreign_key_checks = 0")  # of notes to items, of which there are none then
        database.execute_sql("TRUNCATE TABLE item")
        if COUNTED.search(found[1]):  # it has had rows
            database.execute_sql("TRUNCATE TABLE note")
        database.execute_sql("SET foreign_key_checks = 1")


def _rows(database: Any) -> bool:
    """Whether one of the tables has a row: one with a number of its own need not have been counted."""
    found = database.execute_sql("SELECT EXISTS(SELECT * FROM item) OR EXISTS(SELECT * FROM note)")
    return bool(found.fetchone()[0])


def _definitions(database: Any) -> list[str]:
    """The statements that make the tables as they are; none where one is missing."""
    try:
        return [database.execute_sql(f"SHOW CREATE TABLE {name}").fetchone()[1] for name in ("item", "note")]
    except peewee.ProgrammingError:
        return []
