"""Models and subclasses, as an application has them. peewee itself declares no types."""

from typing import Any

from peewee import CharField, Model

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase, ReplicatedDatabaseProxy


class Retrying(PooledReplicatedDatabase):
    """A subclass as applications write them."""

    def execute_sql(self, sql: str, params: object = None) -> Any:
        return super().execute_sql(sql, params)


class InRegion(ReplicatedDatabase):
    """A subclass with an argument of its own."""

    def __init__(self, database: str | None, *, region: str, **kwargs: Any) -> None:
        super().__init__(database, **kwargs)
        self.region = region


db = Retrying("app", host="primary", replicas=["r1"])
proxy = ReplicatedDatabaseProxy()
InRegion("app", region="eu", replicas=["r1"])


class User(Model):
    name = CharField()

    class Meta:
        database = db


class Account(Model):
    class Meta:
        database = proxy.on_primary


with db.atomic():
    User.create(name="ada")
with db.readonly():
    users = list(User.select().where(User.name == "ada"))
User.select().execute(db.on_primary)
db.close_stale(30)
db.connect(reuse_if_open=True)
db.close()
