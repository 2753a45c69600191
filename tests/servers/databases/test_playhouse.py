"""playhouse on top: migrations, reflection, dataset, signals, counting, reconnecting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peewee import CharField, IntegerField, Proxy
from playhouse import signals
from playhouse.dataset import DataSet
from playhouse.kv import KeyValue
from playhouse.migrate import MySQLMigrator, SchemaMigrator, migrate
from playhouse.reflection import Introspector, generate_models
from playhouse.shortcuts import ReconnectMixin, dict_to_model, model_to_dict
from playhouse.test_utils import assert_query_count, count_queries
from support.databases.plain import Person, Post, both, end, logged, seed
from support.peewees import has_peewee

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.testing import LocalCluster

WORKS: dict[str, Callable[[Any, LocalCluster], Any]] = {}


def work(function: Callable[[Any, LocalCluster], Any]) -> Callable[[Any, LocalCluster], Any]:
    WORKS[function.__name__] = function
    return function


@work
def migrations(db: Any, cluster: LocalCluster) -> Any:
    class Scratch(Person):
        class Meta:
            database = db
            table_name = "dropin_scratch"

    db.drop_tables([Scratch], safe=True)
    db.create_tables([Scratch])
    migrator = SchemaMigrator.from_database(db)
    migrate(
        migrator.add_column("dropin_scratch", "city", CharField(default="Turin")),
        migrator.rename_column("dropin_scratch", "age", "years"),
        migrator.add_index("dropin_scratch", ("city", "years")),
        migrator.alter_column_type("dropin_scratch", "years", CharField(null=True)),
        migrator.drop_not_null("dropin_scratch", "city"),
    )
    columns = [(column.name, column.data_type, column.null) for column in db.get_columns("dropin_scratch")]
    indexes = sorted((index.columns, index.unique) for index in db.get_indexes("dropin_scratch"))
    migrate(
        migrator.drop_column("dropin_scratch", "city"),
        migrator.rename_table("dropin_scratch", "dropin_other"),
    )
    cluster.sync()
    tables = [name for name in db.get_tables() if name.startswith("dropin_")]
    db.execute_sql("DROP TABLE dropin_other")
    return type(migrator) is MySQLMigrator, columns, indexes, tables


@work
def reflected(db: Any, _: LocalCluster) -> Any:
    found = generate_models(db, table_names=["dropin_person", "dropin_post"])
    fields = {name: [(f.name, type(f).__name__) for f in m._meta.sorted_fields] for name, m in found.items()}
    rows = list(found["dropin_post"].select().order_by(found["dropin_post"].id).tuples())
    kind = type(Introspector.from_database(db).metadata).__name__
    return fields, [row[1:] for row in rows], kind


@work
def dataset(db: Any, cluster: LocalCluster) -> Any:
    data = DataSet(db, include_views=False)
    people = data["dropin_person"]
    people.insert(name="set", age=1)
    cluster.sync()
    found = sorted(row["name"] for row in people), people.find_one(name="set")["age"], sorted(people.columns)
    people.update(name="set", age=2, columns=["name"])
    people.insert(name="wider", city="Rome")
    cluster.sync()
    wider = people.find_one(name="wider")["city"], people.find_one(name="set")["age"]
    with data.transaction():
        people.delete(name="wider")
    cluster.sync()
    data.query("ALTER TABLE dropin_person DROP COLUMN city")
    data.close()
    return found, wider


@work
def sent_signals(db: Any, cluster: LocalCluster) -> Any:
    class Signalled(signals.Model):
        name = CharField()
        age = IntegerField(default=0)

        class Meta:
            database = db
            table_name = "dropin_person"

    heard: list[Any] = []

    @signals.post_save(sender=Signalled)
    def saved(_: Any, instance: Any, created: bool) -> None:
        heard.append(("saved", instance.name, created))

    @signals.pre_delete(sender=Signalled)
    def deleting(_: Any, instance: Any) -> None:
        heard.append(("deleting", instance.name))

    made = Signalled.create(name="new")
    cluster.sync()
    Signalled.get(name="new").delete_instance()
    return heard, made.age


@work
def shortcuts(_: Any, __: LocalCluster) -> Any:
    post = Post.get_by_id(1)
    data = model_to_dict(post, backrefs=False)
    return (
        data["person"]["name"],
        dict_to_model(Post, data).person.name,
        model_to_dict(Person[1], backrefs=True),
    )


@work
def counted(db: Any, cluster: LocalCluster) -> Any:
    def ask() -> None:
        Person.get_by_id(1)
        list(Post.select())
        Person.update(age=1).where(Person.id == 1).execute()

    ask()
    with count_queries() as warm:
        ask()
    db.close()
    with count_queries() as cold:  # connecting again, to all nodes
        ask()
    with count_queries() as block, db.atomic():
        ask()
        with db.atomic():
            ask()
    assert_query_count(3)(ask)()
    with pytest.raises(AssertionError), assert_query_count(2):
        ask()
    return warm.count, cold.count, block.count


@work
def logs(db: Any, _: LocalCluster) -> Any:
    with logged() as records:
        Person.get_by_id(1)
        Person.update(age=1).where(Person.id == 1).execute()
        db.table_exists("dropin_person")
        with pytest.raises(Exception, match="nope"):
            db.execute_sql("SELECT nope FROM dropin_person")
    return records


@work
def proxied(db: Any, _: LocalCluster) -> Any:
    proxy = Proxy()
    proxy.initialize(db)
    with proxy.connection_context():
        name = Person.get_by_id(1).name
    try:
        return name, type(SchemaMigrator.from_database(proxy)).__name__
    except ValueError:  # older releases of peewee take no proxy, and their message has its address
        return name, "no migrator"


@pytest.mark.parametrize("name", WORKS)
def test_gives_what_it_gives_on_peewees_database(cluster: LocalCluster, name: str) -> None:
    expected, found = both(WORKS[name], cluster)
    assert found == expected


@pytest.mark.parametrize("database_class", [ReplicatedDatabase, PooledReplicatedDatabase])
def test_one_statement_is_one_hook_event_also_when_rerun(cluster: LocalCluster, database_class: Any) -> None:
    """A read that a replica refuses as a write is run twice, and is one statement of the user's."""
    seed(cluster)
    schema = f"`{cluster.database_name}`"
    body = f"INSERT INTO {schema}.dropin_person (name, age) VALUES ('touched', 1); RETURN 1;"
    cluster.primary.execute(f"DROP FUNCTION IF EXISTS {schema}.dropin_touch")
    cluster.primary.execute(
        f"CREATE FUNCTION {schema}.dropin_touch() RETURNS INT DETERMINISTIC BEGIN {body} END"
    )
    cluster.sync()
    database = cluster.database(
        database_class, consistency="eventual", pure_functions=["dropin_touch"], user=cluster.admin_user
    )
    events: list[Any] = []
    routes: list[Any] = []
    if has_peewee("4.5"):
        database.query_hooks.append(events.append)
    database.route_hooks.append(routes.append)
    with logged() as records:
        assert database.execute_sql("SELECT dropin_touch()").fetchall() == ((1,),)
    stats = database.stats()
    end(database)
    assert [event.sql for event in events] == ["SELECT dropin_touch()"] * has_peewee("4.5")
    assert records == [("SELECT dropin_touch()", None)]
    assert [(route.attempts, route.node) for route in routes] == [(2, "primary")]
    assert stats["reruns"] == 1


def test_key_value_store_is_not_broken_by_the_subclass(cluster: LocalCluster) -> None:
    database = cluster.database(consistency="eventual")
    with database.primary():
        store = KeyValue(database=database, table_name="dropin_kv")
        store["k"] = 1
        store["k"] = 2
        assert (store["k"], len(store), "k" in store) == (2, 1, True)
        database.drop_tables([store.model])
    end(database)


class Reconnecting(ReconnectMixin, ReplicatedDatabase):
    """As peewee's documentation builds it."""


def _kill(cluster: LocalCluster, name: str) -> None:
    node = cluster.node(name)
    for (number,) in node.execute(
        "SELECT id FROM information_schema.processlist WHERE user = %s", (cluster.user,)
    ):
        node.execute(f"KILL {number}")


def test_reconnect_mixin_reconnects_to_the_primary(cluster: LocalCluster) -> None:
    seed(cluster)
    database = cluster.database(Reconnecting, consistency="eventual")
    with database.bind_ctx([Person]):
        Person.update(age=1).where(Person.id == 1).execute()
        _kill(cluster, "primary")
        assert Person.update(age=2).where(Person.id == 1).execute() == 1
        _kill(cluster, "primary")
        with database.atomic():
            Person.update(age=3).where(Person.id == 1).execute()
    end(database)


def test_reconnect_mixin_reads_go_on(cluster: LocalCluster) -> None:
    seed(cluster)
    database = cluster.database(Reconnecting, consistency="eventual")
    with database.bind_ctx([Person]):
        for _ in range(2):
            assert Person.get_by_id(1).name == "ada"
        for name in ("replica-1", "replica-2"):
            _kill(cluster, name)
        assert [Person.get_by_id(1).name for _ in range(4)] == ["ada"] * 4
        assert database.stats()["fallbacks"] == 0
    end(database)
