"""An argument that nobody takes is refused when it is given, with its name and the nearest that exists.

The ways to give arguments to a database were listed by walking the callers of ``init()`` and of
``node_specs()``: the constructor of each class, ``init()`` of each, that of a database behind a proxy, a dict
and a URL in ``replicas`` and in ``set_replicas()``, and the query of a URL for `playhouse.db_url`. The names
that exist come from four places: this library, peewee and its pool, the driver, and a subclass's own code.
"""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable
from typing import Any

import aiomysql
import peewee
import pymysql
import pytest
from peewee import MySQLDatabase
from playhouse import db_url, pool
from support.peewees import AsyncReplicatedDatabase, has_peewee

from peewee_replicas import (
    ConfigurationError,
    PooledReplicatedDatabase,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
    ReplicatedSqliteDatabase,
)
from peewee_replicas.databases.argument_names import names_taken
from peewee_replicas.routing.settings import OWN_ARGUMENTS
from peewee_replicas.servers import sqlite

SERVER_CLASSES = [ReplicatedDatabase, PooledReplicatedDatabase, AsyncReplicatedDatabase]
CLASSES = [*SERVER_CLASSES, ReplicatedSqliteDatabase]


def construct(cls: Any, **given: Any) -> Any:
    return cls("app", **given)


def defer(cls: Any, **given: Any) -> Any:
    database = cls(None)
    database.init("app", **given)
    return database


def behind_a_proxy(cls: Any, **given: Any) -> Any:
    proxy = ReplicatedDatabaseProxy()
    proxy.initialize(cls(None))
    proxy.init("app", **given)
    return proxy.obj


def initialise_again(cls: Any, **given: Any) -> Any:
    database = cls("app")
    database.init("app", **given)
    return database


def at_primary(cls: Any, **given: Any) -> Any:
    database = cls("app").on_primary
    database.init("app", **given)
    return database


WAYS = [construct, defer, behind_a_proxy, initialise_again, at_primary]
MISSPELT = [
    ("polcy", "policy"),
    ("maxlag", "max_lag"),
    ("max_lags", "max_lag"),
    ("Consistency", "consistency"),
    ("fall_back", "fallback"),
    ("probe_intervall", "probe_interval"),
]
OF_SERVERS = [
    ("replica", "replicas"),
    ("pasword", "password"),
    ("hots", "host"),
    ("conect_timeout", "connect_timeout"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(("wrong", "meant"), MISSPELT)
def test_a_misspelt_argument_is_refused_with_the_nearest_name(
    cls: Any, way: Callable[..., Any], wrong: str, meant: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"{wrong}.*did you mean '{meant}'"):
        way(cls, **{wrong: "random"})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cls", SERVER_CLASSES)
@pytest.mark.parametrize(("wrong", "meant"), OF_SERVERS)
def test_a_misspelt_parameter_of_connecting_is_refused(
    cls: Any, way: Callable[..., Any], wrong: str, meant: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"{wrong}.*did you mean '{meant}'"):
        way(cls, **{wrong: ["r1"]})


@pytest.mark.parametrize("cls", CLASSES)
def test_several_are_named_together_and_nothing_is_changed(cls: Any) -> None:
    database = cls("app", max_lag=3)
    with pytest.raises(ConfigurationError, match=r"polcy.*'policy'.*zzz"):
        database.init("other", polcy="random", zzz=1, max_lag=5)
    assert database.database == "app"
    assert database._parts.router.settings.max_lag == 3
    assert "polcy" not in database.connect_params


def in_replicas(cls: Any, replica: Any) -> None:
    cls("app", host="p", replicas=[{"host": "r1"}, replica])


def in_set_replicas(cls: Any, replica: Any) -> None:
    cls("app", host="p", replicas=["r1"]).set_replicas(["r1", replica])


@pytest.mark.parametrize("way", [in_replicas, in_set_replicas])
@pytest.mark.parametrize("cls", SERVER_CLASSES)
@pytest.mark.parametrize(
    ("replica", "words"),
    [
        ({"host": "r2", "pasword": "x"}, "'pasword'.*did you mean 'password'"),
        ({"hots": "r2"}, "'hots'.*did you mean 'host'"),
        ({"host": "r2", "wieght": 2}, "'wieght'.*did you mean 'weight'"),
        ({"host": "r2", "policy": "random"}, "'policy' is an argument of the database"),
        ({"host": "r2", "readers": 3}, "'readers' is no connection parameter: only ReplicatedSqliteDatabase"),
        ({"host": "r2", "tag": {}}, "'tag'.*did you mean 'tags'"),
        ({"host": "r2", 5: 3}, "5 is no connection parameter"),
        ("mysql://r2/app?pasword=x", "'pasword'.*did you mean 'password'"),
        ("mysql://r2/app?policy=random", "'policy' is an argument of the database"),
        ({"host": "r2", "autocommit": True}, "'autocommit' is no connection parameter"),
    ],
)
def test_a_misspelt_parameter_of_a_replica_is_refused(
    cls: Any, way: Callable[..., Any], replica: Any, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"replicas\[1\].*{words}"):
        way(cls, replica)


@pytest.mark.parametrize("scheme", ["mysql+replicas", "mysql+replicas+pool", "sqlite+replicas"])
@pytest.mark.parametrize(("wrong", "meant"), MISSPELT)
def test_a_misspelt_argument_in_a_url_is_refused(scheme: str, wrong: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{wrong}.*did you mean '{meant}'"):
        db_url.connect(f"{scheme}:///app?{wrong}=random")


@pytest.mark.parametrize(
    ("cls", "given", "words"),
    [
        (ReplicatedDatabase, {"max_connections": 5}, "max_connections: only a pooled database"),
        (ReplicatedDatabase, {"pool_size": 5}, "pool_size: only the asyncio database"),
        (ReplicatedDatabase, {"readers": 5}, "readers: only ReplicatedSqliteDatabase"),
        (AsyncReplicatedDatabase, {"max_connections": 5}, "max_connections: only a pooled database"),
        (AsyncReplicatedDatabase, {"passwd": "x"}, "passwd; did you mean 'password'"),
    ],
)
def test_what_another_class_takes_is_said_so(cls: Any, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        cls("app", **given)


def test_what_only_the_constructor_takes_is_refused_by_init() -> None:
    with pytest.raises(ConfigurationError, match="autoconnect: the constructor takes it"):
        ReplicatedDatabase(None).init("app", autoconnect=False)


# What exists goes on being taken

_DRIVER = {
    ReplicatedDatabase: pymysql.connections.Connection,
    PooledReplicatedDatabase: pymysql.connections.Connection,
    AsyncReplicatedDatabase: aiomysql.Connection,
}
_SET_BY_PEEWEE = {"self", "database", "db", "autocommit", "defer_connect", "loop", "passwd"}
_NOT_FOR_ALL = {"host", "port", "unix_socket"}


@pytest.mark.parametrize("cls", SERVER_CLASSES)
def test_every_parameter_of_the_driver_is_taken(cls: Any) -> None:
    names = set(inspect.signature(_DRIVER[cls].__init__).parameters) - _SET_BY_PEEWEE - _NOT_FOR_ALL
    database = cls(
        "app", host="p", port=3307, replicas=[{"host": "r", **dict.fromkeys(names)}], **dict.fromkeys(names)
    )
    assert names <= set(database.connect_params)


_SINCE_4_4: dict[str, Any] = {"mariadb": True} if has_peewee("4.4") else {}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_argument_of_peewees_own_classes_is_taken(cls: Any) -> None:
    values = {"field_types": {}, "operations": {}, "thread_safe": True, "autoconnect": False}
    if cls is PooledReplicatedDatabase:
        values.update(max_connections=3, stale_timeout=30, timeout=5)
    if cls is AsyncReplicatedDatabase:
        values.update(pool_size=3, pool_min_size=0, acquire_timeout=2, pool_recycle=60)
    if cls is ReplicatedSqliteDatabase:
        values.update(pragmas={"cache_size": -1000}, regexp_function=has_peewee("4.0"), timeout=3)
        values.update(lock_type="immediate" if has_peewee("4.5") else None)
        values.update(check_same_thread=False, cached_statements=10, uri=False)
        if has_peewee("4.5"):  # before, peewee passes its own
            values.update(isolation_level=None)
    else:
        values.update(charset="utf8mb4", sql_mode="ANSI", **_SINCE_4_4)
    made = cls("app", **values)
    assert made.autoconnect is False
    assert not {"pool_size", "max_connections", "pragmas", "mariadb"} & set(made.connect_params)


@pytest.mark.parametrize("cls", CLASSES)
def test_init_takes_what_peewees_init_takes(cls: Any) -> None:
    database = cls(None)
    values: dict[str, Any] = {"user": "u", "policy": "random", **_SINCE_4_4}
    if cls is PooledReplicatedDatabase:
        values.update(max_connections=3, stale_timeout=30, timeout=5)
    if cls is AsyncReplicatedDatabase:
        values.update(pool_size=3, pool_min_size=0)
    if cls is ReplicatedSqliteDatabase:
        values = {"pragmas": {"cache_size": -1000}, "timeout": 7, "returning_clause": True, "readers": 1}
    database.init("app", **values)
    assert database.database == "app"


def test_every_parameter_of_sqlite3_is_known() -> None:
    taken = names_taken(sqlite3.connect)
    assert taken is not None
    assert {"database", "timeout", "detect_types", "check_same_thread", "factory", "uri"} <= taken


def test_nothing_is_refused_where_a_signature_tells_nothing() -> None:
    def any_at_all(**kwargs: Any) -> None: ...

    class Silent:
        __signature__ = "unreadable"

    assert names_taken(any_at_all) is None
    assert names_taken(Silent) is None


def test_our_own_names_are_nobody_elses() -> None:
    """Or one would be taken from its owner."""
    others = {MySQLDatabase, pool.PooledMySQLDatabase, peewee.SqliteDatabase}
    for cls in others:
        for method in (cls.__init__, cls.init):
            assert not set(OWN_ARGUMENTS) & set(inspect.signature(method).parameters)


# What a subclass takes itself


@pytest.mark.parametrize("cls", CLASSES)
def test_a_subclass_may_take_arguments_out_in_its_constructor_or_init(cls: Any) -> None:
    class Own(cls):  # type: ignore[misc]  # a parameter
        def __init__(self, database: Any, **kwargs: Any) -> None:
            self.region = kwargs.pop("region", "")
            super().__init__(database, **kwargs)

        def init(self, database: Any, secret: str = "", **kwargs: Any) -> None:
            self.secret = kwargs.pop("other_secret", secret)
            super().init(database, **kwargs)

    made = Own("app", region="eu", secret="a")
    assert (made.region, made.secret) == ("eu", "a")
    made.init("app", other_secret="b")
    assert made.secret == "b"
    with pytest.raises(ConfigurationError, match=r"polcy.*'policy'.*before it calls super"):
        Own("app", region="eu", polcy="random")


@pytest.mark.parametrize("cls", CLASSES)
def test_a_subclass_that_connects_by_itself_may_take_any(cls: Any) -> None:
    class Base(cls):  # type: ignore[misc]  # a parameter
        def _connect(self) -> Any:
            self.connect_params.pop("region", None)
            return super()._connect()

    class Own(Base):
        pass

    made = Own("app", region="eu")
    assert made.connect_params["region"] == "eu"
    assert made.on_primary.connect_params["region"] == "eu"
    if cls is not ReplicatedSqliteDatabase:
        made.init("app", replicas=[{"host": "r1:special", "zone": "a"}])
        assert made.replicas[0].address == "r1:special:3306"


def test_a_mixin_may_connect_by_itself() -> None:
    class Connects:
        def _connect(self) -> Any: ...

    class Own(Connects, ReplicatedDatabase):
        pass

    assert Own("app", region="eu").connect_params["region"] == "eu"


def test_a_connection_class_with_a_constructor_may_take_any() -> None:
    class Own(sqlite.Connection):
        def __init__(self, *args: Any, region: str = "", **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    class Plain(sqlite.Connection):
        pass

    assert ReplicatedSqliteDatabase("app", factory=Own, region="eu").connect_params["region"] == "eu"
    with pytest.raises(ConfigurationError, match="region"):
        ReplicatedSqliteDatabase("app", factory=Plain, region="eu")
