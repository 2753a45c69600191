"""Every public member of peewee's database classes: what it does here, and that it does as peewee's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from peewee import JOIN, Context, Database, IntegrityError, MySQLDatabase, fn
from playhouse.pool import PooledMySQLDatabase
from support.databases.plain import MODELS, Person, Post, both, plain_database
from support.peewees import needs_peewee

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.testing import LocalCluster


class Member(NamedTuple):
    """One member: what it does here, and something it does that can be compared with peewee's."""

    does: str
    work: Callable[[Any, LocalCluster], Any]


SAME = "as peewee's: no part in routing"


def _names() -> list[str]:
    return [person.name for person in Person.select().order_by(Person.id)]


def _ends(name: str) -> Callable[[Any, LocalCluster], Any]:
    """Begin, insert and end by that member; what remains is compared too."""

    def work(db: Any, _: LocalCluster) -> Any:
        db.session_start()
        Person.create(name="new")
        seen = _names()
        return seen, getattr(db, name)(), db.in_transaction()

    return work


def _pushed(db: Any, _: LocalCluster) -> Any:
    transaction = db.transaction()
    db.push_transaction(transaction)
    found = [db.in_transaction(), db.transaction_depth(), db.top_transaction() is transaction]
    return [*found, db.pop_transaction() is transaction, db.in_transaction()]


def _raw_transaction(end: str) -> Callable[[Any, LocalCluster], Any]:
    def work(db: Any, cluster: LocalCluster) -> Any:
        db.connect()  # connecting inside manual_commit() makes peewee forget the block
        with db.manual_commit():
            db.begin()
            Person.update(age=0).where(Person.id == 1).execute()
            seen = Person.get_by_id(1).age
            getattr(db, end)()
        cluster.sync()
        return seen, Person.get_by_id(1).age

    return work


def _scope(name: str) -> Callable[[Any, LocalCluster], Any]:
    def work(db: Any, cluster: LocalCluster) -> Any:
        if name == "savepoint":
            with db.atomic(), db.savepoint() as savepoint:
                Person.create(name="undone")
                savepoint.rollback()
        with getattr(db, name if name != "savepoint" else "atomic")() as scope:
            depth = db.transaction_depth()
            Person.create(name="done")
            seen = _names()
        with pytest.raises(IntegrityError), db.atomic():
            Person.insert_many([("undone", 1), ("ada", 1)], fields=[Person.name, Person.age]).execute()
        cluster.sync()
        return type(scope).__name__, depth, seen, _names()

    return work


def _after_commit(db: Any, cluster: LocalCluster) -> Any:
    calls: list[Any] = []
    db.after_commit(lambda: calls.append("at once"))
    with db.atomic():
        db.after_commit(lambda: calls.append(db.in_transaction()))
        Person.create(name="new")
        calls.append("inside")
    return calls


def _with_db(db: Any, _: LocalCluster) -> Any:
    with db.connection_context():
        inside = db.is_closed()
        with db:
            depth = db.transaction_depth()
        still = db.is_closed()
    return inside, depth, still, db.is_closed()


def _open_and_closed(db: Any, _: LocalCluster) -> Any:
    found = [
        db.is_closed(),
        db.is_connection_usable(),
        db.connect(),
        db.is_closed(),
        db.is_connection_usable(),
    ]
    return [*found, db.connect(reuse_if_open=True), db.close(), db.close(), db.is_closed()]


def _disposed(db: Any, _: LocalCluster) -> Any:
    Person.get_by_id(1)
    conn = db.connection()
    db.dispose()
    closed = db.is_closed()
    conn.close()
    return closed, len(_names())


def _hooked(db: Any, _: LocalCluster) -> Any:
    events: list[Any] = []
    db.query_hooks.append(events.append)
    Person.get_by_id(1)
    Person.update(age=1).where(Person.id == 1).execute()
    with pytest.raises(Exception, match="nothing_here"):
        db.execute_sql("SELECT nothing_here")
    return [(event.sql, event.params, type(event.exc)) for event in events]


def _bound(db: Any, _: LocalCluster) -> Any:
    class Loose(Person):
        class Meta:
            table_name = "dropin_person"

    before = Loose._meta.database
    with db.bind_ctx([Loose], bind_refs=False, bind_backrefs=False):
        inside = Loose._meta.database is db, Loose.select().count()
    db.bind([Loose], bind_refs=False, bind_backrefs=False)
    return inside, Loose._meta.database is db, before is db


def _reinit(db: Any, cluster: LocalCluster) -> Any:
    db.connect()
    db.init(cluster.database_name, connect_timeout=7)
    return db.is_closed(), db.database, db.connect_params["connect_timeout"], len(_names())


def _batches(db: Any, cluster: LocalCluster) -> Any:
    for name in db.batch_commit(["p", "q", "r"], 2):
        Person.create(name=name)
    cluster.sync()
    return _names(), db.in_transaction()


def _tables(db: Any, cluster: LocalCluster) -> Any:
    db.drop_tables(MODELS)
    gone = [db.table_exists(model) for model in MODELS]
    db.create_tables(MODELS)
    cluster.sync()
    return gone, [db.table_exists(model) for model in MODELS], _names()


def _conflicts(db: Any, _: LocalCluster) -> Any:
    rows = [{"name": "ada", "age": 1}, {"name": "new", "age": 2}]
    Person.insert_many(rows).on_conflict_ignore().execute()
    Person.insert_many(rows).on_conflict(preserve=[Person.age]).execute()
    Person.insert(name="alan", age=3).on_conflict_replace().execute()
    with db.atomic():
        return list(Person.select(Person.name, Person.age).order_by(Person.name).tuples())


def _inserted(db: Any, _: LocalCluster) -> Any:
    cursor = db.execute_sql("INSERT INTO dropin_person (name, age) VALUES (%s, %s)", ("new", 1))
    return db.last_insert_id(cursor) > 0, db.rows_affected(cursor)


def _dates(db: Any, _: LocalCluster) -> Any:
    moment = fn.FROM_UNIXTIME(86400)
    parts = [db.extract_date("year", moment), db.truncate_date("month", moment), db.to_timestamp(moment)]
    return Person.select(*parts, db.from_timestamp(86400)).limit(1).tuples()[0]


def _views(db: Any, _: LocalCluster) -> Any:
    db.execute_sql("CREATE OR REPLACE VIEW dropin_view AS SELECT name FROM dropin_person")
    try:
        return [view.name for view in db.get_views()]
    finally:
        db.execute_sql("DROP VIEW dropin_view")


def _cursor(db: Any, _: LocalCluster) -> Any:
    cursor = db.cursor()
    cursor.execute("INSERT INTO dropin_person (name, age) VALUES ('raw', 1)")
    cursor.execute("SELECT COUNT(*) FROM dropin_person")
    return cursor.fetchall()


def _compounds(db: Any, _: LocalCluster) -> Any:
    one, two, three = (Person.select(Person.name).where(Person.id == i) for i in (1, 2, 3))
    return sorted(row.name for row in one.union_all(two.union(three)))


def _noop(db: Any, _: LocalCluster) -> Any:
    return db.execute_sql(db.get_noop_select(Context()).query()[0]).fetchall()


def _default_values(db: Any, _: LocalCluster) -> Any:
    return db.default_values_insert(Context()).query()


def _sql_context(db: Any, _: LocalCluster) -> Any:
    db.connect()
    options = db.get_context_options()
    context = db.get_sql_context(quote='""').sql(Person.select().join(Post, JOIN.LEFT_OUTER))
    return sorted(options), options["compound_select_parentheses"], context.query()


def _pool(name: str, *args: Any) -> Callable[[Any, LocalCluster], Any]:
    def work(db: Any, _: LocalCluster) -> Any:
        before = len(_names())
        getattr(db, name)(*args)
        return before, len(_names())

    return work


def _value(name: str) -> Member:
    return Member(SAME, lambda db, _: (db.connect(), getattr(db, name))[1])


def _raises(name: str, *args: Any) -> Member:
    return Member(SAME, lambda db, _: getattr(db, name)(*args))


VALUES = (
    "compound_select_parentheses", "context_class", "field_types", "for_update", "index_schema_prefix",
    "index_using_precedes_table", "index_value_literals", "json_methods", "limit_max", "mariadb",
    "nulls_ordering", "operations", "param", "quote", "returning_clause", "safe_create_index",
    "safe_drop_index", "sequences", "sql_mode", "truncate_table", "use_concat_function",
)  # fmt: skip

MEMBERS: dict[str, Member] = {
    # Connections
    "autoconnect": Member(
        "opens nodes at first need when true; refuses when false", lambda db, _: db.autoconnect
    ),
    "close": Member("closes all of this thread's connections", _open_and_closed),
    "connect": Member("opens the node that the next plain read would use", _open_and_closed),
    "connect_params": Member(
        "the primary's; replicas lay theirs over it", lambda db, _: sorted(db.connect_params)
    ),
    "connection": Member(
        "the primary's; in readonly() that of the scope's node",
        lambda db, _: (db.connection() is db.connection(), db.connection().open),
    ),
    "connection_context": Member("connect() and close() of all nodes", _with_db),
    "cursor": Member("one of the connection that connection() gives", _cursor),
    "database": Member("the schema's name", lambda db, _: db.database),
    "deferred": Member(SAME, lambda db, _: (db.deferred, type(db)(None).deferred)),
    "dispose": Member("forgets this thread's connections to all nodes", _disposed),
    "init": Member("takes the routing arguments too", _reinit),
    "is_closed": Member("false as soon as any node is open", _open_and_closed),
    "is_connection_usable": Member("every open connection answers", _open_and_closed),
    "server_version": Member(
        "known before SQL is built, from whichever node was opened first",
        lambda db, _: (len(_names()), db.server_version),
    ),
    "thread_safe": Member("false: one set of connections for all threads", lambda db, _: db.thread_safe),
    # Executing
    "execute": Member("knows the server's version before it builds SQL", _compounds),
    "execute_sql": Member(
        "decides the route",
        lambda db, _: db.execute_sql("SELECT name FROM dropin_person WHERE id = %s", (1,)).fetchall(),
    ),
    "query_hooks": Member("one event per statement of the user's, wherever it ran", _hooked),
    "last_insert_id": Member(SAME, _inserted),
    "rows_affected": Member(SAME, _inserted),
    # Transactions
    "after_commit": Member("as peewee's, on the primary's transactions", _after_commit),
    "atomic": Member("always the primary", _scope("atomic")),
    "batch_commit": Member("always the primary", _batches),
    "begin": Member("on the primary; refused in readonly()", _raw_transaction("rollback")),
    "commit": Member("on the primary, if it was needed", _raw_transaction("commit")),
    "in_transaction": Member(SAME, _pushed),
    "manual_commit": Member("always the primary", _raw_transaction("commit")),
    "pop_transaction": Member(SAME, _pushed),
    "push_transaction": Member("refused in readonly()", _pushed),
    "rollback": Member("on the primary, if it was needed", _raw_transaction("rollback")),
    "savepoint": Member("always the primary", _scope("savepoint")),
    "session_commit": Member("always the primary", _ends("session_commit")),
    "session_rollback": Member("always the primary", _ends("session_rollback")),
    "session_start": Member("always the primary", _ends("session_rollback")),
    "top_transaction": Member(SAME, _pushed),
    "transaction": Member("always the primary", _scope("transaction")),
    "transaction_depth": Member(SAME, _pushed),
    # The schema: introspection is no proven read, so it sees the primary's tables
    "create_tables": Member("on the primary", _tables),
    "drop_tables": Member("on the primary", _tables),
    "get_columns": Member("asks the primary", lambda db, _: db.get_columns("dropin_post")),
    "get_foreign_keys": Member("asks the primary", lambda db, _: db.get_foreign_keys("dropin_post")),
    "get_indexes": Member("asks the primary", lambda db, _: db.get_indexes("dropin_post")),
    "get_primary_keys": Member("asks the primary", lambda db, _: db.get_primary_keys("dropin_post")),
    "get_tables": Member(
        "asks the primary", lambda db, _: [name for name in db.get_tables() if "dropin" in name]
    ),
    "get_views": Member("asks the primary", _views),
    "sequence_exists": _raises("sequence_exists", "s"),
    "table_exists": Member("asks the primary", _tables),
    # Models
    "Model": Member("a base class bound to this database", lambda db, _: db.Model._meta.database is db),
    "bind": Member(SAME, _bound),
    "bind_ctx": Member(SAME, _bound),
    # SQL
    "conflict_statement": Member("upserts go to the primary", _conflicts),
    "conflict_update": Member("upserts go to the primary", _conflicts),
    "default_values_insert": Member(SAME, _default_values),
    "extract_date": Member(SAME, _dates),
    "from_timestamp": Member(SAME, _dates),
    "get_binary_type": Member(SAME, lambda db, _: db.get_binary_type()),
    "get_context_options": Member(SAME, _sql_context),
    "get_noop_select": Member(SAME, _noop),
    "get_sql_context": Member("never connects", _sql_context),
    "random": Member(SAME, lambda db, _: len(Person.select().order_by(db.random()))),
    "to_timestamp": Member(SAME, _dates),
    "truncate_date": Member(SAME, _dates),
    # Values that SQL is built from
    **{name: _value(name) for name in VALUES},
}

POOL_MEMBERS: dict[str, Member] = {
    "close_all": Member("closes every node's connections, those in use too", _pool("close_all")),
    "close_idle": Member("closes the idle connections of every node's pool", _pool("close_idle")),
    "close_stale": Member("closes long used connections of every node's pool", _pool("close_stale", 600)),
    "conn_key": Member(SAME, lambda db, _: db.conn_key is id),
    "manual_close": Member("closes this thread's connections to all nodes", _pool("manual_close")),
}


def _public(*classes: type[Any]) -> set[str]:
    names = {name for cls in classes for name in dir(cls)}
    names.update(name for cls in classes[1:] for name in vars(cls(None)))
    return {name for name in names if not name.startswith("_")}


@needs_peewee("4.5", "the list, which is that of the newest release,")
def test_every_member_is_listed() -> None:
    assert set(MEMBERS) == _public(Database, MySQLDatabase)
    assert set(MEMBERS) | set(POOL_MEMBERS) == _public(Database, PooledMySQLDatabase)
    assert all(member.does for member in (MEMBERS | POOL_MEMBERS).values())


@pytest.mark.lesson(9)
def test_nothing_of_peewees_is_missing() -> None:
    for ours, listed in ((ReplicatedDatabase, MEMBERS), (PooledReplicatedDatabase, MEMBERS | POOL_MEMBERS)):
        theirs = _public(Database, PooledMySQLDatabase)
        assert {name for name in listed if name in theirs and not hasattr(ours(None), name)} == set()


def _named(*names: str) -> list[Any]:
    """Parameters for these members; those that the installed peewee lacks are skipped."""
    theirs = _public(Database, PooledMySQLDatabase)
    return [
        pytest.param(name, marks=pytest.mark.skipif(name not in theirs, reason=f"this peewee has no {name}"))
        for name in names
    ]


@pytest.mark.lesson(9)
@pytest.mark.parametrize("name", _named(*MEMBERS))
def test_member_does_what_peewees_does(cluster: LocalCluster, name: str) -> None:
    expected, found = both(MEMBERS[name].work, cluster)
    assert found == expected


POOLED = [
    *POOL_MEMBERS,
    "close", "connection", "connection_context", "cursor", "dispose", "init", "is_connection_usable",
    "execute", "query_hooks", "after_commit", "atomic", "begin", "commit", "rollback", "savepoint",
    "session_rollback", "transaction",
]  # fmt: skip


@pytest.mark.parametrize("name", _named(*POOLED))
def test_member_does_what_peewees_pooled_one_does(cluster: LocalCluster, name: str) -> None:
    expected, found = both((MEMBERS | POOL_MEMBERS)[name].work, cluster, "pooled")
    assert found == expected


@pytest.mark.lesson(9)
def test_arguments_are_accepted_as_peewees_are(cluster: LocalCluster) -> None:
    """Positional and keyword arguments that peewee's own __init__ takes."""
    for database_class in (ReplicatedDatabase, PooledReplicatedDatabase):
        parameters = cluster.parameters(cluster.primary)
        name = parameters.pop("database")
        database = database_class(
            name, thread_safe=False, field_types={"AUTO": "INT"}, autoconnect=False, **parameters
        )
        theirs = plain_database(cluster, thread_safe=False, field_types={"AUTO": "INT"}, autoconnect=False)
        assert database._field_types == theirs._field_types
        assert (database.thread_safe, database.autoconnect) == (False, False)
