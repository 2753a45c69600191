"""Methods replaced in an object or a class keep the places of the database, and are called as by peewee.

The members of the kind are what is replaced: each public method of an object that leads to a node, found by
reading which of them ask for a place or call one that does; and how: by a function around it, as of tracing
tools and home-made retries, by a mock that calls it, by one that changes the statement. They are replaced in
the database, in a place alone, and in the class after databases and places were made.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from peewee import Model, OperationalError
from support.databases.plain import PAIRS, Person, Post, making, plain_database

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.testing import LocalCluster

CLASSES = pytest.mark.parametrize("base", [ReplicatedDatabase, PooledReplicatedDatabase])
NAMES = "SELECT name FROM dropin_person"


def retrying(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except OperationalError:
            return method(*args, **kwargs)

    return call


def commenting(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda sql, params=None: method(f"/* traced */ {sql}", params)


def mocking(method: Callable[..., Any]) -> mock.Mock:
    return mock.Mock(wraps=method)


@pytest.fixture
def make(cluster: LocalCluster) -> Iterator[Callable[..., Any]]:
    """Makes a database with a replica for reports, and keeps the nodes of its statements in `served`."""
    with making(cluster, Person, Post) as make_one:

        def make(base: Any, **options: Any) -> Any:
            replicas = [
                {"name": node.name, "host": node.host, "port": node.port, "tags": {"use": use}}
                for node, use in zip(cluster.replicas, ("web", "report"), strict=True)
            ]
            database = make_one(base, **{"replicas": replicas, **options})
            served: list[str] = []
            database.route_hooks.append(lambda event: served.append(event.node))
            vars(database)["served"] = served
            return database

        yield make


def nodes(database: Any, work: Callable[[], Any], times: int = 4) -> set[str]:
    """The nodes that serve some work, each time that it is done."""
    database.served.clear()
    for _ in range(times):
        work()
    return set(database.served)


def bound_to(place: Any) -> Any:
    meta = type("Meta", (), {"database": place, "table_name": Person._meta.table_name})
    return type("Placed", (Model,), {"Meta": meta})


PRIMARY, REPORT, BOTH = {"primary"}, {"replica-2"}, {"replica-1", "replica-2"}


@CLASSES
@pytest.mark.parametrize("around", [retrying, commenting, mocking])
@pytest.mark.core
def test_a_wrapper_of_the_objects_execute_sql_leaves_each_place_its_nodes(
    make: Any, base: Any, around: Any
) -> None:
    database = make(base)
    database.execute_sql = around(database.execute_sql)
    report = database.on_replicas(use="report")
    for place, served in ((database.on_primary, PRIMARY), (report, REPORT)):
        model = bound_to(place)
        assert nodes(database, lambda model=model: list(model.select())) == served
        assert nodes(database, lambda place=place: place.execute_sql(NAMES).fetchall()) == served
        assert nodes(database, lambda place=place: list(Person.select().execute(place))) == served
    assert nodes(database, lambda: list(Person.select())) == BOTH
    assert nodes(database, lambda: database.execute_sql(NAMES).fetchall()) == BOTH


def _raw(place: Any) -> Any:
    with place.readonly(), place.cursor() as cursor:
        cursor.execute("SELECT @@server_id")
        return cursor.fetchone()[0]


def _connected(place: Any) -> Any:
    with place.readonly(), place.connection().cursor() as cursor:
        cursor.execute("SELECT @@server_id")
        return cursor.fetchone()[0]


def _execute(place: Any) -> Any:
    return list(place.execute(Person.select()))


def _altered(place: Any) -> Any:
    return list(place.execute(Person.select().where(Person.id > 0)))


def _read_only(place: Any) -> Any:
    with place.atomic(read_only=True):
        return list(Person.select())


def _readonly(place: Any) -> Any:
    with place.readonly():
        return list(Person.select())


def _filtering(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda query, **options: method(query.where(Person.age >= 0), **options)


@CLASSES
@pytest.mark.parametrize(
    ("name", "around", "work", "of_primary", "of_report"),
    [
        ("execute", retrying, _execute, PRIMARY, REPORT),
        ("execute", _filtering, _altered, PRIMARY, REPORT),
        ("execute", mocking, _execute, PRIMARY, REPORT),
        ("readonly", mocking, _readonly, BOTH, REPORT),  # the scope of `on_primary` is the database's
        ("atomic", mocking, _read_only, BOTH, REPORT),
    ],
)
def test_so_does_a_wrapper_of_another_method(
    make: Any, base: Any, name: str, around: Any, work: Any, of_primary: set[str], of_report: set[str]
) -> None:
    database = make(base)
    setattr(database, name, around(getattr(database, name)))
    assert nodes(database, lambda: work(database.on_primary)) == of_primary
    assert nodes(database, lambda: work(database.on_replicas(use="report"))) == of_report
    assert nodes(database, lambda: work(database)) == BOTH


@CLASSES
@pytest.mark.parametrize(("name", "work"), [("cursor", _raw), ("connection", _connected)])
def test_so_does_a_wrapper_of_what_gives_a_connection(
    make: Any, cluster: LocalCluster, base: Any, name: str, work: Any
) -> None:
    database = make(base)
    plain = [work(database.on_primary), work(database.on_replicas(use="report"))]
    setattr(database, name, mocking(getattr(database, name)))
    wrapped = [work(database.on_primary), work(database.on_replicas(use="report"))]
    ids = [node.execute("SELECT @@server_id")[0][0] for node in (cluster.primary, cluster.replicas[1])]
    assert plain == wrapped == ids
    assert getattr(database, name).call_count == 2


@CLASSES
@pytest.mark.parametrize("name", ["connect", "explain_route"])
def test_so_does_a_wrapper_of_what_only_looks_or_connects(make: Any, base: Any, name: str) -> None:
    database = make(base)
    setattr(database, name, mocking(getattr(database, name)))
    for place, served in ((database.on_primary, PRIMARY), (database.on_replicas(use="report"), REPORT)):
        assert place.explain_route(NAMES).node in served
        place.connect()
        opened = {one.node.name for one in database._parts.replicas.opened()}
        assert opened == served - PRIMARY
        assert (database._state.conn is not None) is (served == PRIMARY)
        database.close()


@CLASSES
def test_methods_without_a_place_are_called_through_one_as_they_are(make: Any, base: Any) -> None:
    database = make(base)
    wrapped = ("begin", "commit", "rollback", "close", "is_closed", "in_transaction")
    for name in wrapped:
        setattr(database, name, mocking(getattr(database, name)))
    place = database.on_primary
    with place.atomic():
        assert place.in_transaction()
        assert not place.is_closed()
        Person.update(age=1).where(Person.id == -1).execute()
    with pytest.raises(ZeroDivisionError), place.atomic():
        raise ZeroDivisionError
    place.close()
    assert place.is_closed()
    assert all(getattr(database, name).called for name in wrapped)
    assert all(getattr(place, name).called for name in wrapped)


@CLASSES
@pytest.mark.parametrize("name", ["execute_sql", "execute"])
def test_what_a_wrapper_asks_through_a_model_of_the_database_gets_no_place(
    make: Any, base: Any, name: str
) -> None:
    database = make(base)
    genuine = getattr(database, name)
    inside, asked, depth = [], [], 0

    def asking(*args: Any) -> Any:
        nonlocal depth
        depth += 1
        try:
            if depth == 1:
                before = len(database.served)
                list(Post.select())
                asked.extend(database.served[before:])
            found = genuine(*args)
            if depth == 1:
                inside.append(database.served[-1])
            return found
        finally:
            depth -= 1

    setattr(database, name, asking)
    for place, served in ((database.on_primary, PRIMARY), (database.on_replicas(use="report"), REPORT)):
        asked.clear()
        inside.clear()
        model = bound_to(place)
        nodes(database, lambda model=model: list(model.select()))
        assert set(inside) == served
        assert set(asked) == BOTH


@CLASSES
def test_what_a_wrapper_asks_through_another_place_goes_there(make: Any, base: Any) -> None:
    database = make(base)
    genuine, other = database.execute_sql, bound_to(database.on_primary)
    inside = []

    def asking(sql: str, params: Any = None) -> Any:
        if "dropin_post" in sql:
            list(other.select())
            inside.append(database.served[-1])
        return genuine(sql, params)

    database.execute_sql = asking
    report = database.on_replicas(use="report")
    assert nodes(database, lambda: list(Post.select().execute(report))) == PRIMARY | REPORT
    assert set(inside) == PRIMARY
    assert database.served[-1] == "replica-2"


@CLASSES
def test_a_place_is_in_force_for_its_own_thread_only(make: Any, base: Any) -> None:
    database = make(base)
    genuine, inside, gone_on = database.execute_sql, threading.Event(), threading.Event()

    def waiting(sql: str, params: Any = None) -> Any:
        if "WAIT" in sql:
            inside.set()
            assert gone_on.wait(30)
        return genuine(sql, params)

    database.execute_sql = waiting
    routes: list[str] = []
    database.route_hooks.append(lambda event: routes.append(f"{'WAIT' in event.sql} {event.node}"))

    def of_other_thread() -> None:
        database.on_primary.execute_sql(f"/* WAIT */ {NAMES}").fetchall()
        database.close()

    thread = threading.Thread(target=of_other_thread)
    thread.start()
    try:
        assert inside.wait(30)
        for _ in range(2):
            database.execute_sql(NAMES).fetchall()
    finally:
        gone_on.set()
        thread.join(30)
    assert sorted(routes) == ["False replica-1", "False replica-2", "True primary"]


@CLASSES
def test_what_is_put_into_a_place_stays_there(make: Any, base: Any) -> None:
    database = make(base)
    place, seen = database.on_primary, []
    genuine = place.execute_sql

    def traced(sql: str, params: Any = None) -> Any:
        seen.append(sql)
        return genuine(sql, params)

    place.execute_sql = traced
    assert nodes(database, lambda: list(Person.select())) == BOTH
    assert seen == []
    assert nodes(database, lambda: list(bound_to(place).select())) == PRIMARY
    assert len(seen) == 4
    assert database.on_primary.execute_sql is traced
    del place.execute_sql
    with pytest.raises(AttributeError):
        del place.execute_sql
    assert nodes(database, lambda: list(bound_to(place).select())) == PRIMARY
    assert len(seen) == 4


@CLASSES
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_mock_in_a_place_puts_back_what_it_found(make: Any, base: Any, wrapped: bool) -> None:
    database = make(base)
    if wrapped:
        database.execute_sql = retrying(database.execute_sql)
    place = database.on_replicas(use="report")
    with mock.patch.object(place, "execute_sql", return_value="mocked"):
        assert place.execute_sql(NAMES) == "mocked"
        assert nodes(database, lambda: database.execute_sql(NAMES).fetchall()) == BOTH
    assert nodes(database, lambda: place.execute_sql(NAMES).fetchall()) == REPORT
    assert nodes(database, lambda: database.execute_sql(NAMES).fetchall()) == BOTH
    with mock.patch.object(database, "execute_sql", return_value="mocked"):
        assert place.execute_sql(NAMES) == "mocked"
    assert nodes(database, lambda: place.execute_sql(NAMES).fetchall()) == REPORT


def test_a_wrapper_in_the_object_is_not_called_for_the_connections_of_replicas(make: Any) -> None:
    """It belongs to the primary's object, and would send the settings of a replica's session there."""

    class Initialised(ReplicatedDatabase):
        def _initialize_connection(self, conn: Any) -> None:
            super()._initialize_connection(conn)
            self.execute_sql("SET @who = 'me'")

    database = make(Initialised)
    database.execute_sql = retrying(database.execute_sql)
    nodes(database, lambda: list(Person.select()))
    Person.update(age=1).where(Person.id == -1).execute()
    conns = [database._state.conn, *(node.conn for node in database._parts.replicas.opened())]
    assert [conn.ask("SELECT @who") for conn in conns] == [(("me",),)] * 3


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("name", ["execute_sql", "execute", "cursor", "connect", "close", "begin", "commit"])
@pytest.mark.parametrize("where", ["class", "object"])
def test_a_method_replaced_later_is_called_as_often_as_with_peewees_class(
    make: Any, cluster: LocalCluster, kind: str, name: str, where: str
) -> None:
    if where == "object" and name == "cursor":
        pytest.skip("a cursor in the object is called for what runs on the primary, see the next test")
    peewees, ours = PAIRS[kind]
    calls = []
    for base in (peewees, ours):
        own = type("Own", (base,), {})
        database = plain_database(cluster, own) if base is peewees else make(own)
        owner = own if where == "class" else database
        if base is ours:
            bound_to(database.on_primary), bound_to(database.on_replicas(use="report"))
        genuine, seen = getattr(owner, name), []

        def traced(*args: Any, genuine: Any = genuine, seen: Any = seen, **kwargs: Any) -> Any:
            seen.append(name)
            return genuine(*args, **kwargs)

        setattr(owner, name, traced)
        with database.bind_ctx([Person], bind_refs=False, bind_backrefs=False):
            list(Person.select())
            if base is ours:
                nodes(database, lambda: list(bound_to(database.on_primary).select()), 1)  # noqa: B023
                nodes(database, lambda: list(bound_to(database.on_replicas(use="report")).select()), 1)  # noqa: B023
            else:
                list(Person.select()), list(Person.select())
            with database.atomic():
                Person.update(age=1).where(Person.id == -1).execute()
            database.close()
        calls.append(len(seen))
    assert calls[0]
    # The primary's own connection is opened through it too, once it is needed.
    assert calls[1] == calls[0] + (name == "connect")


@CLASSES
def test_a_cursor_in_the_object_is_called_for_what_runs_on_the_primary(make: Any, base: Any) -> None:
    database = make(base)
    database.cursor = mocking(database.cursor)
    assert nodes(database, lambda: list(Person.select())) == BOTH
    assert not database.cursor.called
    assert nodes(database, lambda: list(bound_to(database.on_primary).select())) == PRIMARY
    assert database.cursor.call_count == 4
