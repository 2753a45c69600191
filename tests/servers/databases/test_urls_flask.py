"""Databases given by URL or by FlaskDB's dict, and connect-per-request."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from peewee import CharField, Proxy
from playhouse.dataset import DataSet
from playhouse.db_url import connect
from playhouse.flask_utils import FlaskDB, get_object_or_404
from support.databases.plain import end, seed

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.testing import LocalCluster

SCHEMES = {"mysql+replicas": ReplicatedDatabase, "mysql+replicas+pool": PooledReplicatedDatabase}


def _url(cluster: LocalCluster, scheme: str, extra: str = "") -> str:
    primary = cluster.primary
    replicas = "&".join(f"replica={node.host}:{node.port}" for node in cluster.replicas)
    where = f"{cluster.user}:{cluster.password}@{primary.host}:{primary.port}"
    return f"{scheme}://{where}/{cluster.database_name}?{replicas}{extra}"


def _dict(cluster: LocalCluster, engine: str) -> dict[str, Any]:
    parameters = cluster.parameters(cluster.primary)
    replicas = [{"host": node.host, "port": node.port} for node in cluster.replicas]
    return {"name": parameters.pop("database"), "engine": engine, "replicas": replicas, **parameters}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_url_gives_a_working_database(cluster: LocalCluster, scheme: str) -> None:
    seed(cluster)
    database = connect(_url(cluster, scheme, "&connect_timeout=5&policy=random"), read_timeout=30)
    assert type(database) is SCHEMES[scheme]
    cluster.reset_counts()
    rows = [database.execute_sql("SELECT name FROM dropin_person WHERE id = 1").fetchall() for _ in range(20)]
    assert rows == [(("ada",),)] * 20
    counts = cluster.counts()
    assert {name: count.reads > 0 for name, count in counts.items()} == {
        "primary": False,
        "replica-1": True,
        "replica-2": True,
    }
    assert database.connect_params["connect_timeout"] == 5
    end(database)


def test_a_data_set_by_url(cluster: LocalCluster) -> None:
    seed(cluster)
    data = DataSet(_url(cluster, "mysql+replicas"))
    assert sorted(row["name"] for row in data["dropin_person"]) == ["ada", "alan", "grace"]
    end(data._database)


@pytest.fixture(params=["url", "pool url", "dict", "pool dict", "database", "proxied"])
def shop(request: pytest.FixtureRequest, cluster: LocalCluster) -> Iterator[tuple[Any, Any]]:
    """A Flask application with `FlaskDB`, configured in each way there is, and its database."""
    seed(cluster)
    quiet, none = "&probe_interval=none", {"probe_interval": None}  # so that servers count requests alone
    given = {
        "url": lambda: _url(cluster, "mysql+replicas", quiet),
        "pool url": lambda: _url(cluster, "mysql+replicas+pool", quiet),
        "dict": lambda: {**_dict(cluster, "peewee_replicas.ReplicatedDatabase"), **none},
        "pool dict": lambda: {**_dict(cluster, "peewee_replicas.PooledReplicatedDatabase"), **none},
        "database": lambda: cluster.database(consistency="eventual"),
        "proxied": lambda: _url(cluster, "mysql+replicas", quiet),
    }[request.param]()
    app = flask.Flask("shop")
    app.config["DATABASE"] = given
    if request.param == "proxied":
        flask_db = FlaskDB()
        model = flask_db.Model
        assert isinstance(flask_db.database, Proxy)
        flask_db.init_app(app)
    else:
        flask_db = FlaskDB(app)
        model = flask_db.Model
    database = flask_db.database.obj if isinstance(flask_db.database, Proxy) else flask_db.database

    class Buyer(model):  # type: ignore[misc,valid-type]  # made at run time
        name = CharField()
        age = CharField()

        class Meta:
            table_name = "dropin_person"

    @app.get("/<int:key>")
    def read(key: int) -> Any:
        buyer = get_object_or_404(Buyer, Buyer.id == key)
        return {"name": buyer.name, "open": not database.is_closed()}

    @app.get("/idle")
    def idle() -> Any:
        return {"open": not database.is_closed()}

    @app.post("/<int:key>")
    def write(key: int) -> Any:
        with database.atomic():
            changed = Buyer.update(age=7).where(Buyer.id == key).execute()
            return {"changed": changed, "age": Buyer.get_by_id(key).age}

    @app.post("/fail")
    def fail() -> Any:
        with database.atomic():
            Buyer.update(age=8).execute()
            raise ValueError("no")

    yield app, database
    end(database)


def test_requests_that_read_never_open_the_primary(shop: Any, cluster: LocalCluster) -> None:
    app, database = shop
    client = app.test_client()
    cluster.reset_counts()
    for _ in range(4):
        assert client.get("/1").json == {"name": "ada", "open": True}
        assert client.get("/idle").json == {"open": True}
        assert client.get("/99").status_code == 404
        assert database.is_closed()
    counts = cluster.counts()
    assert (counts["primary"].connections, counts["primary"].reads) == (0, 0)
    assert counts["replica-1"].reads > 0
    assert counts["replica-2"].reads > 0


def test_requests_that_write_use_the_primary_and_close_everything(shop: Any, cluster: LocalCluster) -> None:
    app, database = shop
    client = app.test_client()
    assert client.post("/1").json == {"changed": 1, "age": "7"}
    assert database.is_closed()
    assert client.post("/fail").status_code == 500
    assert database.is_closed()
    assert not database.in_transaction()
    rows = cluster.primary.execute(f"SELECT age FROM `{cluster.database_name}`.dropin_person ORDER BY id")
    assert rows == [(7,), (85,), (41,)]


def test_flask_is_served_while_the_primary_is_down(server: str) -> None:
    with LocalCluster(replicas=1, server=server) as own:  # type: ignore[arg-type]
        seed(own)
        app = flask.Flask("shop")
        app.config["DATABASE_URL"] = _url(own, "mysql+replicas")
        flask_db = FlaskDB(app)

        @app.get("/")
        def read() -> Any:
            return str(flask_db.database.execute_sql("SELECT COUNT(*) FROM dropin_person").fetchone()[0])

        own.primary.stop()
        assert [app.test_client().get("/").text for _ in range(3)] == ["3"] * 3
        assert flask_db.database.is_closed()
        end(flask_db.database)


def test_the_url_schemes_are_registered_by_the_import() -> None:
    assert "peewee_replicas" in sys.modules
    with pytest.raises(RuntimeError, match="Unrecognized or unsupported scheme"):
        connect("mysql+replica://h/app")
