"""Every argument is checked where it is given, with a message that names it and what is allowed."""

from __future__ import annotations

import functools
import logging
import operator
import random
import re
import threading
from typing import Any
from unittest import mock

import peewee
import pytest
from playhouse import db_url

from peewee_replicas import (
    ConfigurationError,
    LeastBusy,
    Nearest,
    PooledReplicatedDatabase,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
    RoundRobin,
)
from peewee_replicas.nodes.spec import endpoint, overlay
from peewee_replicas.routing.settings import OWN_ARGUMENTS


def make(**arguments: Any) -> ReplicatedDatabase:
    return ReplicatedDatabase("app", **{"host": "p", "replicas": [{"host": "r1"}], **arguments})


def _short(value: object) -> str:
    """An id that is the same in each worker: a function's address is not."""
    return re.sub(" at 0x[0-9a-f]+| id='[0-9]+'", "", str(value))[:60]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"policy": "fastest"}, r"policy='fastest'.*'round-robin', 'random', 'least-busy'"),
    ({"policy": 5}, r"policy=5.*callable"),
    ({"policy": None}, r"policy=None"),
    ({"policy": lambda: None}, r"policy: the callable is called with one argument, the usable replicas"),
    ({"policy": lambda replicas, zone: None}, r"policy: the callable .* 'zone'"),
    ({"replicas": lambda one, two: []}, r"replicas: the callable is called without an argument, .* 'two'"),
    ({"replicas": lambda *, zone: []}, r"replicas: the callable .* 'zone'"),
    (
        {"replicas": [{"host": "r1", "database": "mysql://r2/app"}]},
        r"replicas\[0\]: database: .* the whole dict",
    ),
    ({"reads": "both"}, r"reads='both'.*'replica', 'primary', 'observe'"),
    ({"fallback": "none"}, r"fallback='none'.*'primary', 'error'"),
    ({"fallback": None}, r"fallback=None"),
    ({"spread": "request"}, r"spread='request'.*'statement', 'unit'"),
    ({"readonly_in_transaction": True}, r"readonly_in_transaction=True.*'error', 'join'"),
    ({"consistency": "sesion"}, r"consistency='sesion'.*did you mean 'session'"),
    ({"consistency": ["session"]}, r"consistency=<list>.*'session'"),
    ({"reads": "Replicas"}, r"reads='Replicas'.*did you mean 'replica'"),
    ({"policy": "least_busy"}, r"policy='least_busy'.*did you mean 'least-busy'"),
    ({"fallback": "errors"}, r"fallback='errors'.*did you mean 'error'"),
    ({"on_transaction_escape": "warning"}, r"on_transaction_escape='warning'.*did you mean 'warn'"),
    ({"max_lag": "10"}, r"max_lag='10': a number of seconds"),
    ({"probe_interval": 0}, r"probe_interval=0: a number of seconds above 0"),
    ({"max_fallback_share": 2}, r"max_fallback_share=2"),
    ({"heartbeat_table": "a b"}, r"heartbeat_table='a b'"),
    ({"refresh": 0}, "refresh=0: a number of seconds above 0"),
    ({"refresh": None}, "refresh=None: a number of seconds above 0"),
    ({"follow_primary": 1}, "follow_primary=1: True or False is wanted"),
    ({"follow_primary": True, "probe_interval": None}, "follow_primary=True needs the prober"),
    ({"pure_functions": 5}, r"pure_functions=5"),
    ({"pure_functions": [5]}, r"pure_functions"),
    ({"pure_functions": ["f()"]}, r"pure_functions.*f\(\)"),
    ({"pure_functions": ["GET_LOCK"]}, r"pure_functions.*GET_LOCK"),
    ({"replicas": "r1:3306"}, r"replicas='r1:3306': a list"),
    ({"replicas": "r"}, r"replicas='r': a list .*in a URL it is written as replica=host"),
    ({"replicas": {"host": "r1"}}, r"replicas=<dict>: a list"),
    ({"replicas": None}, r"replicas=None"),
    ({"replicas": [5]}, r"replicas\[0\]=5"),
    ({"replicas": [{}]}, r"replicas\[0\].*host"),
    ({"replicas": [{"host": "r1"}, {"hots": "r2"}]}, r"replicas\[1\].*'hots'.*did you mean 'host'"),
    ({"replicas": [{"host": "r1", "wieght": 2}]}, r"'wieght'.*did you mean 'weight'"),
    ({"replicas": [{"host": "r1", "weight": -1}]}, r"weight=-1.*0 to 100"),
    ({"replicas": [{"host": "r1", "weight": 1.5}]}, r"weight=1.5"),
    ({"replicas": [{"host": "r1", "weight": True}]}, r"weight=True"),
    ({"replicas": [{"host": "r1", "weight": 101}]}, r"weight=101"),
    ({"replicas": [{"host": "r1", "name": "primary"}]}, r"name='primary'"),
    ({"replicas": [{"host": "r1", "name": ""}]}, r"name=''"),
    ({"replicas": [{"host": "a", "name": "x"}, {"host": "b", "name": "x"}]}, r"two are called 'x'"),
    ({"replicas": [{"host": "r1"}, {"host": "R1."}]}, r"one endpoint, r1:3306"),
    ({"replicas": [{"host": "127.0.0.1"}, {"host": "localhost"}]}, r"one endpoint"),
    ({"replicas": [{"host": "r1"}, {"host": "r1", "port": 3306}]}, r"one endpoint"),
    ({"replicas": [{"unix_socket": "/s"}, {"unix_socket": "/s"}]}, r"one endpoint, /s"),
    ({"replicas": [{"host": "r1", "unix_socket": "/s"}]}, r"not both"),
    ({"replicas": ["r1:port"]}, r"'host:port'"),
    ({"replicas": [{"name": "x", "weight": 2}]}, r"where the replica is"),
    # As with Vitess. It would count as the primary, and so as current.
    ({"replicas": [{"database": "app@replica"}]}, r"'p:3306' has the primary's address .* 'app@replica'"),
    ({"replicas": [{"name": "x", "host": "p", "db": "app@replica"}]}, r"'x' has the primary's address"),
]


@pytest.mark.parametrize("cls", [ReplicatedDatabase, PooledReplicatedDatabase])
@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=_short)
def test_a_wrong_argument_is_refused_at_construction(
    cls: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        cls("app", **{"host": "p", "replicas": [{"host": "r1"}], **arguments})


@pytest.mark.parametrize("cls", [ReplicatedDatabase, PooledReplicatedDatabase])
@pytest.mark.parametrize("way", ["at_construction", "in_init"])
@pytest.mark.parametrize(
    ("database", "message"),
    [
        (
            "mysql://app:hidden@p/app",
            r"database: a name is wanted, not a URL; playhouse\.db_url\.connect\(\)",
        ),
        ("mysql+replicas://app:hidden@p/app?replica=r", r"database: a name is wanted, not a URL"),
        (5, r"database=5: a database's name is wanted"),
    ],
)
def test_a_database_is_a_name(cls: Any, way: str, database: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        if way == "in_init":
            cls(None).init(database)
        else:
            cls(database)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("cls", [ReplicatedDatabase, PooledReplicatedDatabase])
def test_a_host_by_position_is_refused(cls: Any) -> None:
    """peewee takes it for another argument, and the driver connects to localhost."""
    with pytest.raises(ConfigurationError, match=r"give what follows it by name, such as host=…") as raised:
        cls("app", "hidden.db", "app", "hidden")
    assert "hidden" not in str(raised.value)


def test_what_peewee_takes_by_position_is_taken() -> None:
    assert not isinstance(ReplicatedDatabase("app", False)._state, threading.local)
    assert PooledReplicatedDatabase("app", 3)._max_connections == 3
    assert PooledReplicatedDatabase("app", "3", "40")._stale_timeout == 40  # as from the environment


@pytest.mark.parametrize("cls", [ReplicatedDatabase, PooledReplicatedDatabase])
@pytest.mark.parametrize("name", ["app", "", "my-app", "a b", "a/b:c", "münze", "`", "50%", b"app", None])
def test_any_text_but_a_url_is_a_databases_name(cls: Any, name: Any) -> None:
    assert cls(name, replicas=[{"host": "r", "database": name}]).database == name


def _adding(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args, "zone")

    return call


class _First:
    def __call__(self, replicas: Any, more: Any = None) -> Any:
        return replicas[0]

    def pick(self, replicas: Any) -> Any:
        return replicas[0]


@pytest.mark.parametrize(
    "policy",
    [
        lambda replicas, *, zone="a": replicas[0],
        lambda *args: args[0][0],
        functools.partial(lambda zone, replicas: replicas[0], "a"),
        functools.cache(lambda replicas: replicas[0]),
        _adding(lambda replicas, zone: replicas[0]),
        functools.partial(_adding(lambda replicas, zone: replicas[0])),
        _First(),
        _First,
        _First().pick,
        random.choice,
        max,
        operator.itemgetter(0),
        mock.create_autospec(_First().pick, side_effect=lambda replicas: replicas[0]),
    ],
    ids=_short,
)
def test_a_policy_that_can_be_called_with_the_replicas_is_taken(policy: Any) -> None:
    make(policy=policy)
    make(policy=Nearest("a", then=policy))


class _Passing:
    """A policy around another one, such as one that counts its calls."""

    def __init__(self, policy: Any) -> None:
        self.policy, self.called = policy, False

    def __call__(self, replicas: Any) -> Any:
        self.called = True
        return self.policy(replicas)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)


@pytest.mark.parametrize(
    "policy",
    [_Passing(RoundRobin()), mock.Mock(wraps=RoundRobin()), mock.MagicMock(wraps=RoundRobin())],
    ids=_short,
)
def test_a_policy_that_passes_attributes_on_is_asked_itself(policy: Any) -> None:
    db = make(policy=policy, replicas=["r1", "r2"])
    assert db._parts.router.settings.policy is policy
    assert db.explain_route("SELECT 1").node is None  # a policy with a `peek()` of its own would tell
    assert not policy.called
    nearest = make(policy=Nearest("a", then=policy))._parts.router.settings.policy
    assert nearest.then is policy


@pytest.mark.parametrize(
    "replicas",
    [
        list,
        lambda *, zone="a": [],
        lambda db: [],
        lambda db=None: [],
        functools.partial(lambda zone: [], zone="a"),
        functools.lru_cache(lambda: []),
        _adding(lambda zone: []),
        _adding(lambda db, zone: []),
        mock.Mock(return_value=[]),
        mock.MagicMock(return_value=[]),
    ],
    ids=_short,
)
def test_a_callable_that_can_name_the_replicas_is_taken(replicas: Any) -> None:
    make(replicas=replicas)


WRONG_SIZES: list[Any] = [
    ("max_connections", "many"),
    ("max_connections", -1),
    ("max_connections", True),
    ("stale_timeout", "x"),
    ("timeout", [1]),
    ("timeout", float("nan")),
]


def at_construction(name: str, value: Any) -> None:
    PooledReplicatedDatabase("app", **{name: value})


def in_init(name: str, value: Any) -> None:
    PooledReplicatedDatabase(None).init("app", **{name: value})


def in_a_url(name: str, value: Any) -> None:
    db_url.connect("mysql+replicas+pool://p/app", **{name: value})


@pytest.mark.parametrize("way", [at_construction, in_init, in_a_url])
@pytest.mark.parametrize(("name", "value"), WRONG_SIZES)
def test_a_wrong_size_of_the_pool_is_refused(way: Any, name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}=.*a number is wanted, 0 or more, or None"):
        way(name, value)


@pytest.mark.parametrize("value", [None, 0, 3, 2.5, "3"])
def test_the_pool_takes_what_peewees_pool_takes(value: Any) -> None:
    PooledReplicatedDatabase("app", max_connections=value, stale_timeout=value, timeout=value)


def scope_of_a_proxy(database: ReplicatedDatabase) -> Any:
    proxy = ReplicatedDatabaseProxy()
    proxy.initialize(database)
    return proxy.readonly


WRONG_SCOPES: list[Any] = [
    ({"consistency": "evntual"}, r"consistency='evntual': allowed are .*did you mean 'eventual'"),
    ({"consistency": ["session"]}, r"consistency=<list>: allowed are"),
    ({"max_lag": "3"}, r"max_lag='3': a number of seconds"),
    ({"max_lag": 0}, r"max_lag=0: a number of seconds above 0"),
    ({"max_lag": True}, r"max_lag=True"),
    ({"snapshot": "no"}, r"snapshot='no': allowed are True and False"),
    ({"snapshot": None}, r"snapshot=None: allowed are True and False"),
]


@pytest.mark.parametrize("scope", [lambda database: database.readonly, scope_of_a_proxy])
@pytest.mark.parametrize(("arguments", "message"), WRONG_SCOPES, ids=str)
def test_a_wrong_argument_of_a_scope_is_refused_where_it_is_written(
    scope: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        scope(make())(**arguments)


def test_a_proxy_refuses_them_before_it_has_a_database() -> None:
    with pytest.raises(ConfigurationError, match="consistency='sesion'"):

        @ReplicatedDatabaseProxy().readonly(consistency="sesion")  # type: ignore[arg-type]
        def read() -> None: ...


def test_the_error_is_one_of_peewees_and_a_value_error() -> None:
    assert issubclass(ConfigurationError, peewee.ImproperlyConfigured)
    assert issubclass(ConfigurationError, ValueError)


def test_a_replica_at_the_primarys_address_has_its_database() -> None:
    other: Any = [{"host": "p", "database": "app@replica"}]
    same: Any = [{"host": "p", "database": "app"}]
    database = make(replicas=same)
    with pytest.raises(ConfigurationError, match="another database"):
        database.set_replicas(other)
    assert [one.name for one in database.replicas] == ["p:3306"]
    deferred: Any = ReplicatedDatabase(None, host="p", replicas=same)
    with pytest.raises(ConfigurationError, match="another database"):
        deferred.init("shop", host="p")
    deferred.init("app", host="p")
    assert make(replicas=[{"host": "r", "database": "app@replica"}]).replicas


@pytest.mark.parametrize(
    "policy", ["round-robin", "random", "least-busy", RoundRobin, LeastBusy(), lambda replicas: replicas[0]]
)
def test_policies_by_name_class_object_or_callable(policy: Any) -> None:
    assert [replica.name for replica in make(policy=policy).replicas] == ["r1:3306"]


def test_replicas_in_every_form() -> None:
    database = make(
        port=3307,
        replicas=[
            {"host": "r1", "name": "one", "weight": 3},
            "r2",
            "r3:3310",
            {"unix_socket": "/run/r4"},
            "mysql://user:secret@r5:3311/other",
        ],
    )
    assert [replica.address for replica in database.replicas] == [
        "r1:3307", "r2:3307", "r3:3310", "/run/r4", "r5:3311",
    ]  # fmt: skip
    assert database.replicas[0].name == "one"
    assert [replica.weight for replica in database.replicas] == [3, 1, 1, 1, 1]
    assert [replica.state for replica in database.replicas] == ["up"] * 5


def test_the_primary_may_be_listed_once() -> None:
    database = make(replicas=[{"host": "p"}, {"host": "r1"}])
    assert [replica.is_primary for replica in database.replicas] == [True, False]


def test_no_argument_of_ours_reaches_the_driver() -> None:
    given = {
        "policy": "random",
        "reads": "primary",
        "fallback": "error",
        "readonly_in_transaction": "join",
        "pure_functions": ["f"],
    }
    database = make(**given)
    assert set(given) | {"replicas"} <= set(OWN_ARGUMENTS)
    assert not set(OWN_ARGUMENTS) & set(database.connect_params)


@pytest.mark.parametrize("wrong", [{"reads": "both"}, {"pure_functions": ["f()"]}, {"replicas": ["a", "a"]}])
def test_init_that_is_refused_changes_nothing(wrong: dict[str, Any]) -> None:
    database = make()
    before = database.replicas
    with pytest.raises(ConfigurationError):
        database.init("other", **{"replicas": [{"host": "r9"}], "user": "someone", **wrong})
    assert database.replicas == before
    assert database.database == "app"
    assert "user" not in database.connect_params


def test_deferred_init_takes_the_arguments_too() -> None:
    database = ReplicatedDatabase(None, policy="random")
    with pytest.raises(ConfigurationError, match="reads"):
        database.init("app", host="p", replicas=["r1"], reads="both")
    database.init("app", host="p", replicas=["r1", "r2"])
    assert [replica.name for replica in database.replicas] == ["r1:3306", "r2:3306"]


def test_a_password_is_in_no_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigurationError) as raised:
        make(password="hidden-one", replicas=[{"host": "r1", "password": "hidden-two", "weight": -1}])
    assert "hidden" not in str(raised.value)
    assert "hidden" not in caplog.text
    database = make(password="hidden-one", replicas=[{"host": "r1", "password": "hidden-two"}])
    assert "hidden" not in repr(database.replicas)


@pytest.mark.lesson(33)
def test_a_replicas_own_settings_win_over_the_primarys() -> None:
    primary = {"host": "p", "port": 1, "user": "u", "password": "a", "charset": "utf8mb4"}
    assert overlay(primary, {"host": "r", "password": "b"}) == {
        "host": "r", "port": 1, "user": "u", "password": "b", "charset": "utf8mb4",
    }  # fmt: skip


def test_host_and_socket_are_one_group() -> None:
    assert overlay({"unix_socket": "/p", "user": "u"}, {"host": "r"}) == {"host": "r", "user": "u"}
    assert overlay({"host": "p", "port": 1}, {"unix_socket": "/r"}) == {"unix_socket": "/r"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"host": "A.example"}, {"host": "a.example."}),
        ({"host": "a"}, {"host": "a", "port": 3306}),
        ({}, {"host": "localhost"}),
        ({"host": "127.0.0.1"}, {"host": "::1"}),
        ({"unix_socket": "/s", "port": 1}, {"unix_socket": "/s"}),
    ],
)
def test_equal_endpoints_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert endpoint(one) == endpoint(other)


def test_other_ports_are_other_endpoints() -> None:
    assert endpoint({"host": "a", "port": 1}) != endpoint({"host": "a", "port": 2})
