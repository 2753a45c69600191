"""Whatever peewee's query builder makes for a SELECT is proven to be a read."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peewee import (
    JOIN,
    SQL,
    Case,
    Cast,
    CharField,
    DateTimeField,
    ForeignKeyField,
    IntegerField,
    Model,
    MySQLDatabase,
    NodeList,
    SqliteDatabase,
    TextField,
    Tuple,
    Value,
    Window,
    fn,
    prefetch,
)
from playhouse.mysql_ext import Match

from peewee_replicas.statements.classifier import Classifier, Dialect

try:
    from playhouse.mysql_ext import MySQLJSONField
except ImportError:
    pytest.skip("this peewee has no MySQLJSONField", allow_module_level=True)


class Base(Model):
    pass


class User(Base):
    name = CharField()
    age = IntegerField(null=True)
    born = DateTimeField(default=datetime.datetime.now)


class Note(Base):
    user = ForeignKeyField(User, backref="notes")
    body = TextField()
    data = MySQLJSONField(default=dict)
    parent = ForeignKeyField("self", null=True)


Build = Callable[[], Any]


def common() -> Iterator[Build]:
    """Conditions, joins, aggregates, expressions and windows."""
    author, other = User.alias(), User.alias("o")
    count = fn.COUNT(Note.id)
    yield lambda: User.select()
    yield lambda: User.select(User.id, User.name).distinct()
    yield lambda: User.select().where(User.id == 5)
    yield lambda: User.select().where((User.name == "x") & (User.age > 3) | ~(User.age == 4))
    yield lambda: User.select().where(User.id.in_([1, 2, 3]))
    yield lambda: User.select().where(User.id.not_in([1]), User.id.in_([]))
    yield lambda: User.select().where(User.id.in_(Note.select(Note.user)))
    yield lambda: User.select().where(User.age.between(1, 5), User.age.is_null(False))
    yield lambda: User.select().where(User.name.contains("a%_b"))
    yield lambda: User.select().where(User.name.startswith("a"), User.name.endswith("b"))
    yield lambda: User.select().where(User.name ** "a%", User.name % "b%")
    yield lambda: User.select().where(User.name.like("a%"), User.name.ilike("b%"))
    yield lambda: User.select().where(User.name.regexp("a+"), User.name.iregexp("b"))
    yield lambda: User.select().where(fn.EXISTS(Note.select().where(Note.user == User.id)))
    yield lambda: User.select().where(fn.LOWER(fn.SUBSTR(User.name, 1, 1)) == "a")
    yield lambda: User.select().where(Tuple(User.id, User.age) == (1, 2))
    yield lambda: User.select().where(Tuple(User.id, User.age).in_([(1, 2), (3, 4)]))
    yield lambda: User.select().order_by(User.name.desc(), User.age).limit(5).offset(10)
    yield lambda: User.select().order_by(User.age.asc(nulls="last"), User.age.desc(nulls="first"))
    yield lambda: User.select().paginate(3, 20)
    yield lambda: User.select(User, count.alias("c")).join(Note, JOIN.LEFT_OUTER).group_by(User)
    yield lambda: User.select(User.age, fn.COUNT(User.id)).group_by(User.age).having(fn.COUNT(User.id) > 1)
    yield lambda: Note.select(Note, User).join(User)
    yield lambda: Note.select(Note, author.name).join(author, on=(author.id == Note.user))
    yield lambda: Note.select(Note, other.name).join(other, JOIN.CROSS)
    yield lambda: User.select(fn.COUNT(User.name.distinct()), fn.SUM(User.age), fn.AVG(User.age))
    yield lambda: User.select(fn.MIN(User.age), fn.MAX(User.age), fn.COUNT(SQL("*")))
    yield lambda: User.select(fn.COALESCE(User.age, 0), fn.NULLIF(User.age, 0), fn.ABS(-User.age))
    yield lambda: User.select(User.age + 1, User.age - 1, User.age * 2, User.age / 2, 1 + User.age)
    yield lambda: User.select(User.age.bin_and(1), User.age.bin_or(2))
    yield lambda: User.select(Case(None, ((User.age == 1, "one"), (User.age == 2, "two")), "x"))
    yield lambda: User.select(Case(User.age, ((1, "one"),), None))
    yield lambda: User.select(User.age.cast("char(10)"), Cast(User.age, "decimal(10, 2)"))
    yield lambda: User.select(User.born.year, User.born.month, User.born.hour)
    yield lambda: User.select(User.born.truncate("month"), User.born.truncate("minute"))
    yield lambda: User.select(User.name.concat("x"), fn.CONCAT(User.name, "y"))
    yield lambda: User.select(fn.RANK().over(order_by=[User.age], partition_by=[User.name]))
    yield lambda: User.select(fn.ROW_NUMBER().over(), fn.NTILE(4).over(order_by=[User.id]))
    window = Window(partition_by=[User.name], order_by=[User.age]).alias("w")
    yield lambda: User.select(fn.SUM(User.age).over(window)).window(window)
    frame = Window(order_by=[User.id], start=Window.preceding(2), end=Window.following(), frame_type="rows")
    yield lambda: User.select(fn.SUM(User.age).over(frame))
    yield lambda: User.select(
        fn.SUM(User.age).over(order_by=[User.id], start=Window.CURRENT_ROW, end=Window.following(3))
    )


def composed() -> Iterator[Build]:
    """Queries made of queries."""
    count = fn.COUNT(Note.id)
    yield lambda: User.select() | User.select().where(User.id == 1)
    yield lambda: User.select().union_all(User.select()).order_by(SQL("1")).limit(3)
    yield lambda: (User.select() | User.select()) & User.select()
    yield lambda: User.select() - (User.select() | User.select())
    yield lambda: User.select().union_all(User.select()).select_from(fn.COUNT(SQL("1")))
    inner = User.select(User.id.alias("x")).alias("inner")
    yield lambda: User.select(inner.c.x).from_(inner)
    yield lambda: User.select().join(inner, on=(inner.c.x == User.id))
    yield lambda: User.select(User.id, Note.select(count).where(Note.user == User.id))
    cte = User.select(User.id, User.name).cte("c", columns=["i", "n"])
    yield lambda: cte.select_from(cte.c.i, cte.c.n)
    yield lambda: User.select(cte.c.n).join(cte, on=(cte.c.i == User.id)).with_cte(cte)
    base = Note.select(Note.id, Note.parent, Value(0).alias("depth")).cte("tree", recursive=True)
    step = Note.select(Note.id, Note.parent, base.c.depth + 1).join(base, on=(Note.parent == base.c.id))
    tree = base.union_all(step)
    yield lambda: tree.select_from(tree.c.id, tree.c.depth)
    plain = User.select(User.id).cte("plain")
    yield lambda: User.select().with_cte(plain, cte).where(User.id.in_(plain.select(plain.c.id)))
    yield lambda: User.select(User.name.alias("select"), User.age.alias("for update"))
    yield lambda: User.select(SQL("1")).where(SQL("1 = 1"))
    yield lambda: User.select().where(User.name == "it's % FOR UPDATE")
    yield lambda: User.select().where(User.age > User.select(fn.AVG(User.age)))
    yield lambda: User.select().where(User.name.collate("binary") == "x")
    yield lambda: User.noop()
    yield lambda: User.select(NodeList((SQL("("), User.age, SQL("+ 1)"))))


def servers() -> Iterator[Build]:
    """What peewee makes for MySQL and MariaDB alone."""
    yield lambda: User.select().order_by(fn.RAND())
    yield lambda: User.select().where(Match(User.name, "x"))
    yield lambda: User.select().where(Match((User.name, User.age), "x", "IN BOOLEAN MODE"))
    yield lambda: User.select(fn.GROUP_CONCAT(User.name), fn.DATE_FORMAT(User.born, "%Y"))
    yield lambda: User.select().where(User.age == fn.ANY(User.select(User.age)))
    yield lambda: Note.select(Note.data["a"], Note.data["a"]["b"], Note.data["a"][0])
    yield lambda: Note.select().where(Note.data["a"] == "x")
    yield lambda: Note.select().where(Note.data["a"] == {"b": [1, None]})
    yield lambda: Note.select().where(Note.data.contains({"a": 1}))
    yield lambda: Note.select().where(Note.data["a"].contains([1]))
    yield lambda: Note.select().where(Note.data.has_key("a"))
    yield lambda: Note.select().where(Note.data.contains_any([1]))
    yield lambda: Note.select(Note.data.length(), Note.data["a"].length())
    yield lambda: Note.select(Note.data["a"].set(1), Note.data["a"].remove())
    yield lambda: Note.select(Note.data["a"].as_text(), Note.data["a"].as_int())
    yield lambda: User.select(fn.JSON_ARRAYAGG(User.name), fn.IF(User.age, 1, 2))
    yield lambda: User.select(fn.NOW(), fn.CURDATE(), fn.UUID(), fn.DATABASE())


def database(dialect: Dialect, version: tuple[int, ...]) -> Any:
    if dialect == "sqlite":
        return SqliteDatabase(None)
    db = MySQLDatabase(None, mariadb=dialect == "mariadb")
    db.server_version = version
    db._set_csq_grouped(dialect == "mariadb")
    return db


CASES: list[tuple[Dialect, tuple[int, ...]]] = [
    ("mysql", (5, 7, 44)),
    ("mysql", (8, 0, 40)),
    ("mysql", (9, 7, 4)),
    ("mariadb", (10, 3, 39)),
    ("mariadb", (10, 11, 19)),
    ("mariadb", (11, 8, 9)),
    ("sqlite", ()),
]


def texts(dialect: Dialect, version: tuple[int, ...]) -> list[str]:
    db = database(dialect, version)
    with db.bind_ctx([User, Note]):
        builds = [*common(), *composed(), *(() if dialect == "sqlite" else servers())]
        return [db.get_sql_context().sql(build()).query()[0] for build in builds]


# Functions that a release does not have yet: there they would be stored functions.
ABSENT = {
    (5, 7, 44): {"RANK", "ROW_NUMBER", "JSON_OVERLAPS"},
    (10, 3, 39): {"JSON_ARRAYAGG", "JSON_OVERLAPS"},
}


def unproven(classifier: Classifier, made: list[str]) -> set[str]:
    """The functions that keep a text from being proven; fails if anything else does."""
    found = [classifier.classify(sql) for sql in made]
    reasons = {statement.reason for statement in found if statement.kind != "read"}
    assert all(reason.endswith("() is not known to be pure") for reason in reasons), reasons
    return {reason.partition("(")[0] for reason in reasons}


@pytest.mark.parametrize(("dialect", "version"), CASES)
def test_every_select_is_a_read(dialect: Dialect, version: tuple[int, ...]) -> None:
    made = texts(dialect, version)
    assert len(made) > 55
    classifier = Classifier(dialect, version=".".join(map(str, version)))
    assert unproven(classifier, made) == ABSENT.get(version, set())


@pytest.mark.parametrize("case", [case for case in CASES if case[0] != "sqlite"])
def test_for_a_server_not_known_yet(case: tuple[Dialect, tuple[int, ...]]) -> None:
    # JSON_COMPACT marks JSON for MariaDB; on MySQL it would be a stored function.
    assert unproven(Classifier(None), texts(*case)) - {"JSON_COMPACT"} == set[str]().union(*ABSENT.values())


@pytest.mark.parametrize(("dialect", "version"), [c for c in CASES if c[0] != "sqlite"])
def test_the_rest_is_no_read(dialect: Dialect, version: tuple[int, ...]) -> None:
    db = database(dialect, version)
    classifier = Classifier(dialect)
    with db.bind_ctx([User, Note]):
        for build, kind in (
            (User.select().for_update(), "locking"),
            (User.select().for_update("FOR UPDATE SKIP LOCKED"), "locking"),
            (User.select().for_update("FOR SHARE", nowait=True), "locking"),
            (User.select().for_update("LOCK IN SHARE MODE"), "locking"),
            (User.select(fn.LAST_INSERT_ID()), "session"),
            (User.select(fn.GET_LOCK("a", 1)), "locking"),
            (User.select(fn.my_function(1)), "query"),
            (User.insert(name="x"), "write"),
            (User.insert_many([{"name": "x"}, {"name": "y"}]), "write"),
            (User.replace(name="x"), "write"),
            (User.update(name="x").where(User.id == 1), "write"),
            (User.delete(), "write"),
        ):
            sql, _ = db.get_sql_context().sql(build).query()
            assert classifier.classify(sql).kind == kind, sql
        for sql, _ in (
            User._schema._create_table().query(),
            User._schema._create_table(temporary=True).query(),
            User._schema._drop_table().query(),
            User._schema._truncate_table().query(),
        ):
            assert classifier.classify(sql).kind == "write", sql
        temporary = User._schema._create_table(temporary=True).query()[0]
        assert classifier.classify(temporary).effect == "a temporary table"


def test_prefetch_asks_with_reads() -> None:
    db = database("mariadb", (10, 11, 19))
    sent: list[str] = []

    class Recorder:
        description = None
        rowcount = 0

        def fetchone(self) -> None:
            return None

        def close(self) -> None:
            return None

    def record(sql: str, params: object = None) -> Recorder:
        sent.append(sql)
        return Recorder()

    db.execute_sql = record
    with db.bind_ctx([User, Note]):
        prefetch(User.select(), Note.select())
        User.select().count()
        User.select().where(User.id == 1).exists()
        User.get_or_none(User.id == 1)
        list(User.select().tuples())
    assert len(sent) == 6
    assert {Classifier("mariadb").classify(sql).kind for sql in sent} == {"read"}
