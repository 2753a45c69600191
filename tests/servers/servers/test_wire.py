"""Our connection against PyMySQL's own: the same results, the same packets, and what it hears besides."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.cursors import DictCursor, SSCursor, SSDictCursor

from peewee_replicas.servers.wire import connection as wire
from peewee_replicas.servers.wire import tls
from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.core


class WithoutEof(wire.Connection):
    """As to a server, or through a proxy, that does not know DEPRECATE_EOF."""

    masked = CLIENT.DEPRECATE_EOF

    def _get_server_information(self) -> None:
        super()._get_server_information()
        self.server_capabilities &= ~self.masked


class WithoutTrackers(WithoutEof):
    masked = CLIENT.SESSION_TRACK


class WithNeither(WithoutEof):
    masked = CLIENT.SESSION_TRACK | CLIENT.DEPRECATE_EOF


CONNECTIONS = [wire.Connection, WithoutEof, WithoutTrackers, WithNeither]


@pytest.fixture
def connect(cluster: LocalCluster) -> Iterator[Callable[..., Any]]:
    """Opens connections to the primary."""
    opened: list[Any] = []

    def one(connection_class: Any = wire.Connection, **options: Any) -> Any:
        parameters = {"autocommit": True, **cluster.parameters(cluster.primary), **options}
        opened.append(connection_class(**parameters))
        return opened[-1]

    yield one
    for conn in opened:
        if conn.open:
            conn.close()


@pytest.fixture(params=CONNECTIONS)
def pair(request: pytest.FixtureRequest, connect: Any) -> tuple[Any, Any]:
    """PyMySQL's connection, and ours with and without each capability."""
    conn = connect(request.param, local_infile=True)
    assert conn.without_eof == (not getattr(request.param, "masked", 0) & CLIENT.DEPRECATE_EOF)
    assert conn.tracks == (not getattr(request.param, "masked", 0) & CLIENT.SESSION_TRACK)
    return connect(pymysql.connections.Connection, local_infile=True), conn


def _run(conn: Any, sql: str, cursor_class: Any = None, params: Any = None) -> Any:
    """Everything a cursor shows of a statement, or its error."""
    sets = []
    with conn.cursor(cursor_class) as cursor:
        try:
            given = cursor.execute(sql, params)
            while True:
                rows = list(cursor.fetchall()) if cursor.description else []
                sets.append(
                    (rows, cursor.description, cursor.rowcount, cursor.lastrowid, cursor.warning_count)
                )
                if not cursor.nextset():
                    break
        except pymysql.err.MySQLError as exc:
            return sets, type(exc), exc.args
    return given, sets, bool(conn.server_status & 1), conn.get_autocommit()


STATEMENTS = [
    "SELECT 1",
    "SELECT '' AS a, NULL AS b, '' AS c",
    "SELECT NULL",
    "SELECT 1 WHERE 1 = 0",
    "SELECT '', 1 UNION ALL SELECT REPEAT('x', 250), 2 UNION ALL SELECT REPEAT('y', 251), 3",
    "SELECT REPEAT('x', 65535), REPEAT('y', 65536), REPEAT('z', 70000)",
    "SELECT CAST('1.50' AS DECIMAL(10, 2)), 1e10, DATE '2024-02-29', TIME '-10:11:12'",
    "SELECT TIMESTAMP '2024-01-02 03:04:05', CAST('2024-01-02 03:04:05.678' AS DATETIME(3))",
    "SELECT X'FE', X'FF00', X'00', CAST(1 AS UNSIGNED), -1, 18446744073709551615",
    "SELECT 'ß€😀', _latin1'x', CAST('x' AS BINARY)",
    "SELECT CAST('{\"a\": 1}' AS CHAR), TRUE, b'101'",
    "SELECT * FROM information_schema.schemata WHERE schema_name = DATABASE()",
    "SHOW VARIABLES LIKE 'version_comment'",
    "DO 1",
    "SELECT 1/0, CAST('abc' AS SIGNED)",
    "SELECT nope",
    "SELECT (SELECT 1 UNION SELECT 2)",
    "CREATE TEMPORARY TABLE wire_t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT, UNIQUE KEY u (v(20)))",
    "INSERT INTO wire_t (v) VALUES (''), (NULL), ('x')",
    "UPDATE wire_t SET v = 'z' WHERE id = 1",
    "UPDATE wire_t SET v = 'z' WHERE id = 1",
    "INSERT IGNORE INTO wire_t (v) VALUES ('x')",
    "INSERT INTO wire_t (v) VALUES ('x')",
    "SELECT * FROM wire_t ORDER BY id",
    "BEGIN",
    "SELECT COUNT(*) FROM wire_t",
    "ROLLBACK",
    "SET autocommit = 0",
    "SELECT 1",
    "SET autocommit = 1",
    "SELECT 1",
    "DROP TEMPORARY TABLE wire_t",
]


@pytest.mark.parametrize("cursor_class", [None, DictCursor, SSCursor, SSDictCursor])
def test_results_are_pymysqls(pair: tuple[Any, Any], cursor_class: Any) -> None:
    plain, ours = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sql in STATEMENTS:
            assert _run(ours, sql, cursor_class) == _run(plain, sql, cursor_class), sql


def test_random_results_are_pymysqls(pair: tuple[Any, Any]) -> None:
    plain, ours = pair
    chance = random.Random(20)
    values = [
        "NULL",
        "''",
        "0",
        "-1",
        "X'FE'",
        "X'FEFFFFFF'",
        "'\\0'",
        "1.5",
        "NOW() - NOW()",
        "REPEAT('q', {})",
    ]
    for _ in range(60):
        width = chance.randint(1, 6)
        rows = []
        for _row in range(chance.randint(1, 5)):
            row = [
                chance.choice(values).format(chance.choice([0, 1, 8, 250, 251, 70000])) for _ in range(width)
            ]
            rows.append("SELECT " + ", ".join(row))
        sql = " UNION ALL ".join(rows)
        for cursor_class in (None, SSCursor):
            assert _run(ours, sql, cursor_class) == _run(plain, sql, cursor_class), sql


def test_columns_that_are_like_others_are_not_taken_for_them(pair: tuple[Any, Any]) -> None:
    texts = [
        "SELECT 1 AS a, 'x' AS b",
        "SELECT 1 AS a, 2 AS b",
        "SELECT 1 AS a, 'x' AS c",
        "SELECT 1 AS a, 'longer' AS b",
        "SELECT 1 AS a",
        "SELECT 1 AS a, 2 AS b, 3 AS c",
        "SELECT 1 AS a, X'ff' AS b",
        f"SELECT 1 AS a, {', '.join(f'{n} AS b{n}' for n in range(200))}",
    ]
    for sql in [*texts, *texts, *reversed(texts)]:
        ours, theirs = (_run(conn, sql) for conn in pair)
        assert ours == theirs, sql


def test_columns_seen_before_are_described_by_the_settings_of_now(pair: tuple[Any, Any]) -> None:
    sql = "SELECT 1 AS a, 'ä' AS b, CAST(1.5 AS DECIMAL(3, 1)) AS c"
    for conn in pair:
        conn.decoders = dict(conn.decoders)

    def same() -> Any:
        ours, theirs = (_run(conn, sql) for conn in pair)
        assert ours == theirs
        return ours

    first = same()
    assert same() == first
    for conn in pair:
        conn.decoders[FIELD_TYPE.NEWDECIMAL] = "about {}".format
    assert same() != first
    for conn in pair:
        conn.set_character_set("latin1")
    same()
    for conn in pair:
        conn.use_unicode = False
    same()


def test_several_results_of_a_procedure(pair: tuple[Any, Any], cluster: LocalCluster) -> None:
    name = f"`{cluster.database_name}`.wire_p"
    cluster.primary.execute(f"DROP PROCEDURE IF EXISTS {name}")
    cluster.primary.execute(
        f"CREATE PROCEDURE {name}() BEGIN SELECT 1, ''; SELECT 2 WHERE 0; SELECT '', NULL; END"
    )
    for cursor_class in (None, SSCursor, DictCursor):
        found = [_run(conn, "CALL wire_p()", cursor_class) for conn in pair]
        assert found[1] == found[0]
        assert len(found[1][1]) == 4
    assert _run(pair[1], "SELECT 'in step'")[1][0][0] == [("in step",)]


def test_several_statements_at_once(connect: Any) -> None:
    for connection_class in CONNECTIONS:
        found = []
        for one in (pymysql.connections.Connection, connection_class):
            conn = connect(one, client_flag=CLIENT.MULTI_STATEMENTS)
            found.append(_run(conn, "SELECT ''; DO 1; SELECT 1, NULL; SELECT nope; SELECT 2"))
        assert found[1] == found[0]


@pytest.mark.parametrize("size", [2**24 - 20, 2**24 - 5, 2**24 - 1, 2**24 + 10])
@pytest.mark.parametrize("connection_class", [wire.Connection, WithoutEof])
def test_rows_of_more_than_one_packet(cluster: LocalCluster, connection_class: Any, size: int) -> None:
    """A row whose first byte is 0xFE, as the packet that ends a result has."""
    limit = cluster.primary.execute("SELECT @@max_allowed_packet")[0][0]
    if limit < 2**25:
        pytest.skip(f"this server sends no more than {limit} bytes")
    conn = connection_class(**cluster.parameters(cluster.primary), autocommit=True)
    with conn.cursor() as cursor:
        cursor.execute("SELECT REPEAT('x', %s), 1 UNION ALL SELECT '', 2", (size,))
        rows = cursor.fetchall()
    conn.close()
    assert [(len(text), number) for text, number in rows] == [(size, 1), (0, 2)]


def test_load_data_local(pair: tuple[Any, Any], cluster: LocalCluster, tmp_path: Path) -> None:
    before = cluster.primary.execute("SELECT @@GLOBAL.local_infile")[0][0]
    cluster.primary.execute("SET GLOBAL local_infile = 1")
    path = tmp_path / "rows.csv"
    path.write_text("1,a\n2,b\n")
    found = []
    try:
        for conn in pair:
            _run(conn, "CREATE TEMPORARY TABLE wire_l (n INT, t TEXT)")
            load = f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE wire_l FIELDS TERMINATED BY ','"
            found.append([_run(conn, sql, SSCursor) for sql in (load, "SELECT * FROM wire_l")])
            found[-1].append(_run(conn, load.replace("rows.csv", "missing.csv")))
    finally:
        cluster.primary.execute("SET GLOBAL local_infile = %s", (before,))
    assert found[1] == found[0]
    assert found[1][0][0] == 2


def test_unfinished_result_is_dropped_as_pymysql_drops_it(pair: tuple[Any, Any]) -> None:
    for conn in pair:
        cursor = conn.cursor(SSCursor)
        cursor.execute("SELECT 1 UNION SELECT 2 UNION SELECT 3")
        assert cursor.fetchone() == (1,)
        with pytest.warns(UserWarning, match="left incomplete"):
            assert _run(conn, "SELECT 'next'")[1][0][0] == [("next",)]


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("connection_class", CONNECTIONS)
def test_the_guard_is_there_with_and_without_trackers(
    connect: Any, connection_class: Any, guard: bool
) -> None:
    conn = connect(connection_class, guard=guard)
    refused = _run(conn, "CREATE TABLE IF NOT EXISTS wire_guard (n INT)")
    assert (refused[1:] and refused[1] is pymysql.err.OperationalError) == guard
    if not guard:
        _run(conn, "DROP TABLE wire_guard")


@pytest.mark.parametrize("guard", [False, True])
def test_opening_costs_no_more_statements_than_pymysql(
    connect: Any, cluster: LocalCluster, guard: bool
) -> None:
    """Counted by the server: what this session has asked when it is open."""
    asked = "SHOW SESSION STATUS LIKE 'Questions'"
    plain = int(_run(connect(pymysql.connections.Connection), asked)[1][0][0][0][1])
    ours = int(_run(connect(guard=guard), asked)[1][0][0][0][1])
    assert ours == plain


def test_opening_sends_as_many_packets_as_pymysql(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []  # by whom: others of this process may write meanwhile

    def counted(write: Any) -> Any:
        return lambda self, data: (sent.append(self), write(self, data))[1]

    for owner in (pymysql.connections.Connection, wire.Connection):
        monkeypatch.setattr(owner, "_write_bytes", counted(owner._write_bytes))
    counts = []
    for connection_class, options in (
        (pymysql.connections.Connection, {}),
        (wire.Connection, {"guard": True}),
    ):
        connect(connection_class, **options)
        conn = connect(connection_class, **options)
        counts.append(sum(one is conn for one in sent))
    assert counts[1] == counts[0] > 0


def test_the_tls_context_is_built_once(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    build = pymysql.connections.Connection._create_ssl_ctx

    def counted(self: Any, options: Any) -> Any:
        built.append(options)
        return build(self, options)

    monkeypatch.setattr(pymysql.connections.Connection, "_create_ssl_ctx", counted)
    monkeypatch.setattr(tls, "_contexts", {})
    for _ in range(2):
        connect(pymysql.connections.Connection)
    by_default = len(built)  # before 1.2 the driver built one only where asked to
    built.clear()
    for _ in range(3):
        connect(wire.Connection)
    assert len(built) == min(by_default, 1)


@pytest.mark.parametrize("connection_class", [wire.Connection, WithoutEof])
def test_positions_are_heard(connect: Any, cluster: LocalCluster, connection_class: Any) -> None:
    conn = connect(connection_class)
    _run(conn, "CREATE TABLE IF NOT EXISTS wire_g (n INT)")
    seen = []
    for sql in ("INSERT INTO wire_g VALUES (1)", "UPDATE wire_g SET n = 2", "DROP TABLE wire_g"):
        _run(conn, sql)
        seen.append(conn.position and conn.position.text())
    assert None not in seen
    assert len(set(seen)) == 3
    position = cluster.primary.position().replace("\n", "")
    last = str(seen[-1]).replace(":", "-").rsplit("-", 1)[-1]
    assert last in position


def test_dropped_tells_a_closed_connection_from_a_busy_one(connect: Any, cluster: LocalCluster) -> None:
    conn = connect()
    assert not conn.dropped()
    cursor = conn.cursor(SSCursor)
    cursor.execute("SELECT 1 UNION SELECT 2")
    assert not conn.dropped()
    assert conn.busy
    assert len(cursor.fetchall()) == 2
    assert not conn.busy
    cluster.primary.execute(f"KILL {conn.thread_id()}")
    assert conn._poll(5000)
    assert conn.dropped()
    assert not conn.is_alive()


def test_bytes_arrive_as_they_are_with_every_supported_driver(db: Any) -> None:
    value = bytes(range(256))
    assert db.execute_sql("SELECT HEX(%s) AS x", (value,)).fetchone() == (value.hex().upper(),)
    with db.primary():
        assert db.execute_sql("SELECT HEX(%s) AS x", (value,)).fetchone() == (value.hex().upper(),)
