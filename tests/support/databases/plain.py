"""Runs the same work on peewee's own database and on ours, for comparison."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from peewee import CharField, ForeignKeyField, IntegerField, Model, MySQLDatabase
from playhouse.pool import PooledMySQLDatabase

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.testing import LocalCluster

PAIRS = {
    "plain": (MySQLDatabase, ReplicatedDatabase),
    "pooled": (PooledMySQLDatabase, PooledReplicatedDatabase),
}

PEOPLE = [(1, "ada", 36), (2, "grace", 85), (3, "alan", 41)]
POSTS = [(1, 1, "notes", 10), (2, 1, "engine", 20), (3, 2, "compiler", 30)]


class Person(Model):
    name = CharField(unique=True)
    age = IntegerField(default=0)

    class Meta:
        table_name = "dropin_person"


class Post(Model):
    person = ForeignKeyField(Person, backref="posts")
    title = CharField()
    score = IntegerField(default=0)

    class Meta:
        table_name = "dropin_post"


MODELS = [Person, Post]


def plain_database(cluster: LocalCluster, database_class: Any = MySQLDatabase, **options: Any) -> Any:
    """peewee's own database on the cluster's primary."""
    return database_class(**{**cluster.parameters(cluster.primary), **options})


def seed(cluster: LocalCluster) -> None:
    """Create the tables and rows that every piece of work starts with, on all nodes."""
    database = plain_database(cluster)
    with database.connection_context(), database.bind_ctx(MODELS):
        # A test of `dataset` may have added a column of its own.
        if Person.table_exists() and len(database.get_columns("dropin_person")) > 3:
            database.drop_tables(MODELS, safe=True)
        if Person.table_exists() and Post.table_exists():
            if rows() == [PEOPLE, POSTS]:
                return
            Post.delete().execute()
            Person.delete().execute()
        else:
            database.drop_tables(MODELS, safe=True)
            database.create_tables(MODELS)
        Person.insert_many(PEOPLE, fields=[Person.id, Person.name, Person.age]).execute()
        Post.insert_many(POSTS, fields=[Post.id, Post.person, Post.title, Post.score]).execute()
    cluster.sync()


def rows() -> list[Any]:
    """All rows of the tables, in the database that the models are bound to."""
    return [sorted(model.select().tuples()) for model in MODELS]


def end(database: Any) -> None:
    """Close a database in whatever state a test left it."""
    while database.in_transaction():
        database.pop_transaction()
    if not database.deferred:
        database.close()
        if hasattr(database, "close_all"):
            database.close_all()


@contextmanager
def making(cluster: LocalCluster, *models: type[Model]) -> Iterator[Callable[..., Any]]:
    """Makes databases over the cluster and binds `models` to the last one. All are closed afterwards."""
    seed(cluster)
    made: list[Any] = []

    def make(database_class: Any = ReplicatedDatabase, **options: Any) -> Any:
        made.append(cluster.database(database_class, **{"consistency": "eventual", **options}))
        made[-1].bind(models, bind_backrefs=False)
        return made[-1]

    yield make
    for database in made:
        end(database)
    for model in models:
        model.bind(None, bind_backrefs=False)


def outcome(work: Callable[[Any, LocalCluster], Any], database: Any, cluster: LocalCluster) -> Any:
    """The result of the work, or the class and text of its exception, and the rows afterwards."""
    try:
        with database.bind_ctx(MODELS):
            found = work(database, cluster)
    except Exception as exc:
        found = (type(exc), str(exc))
    finally:
        end(database)
    check = plain_database(cluster)
    with check.connection_context(), check.bind_ctx(MODELS):
        # Keys are the server's own, and grow from one piece of work to the next.
        left = [[row[1:] for row in table] for table in rows()]
    return found, left


def both(
    work: Callable[[Any, LocalCluster], Any], cluster: LocalCluster, pair: str = "plain", **options: Any
) -> tuple[Any, Any]:
    """The outcome of the same work on peewee's class and on ours."""
    theirs, ours = PAIRS[pair]
    seed(cluster)
    expected = outcome(work, plain_database(cluster, theirs, **options), cluster)
    seed(cluster)
    return expected, outcome(work, cluster.database(ours, **options), cluster)


@contextmanager
def logged(name: str = "peewee") -> Iterator[list[Any]]:
    """The messages that a logger itself gets during the block, without those of its children."""
    records: list[Any] = []
    handler = logging.Handler()
    handler.addFilter(lambda record: record.name == name)
    handler.emit = lambda record: records.append(record.msg)  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
