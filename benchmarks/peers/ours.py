"""This library, as its README says: the class is swapped, everything else is the default."""

from __future__ import annotations

from typing import Any

from peewee_replicas import PooledReplicatedDatabase

from ..stage import on
from .base import Answer, Program, Site

NAME = "peewee_replicas"
DOCUMENTATION = "README.md of this repository"
FORM = 'PooledReplicatedDatabase with its defaults: consistency="session", round robin'
PACKAGES = ("peewee", "PyMySQL")


class Peewee(Program):
    """Any peewee database with a pool; a request takes a connection and gives it back."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.row = on(database)

    def read(self, key: int) -> Answer:
        row = self.row.get_by_id(key)
        return Answer(row.n, row.node)

    def visit_read(self, key: int) -> Answer:
        with self.database.connection_context():
            return self.read(key)

    def visit_write(self, key: int, n: int) -> None:
        with self.database.connection_context():
            self.row.update(n=n).where(self.row.id == key).execute()

    def close(self) -> None:
        self.database.close()
        self.database.close_all()


def plain(site: Site) -> Program:
    """peewee's own pool, at one replica."""
    from playhouse.pool import PooledMySQLDatabase

    return Peewee(PooledMySQLDatabase(**site.parameters(site.replicas[0])))


def routed(site: Site) -> Program:
    """The pool of this library, over all nodes."""
    replicas = [{"host": replica.host, "port": replica.port} for replica in site.replicas]
    return Peewee(PooledReplicatedDatabase(**site.parameters(site.primary), replicas=replicas))
