"""Packages that use peewee, on a replica one second late: each sees at once what it has written.

The members of the kind are the packages that peewee's documentation and the package registry name for web
applications, jobs and tables of data, and peewee's own ways to bind models while a program runs.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from peewee import CharField, DatabaseProxy, IntegerField, Model
from playhouse.shortcuts import ThreadSafeDatabaseMetadata
from support.clusters import as_in_another_process
from support.clusters.late import late, package
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase
from peewee_replicas.testing import LocalCluster

__all__ = ["late"]


@pytest.fixture(name="db", params=[None])
def _db(late: LocalCluster, request: pytest.FixtureRequest) -> Iterator[Any]:
    database = late.database(request.param)
    yield database
    if not database.is_closed():
        database.close()
    with closing(late.database(replicas=(), probe_interval=None)) as after:
        for table in after.get_tables():
            after.execute_sql(f"DROP TABLE `{table}`")


def role(database: Any) -> str:
    return str(database.explain_route("SELECT 1").role)


pooled = pytest.mark.parametrize("db", [PooledReplicatedDatabase], indirect=True)


def test_models_bound_while_the_program_runs(db: Any, late: LocalCluster) -> None:
    proxy = DatabaseProxy()

    class Thing(Model):
        name = CharField()

        class Meta:
            database = proxy

    proxy.initialize(db)
    Thing.create_table()
    Thing.create(name="by a proxy")
    assert Thing.get().name == "by a proxy"
    with closing(late.database()) as other:
        for bound in (other, db.on_primary, db, other):
            Thing.bind(bound)
            Thing.create(name="bound")
            assert Thing.select().order_by(Thing.id.desc()).get().name == "bound"
        with db.bind_ctx([Thing]):
            Thing.update(name="changed").execute()
            assert Thing.select(Thing.name).distinct().tuples()[:] == [("changed",)]
        assert Thing._meta.database is other
        assert {row.name for row in Thing.select()} == {"changed"}  # written through another database object
        Thing._meta.database = db  # as peewee-migrate does it
        Thing.delete().execute()
        assert Thing.select().count() == 0


def test_thread_safe_database_metadata(db: Any) -> None:
    class Leaf(Model):
        name = CharField()

        class Meta:
            database = db
            model_metadata_class = ThreadSafeDatabaseMetadata

    Leaf.create_table()
    found: list[Any] = []

    def work(place: Any) -> None:
        Leaf._meta.set_database(place)
        with place.connection_context():
            Leaf.create(name="mine")
            leaf = Leaf.get(Leaf.name == "mine")
            Leaf.delete().execute()
            found.append((leaf.name, Leaf.select().count(), Leaf._meta.database is place))

    for place in (db.on_primary, db):
        thread = threading.Thread(target=work, args=(place,))
        thread.start()
        thread.join()
    assert found == [("mine", 0, True)] * 2
    assert Leaf._meta.database is db


@pytest.fixture(name="client")
def _client(db: Any) -> Any:
    """A Flask application with flask-peewee's REST interface and flask-admin's views of one table."""
    package("flask-peewee")
    package("flask-admin")
    from flask import Flask
    from flask_admin import Admin
    from flask_admin.contrib.peewee import ModelView
    from flask_peewee.db import Database
    from flask_peewee.rest import Authentication, RestAPI

    app = Flask(__name__)
    app.config.update(SECRET_KEY="not secret", TESTING=True)
    flask_db = Database(app, db)

    class Song(flask_db.Model):  # type: ignore[misc, name-defined]  # the class is made at run time
        title = CharField()
        plays = IntegerField(default=0)

    db.create_tables([Song])
    db.close()
    api = RestAPI(app, default_auth=Authentication(protected_methods=[]))
    api.register(Song)
    api.setup()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Admin(app).add_view(ModelView(Song, endpoint="songs"))
    return app.test_client()


@pooled
def test_flask_peewee(client: Any) -> None:
    for number in range(1, 4):  # each request is a unit of work of its own
        assert client.post("/api/song/", json={"title": f"s{number}"}).status_code == 200
        assert client.get("/api/song/").json["meta"]["model"] == "song"
        assert [song["title"] for song in client.get("/api/song/").json["objects"]][
            number - 1
        ] == f"s{number}"
        assert client.put(f"/api/song/{number}/", json={"plays": 5}).status_code == 200
        assert client.get(f"/api/song/{number}/").json["plays"] == 5
    assert client.delete("/api/song/2/").status_code == 200
    assert client.get("/api/song/2/").status_code == 404


@pooled
def test_flask_admin(client: Any) -> None:
    for number in range(1, 4):
        posted = client.post("/admin/songs/new/", data={"title": f"song {number}", "plays": "1"})
        assert posted.status_code == 302
        assert f"song {number}" in client.get("/admin/songs/").text
        client.post(f"/admin/songs/edit/?id={number}", data={"title": f"tune {number}", "plays": "2"})
        assert f"tune {number}" in client.get(f"/admin/songs/?search=tune+{number}").text
    client.post("/admin/songs/delete/", data={"id": "1"})
    client.post("/admin/songs/action/", data={"action": "delete", "rowid": ["2"]})
    listed = client.get("/admin/songs/").text
    assert ("tune 1" in listed, "tune 2" in listed, "tune 3" in listed) == (False, False, True)


@pooled
def test_sql_huey(db: Any) -> None:
    huey = package("huey").SqlHuey("jobs", database=db)
    done: list[int] = []

    @huey.task()
    def double(n: int) -> int:
        done.append(n)
        return 2 * n

    consumer = huey.create_consumer(workers=2, worker_type="thread", initial_delay=0.01, max_delay=0.1)
    consumer.start()
    try:
        results = [double(n) for n in range(20)]
        assert [result.get(blocking=True, timeout=60) for result in results] == [2 * n for n in range(20)]
        assert sorted(done) == list(range(20))
        later = double.schedule((100,), delay=1)
        later.revoke()
        assert huey.is_revoked(later.task)
        with huey.lock_task("once"), pytest.raises(Exception, match="once"), huey.lock_task("once"):
            raise AssertionError("not reached")
        until(lambda: huey.scheduled_count() == 0)
        assert 100 not in done
        assert huey.storage.incr("n") + huey.storage.incr("n") == 3
    finally:
        consumer.stop(graceful=True)
        huey.storage.close()


def test_sql_huey_on_the_primary_sees_what_another_process_has_written(db: Any, late: LocalCluster) -> None:
    queue = package("huey").SqlHuey("jobs", database=db.on_primary)
    with as_in_another_process(), closing(late.database()) as elsewhere:
        other = type(queue)("jobs", storage_class=type(queue.storage), database=elsewhere.on_primary)
        for number in range(5):
            queue.put(f"key {number}", number)
            assert other.get(f"key {number}", peek=True) == number
            assert other.storage.put_if_empty(f"lock {number}", b"1")
            assert queue.storage.has_data_for_key(f"lock {number}")
    assert role(db) == "replica"  # other reads go where they went


def test_pandas(db: Any) -> None:
    pandas = package("pandas")
    db.execute_sql("CREATE TABLE sale (id INT PRIMARY KEY, n INT)")
    db.execute_sql("INSERT INTO sale VALUES (1, 10), (2, 20)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not been tested with other drivers, it says
        for source in (db, db.connection()):
            assert pandas.read_sql("SELECT n FROM sale ORDER BY id", source).n.tolist() == [10, 20]
            frame = pandas.read_sql("SELECT * FROM sale WHERE id = %s", source, params=[2], index_col="id")
            assert frame.n.to_dict() == {2: 20}
        with db.readonly():
            assert pandas.read_sql("SELECT n FROM sale", db).n.sum() == 30
            assert pandas.read_sql("SELECT n FROM sale", db.connection()).n.sum() == 30
    db.execute_sql("UPDATE sale SET n = n + 1")
    frame = pandas.DataFrame(db.execute_sql("SELECT id, n FROM sale").fetchall(), columns=["id", "n"])
    assert frame.n.tolist() == [11, 21]
