"""Find the database behind a proxy."""

from __future__ import annotations

from typing import TypeVar, cast

D = TypeVar("D")


def behind_proxy(database: D) -> D:
    """Return the database that a peewee proxy stands for, or the database itself."""
    return cast(D, getattr(database, "obj", database))
