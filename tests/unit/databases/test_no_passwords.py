"""No password of a configuration is in any message, log record, event or repr.

Where a password can be given was listed from what `node_specs`, the constructors and `playhouse.db_url` take:
``password`` and ``passwd`` of the primary, a replica's dict, a replica's URL, the query of either URL, and a
text that was meant to be one of these and is not. A marker stands in each, beside each kind of mistake for
which `ConfigurationError` is raised. What servers say is in `tests/servers/execution/test_no_values.py`.
"""

from __future__ import annotations

import inspect
import logging
import traceback
from typing import Any

import pymysql
import pytest
from peewee import IntegrityError, MySQLDatabase, OperationalError
from playhouse import db_url
from support.peewees import AsyncReplicatedDatabase

from peewee_replicas import (
    ConfigurationError,
    PooledReplicatedDatabase,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
    ReplicatedSqliteDatabase,
    RouteEvent,
)
from peewee_replicas.connections.diagnosis import named
from peewee_replicas.events import NodeNews, tell_of_route
from peewee_replicas.ext.wsgi import CausalSessionMiddleware
from peewee_replicas.nodes.spec import NodeSpec
from peewee_replicas.servers.error_meanings import in_words

MARKER = "hunter2"
CLASSES = [ReplicatedDatabase, PooledReplicatedDatabase, AsyncReplicatedDatabase]

# Older releases of PyMySQL have no such parameter.
KEY_PASSWORD = "ssl_key_password" in inspect.signature(pymysql.connections.Connection.__init__).parameters

# What may stand in `replicas`, and hold a password.
REPLICAS: list[Any] = [
    {"host": "r1", "password": MARKER},
    {"host": "r1", "passwd": MARKER},
    f"mysql://app:{MARKER}@r1/app",
    f"mysql://app@r1/app?password={MARKER}",
    *([f"mysql://app@r1/app?ssl_key_password={MARKER}"] if KEY_PASSWORD else []),
]
# The same, with a mistake in it.
WRONG_REPLICAS: list[Any] = [
    f"app:{MARKER}@r1",
    f"app:{MARKER}@r1:3306",
    f"app@r1?password={MARKER}",
    f"//app:{MARKER}@r1/app",
    f"postgres://app:{MARKER}@r1/app",
    f"mysql://app:{MARKER}/x@r1/app",
    f"mysql://app:1/{MARKER}@r1/app",
    f"mysql://app:1#{MARKER}@r1/app",
    f"mysql://app:{MARKER}#x@r1/app",
    f"mysql://app:{MARKER}?x@r1/app",
    f"mysql://app:{MARKER}]@r1/app",
    f"mysql://app:{MARKER}@r1:port/app",
    f"mysql://app:{MARKER}@r1,r2/app",
    f"mysql://app:{MARKER}@r1/app?polcy=random",
    f"mysql://app:{MARKER}@r1/app?port=x",
    {"host": f"mysql://app:{MARKER}@r1/app"},
    {"host": f"app:{MARKER}@r1"},
    {"host": [MARKER]},
    {"host": "r1", "port": f"mysql://{MARKER}@r"},
    {"host": "r1", "pasword": MARKER},
    {"host": "r1", "weight": {"password": MARKER}},
    {"host": "r1", "name": {"password": MARKER}},
    {"host": "r1", "unix_socket": "/s", "password": MARKER},
    [("host", "r1"), ("password", MARKER)],
    (MARKER,),
    MARKER.encode(),
]
WRONG: list[dict[str, Any]] = [
    *({"replicas": [replica]} for replica in WRONG_REPLICAS),
    *({"replicas": [replica, replica]} for replica in REPLICAS),
    *({"replicas": replica} for replica in [*REPLICAS, MARKER.encode(), f"app:{MARKER}@r1"]),
    *({"replicas": [replica], "consistency": "sesion"} for replica in REPLICAS),
    *({"replica": [replica]} for replica in REPLICAS),
    {"pasword": MARKER},
    {"host": f"mysql://app:{MARKER}@p"},
    {"host": f"app:{MARKER}@p"},
    {"port": f"app:{MARKER}@p"},
    *(
        {name: value}
        for name in (
            "policy", "reads", "fallback", "spread", "readonly_in_transaction", "consistency", "max_lag",
            "catch_up_timeout", "max_fallback_share", "on_transaction_escape", "probe_interval",
            "heartbeat_table", "follow_primary", "refresh",
        )
        for value in ({"password": MARKER}, f"mysql://app:{MARKER}@p/app", [MARKER])
    ),
    {"pure_functions": [f"CALL p('{MARKER}')"]},
    {"pure_functions": [{"password": MARKER}]},
]  # fmt: skip


def shown_id(value: object) -> str:
    return str(value).replace(MARKER, "MARKER")[:70]


def told(exc: BaseException) -> str:
    """All that a program's log would show of an error, the errors behind it included."""
    return "".join(traceback.format_exception(None, exc, None)) + repr(exc)


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG)
    yield
    formatter = logging.Formatter()  # shows the errors, too
    # peewee's own logger shows statements with their parameters, as without this library.
    records = [record for record in caplog.get_records("call") if record.name != "peewee"]
    assert MARKER not in "".join(formatter.format(record) for record in records)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("given", WRONG, ids=shown_id)
def test_a_refused_argument_shows_no_password(cls: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        cls("app", **{"host": "p", "user": "app", "password": MARKER, **given})
    assert MARKER not in told(raised.value)
    database = cls(None)
    with pytest.raises(ConfigurationError) as raised:
        database.init("app", **{"host": "p", "password": MARKER, **given})
    assert MARKER not in told(raised.value)


@pytest.mark.parametrize("replica", WRONG_REPLICAS, ids=shown_id)
def test_set_replicas_shows_no_password(replica: Any) -> None:
    database = ReplicatedDatabase("app", host="p", password=MARKER, replicas=["r0"])
    with pytest.raises(ConfigurationError) as raised:
        database.set_replicas([replica])
    assert MARKER not in told(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        f"mysql+replicas://app:{MARKER}@p/app?polcy=random",
        f"mysql+replicas://app:{MARKER}@p/app?reads=nowhere",
        f"mysql+replicas://app:{MARKER}@p/app?replica=r1,r2",
        f"mysql+replicas://app:{MARKER}@p/app?replicas=mysql://app:{MARKER}@r1",
        f"mysql+replicas://app:{MARKER}@p/app?replica=postgres://app:{MARKER}@r1",
        f"mysql+replicas://app:{MARKER}@p/app?replica=app:{MARKER}@r1",
        f"mysql+replicas://app@p/app?pasword={MARKER}",
        f"mysql+replicas://app@p/app?password={MARKER}&port=x",
        f"mysql+replicas://app:{MARKER}/x@p/app",
        f"mysql+replicas://app:1/{MARKER}@p/app",
        f"mysql+replicas://app:1#{MARKER}@p/app",
        f"mysql+replicas://app:{MARKER}@p:port/app",
        f"mysql+replicas+pool://app:{MARKER}@p:port/app",
        f"sqlite+replicas:///:memory:?key={MARKER}",
    ],
)
def test_a_refused_url_shows_no_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        db_url.connect(url)
    assert MARKER not in told(raised.value)


@pytest.mark.parametrize("cls", CLASSES)
def test_no_repr_shows_a_password(cls: Any) -> None:
    replicas: list[Any] = []
    for number, replica in enumerate(REPLICAS):
        if isinstance(replica, dict):
            replicas.append({**replica, "host": f"host-{number}"})
        elif "ssl_key" not in replica or cls is not AsyncReplicatedDatabase:
            replicas.append(replica.replace("@r1", f"@host-{number}"))
    database = cls("app", host="p", password=MARKER, replicas=replicas)
    parts = database._parts
    own = [replica.name for replica in database.replicas]
    database.set_primary(own[0])
    database.set_primary(own[1])  # now what nodes inherit is kept beside the present parameters
    nodes = parts.cluster.nodes()
    objects = [
        database, database.on_primary, database.replicas, database.stats(), database.readonly(), parts,
        database.explain_route("SELECT 1"), parts.cluster, parts.router, parts.router.settings, *nodes,
        parts.cluster.moved, *vars(parts.cluster).values(),
        *(node.handle for node in nodes),
    ]  # fmt: skip
    for each in objects:
        assert MARKER not in repr(each) + str(each)
    assert MARKER not in repr(NodeSpec("x", 1, {"host": "r", "password": MARKER}))


@pytest.mark.parametrize("wrong", [f"mysql://app:{MARKER}@p/app", MySQLDatabase("app", password=MARKER)])
def test_what_is_no_database_of_ours_is_not_shown(wrong: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ReplicatedDatabaseProxy().initialize(wrong)
    assert MARKER not in told(raised.value)
    with pytest.raises(ConfigurationError) as raised:
        CausalSessionMiddleware(lambda *_: [], wrong, secret=MARKER * 3)
    assert MARKER not in told(raised.value)
    with pytest.raises(ConfigurationError) as raised:
        CausalSessionMiddleware(lambda *_: [], ReplicatedDatabase("app"), secret=MARKER)  # too short
    assert MARKER not in told(raised.value)


def test_a_policy_that_returns_something_else_is_not_shown() -> None:
    database = ReplicatedDatabase("app", host="p", replicas=["r"], policy=lambda _: {"password": MARKER})
    with pytest.raises(ConfigurationError, match="none of the replicas") as raised:
        database._parts.router.choice.choose(scoped=False)
    assert MARKER not in told(raised.value)


def test_a_scope_around_what_is_no_function_does_not_show_it() -> None:
    with pytest.raises(TypeError) as raised:
        ReplicatedDatabase("app").readonly()({"password": MARKER})  # type: ignore[type-var]
    assert MARKER not in told(raised.value)


# Values, as far as no server is needed


EVENT = RouteEvent("app", f"CALL p('{MARKER}')", "primary", "primary", "write", "", 1, None, 0.1, None)


def test_the_repr_of_an_event_shows_its_statement_without_values() -> None:
    assert repr(EVENT).startswith("RouteEvent(database='app', sql='CALL p(?)', role='primary'")
    assert MARKER not in f"{EVENT}{EVENT!r}{[EVENT]}"
    assert EVENT.sql == f"CALL p('{MARKER}')"  # the program's own text, for the program


def test_a_hook_that_fails_is_logged_without_the_error_that_it_was_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: Any) -> None:
        try:
            raise KeyError("its own")
        except KeyError:
            raise ValueError("the hook's")  # noqa: B904  # the point

    news = NodeNews()
    news.hooks.append(fail)
    try:
        raise IntegrityError(1062, f"Duplicate entry '{MARKER}'")
    except IntegrityError:
        tell_of_route([fail], EVENT)
        news.tell(type("Node", (), {"name": "r"})(), "down", "")
    assert caplog.text.count("ValueError: the hook's") == 2
    assert caplog.text.count("KeyError: 'its own'") == 2  # what led to it within the hook stays


DUPLICATE = IntegrityError(1062, f"Duplicate entry '{MARKER}' for key 'x'")
DENIED = OperationalError(1045, "Access denied for user 'app'")
LOST = OperationalError(2013, "Lost connection")


@pytest.mark.parametrize(
    ("exc", "event", "log"),
    [
        (DUPLICATE, "IntegrityError: 1062 DUP_ENTRY", "IntegrityError: 1062"),
        (OperationalError(1644, MARKER), "OperationalError: 1644", "OperationalError: 1644"),
        (OperationalError(30001, MARKER), "OperationalError: 30001", "OperationalError: 30001"),
        (DENIED, "OperationalError: 1045 ACCESS_DENIED_ERROR", f"OperationalError: {DENIED}"),
        (LOST, f"OperationalError: {LOST}", f"OperationalError: {LOST}"),
        (ConfigurationError("ours"), "ConfigurationError: ours", "ConfigurationError: ours"),
        (ValueError(f"invalid literal for int(): '{MARKER}'"), "ValueError", None),
    ],
)
def test_an_error_is_told_without_the_servers_words_for_a_statement(
    exc: Exception, event: str, log: str | None
) -> None:
    assert named(exc) == event
    if log is not None:
        assert in_words(exc) == log


def test_sqlites_words_for_a_statement_are_not_told(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    database = ReplicatedSqliteDatabase(str(tmp_path / "file.db"))
    database.execute_sql("CREATE TABLE t (name TEXT UNIQUE, CHECK (name <> 'x'))")
    database.execute_sql("CREATE TABLE s (name TEXT)")
    database.execute_sql(
        "CREATE TRIGGER g BEFORE INSERT ON s BEGIN SELECT RAISE(ABORT, 'no hunter2 here'); END"
    )
    events: list[RouteEvent] = []
    database.route_hooks.append(events.append)
    database.execute_sql("INSERT INTO t VALUES (?)", (MARKER,))
    for sql, params in [
        ("INSERT INTO t VALUES (?)", (MARKER,)),
        (f"SELECT * FROM t WHERE name = '{MARKER}", None),
        (f"SELECT '{MARKER}' '{MARKER}' '{MARKER}' FROM", None),
        (f"SELECT {MARKER} FROM t", None),
        (f"SELECT * FROM t WHERE [{MARKER}] = 1", None),
        ("INSERT INTO s VALUES (?)", (MARKER,)),
        ("SELECT ?", (object(),)),
    ]:
        with pytest.raises(Exception):  # noqa: B017, PT011  # whatever SQLite says of it
            database.execute_sql(sql, params).fetchall()
        event = events[-1]
        assert event.error
        assert MARKER not in "".join(str(value) for name, value in event._asdict().items() if name != "sql")
    database.close()
