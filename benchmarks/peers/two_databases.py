"""peewee with a database object per node, the program itself saying by `bind_ctx()` where a query goes."""

from __future__ import annotations

import random
from typing import Any

from playhouse.pool import PooledMySQLDatabase

from ..stage import on
from .base import Answer, Program, Site
from .ours import plain

NAME = "peewee, two databases and bind_ctx()"
DOCUMENTATION = "docs.peewee-orm.com/en/latest/peewee/database.html, run-time database configuration"
FORM = "PooledMySQLDatabase per node; reads in bind_ctx() of a replica taken by chance"
PACKAGES = ("peewee", "PyMySQL")

__all__ = ["plain", "routed"]


class Switching(Program):
    """The model belongs to the primary; a read borrows it for a replica."""

    def __init__(self, primary: Any, replicas: list[Any]) -> None:
        self.primary = primary
        self.replicas = replicas
        self.row = on(primary)

    def read(self, key: int) -> Answer:
        return self._read(random.choice(self.replicas), key)

    def _read(self, replica: Any, key: int) -> Answer:
        with replica.bind_ctx([self.row], False, False):
            row = self.row.get_by_id(key)
        return Answer(row.n, row.node)

    def visit_read(self, key: int) -> Answer:
        replica = random.choice(self.replicas)
        with replica.connection_context():
            return self._read(replica, key)

    def visit_write(self, key: int, n: int) -> None:
        with self.primary.connection_context():
            self.row.update(n=n).where(self.row.id == key).execute()

    def close(self) -> None:
        for database in (self.primary, *self.replicas):
            database.close()
            database.close_all()


def routed(site: Site) -> Program:
    """One pool per node."""
    primary, *replicas = (
        PooledMySQLDatabase(**site.parameters(address)) for address in (site.primary, *site.replicas)
    )
    return Switching(primary, replicas)
