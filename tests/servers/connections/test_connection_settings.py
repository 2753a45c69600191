"""The user's connection settings keep their meaning on every node; a replica's own win over the primary's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from peewee import OperationalError
from pymysql.converters import conversions
from pymysql.cursors import DictCursor, SSCursor, SSDictCursor
from support.databases.nodes import nodes_of
from support.databases.plain import PEOPLE, making, plain_database

from peewee_replicas import ConfigurationError, ReadOnlyViolation, ReplicatedDatabase
from peewee_replicas.servers.wire.connection import Connection
from peewee_replicas.testing import LocalCluster

ALL = "SELECT id, name, age FROM dropin_person ORDER BY id"


@pytest.fixture
def make(cluster: LocalCluster) -> Iterator[Callable[..., Any]]:
    with making(cluster) as make:
        yield make


def _everywhere(database: Any, sql: str) -> dict[str, Any]:
    """What a query gives on each node, on the connections the database uses."""
    found = {name: _rows_of(conn, sql) for name, conn in _connections(database).items()}
    assert sorted(found) == ["primary", "replica-1", "replica-2"]
    return found


def _connections(database: Any) -> dict[str, Any]:
    """The connections of all nodes, opened by the database itself."""
    for _ in range(4):
        database.execute_sql("SELECT 1").fetchall()
    with database.primary():
        database.execute_sql("SELECT 1").fetchall()
    return {
        "primary": database._state.conn,
        **{node.node.name: node.conn for node in database._parts.replicas.opened()},
    }


def _rows_of(conn: Any, sql: str) -> list[Any]:
    # As the owner of the connection sends the user's statements.
    conn.executing = "read"
    try:
        with conn.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())
    finally:
        conn.executing = ""


def _refuses_writes(conn: Any) -> bool:
    with pytest.raises(pymysql.err.MySQLError) as raised:
        _rows_of(conn, "DELETE FROM dropin_person")
    return raised.value.args[0] in (1290, 1792)


def _same(database: Any, sql: str) -> Any:
    values = list(_everywhere(database, sql).values())
    assert values[0] == values[1] == values[2]
    return values[0]


# The driver's arguments


def test_init_command_runs_on_every_node_and_is_no_session_state(make: Any) -> None:
    database = make(init_command="SET @greeting = 'hello', SESSION group_concat_max_len = 4321")
    assert _same(database, "SELECT @greeting, @@group_concat_max_len") == [("hello", 4321)]
    assert database.explain_route("SELECT 1").role == "replica"


def test_init_command_meets_the_session_that_pymysql_would_give_it(make: Any, cluster: LocalCluster) -> None:
    """It may ask what it likes; our own settings are neither before it nor lost to it."""
    command = "SET @tracked = @@session_track_state_change, @guarded = @@tx_read_only"
    if cluster.server == "mysql":
        command = command.replace("tx_read_only", "transaction_read_only")
    database = make(init_command=command)
    with plain_database(cluster, init_command=command) as plain:
        expected = list(plain.execute_sql("SELECT @tracked, @guarded").fetchall())
    assert _same(database, "SELECT @tracked, @guarded") == expected
    assert all(_refuses_writes(node.conn) for node in database._parts.replicas.opened())


def test_init_command_of_a_write_transaction_mode_does_not_lift_the_guard(make: Any) -> None:
    database = make(init_command="SET SESSION TRANSACTION READ WRITE")
    connections = _connections(database)
    assert _refuses_writes(connections["replica-1"])
    assert _refuses_writes(connections["replica-2"])


def test_init_command_that_fails_is_the_users_error(make: Any, cluster: LocalCluster) -> None:
    found = []
    for database in (plain_database(cluster, init_command="SELECT nope"), make(init_command="SELECT nope")):
        with pytest.raises(OperationalError) as raised:
            database.connect()
        found.append(raised.value.args)
    assert found[0] == found[1]


def test_sql_mode_holds_everywhere(make: Any, cluster: LocalCluster) -> None:
    database = make(sql_mode="ANSI_QUOTES,NO_BACKSLASH_ESCAPES")
    assert _same(database, """SELECT @@sql_mode, "name", 'a\\' FROM dropin_person WHERE "id" = 1""") == [
        ("ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "ada", "a\\")
    ]
    assert database.execute_sql("SELECT %s", ("a\\'b",)).fetchall() == (("a\\'b",),)


def test_sql_mode_as_a_class_attribute(make: Any) -> None:
    class Pipes(ReplicatedDatabase):
        sql_mode = "PIPES_AS_CONCAT"

    assert _same(make(Pipes), "SELECT @@sql_mode, 'a' || 'b'") == [("PIPES_AS_CONCAT", "ab")]


def test_converters_charset_and_client_flags_hold_everywhere(make: Any) -> None:
    own = {**conversions, pymysql.constants.FIELD_TYPE.LONGLONG: lambda text: f"<{text}>"}
    database = make(conv=own, charset="latin1", client_flag=pymysql.constants.CLIENT.FOUND_ROWS)
    assert _same(database, "SELECT COUNT(*), @@character_set_client FROM dropin_person") == [
        ("<3>", "latin1")
    ]
    with database.primary():  # FOUND_ROWS: rows matched count, not only those changed
        assert database.execute_sql("UPDATE dropin_person SET age = 36 WHERE id = 1").rowcount == 1


def test_collation_holds_everywhere(make: Any) -> None:
    database = make(charset="utf8mb4", collation="utf8mb4_unicode_ci")
    assert _same(database, "SELECT @@collation_connection, 'ß' = 'ss'") == [("utf8mb4_unicode_ci", 1)]


@pytest.mark.parametrize("where", ["primary", "replica"])
def test_read_timeout_holds(make: Any, where: str) -> None:
    database = make(read_timeout=1, fallback="error")
    assert {conn._read_timeout for conn in _connections(database).values()} == {1}
    with (
        pytest.raises(OperationalError) as raised,
        getattr(database, "primary" if where == "primary" else "readonly")(),
    ):
        database.execute_sql("SELECT SLEEP(20)")
    assert raised.value.args[0] == 2013


def test_no_read_timeout_stays_none(make: Any) -> None:
    for options in ({}, {"connect_timeout": 1}):
        connections = _connections(make(**options)).values()
        assert {(conn._read_timeout, conn._sock.gettimeout()) for conn in connections} == {(None, None)}


# Cursors


def _rows(cursor_class: Any) -> list[Any]:
    if issubclass(cursor_class, pymysql.cursors.DictCursorMixin):
        return [dict(zip(("id", "name", "age"), row, strict=True)) for row in PEOPLE]
    return list(PEOPLE)


@pytest.mark.parametrize("cursor_class", [DictCursor, SSCursor, SSDictCursor])
def test_cursorclass_keeps_its_meaning(make: Any, cluster: LocalCluster, cursor_class: Any) -> None:
    database = make(cursorclass=cursor_class)
    assert _same(database, ALL) == _rows(cursor_class)
    assert list(plain_database(cluster, cursorclass=cursor_class).execute_sql(ALL)) == _rows(cursor_class)
    with database.readonly():
        assert list(database.execute_sql(ALL)) == _rows(cursor_class)
        assert list(database.execute_sql("SHOW TABLES LIKE 'dropin\\_person'"))
        with pytest.raises(ReadOnlyViolation):
            database.execute_sql("DELETE FROM dropin_person")
    with database.atomic():
        assert list(database.execute_sql(ALL)) == _rows(cursor_class)


@pytest.mark.parametrize("cursor_class", [SSCursor, SSDictCursor])
def test_unfinished_cursors_of_several_nodes_do_not_disturb_each_other(make: Any, cursor_class: Any) -> None:
    database = make(cursorclass=cursor_class)
    first, second = database.execute_sql(ALL), database.execute_sql(ALL)  # one on each replica
    seen = [first.fetchone(), second.fetchone()]
    with database.primary():
        third = database.execute_sql(ALL)
    seen.append(third.fetchone())
    assert seen == _rows(cursor_class)[:1] * 3
    for cursor in (third, second, first):
        assert list(cursor) == _rows(cursor_class)[1:]


def test_unfinished_cursor_survives_everything_of_our_own(make: Any) -> None:
    """Asking for routes, state, usability and statistics sends nothing on the connection it reads from."""
    database = make(cursorclass=SSCursor, replicas=[])
    cursor = database.execute_sql(ALL)
    assert cursor.fetchone() == PEOPLE[0]
    database.explain_route("SELECT 1")
    database.stats()
    assert not database.is_closed()
    assert not database.in_transaction()
    assert list(cursor) == PEOPLE[1:]


def test_unfinished_cursor_survives_the_guard_around_it(make: Any) -> None:
    """Inside readonly(), a query on a primary that carries session state is guarded for itself alone."""
    database = make(cursorclass=SSCursor)
    database.execute_sql("SET @state = 1")
    with database.readonly():
        assert database.explain_route("SHOW COLUMNS FROM dropin_person").node == "primary"
        cursor = database.execute_sql("SHOW COLUMNS FROM dropin_person")
        assert [row[0] for row in cursor] == ["id", "name", "age"]
    database.execute_sql("UPDATE dropin_person SET age = age")


# TLS


def test_tls_is_used_where_the_server_has_it(make: Any, cluster: LocalCluster) -> None:
    status = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"
    expected = list(plain_database(cluster).execute_sql(status))
    found = _everywhere(make(), status)
    assert {bool(rows[0][1]) for rows in found.values()} == {bool(expected[0][1])}
    if pymysql.VERSION[:2] >= (1, 2):  # before that the driver used TLS only where it was asked to
        assert bool(expected[0][1]) == (cluster.server == "mysql")


@pytest.mark.parametrize("options", [{"ssl": {"verify_mode": "none"}}, {"ssl": {"x": 1}}])
def test_required_tls_is_required_on_every_node(make: Any, cluster: LocalCluster, options: Any) -> None:
    database = make(**options)
    if cluster.server == "mysql":
        found = _everywhere(database, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        assert all(rows[0][1] for rows in found.values())
        return
    outcomes = []
    for one in (plain_database(cluster, **options), database):
        try:
            one.connect()
            outcomes.append(())  # as PyMySQL 1.1, which goes on without TLS
            one.close()
        except OperationalError as exc:
            outcomes.append(exc.args)
    assert outcomes[0][:1] == outcomes[1][:1]  # ours names each node in its words
    assert outcomes[0] or pymysql.VERSION[:2] < (1, 2)


def test_ssl_disabled_holds_on_every_node(make: Any) -> None:
    found = _everywhere(make(ssl_disabled=True), "SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    assert {rows[0][1] for rows in found.values()} == {""}


# Differences between nodes


def test_differences_between_nodes_are_said_once(make: Any, cluster: LocalCluster, caplog: Any) -> None:
    where = [{"name": node.name, "host": node.host, "port": node.port} for node in cluster.replicas]
    where[1]["init_command"] = "SET time_zone = '+05:00', sql_mode = 'ANSI'"
    caplog.set_level(logging.WARNING, "peewee.replicas")
    database = make(replicas=where)
    for _ in range(3):
        with database.connection_context():
            _everywhere(database, "SELECT 1")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert sorted(text.split()[0] for text in said) == ["sql_mode", "time_zone"]
    assert all("replica-2" in text and "'+05:00'" in text for text in said if text.startswith("time_zone"))


def test_a_different_isolation_level_is_said(make: Any, cluster: LocalCluster, caplog: Any) -> None:
    where = [{"name": node.name, "host": node.host, "port": node.port} for node in cluster.replicas]
    where[1]["init_command"] = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
    _everywhere(make(replicas=where), "SELECT 1")
    said = [record.getMessage() for record in caplog.records if "isolation" in record.getMessage()]
    assert len(said) == 1
    assert "'READ-COMMITTED'" in said[0]


def test_equal_nodes_are_not_said_to_differ(make: Any, caplog: Any) -> None:
    _everywhere(make(), "SELECT 1")
    # At its most talkative, peewee's logger has every statement.
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# Replicas' own settings


@pytest.mark.lesson(33)
def test_user_password_and_database_of_a_replica_win(make: Any, cluster: LocalCluster) -> None:
    cluster.primary.execute("CREATE DATABASE IF NOT EXISTS dropin_elsewhere")
    cluster.primary.execute("GRANT ALL ON dropin_elsewhere.* TO %s", (cluster.user,))
    cluster.sync()
    where: list[dict[str, Any]] = [{"name": n.name, "host": n.host, "port": n.port} for n in cluster.replicas]
    where[0].update(user=cluster.admin_user, passwd=cluster.password, db="dropin_elsewhere")
    found = _everywhere(make(replicas=where), "SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1), DATABASE()")
    usual = [(cluster.user, cluster.database_name)]
    assert found == {
        "primary": usual,
        "replica-1": [(cluster.admin_user, "dropin_elsewhere")],
        "replica-2": usual,
    }


def test_a_replica_by_host_does_not_inherit_the_primarys_socket(make: Any, cluster: LocalCluster) -> None:
    socket = cluster.primary.execute("SELECT @@socket")[0][0]
    database = make(unix_socket=socket)
    ports = _everywhere(database, "SELECT @@port")
    assert ports == {node.name: [(node.port,)] for node in cluster.nodes}


def test_a_replica_by_socket_does_not_inherit_the_primarys_host(make: Any, cluster: LocalCluster) -> None:
    where = [{"name": n.name, "unix_socket": n.execute("SELECT @@socket")[0][0]} for n in cluster.replicas]
    ports = _everywhere(make(replicas=where), "SELECT @@port")
    assert ports == {node.name: [(node.port,)] for node in cluster.nodes}


def test_the_primary_listed_as_a_replica_takes_part(make: Any, cluster: LocalCluster) -> None:
    where = [{"name": "too", "host": cluster.primary.host, "port": cluster.primary.port}]
    where.append({"name": "one", "host": cluster.replicas[0].host, "port": cluster.replicas[0].port})
    database = make(replicas=where)
    seen: list[Any] = []
    database.route_hooks.append(seen.append)
    for _ in range(4):
        database.execute_sql("SELECT 1")
    assert (
        sorted((event.role, event.node) for event in seen)
        == [("primary", "too")] * 2 + [("replica", "one")] * 2
    )
    # As a reader it has a connection of its own, under the guard.
    assert _refuses_writes(nodes_of(database)[0].database.conn)
    assert not isinstance(database._state.conn, Connection)


BAD_REPLICAS = {
    "misspelt key": ([{"hots": "r"}], "did you mean 'host'"),
    "same endpoint": ([{"host": "r"}, {"host": "R."}], "one endpoint"),
    "same endpoint by default port": (
        [{"host": "r"}, {"host": "r", "port": 3306, "name": "b"}],
        "one endpoint",
    ),
    "same name": ([{"host": "a", "name": "n"}, {"host": "b", "name": "n"}], "two are called 'n'"),
    "socket and host": ([{"host": "r", "unix_socket": "/s"}], "not both"),
    "nothing": ([{"name": "r"}], "says nothing about where"),
    "no list": ({"host": "r"}, "a list is wanted"),
    "weight": ([{"host": "r", "weight": -1}], "weight"),
    "name of the primary": ([{"host": "r", "name": "primary"}], "other than 'primary'"),
    "number": ([3], "a dict of connection parameters"),
}


@pytest.mark.parametrize("name", BAD_REPLICAS)
def test_replicas_that_cannot_work_are_refused(name: str) -> None:
    replicas, message = BAD_REPLICAS[name]
    with pytest.raises(ConfigurationError, match=message):
        ReplicatedDatabase("app", host="p", port=3306, replicas=replicas)
    database = ReplicatedDatabase(None)
    with pytest.raises(ConfigurationError, match=message):
        database.init("app", host="p", port=3306, replicas=replicas)
    assert database.deferred
