"""The same program on peewee's MySQLDatabase and on ours: same results, same errors, same rows left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peewee import JOIN, SQL, DoesNotExist, IntegrityError, Value, chunked, fn, prefetch
from support.databases.plain import PAIRS, Person, Post, both, end, plain_database, seed
from support.forms.threads import in_thread
from support.peewees import has_peewee, some_need

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.core

WORKS: dict[str, Callable[[Any, LocalCluster], Any]] = {}


def work(function: Callable[[Any, LocalCluster], Any]) -> Callable[[Any, LocalCluster], Any]:
    WORKS[function.__name__] = function
    return function


@work
def crud(_: Any, cluster: LocalCluster) -> Any:
    made = Person.create(name="new", age=1)
    made.age = 2
    changed = made.save(), Person.update(age=Person.age + 1).execute()
    cluster.sync()
    found = Person.get(name="new").age, Person.get_or_none(name="nobody"), Person.select().count()
    deleted = made.delete_instance(), Person.delete().where(Person.age > 80).execute()
    cluster.sync()
    return changed, found, deleted, [person.name for person in Person]


@work
def missing_row(_: Any, __: LocalCluster) -> Any:
    with pytest.raises(DoesNotExist) as raised:
        Person.get_by_id(99)
    return str(raised.value)


@work
def joins(_: Any, __: LocalCluster) -> Any:
    query = Post.select(Post, Person).join(Person).order_by(Post.id)
    counts = (
        Person.select(Person.name, fn.COUNT(Post.id).alias("posts"))
        .join(Post, JOIN.LEFT_OUTER)
        .group_by(Person.name)
        .order_by(Person.name)
    )
    return [(post.title, post.person.name) for post in query], list(counts.tuples())


@work
def prefetched(_: Any, __: LocalCluster) -> Any:
    people = prefetch(Person.select().order_by(Person.id), Post.select().order_by(Post.id))
    return [(person.name, [post.title for post in person.posts]) for person in people]


@work
def backreferences(_: Any, __: LocalCluster) -> Any:
    return [
        [post.title for post in person.posts.order_by(Post.id)]
        for person in Person.select().order_by(Person.id)
    ]


@work
def expressions(_: Any, __: LocalCluster) -> Any:
    older = Person.select(fn.MAX(Person.age)).scalar()
    names = Person.select(Person.name).where(Person.name.contains("A") | Person.name.startswith("g"))
    case = Person.select(Person.name, Value(100) - Person.age).where(Person.name ** "A%").order_by(Person.id)
    ranked = Post.select(Post.title, fn.RANK().over(order_by=[Post.score.desc()]).alias("r")).order_by(
        SQL("r")
    )
    return older, sorted(row.name for row in names), list(case.tuples()), list(ranked.tuples())


@work
def recursive(_: Any, __: LocalCluster) -> Any:
    base = (
        Person.select(Value(1).alias("n"))
        .where(Person.id == 1)
        .cte("numbers", recursive=True, columns=("n",))
    )
    numbers = base.union_all(base.select_from((base.c.n + 1).alias("n")).where(base.c.n < 5))
    return list(numbers.select_from(numbers.c.n).tuples())


@work
def results(_: Any, __: LocalCluster) -> Any:
    query = Person.select(Person.name, Person.age).order_by(Person.id)
    shapes = [list(getattr(query.clone(), shape)()) for shape in ("tuples", "dicts", "namedtuples")]
    return (
        shapes,
        query.exists(),
        query.clone().first().name,
        len(query),
        query[1].name,
        [p.name for p in query.iterator()],
    )


@work
def nested_compounds(db: Any, __: LocalCluster) -> Any:
    db.connect()  # peewee builds other SQL before it has connected for the first time
    one, two, three = (Person.select(Person.age * 0 + i).where(Person.id == 1) for i in (1, 1, 2))
    return sorted(one.union_all(two.union(three)).tuples()), sorted((one | two).tuples())


@work
def get_or_create(_: Any, cluster: LocalCluster) -> Any:
    first, created = Person.get_or_create(name="new", defaults={"age": 5})
    cluster.sync()
    second, again = Person.get_or_create(name="new", defaults={"age": 6})
    return created, again, first == second, second.age


@work
def upserts(_: Any, cluster: LocalCluster) -> Any:
    Person.insert(name="ada", age=1).on_conflict(update={Person.age: Person.age + 100}).execute()
    Person.insert(name="alan", age=77).on_conflict(preserve=[Person.age]).execute()
    Person.replace(name="new", age=9).execute()
    Person.insert(name="ada", age=0).on_conflict_ignore().execute()
    cluster.sync()
    return list(Person.select(Person.name, Person.age).order_by(Person.name).tuples())


@work
def bulk(db: Any, cluster: LocalCluster) -> Any:
    people = [Person(name=f"p{n}", age=n) for n in range(25)]
    with db.atomic():
        Person.bulk_create(people, batch_size=10)
        for batch in chunked([(f"q{n}", n) for n in range(5)], 2):
            Person.insert_many(batch, fields=[Person.name, Person.age]).execute()
        everyone = list(Person.select().where(Person.name.startswith("p")).order_by(Person.name))
        for person in everyone:
            person.age += 1
        updated = Person.bulk_update(everyone, fields=[Person.age], batch_size=10)
    Person.insert_from(
        Person.select(fn.CONCAT(Person.name, "!"), Person.age), [Person.name, Person.age]
    ).execute()
    cluster.sync()
    return updated, Person.select(fn.SUM(Person.age)).scalar(), Person.select().count()


@work
def transactions(db: Any, cluster: LocalCluster) -> Any:
    with db.atomic() as outer:
        Person.create(name="kept")
        outer.commit()
        with db.atomic() as inner:
            Person.create(name="undone")
            inner.rollback()
            Person.create(name="after")
        seen = sorted(person.name for person in Person)
    with pytest.raises(IntegrityError) as raised, db.atomic():
        Person.insert_many([("lost", 1), ("kept", 1)], fields=[Person.name, Person.age]).execute()
    cluster.sync()
    return seen, raised.value.args, sorted(person.name for person in Person)


@work
def decorated(db: Any, _: LocalCluster) -> Any:
    @db.atomic()
    def inside() -> Any:
        return db.transaction_depth(), Person.create(name="inside") is not None

    @db.connection_context()
    def connected() -> Any:
        return db.is_closed(), inside()

    return connected(), db.is_closed()


@work
def isolation(db: Any, _: LocalCluster) -> Any:
    with db.atomic("READ COMMITTED"), db.atomic():
        return Person.select().for_update().where(Person.id == 1).get().name


@work
def session_state(db: Any, _: LocalCluster) -> Any:
    db.execute_sql("CREATE TEMPORARY TABLE dropin_scratch AS SELECT name FROM dropin_person")
    db.execute_sql("SET @wanted = 'ada'")
    rows = db.execute_sql("SELECT name FROM dropin_scratch WHERE name = @wanted").fetchall()
    db.execute_sql("INSERT INTO dropin_person (name) VALUES ('x')")
    last = db.execute_sql("SELECT LAST_INSERT_ID() > 3").fetchall()
    db.execute_sql("DROP TEMPORARY TABLE dropin_scratch")
    return rows, last


@work
def raw_errors(db: Any, _: LocalCluster) -> Any:
    found = []
    for sql in (
        "SELECT FROM",
        "SELECT nope FROM dropin_person",
        "SELECT 1 FROM nope",
        "INSERT INTO nope VALUES (1)",
    ):
        with pytest.raises(Exception) as raised:  # noqa: PT011  # which one is compared
            db.execute_sql(sql)
        found.append((type(raised.value), raised.value.args, type(raised.value.__cause__)))
    return found


@work
def raw_queries(db: Any, _: LocalCluster) -> Any:
    raw = Person.raw("SELECT id, name FROM dropin_person WHERE age > %s ORDER BY id", 40)
    cursor = db.execute_sql("SELECT name, age FROM dropin_person ORDER BY id")
    described = [column[:2] for column in cursor.description]
    # 3.14 %% literal percent signs, and none where there are no parameters
    percents = db.execute_sql("SELECT '%%', %s", (1,)).fetchall(), db.execute_sql("SELECT '50%'").fetchall()
    return [p.name for p in raw], described, cursor.fetchmany(2), cursor.rowcount, percents


@work
def raw_cursors(db: Any, cluster: LocalCluster) -> Any:
    db.connect()
    cursor = db.cursor()
    insert = "INSERT INTO dropin_person (name, age) VALUES (%s, %s)"
    counts = (
        cursor.executemany(insert, [("x", 1), ("y", 2)]),  # the driver sends its rows as one bytearray
        cursor.executemany("UPDATE dropin_person SET age = age + %s WHERE name = %s", [(1, "x"), (1, "y")]),
        cursor.execute(b"DELETE FROM dropin_person WHERE name = 'y'"),
    )
    db.execute_sql(bytearray(b"UPDATE dropin_person SET age = 9 WHERE name = 'grace'"))
    found = db.execute_sql(bytearray(b"SELECT MAX(age) FROM dropin_person")).fetchall()
    cluster.sync()
    return counts, found, cursor.execute("SELECT name FROM dropin_person WHERE name = 'x'"), cursor.fetchall()


@work
def after_commit_reads(db: Any, cluster: LocalCluster) -> Any:
    seen: list[Any] = []

    def look() -> None:
        cluster.sync()
        seen.append(Person.get_or_none(name="new") is not None)

    with db.atomic():
        db.after_commit(look)
        Person.create(name="new")
    with db.atomic() as transaction:
        db.after_commit(look)
        transaction.rollback()
    return seen


@work
def threads(db: Any, _: LocalCluster) -> Any:
    found: list[Any] = []

    def one() -> None:
        with db.connection_context():
            found.append((Person.select().count(), db.is_closed()))
        found.append(db.is_closed())

    for _n in range(3):
        in_thread(one)
    return found


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", some_need(WORKS, {"after_commit_reads": "4.5"}))
def test_gives_what_peewee_gives(cluster: LocalCluster, name: str, pair: str) -> None:
    expected, found = both(WORKS[name], cluster, pair)
    assert found == expected


def test_the_comparison_reads_from_replicas(cluster: LocalCluster) -> None:
    """Were everything sent to the primary, all of the above would hold and show nothing."""
    seed(cluster)
    cluster.reset_counts()
    database = cluster.database(ReplicatedDatabase, consistency="eventual")
    with database.bind_ctx([Person, Post]):
        for name in ("joins", "prefetched", "backreferences", "expressions", "results"):
            WORKS[name](database, cluster)
    counts = cluster.counts()
    end(database)
    assert counts["primary"].reads == 0
    assert counts["replica-1"].reads > 0
    assert counts["replica-2"].reads > 0


def test_sql_is_built_without_connecting(cluster: LocalCluster) -> None:
    database = cluster.database(consistency="eventual")
    cluster.reset_counts()
    with database.bind_ctx([Person, Post]):
        text = Person.select().where(Person.id == 1).sql()
        explained = database.explain_route(Person.select())
    assert text[1] == [1]
    assert explained.role == "replica"
    assert database.is_closed()
    assert {node.connections for node in cluster.counts().values()} == {0}


def test_server_version_is_known_before_the_first_sql_is_built(cluster: LocalCluster) -> None:
    """Compiled for an unknown server, the parentheses of the inner UNION are lost, and a row with them."""
    seed(cluster)
    database = cluster.database(consistency="eventual")
    with database.bind_ctx([Person, Post]):
        one, two, three = (Person.select(Value(i)).where(Person.id == 1) for i in (1, 1, 2))
        # A UNION ALL (B UNION C): read from the left it is (A UNION ALL B) UNION C, which drops a row.
        nested = sorted(one.union_all(two.union(three)).tuples())
    plain = plain_database(cluster)
    with plain.connection_context(), plain.bind_ctx([Person, Post]):
        expected = sorted(one.union_all(two.union(three)).tuples())
    end(database)
    assert nested == expected
    if has_peewee("4.4"):  # older ones lose the row on every server
        assert expected == [(1,), (1,), (2,)]
